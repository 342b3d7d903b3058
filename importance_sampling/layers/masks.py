"""Masks, read and passed on by Keras' own rules for layers."""

from __future__ import annotations

import keras
from keras import ops

from .._arrays import Nested
from ..backend.base import Tensor


class _MaskReader(keras.layers.Layer):
    """Identity that remembers the mask its input carried."""

    def __init__(self) -> None:
        super().__init__(name="mask_reader", dtype="float32", autocast=False)
        self.supports_masking = True
        self.mask: Tensor | None = None

    def call(self, inputs: Nested, mask: Tensor | None = None) -> Nested:
        """Keeps the mask and gives its input on.

        Args:
            inputs: a tensor.
            mask: the mask it carries, from Keras.
        """
        self.mask = mask
        return inputs


class _MaskWriter(keras.layers.Layer):
    """Identity that gives its output a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(name="mask_writer", dtype="float32", autocast=False)
        self.supports_masking = True
        # Belongs to one pass: the layer is made for it and thrown away.
        self._masks = (mask,)

    def call(self, inputs: Nested, mask: Tensor | None = None) -> Nested:
        """Its input, unchanged.

        Args:
            inputs: a tensor.
            mask: the mask it carried so far.
        """
        return inputs

    def compute_mask(self, inputs: Nested, previous_mask: Tensor | None) -> Tensor:
        """The mask to carry.

        Args:
            inputs: what the layer was called with.
            previous_mask: the mask it carried so far.
        """
        return self._masks[0]


def read_mask(tensor: Tensor) -> Tensor | None:
    """Returns the Keras mask that `tensor` carries, or None."""
    reader = _MaskReader()
    reader(tensor)
    return reader.mask


def write_mask(tensor: Tensor, mask: Tensor | None) -> Tensor:
    """Returns `tensor` carrying `mask`.

    Args:
        tensor: tensor `(n, ...)`.
        mask: booleans for its first axes, or None to return it unchanged.
    """
    return tensor if mask is None else _MaskWriter(mask)(tensor)


def count_valid(mask: Tensor) -> Tensor:
    """Number of valid steps per sample, shape `(n,)`, from a mask `(n, ...)`."""
    counts = ops.cast(mask, "float32")
    axes = tuple(range(1, len(counts.shape)))
    return ops.sum(counts, axis=axes) if axes else counts
