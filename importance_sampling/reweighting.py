"""How much each drawn example counts: a numpy side for samplers, a Keras layer for the graph."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from ._weights import unbiased_weights

__all__ = [
    "UNBIASED",
    "UNWEIGHTED",
    "AdjustedBiasedReweighting",
    "AdjustedBiasedReweightingPolicy",
    "BiasedReweightingPolicy",
    "CorrectingReweighting",
    "CorrectingReweightingPolicy",
    "ExternalReweighting",
    "NoReweightingPolicy",
    "ReweightingPolicy",
]


def _check_k(k: float) -> float:
    if isinstance(k, bool) or not isinstance(k, int | float | np.number) or not k <= 1:
        raise ValueError(
            f"`k` must be a number of at most 1 (1.0: unbiased, below 1: towards the hard "
            f"examples), got {k!r}."
        )
    return float(k)


def _of_pool(idxs: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, float, int]:
    """The drawn scores, the sum of all and their number."""
    scores = np.asarray(scores, dtype=np.float64)
    return scores[idxs], float(scores.sum()), len(scores)


class ReweightingPolicy:
    """Decides how much each drawn example counts in the loss.

    A policy has two sides: `sample_weights` runs with the sampler and says
    what the graph needs to know, `weight_layer` makes the weights of it,
    together with the scores that the training pass computes.
    """

    unbiased = False
    """Whether the weights make the mini-batch gradient an unbiased estimate."""

    def weight_layer(self) -> keras.Layer:
        """Returns a layer: `[scores (b, 1), sample_weights (b, weight_size)]` to `(b, 1)`."""
        raise NotImplementedError(f"{type(self).__name__} must implement weight_layer()")

    def sample_weights(self, idxs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns what `weight_layer` needs, float64 of shape `(b, weight_size)`.

        Args:
            idxs: `(b,)` positions in `scores` that were drawn.
            scores: `(N,)` scores of the pool, proportional to the probabilities drawn with.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement sample_weights()")

    def drawn_weights(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, size: int
    ) -> np.ndarray | None:
        """As `sample_weights`, for pools too large to look at in every step.

        Args:
            idxs: `(b,)` positions that were drawn.
            scores: `(b,)` scores they were drawn by.
            total: float, sum of all scores of the pool.
            size: int, number of examples of the pool.

        Returns:
            `(b, weight_size)` array; None where the policy needs the scores of the whole pool.
        """
        return None

    @property
    def weight_size(self) -> int:
        """How many numbers per example `sample_weights` returns."""
        raise NotImplementedError(f"{type(self).__name__} must implement weight_size")

    def uniform_weights(self, n: int) -> np.ndarray:
        """Weights `(n, weight_size)` under which a uniformly drawn batch counts as it is."""
        return self.sample_weights(np.arange(n), np.ones(n))


class BiasedReweightingPolicy(ReweightingPolicy):
    r"""Weights from the probabilities drawn with, biased towards hard examples by choice.

    With the pool's scores $s$, $N$ the pool's size and $B$ the draw,

    $$w_i = \frac{\sum_j s_j}{N s_i}, \qquad
      \hat w_i = w_i^k \frac{\sum_{j \in B} w_j s_j}{\sum_{j \in B} w_j^k s_j}$$

    `k=1` is unbiased; smaller values approach minimising the maximum loss
    ([Biased Importance Sampling for Deep Neural Network Training](https://arxiv.org/abs/1706.00043),
    section 3.2).

    Args:
        k: float in (-inf, 1], the bias exponent. Defaults to `1.0`.
    """

    def __init__(self, k: float = 1.0):
        self.k = _check_k(k)

    @property
    def unbiased(self) -> bool:
        """True for k = 1."""
        return self.k == 1.0

    def weight_layer(self) -> keras.Layer:
        """Returns a layer that passes the weights on."""
        return ExternalReweighting()

    def sample_weights(self, idxs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns the weights, `(b, 1)`."""
        return self.drawn_weights(idxs, *_of_pool(idxs, scores))

    def drawn_weights(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, size: int
    ) -> np.ndarray:
        """See `ReweightingPolicy.drawn_weights`."""
        weights = unbiased_weights(scores, total, size)
        if self.k != 1.0:
            biased = weights**self.k
            weights = biased * (weights.dot(scores) / biased.dot(scores))
        return weights[:, None]

    @property
    def weight_size(self) -> int:
        """One number per example."""
        return 1


class NoReweightingPolicy(ReweightingPolicy):
    """Every drawn example counts the same, whatever it was drawn with."""

    def weight_layer(self) -> keras.Layer:
        """Returns a layer that passes the weights on."""
        return ExternalReweighting()

    def sample_weights(self, idxs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns ones, `(b, 1)`."""
        return np.ones((len(idxs), 1))

    def drawn_weights(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, size: int
    ) -> np.ndarray:
        """See `ReweightingPolicy.drawn_weights`."""
        return self.sample_weights(idxs, scores)

    @property
    def weight_size(self) -> int:
        """One number per example."""
        return 1


class AdjustedBiasedReweightingPolicy(ReweightingPolicy):
    """Weights from the scores that the training pass computes, not from the predicted ones.

    The sum over the pool outside the batch is passed on, the scores of the
    batch are added in the graph; see `AdjustedBiasedReweighting`.

    Args:
        k: float in (-inf, 1], the bias exponent. Defaults to `1.0`.
    """

    def __init__(self, k: float = 1.0):
        self.k = _check_k(k)

    def weight_layer(self) -> keras.Layer:
        """Returns an `AdjustedBiasedReweighting` layer."""
        return AdjustedBiasedReweighting(self.k)

    def sample_weights(self, idxs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns rows `(N, scores outside the batch summed, times drawn)`, `(b, 3)`."""
        return self.drawn_weights(idxs, *_of_pool(idxs, scores))

    def drawn_weights(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, size: int
    ) -> np.ndarray:
        """See `ReweightingPolicy.drawn_weights`."""
        _, first, inverse, times = np.unique(
            idxs, return_index=True, return_inverse=True, return_counts=True
        )
        outside = max(total - scores[first].sum(), 0.0)
        rows = np.empty((len(idxs), 3))
        rows[:, 0], rows[:, 1], rows[:, 2] = size, outside, times[inverse]
        return rows

    def uniform_weights(self, n: int) -> np.ndarray:
        """A pool size of zero tells the layer that the draw was uniform."""
        return np.tile([0.0, 0.0, 1.0], (n, 1))

    @property
    def weight_size(self) -> int:
        """Three numbers per example."""
        return 3


class CorrectingReweightingPolicy(ReweightingPolicy):
    """Weights from the predicted scores, corrected where the prediction was far off.

    Args:
        k: float in (-inf, 1], the bias exponent. Defaults to `1.0`.
    """

    def __init__(self, k: float = 1.0):
        self.k = _check_k(k)
        self._biased = BiasedReweightingPolicy(k)

    def weight_layer(self) -> keras.Layer:
        """Returns a `CorrectingReweighting` layer."""
        return CorrectingReweighting()

    def sample_weights(self, idxs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns rows `(weight, predicted score)`, `(b, 2)`."""
        return self.drawn_weights(idxs, *_of_pool(idxs, scores))

    def drawn_weights(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, size: int
    ) -> np.ndarray:
        """See `ReweightingPolicy.drawn_weights`."""
        weights = self._biased.drawn_weights(idxs, scores, total, size)
        return np.stack([weights[:, 0], scores], axis=1)

    def uniform_weights(self, n: int) -> np.ndarray:
        """A predicted score of zero tells the layer that the draw was uniform."""
        return np.tile([1.0, 0.0], (n, 1))

    @property
    def weight_size(self) -> int:
        """Two numbers per example."""
        return 2


@keras.saving.register_keras_serializable("importance_sampling")
class ExternalReweighting(keras.layers.Layer):
    """Passes on weights that were computed outside the graph.

    Call arguments:
        inputs: `[scores (b, 1), weights (b, 1)]`.
    """

    def call(self, inputs: list[Any]) -> Any:
        """See the call arguments of the class."""
        return ops.stop_gradient(inputs[1])

    def compute_output_shape(self, input_shape: Any) -> Any:
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
        self.k = _check_k(k)

    def call(self, inputs: list[Any]) -> Any:
        """See the call arguments of the class."""
        scores, pool = inputs
        scores = ops.maximum(scores, keras.config.epsilon())
        size, outside, times = pool[:1, :1], pool[:1, 1:2], pool[:, 2:3]
        drawn = size > 0.0
        weights = (outside + ops.sum(scores / times)) / (ops.where(drawn, size, 1.0) * scores)
        biased = ops.power(weights, self.k)
        biased = biased * ops.sum(weights * scores) / ops.sum(biased * scores)
        return ops.stop_gradient(ops.where(drawn, biased, ops.ones_like(biased)))

    def compute_output_shape(self, input_shape: Any) -> Any:
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

    def call(self, inputs: list[Any]) -> Any:
        """See the call arguments of the class."""
        scores, given = inputs
        weights, predicted = given[:, :1], given[:, 1:2]
        ratio = predicted / ops.maximum(scores, keras.config.epsilon())
        factor = ops.clip(ratio, self.min_decrease, self.max_increase)
        factor = ops.where(predicted > 0.0, factor, ops.ones_like(factor))
        return ops.stop_gradient(weights * factor)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """One weight per example."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"min_decrease": self.min_decrease, "max_increase": self.max_increase}
        return {**super().get_config(), **config}


UNWEIGHTED = NoReweightingPolicy()
UNBIASED = BiasedReweightingPolicy(k=1.0)
