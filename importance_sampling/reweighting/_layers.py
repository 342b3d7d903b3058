"""The side of reweighting that runs in the graph: Keras layers that make weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..backend.base import Tensor


def check_bias(k: float) -> float:
    """The bias exponent of a policy, as a float.

    Raises:
        ValueError: if it is no number of at most 1.
    """
    if isinstance(k, bool) or not isinstance(k, int | float | np.number) or not k <= 1:
        raise ValueError(
            f"`k` must be a number of at most 1 (1.0: unbiased, below 1: towards the hard "
            f"examples), got {k!r}."
        )
    return float(k)


@keras.saving.register_keras_serializable("importance_sampling")
class ExternalReweighting(keras.layers.Layer):
    """Passes on weights that were computed outside the graph.

    Call arguments:
        inputs: `[scores (b, 1), weights (b, 1)]`.
    """

    def call(self, inputs: list[Tensor]) -> Tensor:
        """The weights as they came, without a gradient.

        Args:
            inputs: `[scores (b, 1), weights (b, 1)]`.

        Returns:
            `(b, 1)`.
        """
        return ops.stop_gradient(inputs[1])

    def compute_output_shape(
        self, input_shape: Sequence[Sequence[int | None]]
    ) -> tuple[int | None, ...]:
        """One weight per example."""
        return tuple(input_shape[1])


@keras.saving.register_keras_serializable("importance_sampling")
class AdjustedBiasedReweighting(keras.layers.Layer):
    r"""Recomputes the weights from the scores of the pass that trains.

    With $S_1$ the predicted scores outside the batch, summed, and $S_2$ the actual scores
    of the batch, summed with every example counted once however often it was drawn,

    $$w_i = \frac{S_1 + S_2}{N s_i}, \qquad
      \hat w_i = w_i^k \frac{\sum_B w_j s_j}{\sum_B w_j^k s_j}$$

    Where the draw was uniform (N = 0 in the input) all weights are one.

    Args:
        k: float in (-inf, 1], the bias exponent. Defaults to `1.0`.

    Call arguments:
        inputs: `[scores (b, 1), (N, S_1, times drawn) (b, 3)]`.
    """

    def __init__(self, k: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.k = check_bias(k)

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Weights from the scores of this pass.

        Args:
            inputs: `[scores (b, 1), (N, S_1, times drawn) (b, 3)]`.

        Returns:
            `(b, 1)`, without a gradient.
        """
        scores, pool = inputs
        scores = ops.maximum(scores, keras.config.epsilon())
        size, outside, times = pool[:1, :1], pool[:1, 1:2], pool[:, 2:3]
        drawn = size > 0.0
        weights = (outside + ops.sum(scores / times)) / (ops.where(drawn, size, 1.0) * scores)
        biased = ops.power(weights, self.k)
        biased = biased * ops.sum(weights * scores) / ops.sum(biased * scores)
        return ops.stop_gradient(ops.where(drawn, biased, ops.ones_like(biased)))

    def compute_output_shape(
        self, input_shape: Sequence[Sequence[int | None]]
    ) -> tuple[int | None, ...]:
        """One weight per example."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "k": self.k}


@keras.saving.register_keras_serializable("importance_sampling")
class CorrectingReweighting(keras.layers.Layer):
    r"""Corrects weights by predicted / actual score, within bounds.

    $$\hat w_i = w_i \, \mathrm{clip}(\hat s_i / s_i, \text{min\_decrease}, \text{max\_increase})$$

    Where the draw was uniform (a predicted score of 0) the weight stays.

    Args:
        min_decrease: float, the smallest factor. Defaults to `0`.
        max_increase: float, the largest factor. Defaults to `2`.

    Call arguments:
        inputs: `[scores (b, 1), (weight, predicted score) (b, 2)]`.
    """

    def __init__(self, min_decrease: float = 0, max_increase: float = 2, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= min_decrease <= max_increase:
            raise ValueError(
                "Expected 0 <= min_decrease <= max_increase, got "
                f"min_decrease={min_decrease!r}, max_increase={max_increase!r}."
            )
        self.min_decrease = min_decrease
        self.max_increase = max_increase

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Weights corrected by predicted / actual score.

        Args:
            inputs: `[scores (b, 1), (weight, predicted score) (b, 2)]`.

        Returns:
            `(b, 1)`, without a gradient.
        """
        scores, given = inputs
        weights, predicted = given[:, :1], given[:, 1:2]
        ratio = predicted / ops.maximum(scores, keras.config.epsilon())
        factor = ops.clip(ratio, self.min_decrease, self.max_increase)
        factor = ops.where(predicted > 0.0, factor, ops.ones_like(factor))
        return ops.stop_gradient(weights * factor)

    def compute_output_shape(
        self, input_shape: Sequence[Sequence[int | None]]
    ) -> tuple[int | None, ...]:
        """One weight per example."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"min_decrease": self.min_decrease, "max_increase": self.max_increase}
        return {**super().get_config(), **config}
