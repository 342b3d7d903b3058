"""When to start drawing by score."""

from __future__ import annotations

from typing import Any

import numpy as np


class _MovingAverage:
    """An exponential moving average, corrected for its start at zero."""

    def __init__(self, momentum: float):
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1), got {momentum!r}.")
        self.momentum = momentum
        self._sum = 0.0
        self._weight = 0.0

    @property
    def known(self) -> bool:
        return self._weight > 0

    @property
    def value(self) -> float:
        return self._sum / self._weight if self._weight else 0.0

    def add(self, value: float) -> None:
        self._sum = self.momentum * self._sum + (1 - self.momentum) * float(value)
        self._weight = self.momentum * self._weight + (1 - self.momentum)

    def state_dict(self) -> dict[str, float]:
        return {"sum": self._sum, "weight": self._weight}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._sum, self._weight = state["sum"], state["weight"]


class Condition:
    """Decides, from the scores of uniformly drawn examples, whether to draw by score."""

    _last = False

    @property
    def satisfied(self) -> bool:
        """Whether to draw by score now; remembered as `previously_satisfied`."""
        self._last = self._holds()
        return self._last

    @property
    def previously_satisfied(self) -> bool:
        """What `satisfied` said when it was last asked."""
        return self._last

    def _holds(self) -> bool:
        raise NotImplementedError(f"{type(self).__name__} must implement satisfied")

    def update(self, scores: np.ndarray) -> None:
        """Learns from the scores `(n,)` of uniformly drawn examples."""

    def timed(self, draw: Any, seconds: float) -> None:
        """Learns how long the step on `draw` took."""

    def state_dict(self) -> dict[str, Any]:
        """What changes, as plain numbers."""
        return {"last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self._last = state["last"]


class WarmupCondition(Condition):
    """Satisfied after a number of updates.

    Args:
        warmup: int, the number of steps to draw uniformly. Defaults to `100`.
    """

    def __init__(self, warmup: int = 100):
        self.warmup = warmup
        self._iterations = 0

    def _holds(self) -> bool:
        return self._iterations >= self.warmup

    def update(self, scores: np.ndarray) -> None:
        """Counts one step."""
        self._iterations += 1

    def state_dict(self) -> dict[str, Any]:
        """See `Condition.state_dict`."""
        return {**super().state_dict(), "iterations": self._iterations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Condition.load_state_dict`."""
        super().load_state_dict(state)
        self._iterations = state["iterations"]


class _AverageCondition(Condition):
    """Satisfied while the moving average of some statistic is above a threshold."""

    def __init__(self, threshold: float, momentum: float):
        self.threshold = float(threshold)
        self._average = _MovingAverage(momentum)

    def _statistic(self, scores: np.ndarray) -> float:
        raise NotImplementedError(f"{type(self).__name__} must implement _statistic(scores)")

    def _holds(self) -> bool:
        return self._average.known and self._average.value > self.threshold

    def update(self, scores: np.ndarray) -> None:
        """Averages the statistic of these scores in."""
        self._average.add(self._statistic(np.asarray(scores, dtype=np.float64).reshape(-1)))

    def state_dict(self) -> dict[str, Any]:
        """See `Condition.state_dict`."""
        return {**super().state_dict(), "average": self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Condition.load_state_dict`."""
        super().load_state_dict(state)
        self._average.load_state_dict(state["average"])


class ExpCondition(_AverageCondition):
    """Takes the scores for exponentially distributed; satisfied while lambda = 1/mean is large.

    Args:
        lambda_th: float, the threshold. Defaults to `2.0`.
        momentum: float in [0, 1), of the moving average. Defaults to `0.9`.
    """

    def __init__(self, lambda_th: float = 2.0, momentum: float = 0.9):
        super().__init__(lambda_th, momentum)

    def _statistic(self, scores: np.ndarray) -> float:
        return 1.0 / max(scores.mean(), np.finfo(np.float64).tiny)


class TotalVariationCondition(_AverageCondition):
    r"""Satisfied while the scores are far from uniform in total variation.

    $$\mathrm{tv} = \tfrac12 \sum_i |s_i / \textstyle\sum_j s_j - 1/n|$$

    Args:
        tv_th: float in [0, 1], the threshold. Defaults to `0.5`.
        momentum: float in [0, 1), of the moving average. Defaults to `0.9`.
    """

    def __init__(self, tv_th: float = 0.5, momentum: float = 0.9):
        super().__init__(tv_th, momentum)

    def _statistic(self, scores: np.ndarray) -> float:
        total = scores.sum()
        if total == 0:
            return 0.0
        return 0.5 * np.abs(scores / total - 1.0 / len(scores)).sum()


def variance_reduction(scores: np.ndarray) -> float | np.ndarray:
    r"""How many times larger a uniform batch would have to be, from scores over the last axis.

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


class VarianceReductionCondition(_AverageCondition):
    """Satisfied while importance sampling would reduce the variance enough.

    The estimate grows with the number of scores it is made from, because a larger set
    contains more of the rare large ones. So that a switch does not change what is
    measured, every update is cut into groups of the same size, whose estimates are
    averaged.

    Args:
        vr_th: float, the threshold in units of batch-size increment. Defaults to `1.2`.
        momentum: float in [0, 1), of the moving average. Defaults to `0.9`.
        sample_size: keyword-only; int, scores per group. Defaults to the size of the first
            update.
    """

    def __init__(
        self, vr_th: float = 1.2, momentum: float = 0.9, *, sample_size: int | None = None
    ):
        super().__init__(vr_th, momentum)
        self.sample_size = sample_size

    def _statistic(self, scores: np.ndarray) -> float:
        if self.sample_size is None:
            self.sample_size = len(scores)
        groups = len(scores) // self.sample_size
        if groups == 0:
            return float(variance_reduction(scores))
        scores = scores[: groups * self.sample_size].reshape(groups, self.sample_size)
        return float(np.mean(variance_reduction(scores)))

    @property
    def variance_reduction(self) -> float:
        """The present estimate; 1.0, no reduction, before the first update."""
        return self._average.value if self._average.known else 1.0

    def state_dict(self) -> dict[str, Any]:
        """See `Condition.state_dict`."""
        return {**super().state_dict(), "sample_size": self.sample_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Condition.load_state_dict`."""
        super().load_state_dict(state)
        self.sample_size = state["sample_size"]
