"""One training of a model at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import keras

from .. import _interrupts
from ..backend.processes import told


class _Training:
    """A call of `fit` that is under way."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()


# By the identity of the model, which is held while it trains: models may compare as they like.
_trainings: dict[int, _Training] = {}


def check_alone(model: keras.Model) -> None:
    """Raises if a model is being trained, so that nothing is prepared for another training.

    Args:
        model: the user's model.

    Raises:
        RuntimeError: if it is being trained; says by whom.
    """
    _refuse(model, _trainings.get(id(model)))


@contextlib.contextmanager
def alone(model: keras.Model) -> Iterator[None]:
    """A call of `fit`, which refuses to train a model that is being trained already.

    Two trainings would put their hooks on the one model, and their results into its variables.
    Signals are heeded from here on: while Keras tries a model out, it may take a Ctrl-C for an
    error of the model's.

    Args:
        model: the user's model.

    Raises:
        RuntimeError: if it is being trained; says by whom.
    """
    key, mine = id(model), _Training()
    with _interrupts.listening(), told():
        try:
            # In one go, whatever other threads do.
            first = _trainings.setdefault(key, mine)
            _refuse(model, None if first is mine else first)
            yield
        finally:
            with _interrupts.section():
                if _trainings.get(key) is mine:
                    del _trainings[key]


def _refuse(model: keras.Model, training: _Training | None) -> None:
    if training is None:
        return
    where = f"in the thread {training.thread.name!r}"
    if training.thread is threading.current_thread():
        where = "by the `fit` that this call comes from"
    raise RuntimeError(
        f"The model {model.name!r} is being trained already, {where}. One training of a model "
        "must be over before the next begins; to train two at once, make a copy "
        "(`keras.models.clone_model`)."
    )
