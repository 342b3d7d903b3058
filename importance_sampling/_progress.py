"""How far something has come: a bar with the time left on a terminal, elsewhere a line at times.

Not on a terminal nothing is drawn over: no carriage returns, no colours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import IO, Any, TypeVar

_Item = TypeVar("_Item")

# Often enough for the eye, seldom enough to take no time from what is waited for.
_INTERVAL = 0.2
# Columns of the bar itself.
_BAR = 16


def duration(seconds: float) -> str:
    """A time as people read it: "12s", "3:05" or "1:02:03".

    Args:
        seconds: float.
    """
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{rest}s"


class Progress:
    """Shows how far something has come, as a context manager.

    Args:
        name: str, what is done.
        total: float, what there is to do.
        unit: str, what it is counted in; "%" for shares of a hundred.
        every: float, between lines where the output is no terminal. Defaults to a quarter.
        file: where to; standard output if left out.
        quiet: whether nothing is shown where the output is no terminal.
        begin: float, what was done before.
    """

    def __init__(
        self,
        name: str,
        total: float,
        unit: str = "steps",
        every: float | None = None,
        file: IO[str] | None = None,
        quiet: bool = False,
        begin: float = 0,
    ):
        from rich.console import Console

        self.name, self.total, self.unit = name, total, unit
        self._console = Console(file=file, highlight=False)
        self._every = total / 4 if every is None else every
        self._quiet = quiet
        self._begin, self._done = begin, begin
        self._next = self._every * (begin // self._every + 1)
        self._shown = -1.0
        self._started = self._drawn = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    @property
    def is_live(self) -> bool:
        """Whether a bar is drawn."""
        return self._console.is_terminal

    def __enter__(self) -> Progress:
        self._started = time.monotonic()
        if self.is_live:
            self._bar = _bar(self._console)
            self._task = self._bar.add_task(
                self.name, total=self.total, completed=self._begin, told=""
            )
            self._bar.start()
            self._draw("")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()

    def update(self, done: float, values: str = "") -> None:
        """Says how far it has come.

        Args:
            done: float, up to `total`.
            values: str, what else to show.
        """
        self._done = done
        over = done >= self.total
        if self._bar is not None:
            now = time.monotonic()
            if over or now - self._drawn >= _INTERVAL:
                self._drawn = now
                self._draw(values)
        elif not self._quiet and (over or done >= self._next) and done > self._shown:
            self._shown = done
            self._next = self._every * (done // self._every + 1)
            self._print(values)

    def advance(self, by: float = 1, values: str = "") -> None:
        """Says how much further it has come.

        Args:
            by: float.
            values: str, what else to show.
        """
        self.update(self._done + by, values)

    def _draw(self, values: str) -> None:
        told = f"{self._counted()} {self._times()}".strip()
        # Of the values those that fit: nothing is broken in two.
        room = self._console.width - len(self.name) - _BAR - 2 - len(told)
        for value in values.split("  ") if values else ():
            room -= 2 + len(value)
            if room < 0:
                break
            told += f"  {value}"
        self._bar.update(self._task, completed=self._done, told=told, refresh=True)

    def _times(self) -> str:
        """The time it has taken, and what is left as far as that can be told."""
        elapsed = time.monotonic() - self._started
        done = self._done - self._begin
        if self._done >= self.total or not done:
            return duration(elapsed)
        left = elapsed * (self.total - self._done) / done
        return f"{duration(elapsed)}, {duration(left)} left"

    def _counted(self) -> str:
        if self.unit == "%":
            return f"{100 * self._done / self.total:3.0f} %"
        return f"{self._done:{len(f'{self.total:g}')}.0f}/{self.total:.0f} {self.unit}"

    def _print(self, values: str) -> None:
        parts = [part for part in (f"{self.name}:" if self.name else "", self._counted()) if part]
        line = " ".join(parts) + (f"  {values}" if values else "") + f"  ({self._times()})"
        print(line, file=self._console.file, flush=True)


def _bar(console: Any) -> Any:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR),
        TextColumn("{task.fields[told]}", markup=False),
        console=console,
        # Drawn by those who count: no thread takes time from what is measured.
        auto_refresh=False,
        # Interrupts and errors are told in lines of their own.
        redirect_stdout=console.file is sys.stdout,
        redirect_stderr=console.file is sys.stdout,
    )


def shown(items: Iterable[_Item], name: str, total: int, **options: Any) -> Iterator[_Item]:
    """Goes through something and shows how far it has come.

    Args:
        items: what to go through.
        name: str, what is done.
        total: int, how many items there are.
        **options: see `Progress`.

    Yields:
        The items.
    """
    with Progress(name, total, **options) as progress:
        for item in items:
            yield item
            progress.advance()
