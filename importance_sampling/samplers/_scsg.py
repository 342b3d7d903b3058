"""Uniform draws, with a snapshot of the model every so many steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import count_rows, flatten, take_rows
from ..data import StreamEnded
from ..proposal import Pool, Proposal
from ..protocols import Dataset, SnapshotModel
from .base import BaseSampler

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


# What growing snapshots may hold of a stream, of which every example must be read at one time.
_MOST_BYTES = 2**30


class SCSGSampler(BaseSampler):
    r"""Draws uniformly, and has the model take a snapshot of its weights every `B_over_b` steps.

    The snapshot's gradient is that of B examples, drawn uniformly without replacement (SCSG, Lei
    and Jordan 2017, [1609.03261](https://arxiv.org/abs/1609.03261)), or of the whole training set
    (SVRG, Johnson and Zhang 2013). Steps are those of an `SVRGWrapper` or a `KatyushaWrapper`.

    Args:
        dataset: a `BaseDataset`; a stream, where B is not 0.
        reweighting: a `ReweightingPolicy`.
        model: anything with `take_snapshot(batches)` and `snapshot_batch_size(batch_size)`.
        B: int, examples whose gradient a snapshot has; 0, or as many as there are, for the whole
            training set. Defaults to `1024`.
        B_over_b: int, steps from one snapshot to the next. Defaults to `32`.
        B_rate: float > 0, what B is multiplied by after each snapshot. Growth ends at the whole
            training set; on a stream, where the examples of a snapshot take 1 GiB. Defaults to
            `1.0`.

    Raises:
        TypeError: if the model takes no snapshots.
        ValueError: if an argument is out of its range, or the whole of a stream is asked for.
    """

    _state = (*BaseSampler._state, "_large", "_left")

    overlaps = True

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        model: SnapshotModel,
        B: int = 1024,
        B_over_b: int = 32,
        B_rate: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        # Asked for by name, as a decorator of a wrapper passes names on.
        if not callable(getattr(model, "take_snapshot", None)):
            raise TypeError(
                "SCSGSampler needs a model that takes snapshots, as SVRGWrapper and "
                f"KatyushaWrapper do, got {type(model).__name__}."
            )
        for name, value, least in (("B", B, 0), ("B_over_b", B_over_b, 1)):
            if isinstance(value, bool) or int(value) != value or value < least:
                raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}.")
        if not 0 < B_rate < np.inf:
            raise ValueError(f"`B_rate` must be a number above 0, got {B_rate!r}.")
        if B == 0 and self._indices.n is None:
            raise ValueError(
                "B=0 takes the gradient of the whole training set, and a stream has no end to go "
                "through. Say how many examples of it a snapshot is to have."
            )
        self.model = model
        self.B_over_b = int(B_over_b)
        self.B_rate = float(B_rate)
        # Grows by fractions, too.
        self._large = float(B)
        self._left = 0
        self._drew = False

    @property
    def B(self) -> int:
        """Examples of the next snapshot; 0 for the whole training set."""
        return round(self._large)

    @property
    def why_uniform(self) -> str:
        """What takes the noise away instead."""
        return "SVRG draws no examples by score, it corrects the gradient by that of a snapshot"

    def batches_ahead(self, batch_size: int) -> int:
        """The batches up to the next snapshot, of which the first may take one."""
        return min(self._left or self.B_over_b, self._rows.whole_batches(batch_size))

    def candidates(self, batch_size: int) -> Pool:
        """The next batch of the pass.

        Args:
            batch_size: int, the most examples in it.
        """
        idxs, rows = self._rows.next_batch(batch_size)
        return Pool(idxs, None, rows)

    def propose(self, batch_size: int) -> Proposal:
        """The next mini-batch; before it a snapshot, where one is due.

        Args:
            batch_size: int, the most examples in it.

        Raises:
            ValueError: if the first snapshot takes all that is left of a stream.
            StreamEnded: if nothing is left of a stream.
        """
        return self.propose_many(batch_size, 1)[0]

    def propose_many(self, batch_size: int, count: int) -> list[Proposal]:
        """The next mini-batches, up to the next snapshot; see `BaseSampler`.

        Args:
            batch_size: int, the most examples in each.
            count: int, how many; at most `batches_ahead`.
        """
        taken = None if self._left else self._take_snapshot(batch_size)
        self._left -= count
        try:
            if count == 1:
                proposals = [self._draw(self.candidates(batch_size), batch_size)]
            else:
                proposals = self._propose_many_uniformly(batch_size, count)
        except StreamEnded:
            if self._drew or taken is None:
                raise
            raise ValueError(
                f"The first snapshot took {taken} examples, all that is left of the training data, "
                "so that there is none to make a step with. Lower `B`, or give data that goes on: "
                "a snapshot reads its examples from a stream like a batch does."
            ) from None
        self._drew = True
        return proposals

    def _take_snapshot(self, batch_size: int) -> int:
        """Has the model take a snapshot; returns of how many examples."""
        size = self.model.snapshot_batch_size(batch_size)
        n = self._indices.n
        if n is None:
            _, rows = self._rows.next_pool(self.B)
            chosen = count_rows(rows)
            parts = _Parts(lambda part: take_rows(rows, part), chosen, size)
            bytes_per_row = sum(array.nbytes for array in flatten(rows)) / chosen
            most = _MOST_BYTES // max(bytes_per_row, 1)
        else:
            most = n
            # In random order, so that parts are what batches are to layers that normalize them.
            chosen = n if self.B == 0 else min(self.B, n)
            idxs = self.rng.choice(n, chosen, replace=False)
            data = self.dataset.train_data
            parts = _Parts(lambda part: data[idxs[part]], chosen, size)
        self.model.take_snapshot(parts)
        self._left = self.B_over_b
        if self._large:
            # What was asked for at first may be more.
            self._large = min(max(self._large * self.B_rate, 1.0), max(self._large, most))
        return chosen


class _Parts:
    """Examples in parts, which are read when they are gone through, each time anew.

    Args:
        read: gives the rows of a slice of the examples.
        count: int, how many examples there are.
        size: int, examples of a part.
    """

    def __init__(self, read: Callable[[slice], tuple[Any, ...]], count: int, size: int):
        self._read, self._count, self._size = read, count, size

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for start in range(0, self._count, self._size):
            yield self._read(slice(start, start + self._size))
