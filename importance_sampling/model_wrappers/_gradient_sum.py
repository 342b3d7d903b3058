"""Gradients of the parts of a batch, added up over the processes that have computed them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from .._arrays import flatten
from .._pending_rows import PendingRows
from ..backend.processes import Share
from ..proposal import Proposal

# A checksum is summed in pieces so small that the sums of their squares are exact in float32.
_BITS, _PIECES = 6, 6
# Numbers of each row that go into it.
_SAMPLED = 8


class GradientSum:
    """Stands in the place of an optimizer's `apply` for one step.

    Args:
        share: this process' rows.
        checksum: int, of what was drawn.
        model: the model.
    """

    def __init__(self, share: Share, checksum: int, model: Any):
        self._share = share
        self._check = [checksum >> (_BITS * i) & (2**_BITS - 1) for i in range(_PIECES)]
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
        flags = [0.0 if g is None else 1.0 for g in grads]
        flags += [float(piece) for piece in self._check]
        flags += [float(piece) ** 2 for piece in self._check]
        *summed, found = share.processes.sum(
            given, share.weight, [ops.convert_to_tensor(np.array(flags, np.float32))]
        )
        numbers = ops.convert_to_numpy(found).tolist()
        pieces = numbers[len(grads) : len(grads) + _PIECES]
        squares = numbers[len(grads) + _PIECES :]
        # Equal everywhere, or the mean of the squares is above the square of the mean.
        if any(p * p != share.processes.size * s for p, s in zip(pieces, squares, strict=True)):
            raise RuntimeError(
                "The processes have drawn different batches, so that their parts do not make one. "
                "Draws come from one generator, which is the same in every process: a sampler of "
                "your own must draw from `self.rng` alone, and data in batches must come in the "
                "same order everywhere (give what shuffles it a seed). Nothing was changed by "
                "this step."
            )
        return [
            None if has == 0.0 else gradient
            for gradient, has in zip(summed, numbers[: len(grads)], strict=True)
        ]


def checksum(proposal: Proposal) -> int:
    """A checksum of a batch: which examples, their weights, and a few numbers of each row."""
    found = zlib.crc32(proposal.idxs.tobytes())
    found = zlib.crc32(proposal.weights.astype(np.float32).tobytes(), found)
    for array in flatten(proposal.rows):
        # The indices of a stream only count its rows; what is read by index follows from them.
        if not isinstance(array, PendingRows) and getattr(array.dtype, "kind", "") in "biufc":
            row = array.reshape(len(array), -1)
            few = row[:, :: max(1, row.shape[1] // _SAMPLED)]
            found = zlib.crc32(few.tobytes(), found)
    return found
