"""What steps cost in units of uniform ones, measured side by side."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from ..proposal import Kind, Proposal

# Machines change their speed: only steps no more calls of the device apart than this are compared.
_NEAR = 64
# Of the steps of one call, which share their time, so many are remembered.
_OF_A_CALL = 5
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

    def add(self, seconds: float, call: int, count: int) -> None:
        if call - self.last > _NEAR:
            self.recent.clear()
        self.recent.extend([seconds] * count)
        self.last = call

    def near(self, call: int) -> bool:
        return len(self.recent) >= _ENOUGH and call - self.last <= _NEAR


class StepCosts:
    """The time of steps by score in units of uniform ones made at most 64 calls before.

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
        # Numbers of steps for which a call was made.
        self._compiled: set[tuple[_Key, int]] = set()
        self._call = 0

    def add(self, proposal: Proposal, seconds: float | None, count: int = 1) -> None:
        """Learns from the steps of a call.

        Args:
            proposal: what one of them was trained on; the others are of its kind and size.
            seconds: how long each step took; None if it is not known.
            count: int, how many there were.
        """
        self._call += 1
        uniform = proposal.kind is Kind.UNIFORM
        key = _Key(proposal.kind, len(proposal.idxs), uniform and proposal.reads_scores)
        times = self._times.setdefault(key, _Times())
        times.steps += count
        if (key, count) not in self._compiled:
            self._compiled.add((key, count))
            known = 0
        else:
            known = min(count - (key != self._last), _OF_A_CALL)
        if known and seconds is not None:
            if not uniform:
                self._compare(key, times, seconds, known)
            times.add(seconds, self._call, known)
        self._last = key

    def _compare(self, key: _Key, times: _Times, seconds: float, count: int) -> None:
        units = (
            self._times.get(_Key(Kind.UNIFORM, self._batch_size, reads)) for reads in (False, True)
        )
        unit = next((u for u in units if u is not None and u.near(self._call)), None)
        if unit is not None:
            cost = seconds / max(statistics.median(unit.recent), 1e-12)
            times.costs.extend([cost] * count)
        elif len(times.costs) < _ENOUGH:
            for other, known in self._times.items():
                if other != key and len(known.costs) >= _ENOUGH and known.near(self._call):
                    there = statistics.median(known.recent)
                    cost = statistics.median(known.costs)
                    times.costs.extend([cost * seconds / max(there, 1e-12)] * count)
                    break

    def seconds(self, kind: Kind) -> float | None:
        """The median time of the last steps of a kind, the size seen most; None if not known.

        Args:
            kind: how they were drawn.
        """
        known = [(k, t) for k, t in self._times.items() if k.kind is kind and t.recent]
        # Of uniform steps, those that others are compared with.
        most = max(known, key=lambda one: (not one[0].reads_scores, one[1].steps), default=None)
        return None if most is None else statistics.median(most[1].recent)

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
