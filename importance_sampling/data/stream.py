"""Data sets that are read in a background thread and have no order of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from .._arrays import flatten
from ._buffer import Part, StreamEnded
from ._reader import BatchReader
from .dataset import BaseDataset

__all__ = ["PassOrder", "StreamDataset", "StreamEnded"]


class PassOrder(Protocol):
    """Data whose passes can be gone to without reading those before."""

    def order_state(self) -> Any:
        """What decides the order of all passes, as a number, a string or None."""

    def passes_after(self, count: int, order: Any) -> Iterable[Iterable[Any]] | None:
        """The passes from one on; None where those before must be read for it.

        Args:
            count: int, how many passes to leave out.
            order: what `order_state` said.
        """


class StreamDataset(BaseDataset):
    """Training data that comes in batches; a background thread fetches them ahead.

    The training data has no length (`len(train_data)` raises RuntimeError), and an index
    means no more than "one more example": `train_data[idxs]` reads `len(idxs)` of them.
    Samplers read with `read_batch` and `read_pool`.

    Args:
        passes: one iterable of batches per pass over the data.
        name: what to call the data in errors.
        cache_size: int, batches to fetch ahead.
        timeout: float, seconds to wait for one batch.
        marks_passes: whether to find out how long a pass is.
        prepare: applied to each batch in the thread.
        keeps_batches: whether a step takes one of the data's own batches, as Keras does,
            instead of as many examples as it is asked for.
        needs_targets: whether every batch must have targets.
        in_thread: whether to read in a thread; data that fetches ahead by itself needs none.
        order: where `load_state_dict` gets later passes; by default it reads up to them.
        starts_late: whether the thread begins with the first row that is taken out.
    """

    def __init__(
        self,
        passes: Iterable[Iterable[Any]],
        name: str,
        *,
        cache_size: int = 5,
        timeout: float = 300.0,
        marks_passes: bool = False,
        prepare: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None,
        keeps_batches: bool = False,
        needs_targets: bool = True,
        in_thread: bool = True,
        order: PassOrder | None = None,
        starts_late: bool = False,
    ):
        self.keeps_batches = keeps_batches
        """Whether a uniform step takes one of the data's own batches, whatever its size."""
        self._order = order

        def reader(passes: Iterable[Iterable[Any]]) -> BatchReader:
            return BatchReader(
                passes,
                cache_size,
                timeout,
                name,
                marks_passes,
                prepare,
                needs_targets,
                in_thread,
                starts_late,
            )

        self._reader = reader
        self._train = reader(passes)
        # Where the reader began: rows and passes before.
        self._before = (0, 0)
        self.check: Callable[[tuple[Any, ...]], Any] | None = None
        """Called with all rows that are read, before they are used."""
        self.check_padding: Callable[[tuple[Any, ...], tuple[Any, ...]], Any] | None = None
        """Called once with a row before and after it was padded, if one ever is."""

    def peek(self) -> tuple[Any, ...]:
        """Some of the next training examples, which stay to be read."""
        return self._train.peek()

    def steps_per_pass(self, batch_size: int) -> int | None:
        """Uniform steps in one pass over the data; None until one was read to its end.

        Args:
            batch_size: int, examples per step, unless its own batches are kept.
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

    def state_dict(self) -> dict[str, Any]:
        """The place in the data, in numbers."""
        rows, passes = self._before
        number, offset = self._train.place
        return {
            "rows": rows + self._train.rows_read,
            "pass": passes + number,
            "offset": offset,
            "pass_size": self._train.pass_size,
            "order": None if self._order is None else self._order.order_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on to the place where `state_dict` was taken, from the beginning of the data.

        Args:
            state: what `state_dict` returned, of equal data.

        Raises:
            ValueError: if the data ends before that place.
        """
        rows, offset = state["rows"], state["rows"]
        passes = None
        if self._order is not None:
            passes = self._order.passes_after(state["pass"], state["order"])
        if passes is not None:
            self._train.close()
            self._train, offset = self._reader(passes), state["offset"]
            self._before = rows - offset, state["pass"]
        try:
            self._train.skip(offset)
        except StreamEnded as error:
            raise ValueError(
                f"The training data ends after {self._train.rows_read} rows, before the place "
                f"where the saved training was ({offset} rows)."
            ) from error
        size = state["pass_size"]
        self._train.pass_size = None if size is None else (int(size[0]), int(size[1]))

    def read_batch(self, size: int) -> tuple[Any, ...]:
        """The next mini-batch: the data's own where these are kept, else `size` examples.

        Where the data ends, it holds what is left.

        Raises:
            StreamEnded: if nothing is left.
        """
        if self.keeps_batches:
            return self._checked(self._train.read_batch())
        return self._checked(self._train.read(size, rest=True))

    def read_pool(self, size: int) -> tuple[Any, ...]:
        """The next `size` examples; where batches are kept, whole ones that hold as many.

        Batches of different length are padded with zeros to the longest. Where the data ends, it
        holds what is left.

        Raises:
            StreamEnded: if nothing is left.
        """
        return self._checked(self._train.read(size, whole=self.keeps_batches, rest=True))

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
