"""Where a reading thread puts batches, and a training takes pools of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .._arrays import concatenate, flatten, take_rows


class StreamEnded(Exception):
    """The source behind a data set has no more examples."""


class Part(NamedTuple):
    """Some rows, and what is known of where they come from.

    Attributes:
        rows: a tuple of arrays, or nests of them.
        size: how many rows they have.
        ended: batches and rows of the pass over the source that ends with them, if one does.
        padded: a row before and after it was padded, where batches of different length were
            joined.
    """

    rows: tuple[Any, ...]
    size: int
    ended: tuple[int, int] | None = None
    padded: tuple[tuple[Any, ...], tuple[Any, ...]] | None = None


class _Pool(NamedTuple):
    """A pool that was put together ahead: as which size, and what it was made of."""

    wanted: tuple[int, bool]
    parts: list[Part]
    joined: Part


class RowBuffer:
    """Rows between the thread that reads batches and the one that takes pools.

    The reading thread also puts the next pool together, as large as the one taken last, so that
    the training finds it ready.

    Args:
        capacity: int, batches to hold.
        timeout: float, seconds without a new batch after which to give up.
        name: what to call the source in errors.
        parts: batches to read when they are asked for, where no thread puts them here.
    """

    def __init__(
        self, capacity: int, timeout: float, name: str, parts: Iterator[Part] | None = None
    ):
        self._parts = parts
        self._capacity = capacity
        self._timeout = timeout
        self._name = name
        self._changed = threading.Condition()
        self._loose: deque[Part] = deque()
        self._ready: _Pool | None = None
        # The size of the pool taken last (0: none), and whether it was made of whole batches.
        self._wanted = (0, False)
        self._assembling = False
        self._closed = False
        self._over: BaseException | None = None
        self._last_batch = time.monotonic()

    # -- the reading thread's side ----------------------------------------------------------

    def put(self, part: Part) -> bool:
        """Adds a batch, waiting for room; False once nobody wants any more."""
        with self._changed:
            self._last_batch = time.monotonic()
            while len(self._loose) >= self._capacity and not self._closed:
                # A pool larger than the capacity must fit all the same.
                if self._held() < self._wanted[0]:
                    break
                if not self._assemble():
                    self._changed.wait()
            if self._closed:
                return False
            self._loose.append(part)
            self._assemble()
            self._changed.notify_all()
        return True

    def end(self, error: BaseException | None = None) -> None:
        """Says that nothing more will come, and why."""
        with self._changed:
            self._over = error or StreamEnded(f"The {self._name} has no more examples.")
            self._changed.notify_all()

    def _assemble(self) -> bool:
        """Puts the next pool together, with the lock released; whether there was one to make."""
        size, whole = wanted = self._wanted
        if self._ready or not size or self._held() < size or self._loose[0].size >= size:
            return False
        parts = self._pop(size, whole)
        self._assembling = True
        self._changed.release()
        try:
            made = _join(parts)
        finally:
            self._changed.acquire()
            self._assembling = False
        self._ready = _Pool(wanted, parts, made)
        self._changed.notify_all()
        return True

    # -- the training's side ----------------------------------------------------------------

    def take(self, n: int, whole: bool = False, rest: bool = False) -> Part:
        """The next `n` rows.

        Args:
            n: int, how many.
            whole: whether to take whole batches instead, as many as hold at least `n` rows.
            rest: whether to take fewer where no more will come.

        Raises:
            StreamEnded: if fewer are left, which stay unless `rest` takes them.
            TimeoutError: if the source gives nothing for too long.
        """
        with self._changed:
            self._wanted = n, whole
            self._changed.notify_all()
            try:
                self._wait_for(n)
            except StreamEnded:
                n = self._held()
                if not rest or not n:
                    raise
            if self._ready is not None and self._ready.wanted == (n, whole):
                made, self._ready = self._ready.joined, None
                self._changed.notify_all()
                return made
            self._unready()
            parts = self._pop(n, whole)
            self._changed.notify_all()
        return _join(parts)

    def take_batch(self) -> Part:
        """The next batch as the source gave it (or what is left of it); raises as `take` does."""
        with self._changed:
            self._wanted = 0, False
            self._wait_for(1)
            self._unready()
            part = self._loose.popleft()
            if 2 * len(self._loose) <= self._capacity:
                # Several batches at a time: every change of threads costs about as much as one.
                self._changed.notify_all()
        return part

    def peek(self) -> tuple[Any, ...]:
        """Some of the next rows, which stay."""
        with self._changed:
            self._wait_for(1)
            first = self._ready.parts[0] if self._ready is not None else self._loose[0]
            return first.rows

    def close(self) -> None:
        """Lets the reading thread end at its next batch."""
        with self._changed:
            self._closed = True
            self._loose.clear()
            self._ready = None
            self._changed.notify_all()

    def leave_to_thread(self) -> None:
        """Batches are put here by a thread from now on."""
        self._parts = None
        self._last_batch = time.monotonic()

    def _wait_for(self, n: int) -> None:
        if self._parts is not None:
            self._pull(self._parts, n)
            return
        asked = time.monotonic()
        while self._assembling or self._held() < n:
            if not self._assembling:
                if self._closed:
                    raise StreamEnded(f"The {self._name} is closed.")
                if self._over is not None:
                    raise self._over
                if time.monotonic() - max(self._last_batch, asked) > self._timeout:
                    raise TimeoutError(
                        f"The {self._name} gave no batch for {self._timeout:g} seconds. Check "
                        "what it waits for, or allow more with `timeout=`."
                    )
            # Short waits, so that an interrupt gets through.
            self._changed.wait(0.1)

    def _pull(self, parts: Iterator[Part], n: int) -> None:
        """Reads on until `n` rows are held."""
        while self._held() < n:
            if self._closed:
                raise StreamEnded(f"The {self._name} is closed.")
            part = next(parts, None)
            if part is None:
                raise StreamEnded(f"The {self._name} has no more examples.")
            self._loose.append(part)

    def _held(self) -> int:
        ready = self._ready.joined.size if self._ready else 0
        return sum(p.size for p in self._loose) + ready

    def _unready(self) -> None:
        if self._ready is not None:
            self._loose.extendleft(reversed(self._ready.parts))
            self._ready = None

    def _pop(self, n: int, whole: bool) -> list[Part]:
        """The first `n` rows of the loose parts, or as many whole parts as hold them."""
        parts: list[Part] = []
        while n > 0:
            part = self._loose.popleft()
            if part.size > n and not whole:
                rest = take_rows(part.rows, slice(n, part.size))
                self._loose.appendleft(Part(rest, part.size - n, part.ended))
                part = Part(take_rows(part.rows, slice(0, n)), n)
            parts.append(part)
            n -= part.size
        return parts


def _join(parts: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    rows = concatenate([p.rows for p in parts])
    ended = next((p.ended for p in parts if p.ended is not None), None)
    return Part(rows, sum(p.size for p in parts), ended, _padded_row(parts, rows))


def _padded_row(
    parts: list[Part], joined: tuple[Any, ...]
) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """The row that was padded most, before and after; None if all were of one length."""
    sizes = [sum(array[0].size for array in flatten(part.rows)) for part in parts]
    shortest = int(np.argmin(sizes))
    before = take_rows(parts[shortest].rows, slice(0, 1))
    position = sum(part.size for part in parts[:shortest])
    after = take_rows(joined, slice(position, position + 1))
    arrays = zip(flatten(before), flatten(after), strict=True)
    return None if all(a.shape == b.shape for a, b in arrays) else (before, after)
