"""PyTorch's `DataLoader`, on every backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..backend import array_types
from .adapter import Options
from .stream_adapter import StreamAdapter, first, grouped

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class TorchLoaderAdapter(StreamAdapter):
    """A `torch.utils.data.DataLoader`, of batches or (`batch_size=None`) of single examples.

    Args:
        data: the loader.
        options: what it is for.
    """

    def __init__(self, data: DataLoader, options: Options):
        super().__init__("DataLoader", options)
        self._data = data
        # Workers fetch ahead. They are processes, and as forks of this one they would keep locks on
        # files that a callback is writing while a thread begins a pass.
        self.prefetches = bool(data.num_workers)
        try:
            self.batches_per_pass = len(data)
        except TypeError:
            # Over an `IterableDataset` without a length.
            self.batches_per_pass = None
        self._group: int | None = None
        if data.batch_size is None and self._holds_single_examples(first(data, self.name)):
            self._group = options.batch_size
            if self.batches_per_pass is not None:
                self.batches_per_pass = -(-self.batches_per_pass // self._group)

    @classmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` is a `torch.utils.data.DataLoader`."""
        return array_types.is_torch_loader(data)

    def open(self) -> Iterable[Any]:
        """Begins a pass; single examples are stacked into batches."""
        return iter(self._data) if self._group is None else grouped(self._data, self._group)

    def keras_arguments(self) -> dict[str, Any] | None:
        """The loader as it is; None for one of single examples."""
        return {"x": self._data} if self._group is None else None
