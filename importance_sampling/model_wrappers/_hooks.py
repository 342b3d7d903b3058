"""Methods of Keras' objects replaced for the length of one call."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


class _ByThread:
    """Stands in a method's place where each of several threads has another for it.

    Replicas of a model wait for each other in the middle of a step, so that their hooks are on
    the same instance at one time.
    """

    def __init__(self, original: Callable[..., Any], attribute: Any):
        self.original = original
        self.attribute = attribute
        self.functions: dict[int, Callable[..., Any]] = {}

    def present(self) -> Callable[..., Any]:
        return self.functions.get(threading.get_ident(), self.original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.present()(*args, **kwargs)


_LOCK = threading.Lock()


def present(target: object, name: str) -> Callable[..., Any]:
    """The method that is in force in this thread, to be called by one that takes its place.

    Args:
        target: the instance.
        name: the method's name.
    """
    found = getattr(target, name)
    return found.present() if isinstance(found, _ByThread) else found


@contextlib.contextmanager
def replaced(
    target: object, name: str, function: Callable[..., Any], by_thread: bool = False
) -> Iterator[None]:
    """Places a method on one instance, and takes it off again.

    Args:
        target: the instance.
        name: the method's name.
        function: what is called in its place.
        by_thread: bool, whether it is called in this thread alone. Defaults to `False`.
    """
    if by_thread:
        with _replaced_in_thread(target, name, function):
            yield
        return
    attributes = vars(target)
    before = attributes.get(name)
    attributes[name] = function
    try:
        yield
    finally:
        _put_back(attributes, name, before)


@contextlib.contextmanager
def _replaced_in_thread(target: object, name: str, function: Callable[..., Any]) -> Iterator[None]:
    attributes, thread = vars(target), threading.get_ident()
    with _LOCK:
        shared = attributes.get(name)
        if not isinstance(shared, _ByThread):
            shared = attributes[name] = _ByThread(getattr(target, name), shared)
        before = shared.functions.get(thread)
        shared.functions[thread] = function
    try:
        yield
    finally:
        with _LOCK:
            _put_back(shared.functions, thread, before)
            if not shared.functions:
                _put_back(attributes, name, shared.attribute)


def _put_back(attributes: dict[Any, Any], name: Any, before: Any) -> None:
    if before is None:
        attributes.pop(name, None)
    else:
        attributes[name] = before
