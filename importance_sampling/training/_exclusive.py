"""One training of a model at a time."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from .. import _interrupts

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class _Call:
    """A call of `fit` that is under way."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()


# By the identity of the model, which is held while it trains: models may compare as they like.
_calls: dict[int, _Call] = {}


def exclusive(
    method: Callable[Concatenate[Any, _Arguments], _Result],
) -> Callable[Concatenate[Any, _Arguments], _Result]:
    """Refuses a call of `fit` while the same model is trained by another, before it does anything.

    Two of them would put their hooks on the one model, and their results into its variables.

    Args:
        method: of an object with an `original_model`.
    """

    @functools.wraps(method)
    def alone(self: Any, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        key, call = id(self.original_model), _Call()
        try:
            # In one go, whatever other threads do.
            first = _calls.setdefault(key, call)
            if first is not call:
                where = f"in the thread {first.thread.name!r}"
                if first.thread is call.thread:
                    where = "by the `fit` that this call comes from"
                raise RuntimeError(
                    f"The model {self.original_model.name!r} is being trained already, {where}. "
                    "One training of a model must be over before the next begins; to train two at "
                    "once, make a copy (`keras.models.clone_model`)."
                )
            return method(self, *args, **kwargs)
        finally:
            with _interrupts.section():
                if _calls.get(key) is call:
                    del _calls[key]

    return alone
