"""How many training steps go to the device in one call."""

from __future__ import annotations

import statistics
from typing import Any

# The most that is chosen here: batches that the history draws at once. More saves next to nothing.
_MOST = 8
# The longest that a call should take, so that callbacks hear of the training often enough.
_SECONDS = 0.03
# The share of an epoch that a call may be.
_SHARE = 8
# Steps to measure before it is chosen; the first of them compile, and fill the device's queue.
_LEFT_OUT = 2
_MEASURED = 8
# What a step saves that does not go to the device alone: half of it, and this at most.
_SAVED_SECONDS = 4e-4


def given_steps(model: Any) -> int | None:
    """The `steps_per_execution` that the model was compiled with; None where that is one.

    Args:
        model: the user's model.
    """
    given = getattr(model, "steps_per_execution", None)
    return given if isinstance(given, int) and given > 1 else None


class StepsPerCall:
    """Chooses once per run how many steps a call makes at most, by what single steps take.

    A second program is compiled for it, so that there must be steps enough to earn that time.

    Args:
        given: int, the steps that the user wants in a call; None to choose.
        allowed: bool, whether calls may make more than one step.
        programs: int, how many sizes of batches there are to compile for.

    Attributes:
        most: int, the most steps in a call; 1 until there is more to be said.
    """

    def __init__(self, given: int | None, allowed: bool, programs: int = 1):
        self.most = (given or 1) if allowed else 1
        self._choosing = allowed and given is None
        self._programs = programs
        self._seconds: list[float] = []

    def room(self, count: int) -> int:
        """For how many steps to compile what makes some: for few of them less, where many may come.

        Args:
            count: int, the steps to make, at most `most`.
        """
        return self.most if count > _MOST else min(self.most, _MOST)

    def add(self, seconds: float, steps_per_epoch: int | None, steps_left: int | None) -> None:
        """Learns how long a single step took.

        Args:
            seconds: float.
            steps_per_epoch: int, or None if that is not known.
            steps_left: int, steps to the end of the run, likewise.
        """
        if not self._choosing or steps_per_epoch is None or steps_left is None:
            return
        self._seconds.append(seconds)
        if len(self._seconds) < _LEFT_OUT + _MEASURED:
            return
        self._choosing = False
        step = statistics.median(self._seconds[_LEFT_OUT:])
        compiling = self._programs * max(self._seconds[0] - step, 0.0)
        if steps_left * min(step / 2, _SAVED_SECONDS) < compiling:
            return
        most = min(_MOST, steps_per_epoch // _SHARE, int(_SECONDS / step))
        # Powers of two, so that few programs are compiled over many runs.
        self.most = 1 << max(most.bit_length() - 1, 0)
