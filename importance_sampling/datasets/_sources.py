"""What can be read in batches: loaders of TensorFlow, PyTorch, Keras and Grain, and iterators."""

from __future__ import annotations

import itertools
import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arrays import flatten
from ..backend import _foreign
from ._elements import Shape, holds_single_examples, shapes_only

# Rows that are put together where a source yields one example at a time and nobody says how many.
_GROUP = 128
# A Grain data set that repeats for ever says that it has this many elements.
_GRAIN_INFINITE = sys.maxsize // 2


@dataclass
class Source:
    """Batches that can be read in passes.

    Attributes:
        open: begins a pass and returns its batches.
        name: what to call it in errors.
        batches: how many batches a pass has; None if nobody knows.
        infinite: whether a pass never ends.
        repeats: whether it can be opened more than once.
        single: whether it yields single examples, which were put into groups here.
        ahead: batches to fetch ahead.
        prefetches: whether it does so by itself.
    """

    open: Callable[[], Iterable[Any]]
    name: str
    batches: int | None = None
    infinite: bool = False
    repeats: bool = True
    single: bool = False
    ahead: int = 5
    prefetches: bool = False

    def passes(self) -> Iterator[Iterable[Any]]:
        """One iterable of batches per pass."""
        yield self.open()
        while self.repeats:
            yield self.open()


def find_source(
    data: Any,
    inputs: Mapping[str, Shape] | None = None,
    rng: np.random.Generator | None = None,
    name: str = "training data",
    group: int = _GROUP,
) -> Source | None:
    """Recognises what `data` is.

    Args:
        data: anything.
        inputs: shape of a batch of each of the model's inputs, by name, where known; it tells
            single examples from batches.
        rng: shuffles the batches of a `PyDataset`; None keeps their order.
        name: what to call it in errors.
        group: how many single examples to put together into a batch.

    Returns:
        A `Source`, or None if it is nothing that is read in batches.
    """
    if _foreign.is_tf_dataset(data):
        return _tf_dataset(data, inputs, group, f"tf.data.Dataset of {name}")
    if _foreign.is_torch_loader(data):
        return _torch_loader(data, inputs, group, f"DataLoader of {name}")
    if _is_py_dataset(data):
        return _py_dataset(data, rng, f"{type(data).__name__} of {name}")
    if _is_grain(data):
        return _grain(data, inputs, group, f"Grain data set of {name}")
    if isinstance(data, Iterator):
        return Source(lambda: data, f"generator of {name}", repeats=False)
    if hasattr(data, "__iter__") and not _is_container(data):
        batches = len(data) if hasattr(data, "__len__") else None
        return Source(lambda: iter(data), f"{type(data).__name__} of {name}", batches)
    return None


def _is_container(data: Any) -> bool:
    return isinstance(data, dict | list | tuple | str | bytes | np.ndarray) or hasattr(
        data, "shape"
    )


def _is_py_dataset(data: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(data, keras.utils.PyDataset)


def _is_grain(data: Any) -> bool:
    grain = sys.modules.get("grain")
    kinds = ("MapDataset", "IterDataset", "DataLoader")
    return grain is not None and isinstance(
        data, tuple(getattr(grain, kind) for kind in kinds if hasattr(grain, kind))
    )


def _tf_dataset(data: Any, inputs: Any, group: int, name: str) -> Source:
    spec = data.element_spec
    known = all(getattr(leaf, "shape", None) is not None for leaf in flatten(spec))
    known = known and all(leaf.shape.rank is not None for leaf in flatten(spec))
    element = _first(data.take(1), name) if not known else spec
    single = holds_single_examples(shapes_only(element), inputs)
    if single:
        data = data.batch(group)
    batches = _foreign.tf_cardinality(data)
    infinite = batches == -1
    batches = None if infinite else batches
    data = data.prefetch(Source.ahead)
    return Source(lambda: iter(data), name, batches, infinite, single=single, prefetches=True)


def _first(data: Iterable[Any], name: str) -> Any:
    for element in data:
        return element
    raise ValueError(f"The {name} is empty: there is nothing to train on.")


def _torch_loader(data: Any, inputs: Any, group: int, name: str) -> Source:
    try:
        batches = len(data)
    except TypeError:
        batches = None
    if data.batch_size is None and holds_single_examples(shapes_only(_first(data, name)), inputs):
        batches = None if batches is None else -(-batches // group)
        return Source(lambda: _grouped(data, group), name, batches, single=True)
    return Source(lambda: iter(data), name, batches)


def _grouped(examples: Iterable[Any], size: int) -> Iterator[Any]:
    """Stacks single examples into batches."""
    iterator = iter(examples)
    while group := list(itertools.islice(iterator, size)):
        yield _stack(group)


def _stack(group: list[Any]) -> Any:
    first = group[0]
    if isinstance(first, dict):
        return {key: _stack([one[key] for one in group]) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_stack([one[i] for one in group]) for i in range(len(first)))
    return np.stack(
        [_foreign.tensor_to_numpy(one) if _foreign.is_tensor(one) else one for one in group]
    )


def _grain(data: Any, inputs: Any, group: int, name: str) -> Source:
    batchable = hasattr(data, "batch")
    single = holds_single_examples(shapes_only(_first(data, name)), inputs)
    if single and batchable:
        data = data.batch(group)
    try:
        batches = len(data)
    except TypeError:
        batches = None
    infinite = batches is not None and batches > _GRAIN_INFINITE
    batches = None if infinite else batches
    if single and not batchable:
        return Source(lambda: _grouped(data, group), name, None, infinite, single=True)
    return Source(lambda: iter(data), name, batches, infinite, single=single)


def _py_dataset(data: Any, rng: np.random.Generator | None, name: str) -> Source:
    batches = data.num_batches
    if batches == 0:
        raise ValueError(f"The {name} is empty: it has 0 batches.")

    def open_pass() -> Iterator[Any]:
        order: Iterable[int] = itertools.count() if batches is None else range(data.num_batches)
        if rng is not None and batches is not None:
            order = [int(i) for i in rng.permutation(data.num_batches)]
        return _read_py_dataset(data, order)

    ahead = max(2, int(data.max_queue_size))
    return Source(open_pass, name, batches, infinite=batches is None, ahead=ahead)


def _read_py_dataset(data: Any, order: Iterable[int]) -> Iterator[Any]:
    """One pass over a `PyDataset`, read by as many workers as it asks for, in order."""
    workers = int(data.workers or 0)
    parallel = workers > 1 or (workers > 0 and data.use_multiprocessing)
    if hasattr(data, "on_epoch_begin"):
        data.on_epoch_begin()
    if not parallel:
        for index in order:
            yield data[index]
    else:
        yield from _read_in_parallel(data, order, workers)
    data.on_epoch_end()


def _read_in_parallel(data: Any, order: Iterable[int], workers: int) -> Iterator[Any]:
    executor: Executor
    if data.use_multiprocessing:
        # Forking a process that runs TensorFlow or JAX may lock up; spawning cannot.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(workers, context, _hold, (data,))
        submit: Callable[[int], Any] = lambda index: executor.submit(_read_held, index)  # noqa: E731
    else:
        executor = ThreadPoolExecutor(workers, "importance-sampling-worker")
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
