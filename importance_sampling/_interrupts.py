"""Signals that wait: no Ctrl-C gets between a step and the assignment of its results.

A signal handler of Python's may raise between any two instructions of the main thread, as Ctrl-C
does. Where arrays were donated to a compiled function and its results are not assigned yet, the
model would be lost. While somebody is `listening`, the handlers that the user has are called by
one that waits until the section under way, if any, is over. What they raise where it would be lost
is raised again after the next section: inside a `__del__` or a callback of the collector's, which
Python only prints, and where Keras converts logs, which takes whatever is raised for a value that
is no number. Other threads are never interrupted.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType, TracebackType
from typing import Any, NoReturn, TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], Any]

_NAMES = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
# SIGINT comes first, so that others are put in place and taken away while it waits.
_SIGNALS = [number for name in _NAMES if (number := getattr(signal, name, None)) is not None]


class _State:
    """What is under way in the main thread.

    Attributes:
        listeners: int, how many `listening` are entered.
        in_section: bool, whether signals wait.
        pending: calls of handlers that wait, and of what raises what was lost.
        raised: the error that a handler raised last.
    """

    listeners = 0
    in_section = False
    raised: BaseException | None = None

    def __init__(self) -> None:
        self.pending: list[Callable[[], Any]] = []

    def deliver(self) -> None:
        """Calls what waits, all of it, even if some of it raises."""
        if self.pending:
            call = self.pending.pop(0)
            try:
                call()
            finally:
                self.deliver()

    def look_for_lost(self) -> None:
        """Has the error raised last raised again if nobody but Keras can have caught it."""
        if self.raised is None:
            return
        error, self.raised = self.raised, None
        traceback = error.__traceback__
        # The first of its frames is the one that caught it, or that it is still on its way through.
        if traceback is None or traceback.tb_frame.f_globals.get("__name__", "").startswith(
            "keras."
        ):
            self.pending.append(partial(_raise, error))


def _raise(error: BaseException) -> NoReturn:
    raise error


_state = _State()


class _Waiting:
    """Stands for a handler of the user's, which is called at once where nothing is under way.

    Args:
        handler: the user's.
    """

    def __init__(self, handler: Handler):
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _state.in_section:
            _state.pending.append(partial(self.handler, number, frame))
            return
        try:
            self.handler(number, frame)
        except BaseException as error:
            _state.raised = error
            raise


class _Hook:
    """Hears of what cannot be raised, such as a `__del__` or the collector's callbacks end in.

    A Ctrl-C there would only be printed, and nobody would stop.

    Args:
        previous: the hook to tell of all that is no signal's.
    """

    def __init__(self, previous: Callable[[Any], Any]):
        self.previous = previous

    def __call__(self, unraisable: Any, /) -> None:
        traceback = unraisable.exc_traceback
        while traceback is not None:
            if traceback.tb_frame.f_code is _Waiting.__call__.__code__:
                _state.pending.append(partial(_raise, unraisable.exc_value))
                return
            traceback = traceback.tb_next
        self.previous(unraisable)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def renew() -> None:
    """Stands for handlers that the user has set since, where somebody is `listening`."""
    if not _state.listeners or not _in_main_thread():
        return
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        # A handler that is none of Python's raises nothing, and could not be put back.
        if callable(handler) and not isinstance(handler, _Waiting):
            signal.signal(number, _Waiting(handler))
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


def _put_back() -> None:
    if isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = sys.unraisablehook.previous
    for number in reversed(_SIGNALS):
        handler = signal.getsignal(number)
        # One that the user has set meanwhile stays.
        while isinstance(handler, _Waiting):
            handler = handler.handler
            signal.signal(number, handler)


class listening:
    """Has signals wait for sections while it is entered; a training loop is, from first to last.

    In any other thread but the main one, which is never interrupted, it does nothing.
    """

    def __enter__(self) -> None:
        self._entered = _in_main_thread()
        if not self._entered:
            return
        if not _state.listeners:
            _state.in_section, _state.pending, _state.raised = False, [], None
        try:
            _state.listeners += 1
            with section():
                renew()
        except BaseException:
            self._leave()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._entered:
            self._leave()

    def _leave(self) -> None:
        if _state.listeners > 1:
            _state.listeners -= 1
            return
        with section():
            try:
                _put_back()
            finally:
                _state.listeners, _state.raised = 0, None


class section:
    """What no signal gets into: its handlers are called when the outermost section is over.

    Where nobody is `listening` yet, the section does so itself.
    """

    def __enter__(self) -> None:
        self._main = _in_main_thread()
        self._outer = True
        self._listening: listening | None = None
        if not self._main:
            return
        try:
            if not _state.listeners:
                self._listening = listening()
                self._listening.__enter__()
            self._outer = _state.in_section
            _state.in_section = True
            _state.look_for_lost()
        except BaseException:
            self._stop_listening()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._main:
            return
        try:
            _state.in_section = self._outer
        finally:
            try:
                if not self._outer:
                    _state.deliver()
            finally:
                self._stop_listening()

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.__exit__(None, None, None)
