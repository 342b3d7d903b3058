"""What samplers ask: the weights, or what the graph needs to make them."""

from __future__ import annotations

import keras
import numpy as np

from .._weights import unbiased_weights
from ._layers import (
    AdjustedBiasedReweighting,
    CorrectingReweighting,
    ExternalReweighting,
    check_bias,
)


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

    @property
    def unbiased(self) -> bool:
        """Whether the weights make the mini-batch gradient an unbiased estimate."""
        return False

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
        self.k = check_bias(k)

    @property
    def unbiased(self) -> bool:
        """True for k = 1."""
        return self.k == 1.0

    def weight_layer(self) -> keras.Layer:
        """Returns a layer that passes the weights on."""
        return ExternalReweighting()

    def sample_weights(self, idxs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns the weights, `(b, 1)`.

        Args:
            idxs: `(b,)` positions in `scores` that were drawn.
            scores: `(N,)` scores of the pool, proportional to the probabilities drawn with.
        """
        return self.drawn_weights(idxs, *_of_pool(idxs, scores))

    def drawn_weights(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, size: int
    ) -> np.ndarray:
        """As `sample_weights`, from the drawn scores and the pool's sum: `(b, 1)`.

        Args:
            idxs: `(b,)` positions that were drawn.
            scores: `(b,)` scores they were drawn by.
            total: float, sum of all scores of the pool.
            size: int, number of examples of the pool.
        """
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
        """Returns ones, `(b, 1)`.

        Args:
            idxs: `(b,)` positions in `scores` that were drawn.
            scores: `(N,)` scores of the pool, proportional to the probabilities drawn with.
        """
        return np.ones((len(idxs), 1))

    def drawn_weights(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, size: int
    ) -> np.ndarray:
        """Ones, `(b, 1)`, whatever was drawn.

        Args:
            idxs: `(b,)` positions that were drawn.
            scores: `(b,)` scores they were drawn by.
            total: float, sum of all scores of the pool.
            size: int, number of examples of the pool.
        """
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
        self.k = check_bias(k)

    def weight_layer(self) -> keras.Layer:
        """Returns an `AdjustedBiasedReweighting` layer."""
        return AdjustedBiasedReweighting(self.k)

    def sample_weights(self, idxs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns rows `(N, scores outside the batch summed, times drawn)`, `(b, 3)`.

        Args:
            idxs: `(b,)` positions in `scores` that were drawn.
            scores: `(N,)` scores of the pool, proportional to the probabilities drawn with.
        """
        return self.drawn_weights(idxs, *_of_pool(idxs, scores))

    def drawn_weights(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, size: int
    ) -> np.ndarray:
        """As `sample_weights`, from the drawn scores and the pool's sum: `(b, 3)`.

        Args:
            idxs: `(b,)` positions that were drawn.
            scores: `(b,)` scores they were drawn by.
            total: float, sum of all scores of the pool.
            size: int, number of examples of the pool.
        """
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
        self.k = check_bias(k)
        self._biased = BiasedReweightingPolicy(k)

    def weight_layer(self) -> keras.Layer:
        """Returns a `CorrectingReweighting` layer."""
        return CorrectingReweighting()

    def sample_weights(self, idxs: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns rows `(weight, predicted score)`, `(b, 2)`.

        Args:
            idxs: `(b,)` positions in `scores` that were drawn.
            scores: `(N,)` scores of the pool, proportional to the probabilities drawn with.
        """
        return self.drawn_weights(idxs, *_of_pool(idxs, scores))

    def drawn_weights(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, size: int
    ) -> np.ndarray:
        """As `sample_weights`, from the drawn scores and the pool's sum: `(b, 2)`.

        Args:
            idxs: `(b,)` positions that were drawn.
            scores: `(b,)` scores they were drawn by.
            total: float, sum of all scores of the pool.
            size: int, number of examples of the pool.
        """
        weights = self._biased.drawn_weights(idxs, scores, total, size)
        return np.stack([weights[:, 0], scores], axis=1)

    def uniform_weights(self, n: int) -> np.ndarray:
        """A predicted score of zero tells the layer that the draw was uniform."""
        return np.tile([1.0, 0.0], (n, 1))

    @property
    def weight_size(self) -> int:
        """Two numbers per example."""
        return 2


UNWEIGHTED = NoReweightingPolicy()
"""Every example counts once, however it was drawn."""
UNBIASED = BiasedReweightingPolicy(k=1.0)
"""Weights 1/(N p): the mean step is that of uniform training."""
