"""What each way to draw is worth: its variance reduction and its time, measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._base import Draw
from ._batch_size import BatchSizer
from ._costs import ENOUGH, StepTimes
from ._gain import IdealReduction, MeasuredReduction, momentum_over

Choice = tuple[str, int, int]
"""A way to draw: `(kind, batches in the pool, mini-batches drawn from it)`."""

UNIFORM: Choice = ("uniform", 0, 0)
HISTORY: Choice = ("history", 0, 0)
# Pools to choose from, in batches, and the mini-batches drawn from each. All are scored in
# calls of the smallest, so that a compiled function sees one shape.
POOLS = (3, 6, 9)
REUSES = (1, 2, 4)
# Steps of the smallest pool that say what scoring costs.
_SCORED = 3
_HISTORY_OF = "history of "


def _history_of(size: int) -> str:
    return f"{_HISTORY_OF}{size}"


class Worth:
    """Keeps what training tells of all ways to draw, used or not.

    Attributes:
        ideal: the variance reduction of exact scores.
        stored: that of the history.
        costs: time of a step of each kind in units of a uniform one, as measured last.
        uniform_seconds: that unit.
        first_step: seconds of the very first step, which compiles.
        elapsed: seconds of all steps.
    """

    def __init__(self):
        self.ideal = IdealReduction()
        self.stored = MeasuredReduction()
        self.costs: dict[str, float] = {}
        self.uniform_seconds = 0.0
        self.first_step: float | None = None
        self.elapsed = 0.0
        self._times = StepTimes()
        self.look_back(0)

    def look_back(self, batches: int) -> None:
        """Says over how many batches variances are averaged: an epoch (`momentum_over`)."""
        self._window = batches
        for known in (self.ideal, self.stored):
            known.set_momentum(momentum_over(batches))

    def add(self, draw: Draw, scores: np.ndarray, would_be: np.ndarray | None) -> None:
        """Learns from the scores of a batch.

        Args:
            draw: how it was drawn.
            scores: `(b,)` scores of the training pass.
            would_be: `(b,)` the weights that the history would have given; None if it does not
                know all examples yet.
        """
        self.ideal.add(draw.metric_weights, scores)
        if would_be is not None:
            # What its probabilities give, or would have given, on what was drawn anyway.
            self.stored.add(draw.metric_weights, scores, would_be)

    def timed(self, draw: Draw, seconds: float) -> None:
        """Learns how long a step took."""
        if self.first_step is None:
            self.first_step = seconds
        self.elapsed += seconds
        if draw.kind == "uniform":
            # Whoever trains uniformly need not read scores, which is not free.
            self._times.add("uniform, scored" if draw.wants_scores else "uniform", seconds)
        elif draw.kind == "history":
            # Batches of several sizes alternate; what is compiled for one is not for another.
            self._times.add(_history_of(len(draw[0])), seconds)
        elif draw.pool_scores is None:
            self._times.add("reused", seconds, "pool")
        else:
            self._times.add(f"pool {len(draw.pool_scores) // len(draw[0])}", seconds, "pool")

    def weigh(self) -> bool:
        """Compares the times measured since it was called last; False without uniform ones.

        Only steps of about the same minute are compared: machines change their speed.
        """
        if not self._times.known("uniform"):
            return False
        self.uniform_seconds = self._times.median("uniform")
        for kind in self._times.kinds:
            if self._times.known(kind, _SCORED if kind.startswith("pool") else ENOUGH):
                self.costs[kind] = self._times.median(kind) / self.uniform_seconds
        self._times = StepTimes()
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
            # smaller batches save is hoped to be all, until it is tried.
            cost = max(self.costs.get("uniform, scored", 1.0), 1.0) * size / sizes[0]
        return float(np.sqrt(ratio * size / sizes[0])), cost

    def pool_reduction(self, pool: int, reuse: int) -> float:
        """Variance reduction of `reuse` mini-batches from a pool of `pool` batches."""
        return (self.ideal.value**-2 + reuse / pool) ** -0.5

    def of_all(self, sizes: tuple[int, ...], largest: float) -> dict[Choice, tuple[float, float]]:
        """Variance reduction and cost of each way to draw, as far as known.

        Args:
            sizes: the sizes of the history's batches; empty if it does not know all examples.
            largest: the largest possible pool, in batches.
        """
        found = {UNIFORM: (1.0, 1.0)}
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
                found["pool", pool, reuse] = reduction, 1.0 + max(scoring, 0.0) / reuse
        return found

    def state_dict(self) -> dict[str, Any]:
        """What changes, as plain numbers."""
        return {
            "ideal": self.ideal.state_dict(),
            "stored": self.stored.state_dict(),
            "times": self._times.state_dict(),
            "costs": dict(self.costs),
            "uniform_seconds": self.uniform_seconds,
            "window": self._window,
            "first_step": self.first_step,
            "elapsed": self.elapsed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self.ideal.load_state_dict(state["ideal"])
        self.stored.load_state_dict(state["stored"])
        self._times.load_state_dict(state["times"])
        self.costs = dict(state["costs"])
        self.uniform_seconds = float(state["uniform_seconds"])
        self.look_back(state["window"])
        self.first_step, self.elapsed = state["first_step"], float(state["elapsed"])
