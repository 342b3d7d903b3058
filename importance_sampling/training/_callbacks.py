"""What Keras' own `fit` settles with its callbacks before the first epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from ._arguments import Callbacks, Verbose
from ._bar import Bar, draws_bars
from .backup import BackupState, Restorer

_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


def callback_list(
    model: keras.Model, callbacks: Callbacks, verbose: Verbose, epochs: int, steps: int | None
) -> keras.callbacks.CallbackList:
    """The user's callbacks with the history and the progress bar; a `CallbackList` as it is.

    Args:
        model: the user's model, which callbacks see.
        callbacks: list of callbacks, a `CallbackList`, or None.
        verbose: "auto" or int, as in Keras; 0 for no progress bar.
        epochs: int, for the progress bar.
        steps: int, steps of an epoch, for the progress bar; None if nobody knows.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        known = [c for c in callbacks.callbacks if isinstance(c, keras.callbacks.History)]
        history = known[-1] if known else keras.callbacks.History()
        if not known:
            callbacks.callbacks.append(history)
        callbacks.set_model(model)
        model.history = history
        return callbacks
    verbose = 1 if verbose == "auto" else verbose
    given = list(callbacks or ())
    if verbose == 1 and not any(isinstance(c, keras.callbacks.ProgbarLogger) for c in given):
        if draws_bars():
            callbacks = [*given, Bar()]
        else:
            # A file, a pipe or a notebook: one line an epoch.
            verbose = 2
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose > 1,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
        model=model,
    )


def first_epoch(
    model: keras.Model, callbacks: keras.callbacks.CallbackList, initial_epoch: int
) -> int:
    """The epoch to begin with, once `on_train_begin` has been called.

    `BackupAndRestore` tells where an interrupted run had come to by setting an attribute on the
    model, which is the only way it has; Keras' own `fit` reads it there.

    Args:
        model: the user's model.
        callbacks: those that were told.
        initial_epoch: int, the epoch to begin with where nothing was restored.
    """
    restores = any(isinstance(c, keras.callbacks.BackupAndRestore) for c in callbacks.callbacks)
    restored = vars(model).get("_initial_epoch") if restores else None
    return restored or initial_epoch


def looks_at_batches(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback of the user's own is called at batches, and may hold the model itself.

    On JAX the model's variables are then brought up to date around every batch. A callback that
    reaches the model only through `Callback.model`, which does so by itself, can save that time
    with an attribute `reaches_model_by_property = True`.
    """
    kind = type(callback)
    if getattr(callback, "reaches_model_by_property", False):
        return False
    if kind.__module__.startswith("keras.") and kind is not keras.callbacks.LambdaCallback:
        return False
    return _has_batch_hooks(callback)


def _has_batch_hooks(callback: keras.callbacks.Callback) -> bool:
    kind, base = type(callback), keras.callbacks.Callback
    return any(
        name in vars(callback) or getattr(kind, name, None) is not getattr(base, name)
        for name in _BATCH_HOOKS
    )


def may_change_data(callbacks: keras.callbacks.CallbackList) -> bool:
    """Whether any callback is not Keras' own, which change no data.

    Args:
        callbacks: those of the training.
    """
    if type(callbacks) is not keras.callbacks.CallbackList:
        return True
    return any(
        isinstance(callback, keras.callbacks.LambdaCallback)
        or type(callback).__module__.partition(".")[0] not in _CHANGE_NO_DATA
        for callback in callbacks.callbacks
    )


def anybody_hears_batches(callbacks: keras.callbacks.CallbackList) -> bool:
    """Whether any callback does something at batches.

    To tell a `CallbackList` where none does takes a thread of its own, which Keras hands the logs
    to, and on a small network several hundredths of a step.

    Args:
        callbacks: those of the training.
    """
    if type(callbacks) is not keras.callbacks.CallbackList:
        return True
    return any(_has_batch_hooks(callback) for callback in callbacks.callbacks)


def only_bars(callbacks: keras.callbacks.CallbackList) -> list[Bar]:
    """The bars, where nobody else hears of batches: they look at logs when they draw alone.

    Args:
        callbacks: those of the training.
    """
    if type(callbacks) is not keras.callbacks.CallbackList:
        return []
    hearing = [callback for callback in callbacks.callbacks if _has_batch_hooks(callback)]
    bars = [callback for callback in hearing if type(callback) is Bar]
    return bars if len(bars) == len(hearing) else []


# Packages whose callbacks leave the training data as it is.
_CHANGE_NO_DATA = {"keras", __name__.partition(".")[0]}


def _saves_by_epoch(callback: Any) -> bool:
    return callback.save_freq == "epoch"


# Callbacks that define hooks for batches, and when these do nothing that single steps matter to.
_EPOCHS_ONLY: dict[type, Callable[[Any], bool]] = {
    keras.callbacks.ProgbarLogger: lambda callback: True,
    Bar: lambda callback: True,
    keras.callbacks.ModelCheckpoint: _saves_by_epoch,
    keras.callbacks.BackupAndRestore: _saves_by_epoch,
    BackupState: _saves_by_epoch,
}


def watches_batches(callbacks: keras.callbacks.CallbackList) -> bool:
    """Whether any callback does something at single batches, beside showing how far training is.

    Args:
        callbacks: those that will be told.
    """
    if type(callbacks) is not keras.callbacks.CallbackList:
        # It may look at what it passes on.
        return True
    return any(_watches(callback) for callback in callbacks.callbacks)


def _watches(callback: keras.callbacks.Callback) -> bool:
    for name in _BATCH_HOOKS:
        if name in vars(callback):
            return True
        for kind in type(callback).__mro__:
            if name in vars(kind):
                break
        if kind not in (keras.callbacks.Callback, Restorer) and not (
            kind in _EPOCHS_ONLY and _EPOCHS_ONLY[kind](callback)
        ):
            return True
    return False


# What callbacks of Keras' have counted so far, on which the learning rate and the end depend.
_COUNTED: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}


def counting(callbacks: Iterable[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Those of Keras' callbacks whose counts decide how a training goes on.

    Args:
        callbacks: all callbacks.
    """
    return [callback for callback in callbacks if isinstance(callback, tuple(_COUNTED))]


def _names(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next(names for kind, names in _COUNTED.items() if isinstance(callback, kind))


def counted(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """What a callback has counted, as numbers and arrays.

    Args:
        callback: one of `counting`.
    """
    values = {name: getattr(callback, name, None) for name in _names(callback)}
    return {
        "kind": type(callback).__name__,
        **{
            name: [np.array(v) for v in value]
            if isinstance(value, list)
            else value
            if value is None or isinstance(value, int)
            else float(value)
            for name, value in values.items()
        },
    }


def count_on(callback: keras.callbacks.Callback, numbers: Mapping[str, Any]) -> None:
    """Goes back to what a callback had counted; one of another kind is left alone.

    Args:
        callback: one of `counting`.
        numbers: what `counted` returned.
    """
    if numbers["kind"] == type(callback).__name__:
        for name in _names(callback):
            setattr(callback, name, numbers[name])
