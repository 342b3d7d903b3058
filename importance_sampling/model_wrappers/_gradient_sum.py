"""The exchange between processes in the middle of a step: gradients, and what goes along.

A checksum of the batch goes with it, so that no weight is changed where processes have drawn
different ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from .._arrays import Nested, flatten
from .._pending_rows import PendingRows
from ..backend.base import Tensor
from ..backend.processes import Share
from ..proposal import Proposal

# A checksum is summed in pieces so small that the sums of their squares are exact in float32.
_BITS, _PIECES = 6, 6
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

    def summed(self, share: Share, what: str, number: int = 0) -> StepParts:
        """What all processes have found together.

        Args:
            share: this process' rows.
            what: what it is; see `Processes.sum`.
            number: int, the same in every process.
        """
        rows = [] if self.scores is None else [share.padded(self.scores)]
        found = share.processes.sum(
            self.means, share.weight, [*self.added, *rows], what=what, number=number
        )
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
        self._checksum = checksum
        self._along = along
        self.collected: StepParts | None = None
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
        parts = self._along()
        own = StepParts([], []) if parts is None else parts
        pieces = [float(self._checksum >> (_BITS * i) & (2**_BITS - 1)) for i in range(_PIECES)]
        has = [float(g is not None) for g in grads]
        flags = np.array([*pieces, *(piece * piece for piece in pieces), *has], np.float32)
        mine = StepParts(
            [*given, *own.means], [ops.convert_to_tensor(flags), *own.added], own.scores
        )
        what = f"a step on {share.n} rows"
        found = mine.summed(share, what, self._checksum)
        numbers = ops.convert_to_numpy(found.added[0]).tolist()
        sums, squares = numbers[:_PIECES], numbers[_PIECES : 2 * _PIECES]
        # Equal everywhere, or the mean of the squares is above the square of the mean.
        size = share.processes.size
        if any(p * p != size * square for p, square in zip(sums, squares, strict=True)):
            raise share.processes.apart(what)
        if parts is not None:
            # A copy: what was exchanged holds the gradients as well.
            scores = None if found.scores is None else ops.copy(found.scores)
            self.collected = StepParts(found.means[len(given) :], found.added[1:], scores)
        pairs = zip(found.means[: len(given)], numbers[2 * _PIECES :], strict=True)
        return [gradient if count else None for gradient, count in pairs]


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
    return checksum_of_rows(proposal.rows, found)


def checksum_of_rows(rows: Nested, found: int = 0) -> int:
    """A checksum of a few numbers of each row.

    Args:
        rows: arrays `(n, ...)`.
        found: int, a checksum to go on from. Defaults to `0`.

    Returns:
        int, of 32 bits.
    """
    for array in flatten(rows):
        # The indices of a stream only count its rows; what is read by index follows from them.
        if not isinstance(array, PendingRows) and getattr(array.dtype, "kind", "") in "biufc":
            row = array.reshape(len(array), -1)
            few = row[:, :: max(1, row.shape[1] // _SAMPLED)]
            found = zlib.crc32(few.tobytes(), found)
    return found
