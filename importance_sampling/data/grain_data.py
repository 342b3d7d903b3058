"""Data sets of Grain."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .adapter import Options
from .stream_adapter import StreamAdapter, first, grouped

if TYPE_CHECKING:
    import grain

# A data set that repeats for ever says that it has this many elements, or more.
_INFINITE = sys.maxsize // 2


class GrainAdapter(StreamAdapter):
    """A Grain `MapDataset`, `IterDataset` or `DataLoader`, of batches or of single examples.

    Args:
        data: the data set.
        options: what it is for.
    """

    def __init__(
        self, data: grain.MapDataset | grain.IterDataset | grain.DataLoader, options: Options
    ):
        super().__init__("Grain data set", options)
        self._group: int | None = None
        if self._holds_single_examples(first(data, self.name)):
            if hasattr(data, "batch"):
                data = data.batch(options.batch_size)
            else:
                self._group = options.batch_size
        try:
            batches = len(data)
        except TypeError:
            batches = None
        self.infinite = batches is not None and batches > _INFINITE
        if not self.infinite and self._group is None:
            self.batches_per_pass = batches
        self._data = data

    @classmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` is a `MapDataset`, `IterDataset` or `DataLoader` of Grain."""
        grain = sys.modules.get("grain")
        kinds = ("MapDataset", "IterDataset", "DataLoader")
        return grain is not None and isinstance(
            data, tuple(getattr(grain, kind) for kind in kinds if hasattr(grain, kind))
        )

    def open(self) -> Iterable[Any]:
        """Begins a pass; single examples are stacked into batches."""
        return iter(self._data) if self._group is None else grouped(self._data, self._group)

    def passes_after(self, count: int, order: Any) -> Iterable[Iterable[Any]] | None:
        """All passes are alike, for Grain's random numbers follow from the place in the data.

        Args:
            count: int, how many passes to leave out.
            order: not looked at.
        """
        return self.passes()
