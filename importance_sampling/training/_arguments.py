"""Checks of what `fit` is given, each error naming the argument, the value and what would do."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Literal, Self, TypeAlias, TypeGuard

import keras
import numpy as np
from keras import tree

from .._names import nearest

BATCH_SIZE = 32

Verbose: TypeAlias = int | Literal["auto"]
"""What `fit` shows, as in Keras."""

Callbacks: TypeAlias = Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None
"""What hears of a training, as in Keras."""


def check_count(name: str, value: object, least: int = 1) -> int:
    """An integer of at least `least`, or an error that says what was given.

    Args:
        name: str, the argument.
        value: what was given.
        least: int, the smallest value allowed. Defaults to `1`.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}.")
    return int(value)


def check_optional_count(name: str, value: object, least: int = 1) -> int | None:
    """As `check_count`; None stays None.

    Args:
        name: str, the argument.
        value: what was given.
        least: int, the smallest value allowed. Defaults to `1`.

    Raises:
        ValueError: if it is anything else.
    """
    return None if value is None else check_count(name, value, least)


def check_number(
    name: str, value: object, least: float = -math.inf, open_end: bool = False
) -> float:
    """A finite number, as a float.

    Args:
        name: str, the argument.
        value: what was given.
        least: float, the lower bound. Defaults to none.
        open_end: bool, whether the bound itself is not allowed. Defaults to `False`.

    Raises:
        ValueError: if it is anything else.
    """
    if (
        not _is_number(value)
        or not math.isfinite(value)
        or value < least
        or (open_end and value == least)
    ):
        bound = "" if least == -math.inf else f" {'above' if open_end else 'of at least'} {least:g}"
        raise ValueError(f"`{name}` must be a number{bound}, got {value!r}.")
    return float(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def refuse_unknown(training: object, method: Callable[..., Any], unknown: Iterable[str]) -> None:
    """Raises for arguments that a method does not have, as Python would, but saying whose it is.

    Args:
        training: whose method it is.
        method: the method.
        unknown: the names that were given.

    Raises:
        TypeError: if there are any; names the argument most alike.
    """
    known = [
        name
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    for name in unknown:
        called = f"{type(training).__name__}.{method.__name__}"
        raise TypeError(f"{called}() has no argument {name!r}.{nearest(name, known)}")


class KnownSettings:
    """Refuses settings that a constructor does not have, and says which was meant."""

    def __new__(cls, *arguments: Any, **settings: Any) -> Self:
        _, *parameters = inspect.signature(cls.__init__).parameters.values()
        if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
            known = [each.name for each in parameters]
            for name in settings:
                if name not in known:
                    hint = nearest(name, known)
                    raise TypeError(f"{cls.__name__}() has no argument {name!r}.{hint}")
        return super().__new__(cls)


def check_verbose(verbose: object) -> Verbose:
    """`"auto"`, 0, 1, 2 or more, as Keras knows them."""
    if isinstance(verbose, str) and verbose == "auto":
        return "auto"
    if isinstance(verbose, int | np.integer) and verbose >= 0:
        return int(verbose)
    raise ValueError(f'`verbose` must be "auto", 0, 1 or 2, got {verbose!r}.')


def check_callbacks(callbacks: object) -> Callbacks:
    """A list of Keras callbacks, or a `CallbackList` as it is."""
    if callbacks is None or isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    found = [c for c in tree.flatten(callbacks) if c is not None]
    for callback in found:
        if not isinstance(callback, keras.callbacks.Callback):
            hint = " Pass an instance, not the class." if isinstance(callback, type) else ""
            raise TypeError(
                "`callbacks` must be a list of keras.callbacks.Callback or a CallbackList, got "
                f"{callback!r}.{hint}"
            )
    return found


def check_validation_freq(freq: object) -> int | Container[int]:
    """An integer of at least 1, or a collection of epochs counted from 1."""
    if isinstance(freq, bool) or not isinstance(freq, int | np.integer | Container):
        raise ValueError(f"`validation_freq` must be an integer or a list of epochs, got {freq!r}.")
    if isinstance(freq, str):
        raise ValueError(f"`validation_freq` must be an integer or a list of epochs, got {freq!r}.")
    return check_count("validation_freq", freq) if isinstance(freq, int | np.integer) else freq


def check_hook(name: str, hook: object) -> None:
    """Raises unless a hook is a function or None.

    Args:
        name: str, the argument.
        hook: what was given.

    Raises:
        TypeError: if it cannot be called.
    """
    if hook is not None and not callable(hook):
        raise TypeError(f"`{name}` must be a function or None, got {hook!r}.")


def check_validation_split(share: object) -> float:
    """A number in [0, 1)."""
    if not _is_number(share) or not 0 <= share < 1:
        raise ValueError(f"`validation_split` must be in [0, 1), got {share!r}.")
    return float(share)


def check_epochs(epochs: object, initial_epoch: object) -> tuple[int, int]:
    """Both as integers; Keras' own cap on epochs, for trial runs, is kept, with a warning.

    Args:
        epochs: int of at least 0, the epoch to stop at.
        initial_epoch: int of at least 0, the epoch to start at.

    Returns:
        `(epochs, initial_epoch)`.

    Raises:
        ValueError: if one of them is no such integer.
    """
    epochs = check_count("epochs", epochs, 0)
    initial_epoch = check_count("initial_epoch", initial_epoch, 0)
    cap = _cap("max_epochs")
    if cap is None or cap >= epochs:
        return epochs, initial_epoch
    _warn_capped("max_epochs", cap, f"{epochs} epochs")
    return cap, initial_epoch


def cap_steps(steps: int | None) -> int | None:
    """Keras' own cap on the steps of an epoch, for trial runs, is kept, with a warning."""
    cap = _cap("max_steps_per_epoch")
    if cap is None or (steps is not None and cap >= steps):
        return steps
    _warn_capped("max_steps_per_epoch", cap, f"{steps or 'all'} steps of an epoch")
    return cap


def _cap(name: str) -> int | None:
    # Only newer releases of Keras have these settings.
    return getattr(keras.config, name, lambda: None)() or None


def _warn_capped(name: str, cap: int, asked: str) -> None:
    warnings.warn(
        f"`keras.config.{name}()` is set, for trial runs: {cap} are trained instead of {asked}. "
        f"`keras.config.set_{name}(None)` takes the limit away; it may also come from the "
        f"environment variable KERAS_{name.upper()}.",
        stacklevel=5,
    )


def short(value: object) -> str:
    """A value as errors name it.

    Args:
        value: anything.
    """
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
