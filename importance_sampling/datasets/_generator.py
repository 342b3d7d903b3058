"""Data sets that are read in a background thread and have no order of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._arrays import count_rows, flatten, map_arrays, take_rows
from ._base import BaseDataset, row_shapes
from ._buffer import Part
from ._reader import BatchReader
from ._sources import Source


class StreamDataset(BaseDataset):
    """Training data that comes in batches; a background thread fetches them ahead.

    The training data has no length (`len(train_data)` raises RuntimeError), and an index
    means no more than "one more example": `train_data[idxs]` reads `len(idxs)` of them.
    Samplers read with `read_batch` and `read_pool`.

    Args:
        source: where the batches come from.
        cache_size: int, batches to fetch ahead.
        timeout: float, seconds to wait for one batch.
        marks_passes: whether to find out how long a pass over the source is.
        prepare: applied to each batch in the thread.
        keeps_batches: whether a step takes one of the source's own batches, as Keras does,
            instead of as many examples as it is asked for.
        needs_targets: whether every batch must have targets.
    """

    def __init__(
        self,
        source: Source,
        cache_size: int = 5,
        timeout: float = 300.0,
        marks_passes: bool = False,
        prepare: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None,
        keeps_batches: bool = False,
        needs_targets: bool = True,
    ):
        self.keeps_batches = keeps_batches
        """Whether a uniform step takes one of the source's own batches, whatever its size."""
        self._train = BatchReader(
            source.passes(),
            cache_size,
            timeout,
            source.name,
            marks_passes,
            prepare,
            needs_targets,
            in_thread=not source.prefetches,
        )
        self.check: Callable[[tuple[Any, ...]], Any] | None = None
        """Called with all rows that are read, before they are used."""
        self.check_padding: Callable[[tuple[Any, ...], tuple[Any, ...]], Any] | None = None
        """Called once with a row before and after it was padded, if one ever is."""

    def peek(self) -> tuple[Any, ...]:
        """Some of the next training examples, which stay to be read."""
        return self._train.peek()

    def steps_per_pass(self, batch_size: int) -> int | None:
        """Uniform steps in one pass over the source; None until one was read to its end.

        Args:
            batch_size: int, examples per step, unless the source's batches are kept.
        """
        if self._train.pass_size is None:
            return None
        batches, rows = self._train.pass_size
        return batches if self.keeps_batches else -(-rows // batch_size)

    def close(self) -> None:
        """Ends the background thread; also happens when the data set is deleted."""
        self._train.close()

    def __enter__(self) -> StreamDataset:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    _train_streams = True

    def read_batch(self, size: int) -> tuple[Any, ...]:
        """The next mini-batch: the source's own where these are kept, else `size` examples."""
        part = self._train.read_batch() if self.keeps_batches else self._train.read(size)
        return self._checked(part)

    def read_pool(self, size: int) -> tuple[Any, ...]:
        """The next `size` examples; where batches are kept, whole ones that hold as many.

        Batches of different length are padded with zeros to the longest.
        """
        return self._checked(self._train.read(size, whole=self.keeps_batches))

    def _train_data(self, idxs: Any) -> tuple[Any, ...]:
        return self._checked(self._train.read(len(idxs)))

    def _checked(self, part: Part) -> tuple[Any, ...]:
        if self.check is not None:
            self.check(part.rows)
        if part.padded is not None and self.check_padding is not None:
            check, self.check_padding = self.check_padding, None
            check(*part.padded)
        return part.rows

    def _train_size(self) -> int:
        raise RuntimeError("This data set is a stream: its training data has no size.")

    def _test_data(self, idxs: Any) -> tuple[Any, ...]:
        raise IndexError("This data set has no test data.")

    def _test_size(self) -> int:
        return 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input, from the next batch."""
        return flatten(self._train.peek()[0])[0].shape[1:]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one target, from the next batch."""
        return flatten(self._train.peek()[1])[0].shape[1:]

    @property
    def output_size(self) -> int:
        """Number of values of one target, from the next batch."""
        return int(np.prod(self.output_shape, dtype=np.int64))


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
        train_data: Any,
        test_data: Any = None,
        test_data_length: int | None = None,
        cache_size: int = 5,
        *,
        timeout: float = 300.0,
    ):
        source = Source(lambda: iter(train_data), "training generator", repeats=False)
        super().__init__(source, cache_size, timeout, prepare=_with_columns)
        self._test_arrays: tuple[Any, ...] | None = None
        self._test: BatchReader | None = None
        self._test_length = 0
        if isinstance(test_data, tuple | list):
            self._test_arrays = tuple(test_data)
            self._test_length = count_rows(test_data[0])
        elif test_data is not None:
            if test_data_length is None:
                raise ValueError("A `test_data` generator needs `test_data_length`.")
            self._test = BatchReader(
                [test_data], cache_size, timeout, "test generator", prepare=_with_columns
            )
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
        return self._test.read(len(idxs)).rows

    def _test_size(self) -> int:
        if self._test_arrays is None and self._test is None:
            raise RuntimeError(_NO_TEST_DATA)
        return self._test_length

    @property
    def shape(self) -> Any:
        """Shape of one input, from the next batch; a list of shapes where there are several."""
        return row_shapes(self._train.peek()[0])

    @property
    def output_size(self) -> int:
        """Length of the targets' last axis, from the next batch."""
        return self.output_shape[-1]


def _with_columns(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """Targets that are one number per example, as `(n, 1)`."""
    x, y, *rest = batch
    return (x, map_arrays(lambda a: a[:, None] if a.ndim == 1 else a, y), *rest)
