"""How much importance sampling reduces the variance of the gradient."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat

import numpy as np

from .._state import Stateful


class MovingAverage(Stateful):
    """An exponential moving average, corrected for its start at zero.

    Args:
        momentum: float in [0, 1), the weight of the past.
    """

    _state: tuple[str, ...] = ("_sum", "_weight")

    def __init__(self, momentum: float):
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1), got {momentum!r}.")
        self.momentum = momentum
        self._sum = 0.0
        self._weight = 0.0

    @property
    def known(self) -> bool:
        """Whether there was any value."""
        return self._weight > 0

    @property
    def value(self) -> float:
        """The present average; 0.0 before the first value."""
        return self._sum / self._weight if self._weight else 0.0

    def add(self, value: SupportsFloat, times: int = 1) -> None:
        """Averages a value in.

        Args:
            value: a number.
            times: int, how often: where it stands for others that nobody looked at.
        """
        momentum = self.momentum**times
        self._sum = momentum * self._sum + (1 - momentum) * float(value)
        self._weight = momentum * self._weight + (1 - momentum)


def _mean(values: np.ndarray) -> Any:
    """What `np.mean` gives over the last axis, in a fifth of its time for a hundred values."""
    return np.add.reduce(values, axis=-1) / values.shape[-1]


def variance_reduction(scores: np.ndarray) -> float | np.ndarray:
    r"""The root of the ratio of second moments, uniform over drawn, by scores over the last axis.

    A uniform batch of $\tau^2$ times the size is as noisy.

    With $g = s/\sum s$ and $u = 1/n$ ([1803.00942](https://arxiv.org/abs/1803.00942), eq. 26),

    $$\tau = \left(1 - \frac{\sum_i (g_i - u)^2}{\sum_i g_i^2}\right)^{-1/2}$$

    which equals $\sqrt{1 + c^2}$, $c$ the scores' coefficient of variation. Scores that are
    all zero give 1.

    Args:
        scores: `(..., n)` array.
    """
    scores = np.asarray(scores, dtype=np.float64)
    total = scores.sum(axis=-1)
    squares = (scores**2).sum(axis=-1)
    # sum(g^2) - sum((g-u)^2) = 1/n, so the root below is sqrt(n sum(g^2)).
    safe = np.where(total > 0, total, 1.0)
    tau = np.sqrt(scores.shape[-1] * squares) / safe
    return np.where(total > 0, tau, 1.0)[()]


# Batches that an average is made of, at least.
FEWEST = 50


def momentum_over(batches: int) -> float:
    """The momentum of an average over an epoch of so many batches, within 50 to 5000 of them.

    The second moment of a weighted gradient is made by few examples, those that were taken for
    easy and are not. In fewer batches there may be none of them, or one too many.

    Args:
        batches: int, batches per epoch; 0 if that is not known.
    """
    return 1.0 - 1.0 / float(np.clip(batches, FEWEST, 5000))


class MeasuredReduction(Stateful):
    r"""The variance reduction of a draw with probabilities p, from scores seen after the draw.

    With weights $w_i = 1/(N p_i)$ the second moment of a uniformly drawn gradient,
    $\frac1N \sum_i s_i^2$, has the unbiased estimate $\frac1b \sum_B w_i s_i^2$, that of the
    weighted one, $\frac{1}{N^2} \sum_i s_i^2 / p_i$, has $\frac1b \sum_B w_i^2 s_i^2$. The root
    of their ratio is the $\tau$ of 1803.00942 for the draw as it was, staleness included: below
    1 where a draw does harm.

    Args:
        momentum: float in [0, 1), of the moving averages of both. Defaults to `0.98`.
    """

    _state: tuple[str, ...] = ("_uniform", "_weighted")

    def __init__(self, momentum: float = 0.98):
        self._uniform = MovingAverage(momentum)
        self._weighted = MovingAverage(momentum)

    def set_momentum(self, momentum: float) -> None:
        """Changes how fast the past is forgotten."""
        self._uniform.momentum = self._weighted.momentum = momentum

    def add(
        self,
        weights: np.ndarray,
        scores: np.ndarray,
        would_be: np.ndarray | None = None,
        batches: int = 1,
    ) -> None:
        """Learns from a batch.

        Args:
            weights: `(b,)` weights 1/(N p) of the draw; ones if it was uniform.
            scores: `(b,)` the scores of the training pass.
            would_be: `(b,)` weights 1/(N p) of another draw, to measure that one on what this
                one drew. Defaults to `weights`.
            batches: int, how many it stands for, of which the others were not looked at.
        """
        self.add_moments(*self.moments(weights, scores, would_be), batches)

    @staticmethod
    def moments(
        weights: np.ndarray, scores: np.ndarray, would_be: np.ndarray | None = None
    ) -> tuple[Any, Any]:
        """What `add_moments` takes, of one batch or of several, a row for each.

        Args:
            weights: `(..., b)` as for `add`.
            scores: `(..., b)` likewise.
            would_be: `(..., b)` likewise.

        Returns:
            Second moments of the uniform and the weighted draw, `(...)` each.
        """
        squares = weights * np.asarray(scores, np.float64) ** 2
        return _mean(squares), _mean(squares * (weights if would_be is None else would_be))

    def add_moments(
        self, uniform: SupportsFloat, weighted: SupportsFloat, batches: int = 1
    ) -> None:
        """Learns from a batch of which `moments` were taken.

        Args:
            uniform: the second moment of a uniform draw.
            weighted: that of the weighted one.
            batches: int, how many it stands for.
        """
        self._uniform.add(uniform, batches)
        self._weighted.add(weighted, batches)

    @property
    def ratio(self) -> float:
        """The ratio of second moments itself, that of the batch sizes of equal noise."""
        weighted = self._weighted.value
        return self._uniform.value / weighted if weighted > 0 else 1.0

    @property
    def value(self) -> float:
        """The present estimate; 1.0, no reduction, before the first batch."""
        return math.sqrt(self.ratio)


class IdealReduction(Stateful):
    """The variance reduction that drawing by exact scores would give, on all examples.

    It is the root of E[s^2] / E[s]^2, from batches drawn in any way.

    Args:
        momentum: float in [0, 1), of the moving averages. Defaults to `0.98`.
    """

    _state: tuple[str, ...] = ("_mean", "_square")

    def __init__(self, momentum: float = 0.98):
        self._mean = MovingAverage(momentum)
        self._square = MovingAverage(momentum)

    def set_momentum(self, momentum: float) -> None:
        """Changes how fast the past is forgotten."""
        self._mean.momentum = self._square.momentum = momentum

    def add(self, weights: np.ndarray, scores: np.ndarray, batches: int = 1) -> None:
        """Learns from a batch.

        Args:
            weights: `(b,)` weights 1/(N p); ones if it was drawn uniformly.
            scores: `(b,)` its scores.
            batches: int, how many it stands for, of which the others were not looked at.
        """
        self.add_moments(*self.moments(weights, scores), batches)

    @staticmethod
    def moments(weights: np.ndarray, scores: np.ndarray) -> tuple[Any, Any]:
        """What `add_moments` takes, of one batch or of several, a row for each.

        Args:
            weights: `(..., b)` as for `add`.
            scores: `(..., b)` likewise.

        Returns:
            First and second moments of the scores, `(...)` each.
        """
        weighted = weights * scores
        return _mean(weighted), _mean(weighted * scores)

    def add_moments(self, mean: SupportsFloat, square: SupportsFloat, batches: int = 1) -> None:
        """Learns from a batch of which `moments` were taken.

        Args:
            mean: the first moment.
            square: the second one.
            batches: int, how many it stands for.
        """
        self._mean.add(mean, batches)
        self._square.add(square, batches)

    @property
    def value(self) -> float:
        """The present estimate; 1.0, no reduction, before the first batch."""
        if not self._mean.value > 0:
            return 1.0
        return max(1.0, float(np.sqrt(self._square.value) / self._mean.value))
