"""What several data sets are made of."""

from __future__ import annotations

from typing import Any

from ..data.dataset import BaseDataset


class IndexedParts(BaseDataset):
    """A data set whose parts `_train` and `_test` have a length and give `(x, y)` for an array."""

    _train: Any
    _test: Any

    def _train_data(self, idxs: Any) -> tuple[Any, ...]:
        return self._train[idxs]

    def _train_size(self) -> int:
        return len(self._train)

    def _test_data(self, idxs: Any) -> tuple[Any, ...]:
        return self._test[idxs]

    def _test_size(self) -> int:
        return len(self._test)


class DecoratedDataset(BaseDataset):
    """A data set made of another one, whose shapes it has."""

    dataset: BaseDataset

    @property
    def shape(self) -> Any:
        """Shape of one input."""
        return self.dataset.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one target."""
        return self.dataset.output_shape

    @property
    def output_size(self) -> int:
        """Number of classes, or of target values."""
        return self.dataset.output_size
