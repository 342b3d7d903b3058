"""Methods of Keras' objects replaced for the length of one call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def replaced(target: object, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Places a method on one instance, and takes it off again.

    Args:
        target: the instance.
        name: the method's name.
        function: what is called in its place.
    """
    attributes = vars(target)
    before = attributes.get(name)
    attributes[name] = function
    try:
        yield
    finally:
        if before is None:
            attributes.pop(name, None)
        else:
            attributes[name] = before
