"""What all kinds of data that come in batches have in common, once they are adapted."""

from __future__ import annotations

import contextlib
import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .._arrays import TRIED_ROWS, count_rows, join_arrays, take_rows
from ..backend import array_types
from ._convert import check_batch
from ._elements import holds_single_examples, shapes_only
from .adapter import DataAdapter, Options, Rows, TrainingData
from .class_weight import weigher
from .stream import StreamDataset, StreamEnded


class StreamAdapter(DataAdapter):
    """Data in batches, which is read in passes.

    A kind of data says how to `open` a pass, and sets what is known about it.

    Attributes:
        ahead: int, batches to fetch ahead in a thread.
        prefetches: whether it fetches ahead by itself, so that it is read without a thread.
        starts_late: whether no more than the first batch may be read before training begins.

    Args:
        kind: what it is, for errors.
        options: what it is for.
    """

    ahead = 5
    prefetches = False
    starts_late = False

    def __init__(self, kind: str, options: Options):
        self.name = f"{kind} of {options.role} data"
        self._options = options

    @abstractmethod
    def open(self) -> Iterable[Any]:
        """Begins a pass and returns its batches as the data has them."""

    def passes(self) -> Iterator[Iterable[Any]]:
        """One iterable of batches per pass."""
        yield self.open()
        while self.repeats:
            yield self.open()

    def order_state(self) -> Any:
        """What decides the order of all passes; None where the data itself does."""
        return None

    def passes_after(self, count: int, order: Any) -> Iterable[Iterable[Any]] | None:
        """The passes from one on; None: by default those before must be read for it.

        Data that draws random numbers as it is read comes in the same order only then.

        Args:
            count: int, how many passes to leave out.
            order: what `order_state` said.
        """
        return None

    @contextlib.contextmanager
    def training(self, steps_per_epoch: int | None) -> Iterator[TrainingData]:
        """Opens the data as a `StreamDataset`, which is closed at the end.

        A uniform step takes the next batch, as Keras does, or `batch_size` examples if the
        options say so. By default an epoch has as many steps as uniform ones need for a pass.
        """
        if steps_per_epoch is None and self.infinite:
            raise ValueError(f"A {self.name} needs `steps_per_epoch`: it never ends.")
        options, unknown = self._options, self.batches_per_pass is None
        with StreamDataset(
            self.passes(),
            self.name,
            cache_size=self.ahead,
            marks_passes=steps_per_epoch is None and unknown,
            prepare=weigher(options.class_weight),
            keeps_batches=not options.rebatch,
            needs_targets=options.needs_targets,
            in_thread=not self.prefetches,
            order=self,
            starts_late=self.starts_late,
        ) as dataset:
            rows = count_rows(self._first_batch(dataset))
            size = options.batch_size if options.rebatch else rows
            if steps_per_epoch is None and self.batches_per_pass is not None:
                steps_per_epoch = -(-self.batches_per_pass * rows // size)
            yield TrainingData(dataset, size, steps_per_epoch)

    def _first_batch(self, dataset: StreamDataset) -> Rows:
        try:
            return dataset.peek()
        except StreamEnded as error:
            raise ValueError(f"The {self.name} is empty: it gave no batch to train on.") from error

    def first_rows(self) -> Rows:
        """The first rows of the first batch, which stays to be read."""
        rows = (*self._checked(self._peek()), None)[:3]
        return take_rows(rows, slice(0, TRIED_ROWS))

    def _peek(self) -> Any:
        """The first batch, which stays to be read."""
        return first(self.open(), self.name)

    def keras_arguments(self) -> dict[str, Any] | None:
        """None: by default batches are given to Keras one by one."""
        return None

    def batches(self, steps: int | None = None) -> Iterator[Rows]:
        """Batches of a new pass, checked; of a generator, those that come next."""
        for batch in itertools.islice(iter(self.open()), steps or self.batches_per_pass):
            yield self._checked(batch)

    def _checked(self, batch: Any) -> Rows:
        return check_batch(batch, self.name, needs_targets=False)

    def _holds_single_examples(self, element: Any) -> bool:
        return holds_single_examples(shapes_only(element), self._options.inputs)


def first(data: Iterable[Any], name: str) -> Any:
    """The first element of `data`.

    Args:
        data: gone through from its beginning; a generator loses its first element.
        name: str, what to call it in errors.

    Raises:
        ValueError: if there is none.
    """
    for element in data:
        return element
    raise ValueError(f"The {name} is empty: it gave no batch.")


def grouped(examples: Iterable[Any], size: int) -> Iterator[Any]:
    """Single examples stacked into batches of `size`, of which the last may be smaller.

    Args:
        examples: tuples of arrays or tensors without a batch axis, all of one structure.
        size: int, examples per batch.

    Yields:
        Batches of numpy arrays `(size, ...)`, in the structure of the examples.
    """
    iterator = iter(examples)
    while group := list(itertools.islice(iterator, size)):
        yield join_arrays(_stack, group)


def _stack(examples: Sequence[Any]) -> np.ndarray:
    return np.stack(
        [array_types.tensor_to_numpy(e) if array_types.is_tensor(e) else e for e in examples]
    )
