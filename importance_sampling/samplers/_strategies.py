"""Ways to draw, and estimates of the variance reduction and the time of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._state import Stateful
from ..proposal import Kind, Proposal, StepRecord
from .batch_size import BatchSizer
from .step_times import ENOUGH, StepTimes
from .variance import FEWEST, IdealReduction, MeasuredReduction, momentum_over


class Strategy(NamedTuple):
    """A way to draw.

    Attributes:
        kind: uniformly, by the history or from scored pools.
        pool: batches in a pool; 0 without.
        reuse: mini-batches drawn from a pool; 0 without.
    """

    kind: Kind
    pool: int = 0
    reuse: int = 0


UNIFORM = Strategy(Kind.UNIFORM)
HISTORY = Strategy(Kind.HISTORY)
# Pools to choose from, in batches, and the mini-batches drawn from each. All are scored in
# calls of the smallest, so that a compiled function sees one shape.
POOLS = (3, 6, 9)
REUSES = (1, 2, 4)
# What reading the scores of a batch may cost, in units of a uniform step, before it was tried.
_MOST_FOR_SCORES = 1.25
# Steps of the smallest pool that say what scoring costs.
_SCORED = 3
_HISTORY_OF = "history of "


def _history_of(size: int) -> str:
    return f"{_HISTORY_OF}{size}"


class StrategyEstimates(Stateful):
    """Variance reduction and time of all ways to draw, used or not, as training shows them.

    Attributes:
        ideal: the variance reduction of exact scores.
        stored: that of the history.
        costs: time of a step of each kind in units of a uniform one, as measured last.
        uniform_seconds: that unit.
        first_step: seconds of the very first call, which compiles.
        elapsed: seconds of all steps.
    """

    _state: tuple[str, ...] = (
        "ideal",
        "stored",
        "_times",
        "costs",
        "uniform_seconds",
        "_window",
        "first_step",
        "elapsed",
    )

    def __init__(self) -> None:
        self.ideal = IdealReduction()
        self.stored = MeasuredReduction()
        self.costs: dict[str, float] = {}
        self.uniform_seconds = 0.0
        self.first_step: float | None = None
        self.elapsed = 0.0
        self._times = StepTimes[str]()
        self.set_averaging_window(0)

    def set_averaging_window(self, batches: int) -> None:
        """Says over how many batches variances are averaged (`momentum_over`).

        Args:
            batches: int, an epoch's; 0 if that is not known.
        """
        self._window = batches
        for known in (self.ideal, self.stored):
            known.set_momentum(momentum_over(batches))

    def _after_loading(self) -> None:
        self.set_averaging_window(self._window)

    def add_scores(
        self,
        proposal: Proposal,
        scores: np.ndarray,
        would_be: np.ndarray | None,
        batches: int = 1,
    ) -> None:
        """Learns from the scores of a batch.

        Args:
            proposal: how it was drawn.
            scores: `(b,)` scores of the training pass.
            would_be: `(b,)` the weights that the history would have given; None if it does not
                know all examples yet.
            batches: int, how many it stands for, of which the others' scores were not read.
        """
        weights = proposal.importance_weights
        batches = self._limited(batches)
        self.ideal.add(weights, scores, batches)
        if would_be is not None:
            # What its probabilities give, or would have given, on what was drawn anyway.
            self.stored.add(weights, scores, would_be, batches)

    @staticmethod
    def moments(weights: np.ndarray, scores: np.ndarray) -> list[tuple[float, ...]]:
        """What `add_moments` takes, of several batches by the history.

        Args:
            weights: `(batches, b)` their weights 1/(N p).
            scores: `(batches, b)` scores of the training passes.
        """
        found = (
            *IdealReduction.moments(weights, scores),
            *MeasuredReduction.moments(weights, scores),
        )
        return list(zip(*(column.tolist() for column in found), strict=True))

    def _limited(self, batches: int) -> int:
        """So many that an average over an epoch is still of enough batches that were looked at."""
        return max(1, min(batches, self._window // FEWEST))

    def add_moments(
        self, mean: float, square: float, uniform: float, weighted: float, *, batches: int = 1
    ) -> None:
        """As `add_scores` of a batch by the history, of which `moments` were taken.

        Args:
            mean: as for `IdealReduction.add_moments`.
            square: likewise.
            uniform: as for `MeasuredReduction.add_moments`.
            weighted: likewise.
            batches: as for `add_scores`.
        """
        batches = self._limited(batches)
        self.ideal.add_moments(mean, square, batches)
        self.stored.add_moments(uniform, weighted, batches)

    def add_time(self, step: StepRecord) -> None:
        """Learns how long a step took, if that is known.

        Args:
            step: the step made. Only those made by a call of their own are compared.
        """
        proposal, seconds, steps_in_call = step.proposal, step.seconds, step.steps_in_call
        if np.isnan(seconds):
            return
        if self.first_step is None:
            self.first_step = seconds * steps_in_call
        self.elapsed += seconds
        if steps_in_call > 1:
            self._times.interrupt()
            return
        if not step.timed:
            return
        size = len(proposal.idxs)
        if proposal.kind is Kind.UNIFORM:
            # Whoever trains uniformly need not read scores, which is not free.
            self._times.add("uniform, scored" if proposal.reads_scores else "uniform", seconds)
        elif proposal.kind is Kind.HISTORY:
            # Batches of several sizes alternate; what is compiled for one is not for another.
            self._times.add(_history_of(size), seconds)
        elif proposal.pool_scores is None:
            self._times.add("reused", seconds, "pool")
        else:
            self._times.add(f"pool {len(proposal.pool_scores) // size}", seconds, "pool")

    def commit_step_costs(self) -> bool:
        """Turns the times since the last call into costs; False without any of uniform steps.

        Only steps of about the same minute are compared: machines change their speed.
        """
        if not self._times.known("uniform"):
            return False
        self.uniform_seconds = self._times.median("uniform")
        for kind in self._times.kinds:
            if self._times.known(kind, _SCORED if kind.startswith("pool") else ENOUGH):
                self.costs[kind] = self._times.median(kind) / self.uniform_seconds
        self._times = StepTimes[str]()
        return True

    def forget_uniform(self) -> None:
        """Drops times of uniform steps, which are going to be measured anew."""
        self._times.forget("uniform")

    def seconds_by_size(self, batch_size: int) -> dict[int, float]:
        """Times of steps by the history since the last comparison, by size of the batch.

        Args:
            batch_size: int, the size of uniform batches, whose time stands for that of whole
                batches by the history until there were any.
        """
        found = {batch_size: self.uniform_seconds} if self.uniform_seconds else {}
        for kind in self._times.kinds:
            if kind.startswith(_HISTORY_OF) and self._times.known(kind):
                found[int(kind.removeprefix(_HISTORY_OF))] = self._times.median(kind)
        return found

    @property
    def compiling(self) -> float:
        """Seconds that another program takes to compile, as far as the first call tells."""
        return max((self.first_step or 0.0) - self.uniform_seconds, 0.0)

    @property
    def has_timed_history(self) -> bool:
        """Whether the cost of a step by the history is known, of whatever size."""
        return any(kind.startswith(_HISTORY_OF) for kind in self.costs)

    def history_is_faster(self) -> bool:
        """Whether its last steps took less time than the uniform ones it was compared with."""
        kinds = (k for k in self._times.kinds if k.startswith(_HISTORY_OF) and self._times.known(k))
        return all(self._times.median(kind) < self.uniform_seconds for kind in kinds)

    def of_history(self, sizes: tuple[int, ...]) -> tuple[float, float]:
        """Variance reduction and cost of the history.

        With several sizes the smallest batch counts that has no more noise than a uniform one, and
        its variance reduction is the one that is left: the history's times the root of its share
        of the whole batch.

        Args:
            sizes: the sizes of its batches, largest first.
        """
        ratio = self.stored.ratio
        size = BatchSizer().choose(sizes, ratio)
        cost = self.costs.get(_history_of(size))
        if cost is None:
            # Before there was any such step: one that reads its scores, but draws uniformly. What
            # smaller batches save is hoped to be all, until it is tried. A few steps that met a
            # busy machine must not rule it out for good; trying costs a few more.
            scored = np.clip(self.costs.get("uniform, scored", 1.0), 1.0, _MOST_FOR_SCORES)
            cost = float(scored) * size / sizes[0]
        return float(np.sqrt(ratio * size / sizes[0])), cost

    def pool_reduction(self, pool: int, reuse: int) -> float:
        """Variance reduction of `reuse` mini-batches from a pool of `pool` batches.

        Args:
            pool: int.
            reuse: int.
        """
        return (self.ideal.value**-2 + reuse / pool) ** -0.5

    def of_all(self, sizes: tuple[int, ...], largest: float) -> dict[Strategy, tuple[float, float]]:
        """Variance reduction and cost of each way to draw, as far as known.

        Args:
            sizes: the sizes of the history's batches; empty if it does not know all examples.
            largest: the largest possible pool, in batches.
        """
        found: dict[Strategy, tuple[float, float]] = {UNIFORM: (1.0, 1.0)}
        if sizes:
            found[HISTORY] = self.of_history(sizes)
        smallest = self.costs.get(f"pool {POOLS[0]}")
        if smallest is None:
            return found
        for pool in POOLS:
            if pool > largest:
                continue
            known = self.costs.get(f"pool {pool}")
            scoring = (smallest - 1.0) * pool / POOLS[0] if known is None else known - 1.0
            for reuse in (m for m in REUSES if m < pool):
                reduction = self.pool_reduction(pool, reuse)
                found[Strategy(Kind.POOL, pool, reuse)] = reduction, 1.0 + max(scoring, 0.0) / reuse
        return found
