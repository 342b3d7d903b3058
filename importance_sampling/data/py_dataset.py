"""`keras.utils.PyDataset`."""

from __future__ import annotations

import itertools
import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from .._threads import DaemonExecutor
from .adapter import Options, Rows
from .stream import StreamDataset
from .stream_adapter import StreamAdapter

if TYPE_CHECKING:
    import keras


class PyDatasetAdapter(StreamAdapter):
    """A `keras.utils.PyDataset`, read by as many workers as it asks for.

    Args:
        data: the data set.
        options: what it is for.

    Raises:
        ValueError: if it has no batches.
    """

    # It hears of each pass that begins, and may shuffle itself by it.
    starts_late = True

    def __init__(self, data: keras.utils.PyDataset, options: Options):
        super().__init__(type(data).__name__, options)
        self._data = data
        self.batches_per_pass = data.num_batches
        if self.batches_per_pass == 0:
            raise ValueError(f"The {self.name} is empty: it has 0 batches.")
        self.infinite = self.batches_per_pass is None
        self.ahead = max(2, int(data.max_queue_size))
        # A generator of its own, because it is used in the reading thread.
        self._seed = None if options.rng is None else int(options.rng.integers(2**63))
        # How many passes it has heard of.
        self._begun = 0

    @classmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` is a `keras.utils.PyDataset`."""
        keras = sys.modules.get("keras")
        return keras is not None and isinstance(data, keras.utils.PyDataset)

    def open(self) -> Iterable[Any]:
        """Begins a pass in the data set's own order."""
        return self._read_pass(self._next_order(None))

    def passes(self) -> Iterator[Iterable[Any]]:
        """One iterable of batches per pass, in random order where the options hold a generator."""
        return self._passes(self._order())

    def _passes(
        self, rng: np.random.Generator | None, begun: bool = False
    ) -> Iterator[Iterable[Any]]:
        while True:
            yield self._read_pass(self._next_order(rng), begun)
            begun = False

    def _order(self) -> np.random.Generator | None:
        return None if self._seed is None else np.random.default_rng(self._seed)

    def _next_order(self, rng: np.random.Generator | None) -> Iterable[int]:
        if self.infinite:
            return itertools.count()
        # A pass may have another length than the one before.
        batches = self._data.num_batches
        return range(batches) if rng is None else [int(i) for i in rng.permutation(batches)]

    def order_state(self) -> Any:
        """The seed of the order of batches; None for the order they are in."""
        return self._seed

    def passes_after(self, count: int, order: Any) -> Iterable[Iterable[Any]] | None:
        """The passes from one on; those before are begun and ended, but nothing of them is read.

        Args:
            count: int, how many passes to leave out.
            order: the seed of the order of batches, or None.
        """
        self._seed = order
        rng, heard = self._order(), self._begun
        for number in range(count):
            self._next_order(rng)
            if number >= heard:
                self._begin()
            self._data.on_epoch_end()
        return self._passes(rng, begun=heard > count)

    def _begin(self) -> None:
        self._begun += 1
        if hasattr(self._data, "on_epoch_begin"):
            self._data.on_epoch_begin()

    def _read_pass(self, order: Iterable[int], begun: bool = False) -> Iterator[Any]:
        """One pass, read by as many workers as the data set asks for, in order."""
        data = self._data
        workers = int(data.workers or 0)
        parallel = workers > 1 or (workers > 0 and data.use_multiprocessing)
        if not begun:
            self._begin()
        if not parallel:
            for index in order:
                yield data[index]
        else:
            yield from _read_in_parallel(data, order, workers)
        data.on_epoch_end()

    def _peek(self) -> Any:
        return self._data[0]

    def _first_batch(self, dataset: StreamDataset) -> Rows:
        # Of those that are shuffled, the last and smaller one may come first.
        super()._first_batch(dataset)
        return self._checked(self._peek())

    def keras_arguments(self) -> dict[str, Any] | None:
        """The data set as it is."""
        return {"x": self._data}

    def batches(self, steps: int | None = None) -> Iterator[Rows]:
        """Batches in order; goes on to the end of a pass, which the data set hears of."""
        return map(self._checked, itertools.islice(self.open(), steps))


def _read_in_parallel(
    data: keras.utils.PyDataset, order: Iterable[int], workers: int
) -> Iterator[Any]:
    executor: Executor
    if data.use_multiprocessing:
        # Forking a process that runs TensorFlow or JAX may lock up; spawning cannot.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(workers, context, _hold, (data,))
        submit: Callable[[int], Any] = lambda index: executor.submit(_read_held, index)  # noqa: E731
    else:
        executor = DaemonExecutor(workers, "importance-sampling-worker")
        submit = lambda index: executor.submit(data.__getitem__, index)  # noqa: E731
    waiting: deque[Any] = deque()
    try:
        for index in order:
            waiting.append(submit(index))
            if len(waiting) > max(workers, int(data.max_queue_size)):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


_held: Any = None


def _hold(data: Any) -> None:
    """Keeps the data set in a worker process, so that it is sent there once."""
    global _held
    _held = data


def _read_held(index: int) -> Any:
    return _held[index]
