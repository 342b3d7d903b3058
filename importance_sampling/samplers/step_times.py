"""How long steps of each kind take, measured while training."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# Steps whose median is the cost of a kind: enough to shrug off a hiccup, few enough to follow
# a machine that gets busier.
_WINDOW = 21
# Steps of a kind before its cost counts as known.
ENOUGH = 4


class StepTimes(Generic[K]):
    """The median time of the last steps of each kind.

    The first step after a change of kind is left out: it may compile something, and where the
    device works asynchronously its time is that of the step before.
    """

    def __init__(self) -> None:
        self._times: dict[K, deque[float]] = {}
        self._group: Hashable = None

    def add(self, kind: K, seconds: float, group: Hashable = None) -> None:
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

    def interrupt(self) -> None:
        """Says that steps came in between which are not told of; as a change of kind."""
        self._group = None

    def known(self, kind: K, enough: int = ENOUGH) -> bool:
        """Whether the kind was seen often enough.

        Args:
            kind: the kind, as handed to `add`.
            enough: int, steps that are enough.
        """
        return len(self._times.get(kind, ())) >= enough

    @property
    def kinds(self) -> list[K]:
        """All that were seen."""
        return list(self._times)

    def forget(self, kind: K) -> None:
        """Drops what is known of a kind."""
        self._times.pop(kind, None)

    def median(self, kind: K) -> float:
        """Seconds of a step of a kind that was seen.

        Args:
            kind: the kind, as handed to `add`.
        """
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
