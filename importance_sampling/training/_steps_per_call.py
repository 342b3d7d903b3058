"""How many training steps go to the device in one call."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from .._arrays import Nested, flatten
from ..model_wrappers import OracleWrapper
from ..model_wrappers.work import multiply_adds
from ..samplers import BaseSampler

# Steps for which programs of their own are compiled where the user asks for more: an epoch ends
# in few, and the history draws as many at once.
_ROOMS = (8, 32)
# Single steps that are made by the program of many, before one of their own is worth compiling: so
# many, and one in so many of all steps.
_SINGLES = 8
# What is chosen where nobody asks: at most so many steps, at most such a share of an epoch, and
# no more than so many multiplications and additions, tens of milliseconds of a common CPU.
_MOST = 32
_SHARE = 8
_WORK = 2**31
# What the norms of all samples' gradients cost, in units of a step without them.
_EXACT_NORMS = 4
# And no more data than this, which is copied to the device for a call.
_BYTES = 2**26
# Steps of a training below which compiling another program takes longer than it saves; twice as
# many where batches come in several sizes, of which two take turns.
_WORTH_IT = 2048


def steps_together(
    work: int, size: int, steps_per_epoch: int | None, steps: int, sizes: int = 1
) -> int:
    """How many steps to make in one call where the user does not say; a power of two.

    It follows from shapes and numbers of steps, not from measured times: the same call of `fit`
    gives the same result on each run.

    Args:
        work: int, multiplications and additions of a step.
        size: int, bytes of a batch.
        steps_per_epoch: int, or None if nobody knows.
        steps: int, of the whole training.
        sizes: int, how many sizes batches come in.
    """
    if steps_per_epoch is None or steps < _WORTH_IT * min(sizes, 2):
        return 1
    limits = (_MOST, steps_per_epoch // _SHARE, _WORK // max(work, 1), _BYTES // max(size, 1))
    return 1 << max(min(limits), 1).bit_length() - 1


def steps_for(
    wrapper: OracleWrapper,
    sampler: BaseSampler,
    first_rows: tuple[Nested, ...],
    batch_size: int,
    steps_per_epoch: int | None,
    epochs: int,
) -> int:
    """How many steps to make in one call where the user does not say; see `steps_together`.

    Args:
        wrapper: the wrapped model, built.
        sampler: draws the batches.
        first_rows: a few rows of the data.
        batch_size: int, examples of a uniform step.
        steps_per_epoch: int, or None if nobody knows.
        epochs: int.
    """
    if not wrapper.trains_many:
        return 1
    work = multiply_adds(wrapper.model, first_rows[0], batch_size)
    if wrapper.score_name == "full_gnorm":
        work *= _EXACT_NORMS
    rows = [np.asarray(array) for array in flatten(first_rows)]
    return steps_together(
        work,
        batch_size * sum(array.nbytes // len(array) for array in rows),
        steps_per_epoch,
        (steps_per_epoch or 0) * epochs,
        len(sampler.batch_sizes(batch_size)),
    )


class StepsPerCall:
    """What the user asks for or leaves to be chosen, and what of it can be had.

    Args:
        model: the user's model; its `steps_per_execution` above 1 was asked for.
        given: int, what was asked for in the place of that; None for nothing.
        chosen: int, the steps to make together where nothing is asked for.

    Attributes:
        told: int, the steps that callbacks are told of together, with Keras' meaning: those that
            were asked for, otherwise one call's.
        most: int, the most steps in one call of the device.
    """

    def __init__(self, model: keras.Model, given: int | None = None, chosen: int = 1):
        compiled = getattr(model, "steps_per_execution", None)
        if given is None and isinstance(compiled, int) and compiled > 1:
            given = compiled
        self._asked = given is not None
        self._wanted = chosen if given is None else given
        self.told = given or 1
        self.most = 1
        # Whether any number would do.
        self._free = False
        # Steps that were made alone, by the program of many; None once they have one of their own.
        self._singles: int | None = 0

    def allow(self, many: bool, unseen: bool = True) -> None:
        """Settles whether calls of several steps are made for this run.

        Args:
            many: bool, whether nothing needs the host between one step and the next.
            unseen: bool, whether nobody looks at single steps. Whoever asks for several wants to
                be told of them together.
        """
        self._free = many and not self._asked and unseen
        self.most = self._wanted if self._free or (many and self._asked) else 1

    def state_dict(self) -> dict[str, Any]:
        """What decides by which programs steps are made."""
        return {"most": self.most, "singles": self._singles}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes as many steps together as the training that is gone on from.

        Where another number is asked for, or single steps are needed, nothing changes.

        Args:
            state: what `state_dict` returned.
        """
        if self._free:
            self.most = state["most"]
            self._singles = state["singles"]

    def alone(self, count: int, made: int) -> bool:
        """Whether a step is made by a program of single steps.

        Where the library chooses, a few are made by that of many: compiling another takes
        thousands of times as long as a step of a small network.

        Args:
            count: int, steps of the call.
            made: int, steps made before.
        """
        if count > 1:
            return False
        if not self._free or self.most == 1 or self._singles is None:
            return True
        self._singles += 1
        if self._singles > _SINGLES + made // _SINGLES:
            self._singles = None
        return self._singles is None

    def room(self, count: int) -> int:
        """For how many steps to compile what makes some of them.

        Args:
            count: int, the steps to make, at most `most`.
        """
        if self._free:
            return self.most
        return next((room for room in _ROOMS if count <= room < self.most), self.most)
