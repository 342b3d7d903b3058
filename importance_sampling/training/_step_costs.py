"""What steps cost in units of uniform ones, measured side by side."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from ..proposal import Kind, Proposal

# Machines change their speed: only steps no further apart than this are compared.
_NEAR = 64
# Steps of a kind that are remembered, and those by which a time or a cost is known.
_WINDOW = 21
_ENOUGH = 3
# Of so many comparisons the median is the cost.
_COMPARISONS = 1001


class _Key(NamedTuple):
    """What makes steps alike: how they were drawn, of what size, and what is fetched of them."""

    kind: Kind
    size: int
    reads_scores: bool


@dataclass
class _Times:
    """Times of the last steps of a key, without those that compile."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    # Of each step, in units of a uniform one nearby.
    costs: deque[float] = field(default_factory=lambda: deque(maxlen=_COMPARISONS))
    last: int = 0
    steps: int = 0

    def add(self, seconds: float, step: int) -> None:
        if step - self.last > _NEAR:
            self.recent.clear()
        self.recent.append(seconds)
        self.last = step

    def near(self, step: int) -> bool:
        return len(self.recent) >= _ENOUGH and step - self.last <= _NEAR


class StepCosts:
    """The time of steps by score in units of uniform ones made at most 64 steps before.

    The first step after a change of kind or size is left out: it may compile something, and where
    the device works asynchronously its time is that of the step before. So are all steps of the
    first call that makes as many of them, which share the time of compiling it. A size of batch
    that no uniform steps stand beside is compared with another size whose cost is known. Uniform
    steps whose scores are not read are the unit, where there are any.

    Args:
        batch_size: int, examples of a uniform step.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._times: dict[_Key, _Times] = {}
        self._last: _Key | None = None
        # Steps of a call that compiles: those still to come, and the calls there were.
        self._compiling = 0
        self._compiled: set[tuple[_Key, int]] = set()
        self._step = 0

    def add(self, proposal: Proposal, seconds: float, steps_in_call: int = 1) -> None:
        """Learns from a step.

        Args:
            proposal: what was trained on.
            seconds: how long the step took.
            steps_in_call: int, how many steps were made in the call that it was one of.
        """
        self._step += 1
        uniform = proposal.kind is Kind.UNIFORM
        key = _Key(proposal.kind, len(proposal.idxs), uniform and proposal.reads_scores)
        times = self._times.setdefault(key, _Times())
        times.steps += 1
        if (key, steps_in_call) not in self._compiled:
            self._compiled.add((key, steps_in_call))
            self._compiling = steps_in_call
        if self._compiling:
            self._compiling -= 1
        elif key == self._last:
            if not uniform:
                self._compare(key, times, seconds)
            times.add(seconds, self._step)
        self._last = key

    def _compare(self, key: _Key, times: _Times, seconds: float) -> None:
        units = (
            self._times.get(_Key(Kind.UNIFORM, self._batch_size, reads)) for reads in (False, True)
        )
        unit = next((u for u in units if u is not None and u.near(self._step)), None)
        if unit is not None:
            times.costs.append(seconds / max(statistics.median(unit.recent), 1e-12))
        elif len(times.costs) < _ENOUGH:
            for other, known in self._times.items():
                if other != key and len(known.costs) >= _ENOUGH and known.near(self._step):
                    there = statistics.median(known.recent)
                    cost = statistics.median(known.costs)
                    times.costs.append(cost * seconds / max(there, 1e-12))
                    break

    def seconds(self, kind: Kind) -> float | None:
        """The median time of the last steps of a kind, the size seen most; None if not known.

        Args:
            kind: how they were drawn.
        """
        known = [t for k, t in self._times.items() if k.kind is kind and t.recent]
        most = max(known, key=lambda times: times.steps, default=None)
        return None if most is None else statistics.median(most.recent)

    @property
    def relative_time(self) -> float | None:
        """Time of all steps in units of as many uniform ones; None where it was not measured."""
        steps = cost = 0.0
        for key, times in self._times.items():
            if key.kind is Kind.UNIFORM:
                steps, cost = steps + times.steps, cost + times.steps
            elif len(times.costs) >= _ENOUGH:
                steps += times.steps
                cost += times.steps * statistics.median(times.costs)
        # A few steps of a size that hardly occurs count as the others.
        total = sum(times.steps for times in self._times.values())
        return cost / steps if steps and steps >= 0.9 * total else None
