"""A data set read from a Python generator in a background thread."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._arrays import concatenate, count_rows, flatten, map_arrays, take_rows
from ._base import BaseDataset


class StreamEnded(Exception):
    """The generator behind a data set has no more examples."""


_END = object()


class _Failure:
    def __init__(self, error: BaseException):
        self.error = error


def _produce(source: Iterator[Any], items: queue.Queue, stop: threading.Event) -> None:
    """Runs in the thread; knows the queue but not the data set, so that it can end with it."""

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                return items.put(item, timeout=0.1)
            except queue.Full:
                continue

    try:
        for item in source:
            put(item)
            if stop.is_set():
                return
    except BaseException as error:  # noqa: BLE001
        # Whatever ends the generator belongs to the thread that trains.
        put(_Failure(error))
    else:
        put(_END)


class BackgroundReader:
    """Rows from an iterator of batches, fetched ahead in a thread.

    Args:
        source: yields `(x, y)` or `(x, y, sample_weight)`, arrays of any number of rows.
        cache_size: int, batches to fetch ahead.
        timeout: float, seconds to wait for one batch.
        name: what to call the source in errors.
    """

    def __init__(self, source: Any, cache_size: int, timeout: float, name: str):
        self._name = name
        self._timeout = timeout
        self._items: queue.Queue = queue.Queue(maxsize=cache_size)
        self._stop = threading.Event()
        self._rest: tuple[Any, ...] | None = None
        self._over: Any = None
        arguments = (iter(source), self._items, self._stop)
        self._thread = threading.Thread(target=_produce, args=arguments, daemon=True)
        self._thread.start()
        self._finalizer = weakref.finalize(self, self._stop.set)

    def close(self) -> None:
        """Ends the thread at its next batch."""
        self._stop.set()
        try:
            while True:
                self._items.get_nowait()
        except queue.Empty:
            return

    def _next(self) -> tuple[Any, ...]:
        if self._over is not None:
            raise self._over
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                # Short waits, so that an interrupt gets through.
                item = self._items.get(timeout=0.2)
                break
            except queue.Empty:
                if self._stop.is_set():
                    raise StreamEnded(f"The {self._name} is closed.") from None
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"The {self._name} gave no batch for {self._timeout:g} seconds. Check "
                        "what it waits for, or allow more with `timeout=`."
                    ) from None
        if item is _END:
            self._over = StreamEnded(f"The {self._name} has no more examples.")
            raise self._over
        if isinstance(item, _Failure):
            self._over = item.error
            raise item.error
        return self._check(item)

    def _check(self, item: Any) -> tuple[Any, ...]:
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            kind = type(item).__name__
            raise ValueError(
                f"The {self._name} must yield (x, y) or (x, y, sample_weight), got {kind}"
                + (f" of length {len(item)}." if isinstance(item, tuple | list) else ".")
            )
        item = map_arrays(np.asarray, tuple(item))
        lengths = {len(a) for a in flatten(item)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"The {self._name} yielded arrays with {sorted(lengths)} rows; all arrays of a "
                "batch need the same number of rows, at least one."
            )
        return item

    def peek(self) -> tuple[Any, ...]:
        """The next batch, which stays to be read."""
        if self._rest is None:
            self._rest = self._next()
        return self._rest

    def read(self, n: int) -> tuple[Any, ...]:
        """The next `n` rows, of as many batches as it takes.

        Raises:
            StreamEnded: if fewer are left.
        """
        parts, missing = [], n
        while missing > 0:
            batch = self.peek()
            rows = count_rows(batch)
            if rows <= missing:
                parts.append(batch)
                self._rest = None
            else:
                parts.append(take_rows(batch, slice(0, missing)))
                self._rest = take_rows(batch, slice(missing, rows))
            missing -= min(rows, missing)
        return concatenate(parts)


class GeneratorDataset(BaseDataset):
    """A stream of training data; background threads fetch batches ahead.

    The training data has no length (`len(train_data)` raises RuntimeError), and an index
    means no more than "one more example": `train_data[idxs]` reads `len(idxs)` of them.

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
        self._train = BackgroundReader(train_data, cache_size, timeout, "training generator")
        self._test_arrays: tuple[Any, ...] | None = None
        self._test: BackgroundReader | None = None
        self._test_length = 0
        if isinstance(test_data, tuple | list):
            self._test_arrays = tuple(test_data)
            self._test_length = count_rows(test_data[0])
        elif test_data is not None:
            if test_data_length is None:
                raise ValueError("A `test_data` generator needs `test_data_length`.")
            self._test = BackgroundReader(test_data, cache_size, timeout, "test generator")
            self._test_length = int(test_data_length)

    def peek(self) -> tuple[Any, ...]:
        """The next training batch, which stays to be read."""
        return self._train.peek()

    def close(self) -> None:
        """Ends the background threads; also happens when the data set is deleted."""
        self._train.close()
        if self._test is not None:
            self._test.close()

    def __enter__(self) -> GeneratorDataset:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _train_data(self, idxs: Any) -> tuple[Any, ...]:
        return self._train.read(len(idxs))

    def _train_size(self) -> int:
        raise RuntimeError("This data set is a stream: its training data has no size.")

    def _test_data(self, idxs: Any) -> tuple[Any, ...]:
        if self._test_arrays is not None:
            return take_rows(self._test_arrays, idxs)
        if self._test is None:
            raise IndexError("This data set has no test data.")
        return self._test.read(len(idxs))

    def _test_size(self) -> int:
        return self._test_length

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
