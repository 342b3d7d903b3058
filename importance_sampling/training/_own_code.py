"""Whether code of the user's runs between the steps of a training."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from ..model_wrappers import ModelWrapper
from ..samplers import BaseSampler
from ..samplers.conditions import Condition

_PACKAGE = __name__.partition(".")[0]


def runs_own_code(*parts: Any) -> bool:
    """Whether parts of a training, or what they are made of, are not this package's.

    Such code may hold the model itself, which must then be up to date where it is called.

    Args:
        *parts: samplers, wrappers, conditions, scoring models and functions.
    """
    return any(_is_own(part) or runs_own_code(*_inner(part)) for part in parts)


def _is_own(part: Any) -> bool:
    named = part if isinstance(part, FunctionType | MethodType) else type(part)
    return named.__module__.partition(".")[0] != _PACKAGE


def _inner(part: Any) -> Iterator[Any]:
    if not isinstance(part, BaseSampler | Condition):
        return
    for name, inner in vars(part).items():
        known = isinstance(inner, BaseSampler | Condition | ModelWrapper) or hasattr(inner, "score")
        # What a condition of this package's only stands for.
        if known or isinstance(inner, FunctionType | MethodType) or name == "_given":
            yield inner
