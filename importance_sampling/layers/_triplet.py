"""How much nearer a sample is to one of its own kind than to another."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from ..backend.base import Tensor


@keras.saving.register_keras_serializable("importance_sampling")
class TripletLossLayer(keras.layers.Layer):
    r"""Difference of squared distances of an anchor to a negative and to a positive example.

    With $a, p, n$ the three embeddings, each scaled to length one,

    $$\|a - n\|_2^2 - \|a - p\|_2^2$$

    which is large where the anchor is nearer to the positive example.

    Call arguments:
        inputs: `(batch, 3 d)`, the embeddings of anchor, positive and negative example in a row.

    Output shape:
        `(batch, 1)`.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Checks that there are three embeddings of one size."""
        if len(input_shape) != 2 or input_shape[-1] is None or input_shape[-1] % 3:
            raise ValueError(
                "TripletLossLayer expects inputs of shape (batch, 3 d): three embeddings of one "
                f"size in a row, got {tuple(input_shape)}."
            )

    def call(self, inputs: Tensor) -> Tensor:
        """How much farther the negative example is than the positive one.

        Args:
            inputs: `(batch, 3 d)`, embeddings of anchor, positive and negative example in a row.

        Returns:
            `(batch, 1)`, from -4 to 4.
        """
        anchor, positive, negative = (
            ops.normalize(part, axis=-1, order=2) for part in ops.split(inputs, 3, axis=-1)
        )

        def distance(other: Tensor) -> Tensor:
            return ops.sum(ops.square(anchor - other), axis=-1, keepdims=True)

        return distance(negative) - distance(positive)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
        """One number per triplet."""
        return (input_shape[0], 1)
