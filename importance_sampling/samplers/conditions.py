"""When to start drawing by score."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._state import Stateful
from ..proposal import Proposal
from .step_times import ENOUGH, StepTimes
from .variance import MovingAverage, variance_reduction


class Condition(Stateful):
    """Decides, from the scores of uniformly drawn examples, whether to draw by score."""

    _state: tuple[str, ...] = ("_decided",)

    _decided: bool | None = None

    @property
    def satisfied(self) -> bool:
        """Whether to draw by score, by what is known now. Asking changes nothing."""
        return self._holds()

    @property
    def previously_satisfied(self) -> bool:
        """What was decided last; before the first decision, what it would be."""
        return self.satisfied if self._decided is None else self._decided

    def decide(self) -> bool:
        """Decides how the next batch is drawn, and remembers it as `previously_satisfied`."""
        self._decided = bool(self.satisfied)
        return self._decided

    def decide_as(self, held: bool) -> bool:
        """Decides as the condition was `satisfied` some steps ago.

        Args:
            held: bool, whether it was.
        """
        self._decided = held
        return held

    def _holds(self) -> bool:
        raise NotImplementedError(f"{type(self).__name__} must implement satisfied")

    @property
    def unmet(self) -> str:
        """What it takes to be satisfied, in words."""
        return f"{type(self).__name__} is not satisfied"

    def update(self, scores: np.ndarray) -> None:
        """Learns from uniformly drawn examples.

        Args:
            scores: `(n,)` their scores.
        """

    def update_many(self, scores: np.ndarray) -> None:
        """Learns from several batches, in order.

        Args:
            scores: `(batches, n)` the scores of each.
        """
        for batch in scores:
            self.update(batch)

    def record_step_time(self, proposal: Proposal, seconds: float) -> None:
        """Learns how long a step took.

        Args:
            proposal: what was trained on.
            seconds: float; NaN if it is not known.
        """


class _GivenCondition(Condition):
    """A condition that is no `Condition`: anything with `satisfied` and `update(scores)`.

    What it has learnt is in the state if it has a `state_dict` of its own.

    Args:
        given: the condition, whose other attributes are seen here, too.
    """

    def __init__(self, given: Any):
        self._given = given
        if hasattr(given, "state_dict") and hasattr(given, "load_state_dict"):
            self._state = (*Condition._state, "_given")

    def __getattr__(self, name: str) -> Any:
        if name == "_given":
            raise AttributeError(name)
        return getattr(self._given, name)

    def _holds(self) -> bool:
        return bool(self._given.satisfied)

    @property
    def unmet(self) -> str:
        """Which condition it is."""
        return f"{type(self._given).__name__} is not satisfied"

    def update(self, scores: np.ndarray) -> None:
        """Lets the given condition learn.

        Args:
            scores: `(n,)` scores of uniformly drawn examples.
        """
        self._given.update(scores)


def as_condition(given: Any) -> Condition:
    """A condition as it is, or one made of what only behaves as one.

    Args:
        given: a `Condition`, or anything with `satisfied` and `update(scores)`.

    Raises:
        TypeError: if it has not both.
    """
    if isinstance(given, Condition):
        return given
    if hasattr(given, "satisfied") and callable(getattr(given, "update", None)):
        return _GivenCondition(given)
    raise TypeError(
        f"Expected a `Condition`, or anything with `satisfied` and `update(scores)`, got {given!r}."
    )


class WarmupCondition(Condition):
    """Satisfied after a number of updates.

    Args:
        warmup: int, the number of steps to draw uniformly. Defaults to `100`.
    """

    _state: tuple[str, ...] = (*Condition._state, "_iterations")

    def __init__(self, warmup: int = 100):
        self.warmup = warmup
        self._iterations = 0

    def _holds(self) -> bool:
        return self._iterations >= self.warmup

    @property
    def unmet(self) -> str:
        """What it takes to be satisfied, in words."""
        return f"{self._iterations} steps were made, the first {self.warmup} are uniform"

    def update(self, scores: np.ndarray) -> None:
        """Counts one step."""
        self._iterations += 1


class _AverageCondition(Condition):
    """Satisfied while the moving average of some statistic is above a threshold."""

    _state: tuple[str, ...] = (*Condition._state, "_average")

    _quantity = "statistic of the scores"

    def __init__(self, threshold: float, momentum: float):
        self.threshold = float(threshold)
        self._average = MovingAverage(momentum)

    def _statistic(self, scores: np.ndarray) -> float:
        raise NotImplementedError(f"{type(self).__name__} must implement _statistic(scores)")

    def _holds(self) -> bool:
        return self._average.known and self._average.value > self.threshold

    @property
    def unmet(self) -> str:
        """What it takes to be satisfied, in words."""
        if not self._average.known:
            return "there were no scores yet to judge by"
        return (
            f"the {self._quantity} is {self._average.value:.2f}, draws are by score above "
            f"{self.threshold:.2f}{self._origin}"
        )

    @property
    def _origin(self) -> str:
        """Where the threshold comes from, where that is not plain."""
        return ""

    def update(self, scores: np.ndarray) -> None:
        """Averages the statistic of these scores in."""
        self._average.add(self._statistic(np.asarray(scores, dtype=np.float64).reshape(-1)))


class ExpCondition(_AverageCondition):
    """Takes the scores for exponentially distributed; satisfied while lambda = 1/mean is large.

    Args:
        lambda_th: float, the threshold. Defaults to `2.0`.
        momentum: float in [0, 1), of the moving average. Defaults to `0.9`.
    """

    _quantity = "inverse of the mean score"

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

    _quantity = "total variation of the scores"

    def __init__(self, tv_th: float = 0.5, momentum: float = 0.9):
        super().__init__(tv_th, momentum)

    def _statistic(self, scores: np.ndarray) -> float:
        total = scores.sum()
        if total == 0:
            return 0.0
        return 0.5 * np.abs(scores / total - 1.0 / len(scores)).sum()


class VarianceReductionCondition(_AverageCondition):
    """Satisfied while importance sampling would reduce the variance enough.

    The estimate grows with the number of scores it is made from, because a larger set
    contains more of the rare large ones. So that a switch does not change what is
    measured, every update is cut into groups of the same size, whose estimates are
    averaged.

    Args:
        vr_th: float, the variance reduction to exceed, `tau_th` in 1803.00942: the root of the
            ratio of second moments, uniform over drawn, so that at t a uniform batch of t^2 times
            the size is as noisy. Defaults to `1.2`.
        momentum: float in [0, 1), of the moving average. Defaults to `0.9`.
        sample_size: keyword-only; int, scores per group. Defaults to the size of the first
            update.
    """

    _state: tuple[str, ...] = (*_AverageCondition._state, "sample_size")

    _quantity = "estimated variance reduction"

    def __init__(
        self, vr_th: float = 1.2, momentum: float = 0.9, *, sample_size: int | None = None
    ):
        super().__init__(vr_th, momentum)
        self.sample_size = sample_size

    def _statistic(self, scores: np.ndarray) -> float:
        return float(self._estimates(scores))

    def _estimates(self, scores: np.ndarray) -> Any:
        """Of each batch, `(..., n)`, the mean over its groups."""
        n = scores.shape[-1]
        if self.sample_size is None:
            self.sample_size = n
        groups = n // self.sample_size
        if groups == 0:
            return variance_reduction(scores)
        whole = scores[..., : groups * self.sample_size]
        grouped = whole.reshape(*scores.shape[:-1], groups, self.sample_size)
        return np.mean(variance_reduction(grouped), axis=-1)

    def update_many(self, scores: np.ndarray) -> None:
        """As `update` with each batch, worked out at once.

        Args:
            scores: `(batches, n)` the scores of each.
        """
        kind = type(self)
        if (
            kind.update is not _AverageCondition.update
            or kind._statistic is not VarianceReductionCondition._statistic
        ):
            # A subclass learns in its own way.
            super().update_many(scores)
            return
        for estimate in self._estimates(np.asarray(scores, np.float64)).tolist():
            self._average.add(estimate)

    @property
    def variance_reduction(self) -> float:
        """The present estimate; 1.0, no reduction, before the first update."""
        return self._average.value if self._average.known else 1.0


class MeasuredReductionCondition(VarianceReductionCondition):
    r"""Satisfied while the variance reduction is worth the time it takes, as measured.

    The threshold is $t_\text{on} / t_\text{off}$, the median times of a step that draws by score
    and of a uniform one, instead of the $(B + 3b)/(3b)$ that counts a backward pass as two
    forward ones. Some draws are made to measure: a few by score at the start, and a few of the
    kind that is not on every thousand draws.

    Args:
        prior: float, the threshold until both times are known.
        reuse: int, steps per scored pool, over which its time is spread. Defaults to `1`.
        momentum: float in [0, 1), of the moving average. Defaults to `0.9`.
        sample_size: keyword-only; int, scores per group; see `VarianceReductionCondition`.
    """

    _state: tuple[str, ...] = (
        *VarianceReductionCondition._state,
        "_times",
        "_decisions",
        "_probes",
        "_probe_on",
        "threshold",
    )

    # Decisions between two measurements of the kind that is not on.
    _INTERVAL = 1000

    def __init__(
        self,
        prior: float,
        reuse: int = 1,
        momentum: float = 0.9,
        *,
        sample_size: int | None = None,
    ):
        super().__init__(prior, momentum, sample_size=sample_size)
        self.prior = float(prior)
        self.reuse = reuse
        self._times = StepTimes[str]()
        self._decisions = 0
        self._probes = 0
        self._probe_on = True

    def record_step_time(self, proposal: Proposal, seconds: float) -> None:
        """Keeps the time by the kind of step, and makes the threshold of the medians.

        Args:
            proposal: what was trained on.
            seconds: float; NaN if it is not known, which changes nothing.
        """
        if np.isnan(seconds):
            return
        if proposal.by_score:
            scored = proposal.pool_scores is not None
            self._times.add("scored" if scored else "reused", seconds, "on")
        else:
            self._times.add("off", seconds)
        self.threshold = self.cost or self.prior

    @property
    def _origin(self) -> str:
        if self.cost is None:
            return " until it is measured what they cost"
        return ", their measured time in units of uniform steps"

    @property
    def cost(self) -> float | None:
        """Time of a step by score in units of a uniform one; None until both are known."""
        kinds = ["scored"] if self.reuse == 1 else ["scored", "reused"]
        if not all(self._times.known(kind) for kind in ("off", *kinds)):
            return None
        scored, off = self._times.median("scored"), self._times.median("off")
        rest = 0.0 if self.reuse == 1 else self._times.median("reused")
        return (scored + (self.reuse - 1) * rest) / (self.reuse * off)

    def decide(self) -> bool:
        """Decides how the next batch is drawn; now and then begins to measure."""
        self._decisions += 1
        if self._probes == 0:
            if self._average.known and self.cost is None and self._times.known("off"):
                # Two more than what is needed: the first is left out, the last may come late.
                self._probes, self._probe_on = ENOUGH + 2, True
            elif self._decisions % self._INTERVAL == 0:
                self._probes, self._probe_on = ENOUGH + 2, not self._decided
        decided = super().decide()
        self._probes = max(self._probes - 1, 0)
        return decided

    def _holds(self) -> bool:
        return self._probe_on if self._probes > 0 else super()._holds()
