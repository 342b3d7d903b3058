"""The bar of `fit`: as that of Keras, fitted to the width of the terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Mapping
from typing import Any

import keras

from .._progress import duration

# Seconds between two drawings; values are only fetched from the device for a drawing.
_INTERVAL = 0.1
_SHORTEST, _LONGEST = 5, 20
# What the logs of importance sampling are called where there is little room.
_SHORT = {"variance_reduction": "vr", "importance_sampling": "by score"}
# In this order, they are what goes where there is no room.
_LAST = ("importance_sampling", "variance_reduction", "score", "batch_size")


def draws_bars() -> bool:
    """Whether somebody watches: standard output is a terminal, and Keras may write to it."""
    interactive = keras.config.is_interactive_logging_enabled()
    return interactive and hasattr(sys.stdout, "isatty") and sys.stdout.isatty()


def _shown(name: str, value: Any) -> str:
    number = float(value)
    if name == "importance_sampling":
        return f"{_SHORT[name]} {100 * number:.0f}%"
    if name == "variance_reduction":
        return f"{_SHORT[name]} {number:.2f}"
    if name == "batch_size":
        return f"batch {number:.0f}"
    return f"{name} {number:.4f}" if abs(number) > 1e-3 or number == 0 else f"{name} {number:.2e}"


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    """What can be shown: numbers, also those in a dictionary of several metrics, by name."""
    found: dict[str, float] = {}
    for name, value in logs.items():
        if isinstance(value, Mapping):
            found |= _numbers(value)
        elif all(length == 1 for length in getattr(value, "shape", ())):
            found[name] = float(value)
    return dict(sorted(found.items()))


def _ordered(given: Mapping[str, Any]) -> list[str]:
    """The values, those that matter least at the end."""
    logs = _numbers(given)
    names = [name for name in logs if name not in _LAST]
    names.sort(key=lambda name: name != "loss")
    return [_shown(name, logs[name]) for name in [*names, *(n for n in _LAST if n in logs)]]


def _per_step(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f}s/step"
    return f"{1e3 * seconds:.0f}ms/step" if seconds >= 1e-3 else f"{1e6 * seconds:.0f}us/step"


class Bar(keras.callbacks.Callback):
    """Draws a line that fits the terminal while an epoch lasts, and what came of it at its end."""

    # It looks at the logs only, and so may be called in a thread, as Keras' own bar is.
    reaches_model_by_property = True
    async_safe = True

    def __init__(self) -> None:
        super().__init__()
        self._began = self._drawn = self._first = 0.0
        self._seen = self._begun_at = 0
        self._width = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Names the epoch.

        Args:
            epoch: int.
            logs: not looked at.
        """
        self._began = self._drawn = self._first = time.monotonic()
        self._seen = self._width = 0
        if self.params["epochs"] > 1:
            self._write(f"Epoch {epoch + 1}/{self.params['epochs']}\n")

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Draws, if it was not drawn just now.

        Args:
            batch: int, the last step made.
            logs: of the epoch so far.
        """
        now = time.monotonic()
        if not self._seen:
            # Most of the first step is compiling.
            self._first, self._begun_at = now, batch + 1
        self._seen = max(self._seen, batch + 1)
        if now - self._drawn < _INTERVAL:
            return
        self._drawn = now
        line = self._line(now, logs or {}, shutil.get_terminal_size().columns - 1)
        self._write("\r" + line.ljust(self._width))
        self._width = len(line)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes what came of the epoch, on as many lines as it takes.

        Args:
            epoch: int.
            logs: of the epoch.
        """
        elapsed = time.monotonic() - self._began
        steps = max(self._seen, 1)
        parts = [f"{self._seen}/{self._seen}", duration(elapsed), _per_step(elapsed / steps)]
        values = _ordered(logs or {})
        # Blanks within a value must not be where a line ends.
        text = " ".join(parts) + "  " + "  ".join(v.replace(" ", "\0") for v in values)
        width = shutil.get_terminal_size().columns - 1
        lines = textwrap.wrap(text, max(width, 20), subsequent_indent="  ", break_on_hyphens=False)
        lines[0] = lines[0].ljust(self._width)
        self._write("\r" + "\n".join(lines).replace("\0", " ") + "\n")

    def _line(self, now: float, logs: Mapping[str, Any], width: int) -> str:
        """Count, bar, time left and as many values as fit into `width`."""
        target = self.params["steps"]
        since = self._seen - self._begun_at
        per_step = (now - self._first) / since if since else (now - self._began) / self._seen
        if target:
            count = f"{self._seen:{len(str(target))}d}/{target}"
            times = duration(per_step * max(target - self._seen, 0))
        else:
            count, times = f"{self._seen}/?", duration(now - self._began)
        head = f"{count} {times} {_per_step(per_step)}"
        # A blank on each side of the bar.
        room = width - len(head) - (_SHORTEST + 1 if target else 0)
        values = ""
        for value in _ordered(logs):
            if len(values) + 2 + len(value) > room:
                break
            values += f"  {value}"
        if not target:
            return (head + values)[:width]
        length = max(0, min(_LONGEST, _SHORTEST + room - len(values)))
        done = min(length, length * self._seen // target)
        full, empty = self._characters()
        bar = full * done + empty * (length - done)
        return f"{count} {bar} {times} {_per_step(per_step)}{values}"[:width]

    @staticmethod
    def _characters() -> tuple[str, str]:
        try:
            "━─".encode(getattr(sys.stdout, "encoding", None) or "ascii")
        except (UnicodeEncodeError, LookupError):
            return "=", "."
        return "━", "─"

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
