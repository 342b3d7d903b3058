"""What each way to draw is worth: its variance reduction and its time, measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._base import Draw
from ._costs import StepTimes
from ._gain import IdealReduction, MeasuredReduction

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


class Worth:
    """Keeps what training tells of all ways to draw, used or not."""

    def __init__(self):
        self.ideal = IdealReduction()
        self.stored = MeasuredReduction()
        self.times = StepTimes()
        self.first_step: float | None = None
        self.elapsed = 0.0

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
        if draw.kind == "uniform" and draw.wants_scores:
            # Whoever trains uniformly need not read scores, which is not free.
            self.times.add("uniform, scored", seconds)
        elif draw.kind != "pool":
            self.times.add(draw.kind, seconds)
        elif draw.pool_scores is None:
            self.times.add("reused", seconds, "pool")
        else:
            self.times.add(f"pool {len(draw.pool_scores) // len(draw[0])}", seconds, "pool")

    @property
    def uniform_seconds(self) -> float:
        """Time of a uniform step."""
        return self.times.median("uniform")

    def pool_reduction(self, pool: int, reuse: int) -> float:
        """Variance reduction of `reuse` mini-batches from a pool of `pool` batches."""
        return (self.ideal.value**-2 + reuse / pool) ** -0.5

    def of_all(self, with_history: bool, largest: float) -> dict[Choice, tuple[float, float]]:
        """Variance reduction and seconds per step of each way to draw, as far as known.

        Args:
            with_history: whether the history knows all examples.
            largest: the largest possible pool, in batches.
        """
        uniform = self.uniform_seconds
        found = {UNIFORM: (1.0, uniform)}
        if with_history:
            kinds = [k for k in ("history", "uniform, scored", "uniform") if self.times.known(k)]
            found[HISTORY] = (self.stored.value, self.times.median(kinds[0]))
        if not self.times.known(f"pool {POOLS[0]}", _SCORED):
            return found
        per_batch = self._scoring(POOLS[0]) / POOLS[0]
        for pool in POOLS:
            if pool > largest:
                continue
            known = self.times.known(f"pool {pool}")
            scoring = self._scoring(pool) if known else per_batch * pool
            for reuse in (m for m in REUSES if m < pool):
                reduction = self.pool_reduction(pool, reuse)
                found["pool", pool, reuse] = reduction, uniform + scoring / reuse
        return found

    def _scoring(self, pool: int) -> float:
        return max(self.times.median(f"pool {pool}") - self.uniform_seconds, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """What changes, as plain numbers."""
        return {
            "ideal": self.ideal.state_dict(),
            "stored": self.stored.state_dict(),
            "times": self.times.state_dict(),
            "first_step": self.first_step,
            "elapsed": self.elapsed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self.ideal.load_state_dict(state["ideal"])
        self.stored.load_state_dict(state["stored"])
        self.times.load_state_dict(state["times"])
        self.first_step, self.elapsed = state["first_step"], float(state["elapsed"])
