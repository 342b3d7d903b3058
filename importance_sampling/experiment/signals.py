"""SIGTERM ends a command as Ctrl-C does: with all that is to be closed closed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(KeyboardInterrupt):
    """Raised by a signal other than Ctrl-C.

    Args:
        number: int, the signal.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def status(number: int) -> int:
    """The exit status after a signal, as shells have it: 130 for Ctrl-C, 143 for SIGTERM.

    Args:
        number: int, the signal.
    """
    return 128 + number


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Has SIGTERM raise `Stopped`, where nobody has said what it is to do."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
