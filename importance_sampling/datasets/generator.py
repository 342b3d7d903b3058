"""A stream of training data from a generator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._arrays import Nested, count_rows, map_arrays, take_rows
from ..data.dataset import row_shapes
from ..data.stream import StreamDataset

_NO_TEST_DATA = "This data set has no test data: none was given."


class GeneratorDataset(StreamDataset):
    """A stream of training data from a generator; background threads fetch batches ahead.

    The training data has no length (`len(train_data)` raises RuntimeError), and an index
    means no more than "one more example": `train_data[idxs]` reads `len(idxs)` of them,
    `train_data[:10]` ten, and `train_data[0]` one, with its batch axis. Targets `(n,)` come as
    columns `(n, 1)`. Batches that differ along another axis than the first are filled up with
    zeros where they are joined. Without `test_data` the length of the test data, and reading any
    of it, raises RuntimeError.

    Args:
        train_data: yields `(x, y)` batches of any number of rows.
        test_data: a tuple `(x, y)` of arrays, or a generator of such batches, or None.
        test_data_length: int, examples to read from a `test_data` generator.
        cache_size: int, batches to fetch ahead. Defaults to `5`.
        timeout: keyword-only; float, seconds to wait for one batch. Defaults to `300`.
    """

    def __init__(
        self,
        train_data: Iterable[Any],
        test_data: tuple[Nested, Nested] | Iterable[Any] | None = None,
        test_data_length: int | None = None,
        cache_size: int = 5,
        *,
        timeout: float = 300.0,
    ):
        options: dict[str, Any] = {
            "cache_size": cache_size,
            "timeout": timeout,
            "prepare": _with_columns,
        }
        super().__init__([train_data], "training generator", **options)
        self._test_arrays: tuple[Any, ...] | None = None
        self._test: StreamDataset | None = None
        self._test_length = 0
        if isinstance(test_data, tuple | list):
            self._test_arrays = tuple(test_data)
            self._test_length = count_rows(test_data[0])
        elif test_data is not None:
            if test_data_length is None:
                raise ValueError("A `test_data` generator needs `test_data_length`.")
            self._test = StreamDataset([test_data], "test generator", **options)
            self._test_streams = True
            self._test_length = int(test_data_length)

    def close(self) -> None:
        """Ends the background threads; also happens when the data set is deleted."""
        super().close()
        if self._test is not None:
            self._test.close()

    def _test_data(self, idxs: Any) -> tuple[Any, ...]:
        if self._test_arrays is not None:
            return take_rows(self._test_arrays, idxs)
        if self._test is None:
            raise RuntimeError(_NO_TEST_DATA)
        return self._test.train_data[idxs]

    def _test_size(self) -> int:
        if self._test_arrays is None and self._test is None:
            raise RuntimeError(_NO_TEST_DATA)
        return self._test_length

    @property
    def shape(self) -> Any:
        """Shape of one input, from the next batch; a list of shapes where there are several."""
        return row_shapes(self.peek()[0])

    @property
    def output_size(self) -> int:
        """Length of the targets' last axis, from the next batch."""
        return self.output_shape[-1]


def _with_columns(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """Targets that are one number per example, as `(n, 1)`."""
    x, y, *rest = batch
    return (x, map_arrays(lambda a: a[:, None] if a.ndim == 1 else a, y), *rest)
