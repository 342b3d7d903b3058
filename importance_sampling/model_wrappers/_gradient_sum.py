"""The exchange between processes in the middle of a step: gradients, and what goes along.

What goes here must be of the same size everywhere, also where processes have drawn different
batches, or nobody could say so. So scores, which are as many as rows, go along where there is room
for them (`Processes.room`). Where there is not, they follow once it is sure that all drew the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from .._arrays import flatten
from .._pending_rows import PendingRows
from ..backend.base import Tensor
from ..backend.processes import Share, check_same_batch, in_pieces
from ..proposal import Proposal

# Numbers of each row that go into it.
_SAMPLED = 8


class StepParts(NamedTuple):
    """What processes find out, each of its own rows, or all together.

    Attributes:
        means: tensors that are means over the rows.
        added: tensors that add up.
        scores: `(count,)`, or `(n,)` of all together; None where nobody reads them.
    """

    means: list[Tensor]
    added: list[Tensor]
    scores: Tensor | None = None

    def summed(self, share: Share) -> StepParts:
        """What all processes have found together."""
        rows = [] if self.scores is None else [share.padded(self.scores)]
        found = share.processes.sum(self.means, share.weight, [*self.added, *rows])
        count, end = len(self.means), len(self.means) + len(self.added)
        return StepParts(found[:count], found[count:end], *found[end:])


class GradientSum:
    """Stands in the place of an optimizer's `apply` for one step.

    Args:
        share: this process' rows.
        checksum: int, of what was drawn.
        model: the model.
        along: returns what goes along with the gradients; None where that is not known yet.

    Attributes:
        calls: int, how often the step has called it.
        collected: what went along, of all processes together; None where nothing did.
    """

    def __init__(
        self,
        share: Share,
        checksum: int,
        model: Any,
        along: Callable[[], StepParts | None],
    ):
        self._share = share
        self._along = along
        self.collected: StepParts | None = None
        self._check = in_pieces(checksum)
        self._model = model
        self.calls = 0

    def hook(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What is called in the place of `apply`.

        Args:
            original: the optimizer's own.
        """

        def apply(grads: Sequence[Any], trainable_variables: Any = None) -> Any:
            self.calls += 1
            variables = trainable_variables
            if variables is None:
                variables = self._model.trainable_variables
            return original(self._summed(list(grads), list(variables)), trainable_variables)

        return apply

    def _summed(self, grads: list[Any], variables: list[Any]) -> list[Any]:
        """The gradients of the whole batch; None where it has none of a variable in any process."""
        share = self._share
        given = [
            ops.zeros_like(v.value) if g is None else g
            for g, v in zip(grads, variables, strict=True)
        ]
        has = [0.0 if g is None else 1.0 for g in grads]
        parts = self._along()
        own = StepParts([], []) if parts is None else parts
        check = ops.convert_to_tensor(np.array([*self._check, *has], np.float32))
        fits, scores = share.fits, own.scores
        none = ops.zeros((0,), "float32")
        room = share.in_room(none if scores is None else ops.cast(scores, "float32"))
        told = StepParts([*given, *own.means], [check, room, *own.added]).summed(share)
        summed, found = told.means[: len(given)], told.added[0]
        numbers = ops.convert_to_numpy(found).tolist()
        check_same_batch(numbers[: len(self._check)], share.processes.size)
        if parts is not None:
            if scores is not None and fits:
                # A copy: what was exchanged holds the gradients as well.
                scores = ops.copy(told.added[1][: share.n])
            elif scores is not None:
                (scores,) = share.gather([scores])
            self.collected = StepParts(told.means[len(given) :], told.added[2:], scores)
        return [
            None if count == 0.0 else gradient
            for gradient, count in zip(summed, numbers[len(self._check) :], strict=True)
        ]


def checksum(proposal: Proposal) -> int:
    """A checksum of a batch: which examples, their weights, and a few numbers of each row.

    Args:
        proposal: the batch.

    Returns:
        int, of 32 bits.
    """
    # Whether scores are read decides how many exchanges there are.
    found = zlib.crc32(proposal.idxs.tobytes(), int(proposal.reads_scores))
    found = zlib.crc32(proposal.weights.astype(np.float32).tobytes(), found)
    for array in flatten(proposal.rows):
        # The indices of a stream only count its rows; what is read by index follows from them.
        if not isinstance(array, PendingRows) and getattr(array.dtype, "kind", "") in "biufc":
            row = array.reshape(len(array), -1)
            few = row[:, :: max(1, row.shape[1] // _SAMPLED)]
            found = zlib.crc32(few.tobytes(), found)
    return found
