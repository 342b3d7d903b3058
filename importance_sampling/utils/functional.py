"""Functions of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Value = TypeVar("_Value")

placeholder = ___ = _ = x = object()
"""Stands for an argument that is given later; see `partial`."""


def partial(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Fixes some arguments of a function, also behind ones that are left open.

    Args:
        func: the function.
        *args: its first arguments; `___` (or `_`) leaves one open.
        **kwargs: its named arguments, which a call may replace.

    Returns:
        A function of the arguments left open, in order, and then of further ones.

    Raises:
        TypeError: on a call with fewer arguments than were left open.

    Example:

    ```python
    halve = partial(divmod, ___, 2)
    halve(7)  # (3, 1)
    ```
    """
    missing = sum(arg is placeholder for arg in args)

    def inner(*given: Any, **named: Any) -> Any:
        if len(given) < missing:
            raise TypeError(f"{missing} arguments were left open, but the call gives {len(given)}.")
        rest = iter(given)
        filled = [next(rest) if arg is placeholder else arg for arg in args]
        return func(*filled, *rest, **{**kwargs, **named})

    return inner


def compose(*functions: Callable[..., Any]) -> Callable[..., Any]:
    """Calls functions one after the other, the last one first.

    A tuple that one returns becomes the next one's arguments, a dict its named arguments.

    Args:
        *functions: the functions, as in `f(g(h(x)))`.

    Returns:
        Their composition.

    Example:

    ```python
    compose(str, abs)(-3)  # "3"
    ```
    """

    def inner(*args: Any, **kwargs: Any) -> Any:
        result: Any = args if len(args) != 1 else args[0]
        for function in reversed(functions):
            result = function(*args, **kwargs)
            args, kwargs = (), {}
            if isinstance(result, dict):
                kwargs = result
            else:
                args = result if isinstance(result, tuple) else (result,)
        return result

    return inner


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a function."""
    return function(*args, **kwargs)


def attr(name: str) -> Callable[[Any], Any]:
    """A function that returns the attribute `name` of its argument."""
    return lambda thing: getattr(thing, name)


def identity(value: _Value) -> _Value:
    """Its argument."""
    return value
