"""Passes over a source of batches, read in a thread."""

from __future__ import annotations

import bisect
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .._arrays import count_rows, flatten
from ._buffer import Part, RowBuffer
from ._convert import check_batch


def _parts(
    passes: Iterable[Iterable[Any]],
    marks: bool,
    convert: Callable[[Any], tuple[Any, ...]],
    begun: list[int],
) -> Iterator[Part]:
    """The batches of all passes; with `marks`, the last of a pass says how long it was.

    `begun` gets the number of rows before each pass.
    """
    total = 0
    for source in passes:
        held: list[Part] = []
        batches = rows = 0
        begun.append(total)
        for item in source:
            batch = convert(item)
            part = Part(batch, count_rows(batch))
            batches += 1
            rows += part.size
            total += part.size
            if marks:
                # One batch is held back until it is known whether it is a pass's last.
                held.append(part)
                if len(held) == 1:
                    continue
                part = held.pop(0)
            yield part
        if held:
            yield held[0]._replace(ended=(batches, rows))
        if not batches:
            # Opening it again and again would never end.
            return


def _produce(parts: Iterator[Part], buffer: RowBuffer) -> None:
    """Runs in the thread; knows the buffer but not the reader, so that it can end with it."""
    try:
        for part in parts:
            if not buffer.put(part):
                return
    except BaseException as error:  # noqa: BLE001
        # Whatever ends the source belongs to the thread that trains.
        buffer.end(error)
    else:
        buffer.end()


class BatchReader:
    """Rows from passes over a source of batches, fetched and put together in a thread.

    Sources that fetch ahead by themselves are read without one: changing threads costs about as
    much as reading a small batch.

    Args:
        passes: one iterable of batches per pass: `(x, y)` or `(x, y, sample_weight)`, arrays
            of any number of rows.
        cache_size: int, batches to fetch ahead.
        timeout: float, seconds to wait for one batch.
        name: what to call the source in errors.
        marks_passes: whether to find out how long a pass is, for which one batch is held back.
        prepare: applied to every batch in the thread, after it was checked.
        needs_targets: whether every batch must have targets.
        in_thread: whether to read in a thread.
        starts_late: whether the thread begins with the first row that is taken out, so that
            looking at the first batch reads no more than that.
    """

    def __init__(
        self,
        passes: Iterable[Iterable[Any]],
        cache_size: int,
        timeout: float,
        name: str,
        marks_passes: bool = False,
        prepare: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None,
        needs_targets: bool = True,
        in_thread: bool = True,
        starts_late: bool = False,
    ):
        self.pass_size: tuple[int, int] | None = None
        """Batches and rows of a pass over the source, once one was read to its end."""
        self.rows_read = 0
        """How many rows were taken out so far."""
        self._begun: list[int] = []

        def convert(item: Any) -> tuple[Any, ...]:
            batch = check_batch(item, name, needs_targets)
            return batch if prepare is None else prepare(batch)

        parts = _parts(passes, marks_passes, convert, self._begun)
        self._buffer = RowBuffer(cache_size, timeout, name, parts)
        # What a thread is still to read; None where it does, or where there will be none.
        self._left = parts if in_thread else None
        if not starts_late:
            self._start()
        self._finalizer = weakref.finalize(self, self._buffer.close)

    def _start(self) -> None:
        parts, self._left = self._left, None
        if parts is not None:
            self._buffer.leave_to_thread()
            arguments = (parts, self._buffer)
            self._thread = threading.Thread(target=_produce, args=arguments, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread, if there is one, at its next batch."""
        self._buffer.close()

    def peek(self) -> tuple[Any, ...]:
        """Some of the next rows, which stay to be read."""
        return self._buffer.peek()

    def read(self, n: int, whole: bool = False, rest: bool = False) -> Part:
        """The next `n` rows, of as many batches as it takes.

        Args:
            n: int, how many.
            whole: whether to read whole batches instead, as many as hold at least `n` rows.
            rest: whether to read fewer where no more will come.

        Raises:
            StreamEnded: if fewer are left, which stay to be read unless `rest` takes them.
        """
        self._start()
        return self._passed(self._buffer.take(n, whole, rest))

    def read_batch(self) -> Part:
        """The next batch as it comes; raises as `read` does."""
        self._start()
        return self._passed(self._buffer.take_batch())

    @property
    def place(self) -> tuple[int, int]:
        """The number of the pass that the next row is of, and how many rows of it were taken."""
        begun = self._begun[:]
        number = bisect.bisect_right(begun, self.rows_read) - 1
        return (number, self.rows_read - begun[number]) if begun else (0, 0)

    def skip(self, rows: int) -> None:
        """Takes rows out and drops them.

        Args:
            rows: int, how many.

        Raises:
            StreamEnded: if fewer are left.
        """
        end = self.rows_read + rows
        while self.rows_read < end:
            left = end - self.rows_read
            batch = len(flatten(self.peek())[0])
            if batch <= left:
                self.read_batch()
            else:
                self.read(left)

    def _passed(self, part: Part) -> Part:
        self.rows_read += part.size
        self.pass_size = self.pass_size or part.ended
        return part
