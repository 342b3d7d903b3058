"""Where a reading thread puts batches, and a training takes pools of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, NamedTuple

from .._arrays import concatenate, count_rows, take_rows


class StreamEnded(Exception):
    """The source behind a data set has no more examples."""


class Part(NamedTuple):
    """Some rows, and how many passes over the source end with them."""

    rows: tuple[Any, ...]
    size: int
    passes: int


class RowBuffer:
    """Rows between the thread that reads batches and the one that takes pools.

    The reading thread also puts the next pool together, of as many rows as were taken last, so
    that the training finds it ready.

    Args:
        capacity: int, batches to hold.
        timeout: float, seconds without a new batch after which to give up.
        name: what to call the source in errors.
    """

    def __init__(self, capacity: int, timeout: float, name: str):
        self._capacity = capacity
        self._timeout = timeout
        self._name = name
        self._changed = threading.Condition()
        self._loose: deque[Part] = deque()
        self._ready: Part | None = None
        self._wanted = 0
        self._assembling = False
        self._closed = False
        self._over: BaseException | None = None
        self._last_batch = time.monotonic()

    # -- the reading thread's side ----------------------------------------------------------

    def put(self, rows: tuple[Any, ...], passes: int = 0) -> bool:
        """Adds a batch, waiting for room; False once nobody wants any more."""
        part = Part(rows, count_rows(rows), passes)
        with self._changed:
            self._last_batch = time.monotonic()
            while len(self._loose) >= self._capacity and not self._closed:
                # A pool larger than the capacity must fit all the same.
                if self._held() < self._wanted:
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
        if self._ready or not self._wanted or self._held() < self._wanted:
            return False
        if self._loose[0].size >= self._wanted:
            return False
        parts = self._pop(self._wanted)
        self._assembling = True
        self._changed.release()
        try:
            made = _join(parts)
        finally:
            self._changed.acquire()
            self._assembling = False
        self._ready = made
        self._changed.notify_all()
        return True

    # -- the training's side ----------------------------------------------------------------

    def take(self, n: int) -> Part:
        """The next `n` rows.

        Raises:
            StreamEnded: if fewer are left, which stay.
            TimeoutError: if the source gives nothing for too long.
        """
        with self._changed:
            self._wanted = n
            self._changed.notify_all()
            self._wait_for(n)
            if self._ready is not None and self._ready.size == n:
                made, self._ready = self._ready, None
                self._changed.notify_all()
                return made
            self._unready()
            parts = self._pop(n)
            self._changed.notify_all()
        return _join(parts)

    def peek(self) -> tuple[Any, ...]:
        """Some of the next rows, which stay."""
        with self._changed:
            self._wait_for(1)
            return self._ready.rows if self._ready is not None else self._loose[0].rows

    def close(self) -> None:
        """Lets the reading thread end at its next batch."""
        with self._changed:
            self._closed = True
            self._loose.clear()
            self._ready = None
            self._changed.notify_all()

    def _wait_for(self, n: int) -> None:
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

    def _held(self) -> int:
        return sum(p.size for p in self._loose) + (self._ready.size if self._ready else 0)

    def _unready(self) -> None:
        if self._ready is not None:
            self._loose.appendleft(self._ready)
            self._ready = None

    def _pop(self, n: int) -> list[Part]:
        """The first `n` rows of the loose parts."""
        parts: list[Part] = []
        while n > 0:
            part = self._loose.popleft()
            if part.size > n:
                rest = take_rows(part.rows, slice(n, part.size))
                self._loose.appendleft(Part(rest, part.size - n, part.passes))
                part = Part(take_rows(part.rows, slice(0, n)), n, 0)
            parts.append(part)
            n -= part.size
        return parts


def _join(parts: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    rows = concatenate([p.rows for p in parts])
    return Part(rows, sum(p.size for p in parts), sum(p.passes for p in parts))
