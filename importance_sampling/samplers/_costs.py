"""What steps of each kind cost, measured while training."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Hashable
from typing import Any

from ._base import Draw
from ._conditions import VarianceReductionCondition

# Steps whose median is the cost of a kind: enough to shrug off a hiccup, few enough to follow
# a machine that gets busier.
_WINDOW = 21
# Steps of a kind before its cost counts as known.
ENOUGH = 4


class StepTimes:
    """The median time of the last steps of each kind.

    The first step after a change of kind is left out: it may compile something, and where the
    device works asynchronously its time is that of the step before.
    """

    def __init__(self):
        self._times: dict[Hashable, deque[float]] = {}
        self._group: Hashable = None

    def add(self, kind: Hashable, seconds: float, group: Hashable = None) -> None:
        """Learns from one step.

        Args:
            kind: what kind of step it was.
            seconds: how long it took.
            group: kinds of the same group may alternate without anything being left out.
                Defaults to the kind itself.
        """
        group = kind if group is None else group
        if group == self._group:
            self._times.setdefault(kind, deque(maxlen=_WINDOW)).append(seconds)
        self._group = group

    def known(self, kind: Hashable, enough: int = ENOUGH) -> bool:
        """Whether the kind was seen often enough."""
        return len(self._times.get(kind, ())) >= enough

    @property
    def kinds(self) -> list[Hashable]:
        """All that were seen."""
        return list(self._times)

    def forget(self, kind: Hashable) -> None:
        """Drops what is known of a kind."""
        self._times.pop(kind, None)

    def median(self, kind: Hashable) -> float:
        """Seconds of a step of a kind that was seen."""
        return statistics.median(self._times[kind])

    def state_dict(self) -> dict[str, Any]:
        """What changes, as plain numbers."""
        return {"times": {kind: list(times) for kind, times in self._times.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self._group = None
        self._times = {
            kind: deque(map(float, times), maxlen=_WINDOW) for kind, times in state["times"].items()
        }


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

    # Draws between two measurements of the kind that is not on.
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
        self._times = StepTimes()
        self._draws = 0
        self._probes = 0
        self._probe_on = True

    def timed(self, draw: Draw, seconds: float) -> None:
        """See `Condition.timed`."""
        if draw.importance:
            scored = draw.pool_scores is not None
            self._times.add("scored" if scored else "reused", seconds, "on")
        else:
            self._times.add("off", seconds)
        self.threshold = self.cost or self.prior

    @property
    def cost(self) -> float | None:
        """Time of a step by score in units of a uniform one; None until both are known."""
        kinds = ["scored"] if self.reuse == 1 else ["scored", "reused"]
        if not all(self._times.known(kind) for kind in ("off", *kinds)):
            return None
        scored, off = self._times.median("scored"), self._times.median("off")
        rest = 0.0 if self.reuse == 1 else self._times.median("reused")
        return (scored + (self.reuse - 1) * rest) / (self.reuse * off)

    def _holds(self) -> bool:
        self._draws += 1
        if self._probes == 0:
            if self._average.known and self.cost is None and self._times.known("off"):
                # Two more than what is needed: the first is left out, the last may come late.
                self._probes, self._probe_on = ENOUGH + 2, True
            elif self._draws % self._INTERVAL == 0:
                self._probes, self._probe_on = ENOUGH + 2, not self._last
        if self._probes > 0:
            self._probes -= 1
            return self._probe_on
        return super()._holds()

    def state_dict(self) -> dict[str, Any]:
        """See `Condition.state_dict`."""
        own = {
            "times": self._times.state_dict(),
            "draws": self._draws,
            "probes": self._probes,
            "probe_on": self._probe_on,
            "threshold": self.threshold,
        }
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Condition.load_state_dict`."""
        super().load_state_dict(state)
        self._times.load_state_dict(state["times"])
        self._draws, self._probes = int(state["draws"]), int(state["probes"])
        self._probe_on, self.threshold = bool(state["probe_on"]), float(state["threshold"])
