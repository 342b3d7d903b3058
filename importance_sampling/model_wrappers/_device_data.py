"""A training set that stays on the device, where rows of it are gathered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._arrays import Nested, RowsAt, flatten
from ..backend.base import Runtime
from ..proposal import Proposal
from ._casts import cast_floats


class DeviceData:
    """Arrays that were put on the device; there are none until `place` is called."""

    def __init__(self) -> None:
        self._arrays: tuple[Nested, ...] | None = None
        self._tensors: tuple[Nested, ...] = ()

    def place(self, runtime: Runtime, arrays: tuple[Nested, ...]) -> None:
        """Puts arrays on the device, in the place of those that are there.

        Args:
            runtime: of the model that is trained on them.
            arrays: `(x, y)` or `(x, y, sample_weight)`.
        """
        # What is there goes first, so that the data is there once.
        self.free()
        x, y, sample_weight = cast_floats((*arrays, None)[:3])
        self._tensors = runtime.hold((x, y, sample_weight))
        self._arrays = arrays

    def renew(self, runtime: Runtime) -> None:
        """Puts the same arrays on the device again, as they are now.

        Args:
            runtime: as for `place`.
        """
        if self._arrays is not None:
            self.place(runtime, self._arrays)

    def free(self) -> None:
        """Takes them off the device."""
        self._arrays, self._tensors = None, ()

    def rows_of(self, rows: Sequence[Any]) -> tuple[tuple[Nested, ...], np.ndarray] | None:
        """Where rows are on the device: the tensors, and their indices; None if they are not.

        Args:
            rows: of a proposal.
        """
        if self._arrays is None or not isinstance(rows, RowsAt) or rows.arrays is not self._arrays:
            return None
        return self._tensors, rows.idxs.astype(np.int32, copy=False)

    def stacked(self, proposals: Sequence[Proposal], room: int) -> tuple[Any, np.ndarray] | None:
        """The same for batches of one size: their indices, a batch in each row.

        Args:
            proposals: what to train on, step by step.
            room: int, rows of the result; those beyond the steps are of no meaning.
        """
        found = [self.rows_of(proposal.rows) for proposal in proposals]
        idxs = np.zeros((room, len(proposals[0].idxs)), np.int32)
        for i, held in enumerate(found):
            if held is None:
                return None
            idxs[i] = held[1]
        return self._tensors, idxs


def bytes_on_device(arrays: tuple[Nested, ...]) -> int:
    """Bytes that arrays take on the device, in the types that a model computes in.

    Args:
        arrays: numpy arrays, nested.
    """
    return sum(array.size * cast_floats(array[:0]).itemsize for array in flatten(arrays))
