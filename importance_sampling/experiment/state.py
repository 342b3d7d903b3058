"""States as files: nested dicts and lists of numbers, strings and arrays, without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._files import read_npz, write_npz

if TYPE_CHECKING:
    import keras

_ARRAY = "array"
_SKELETON = "skeleton"


def save_state(path: Path, state: object, before: Path | None = None) -> None:
    """Writes a state to a `.npz` file, whole or not at all.

    Args:
        path: the file.
        state: nested dicts and lists of numbers, strings, None and arrays.
        before: where to keep the file that was there before. Defaults to nowhere.

    Raises:
        TypeError: if it holds anything else.
    """
    arrays: dict[str, np.ndarray] = {}

    def skeleton(value: object) -> Any:
        if isinstance(value, dict):
            return {"dict": {str(key): skeleton(item) for key, item in value.items()}}
        if isinstance(value, list | tuple):
            return {"list": [skeleton(item) for item in value]}
        if isinstance(value, np.ndarray):
            name = f"{_ARRAY}_{len(arrays)}"
            arrays[name] = value
            return {_ARRAY: name}
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"A state cannot hold a {type(value).__name__}.")

    outline = json.dumps(skeleton(state))
    write_npz(path, {_SKELETON: np.array(outline), **arrays}, before=before)


def load_state(path: Path) -> Any:
    """Reads what `save_state` wrote.

    Raises:
        OSError: if the file is missing, truncated or something else; names it.
        ValueError: if it holds no state; names it.
    """
    arrays = read_npz(path, [_SKELETON])

    def filled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "dict" in value:
            return {key: filled(item) for key, item in value["dict"].items()}
        if "list" in value:
            return [filled(item) for item in value["list"]]
        return arrays[value[_ARRAY]]

    try:
        return filled(json.loads(str(arrays.pop(_SKELETON))))
    except RecursionError:
        raise ValueError(f"{path} holds no state: it is nested too deep.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no state: {error!r}.") from error


def variables(model: keras.Model) -> list[Any]:
    """All that changes in a compiled model while it trains, seeds of its layers included."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def model_state(model: keras.Model) -> list[np.ndarray]:
    """The values of `variables`, copied."""
    from keras import ops

    return [np.array(ops.convert_to_numpy(variable.value)) for variable in variables(model)]


def load_model_state(model: keras.Model, state: list[np.ndarray]) -> None:
    """Puts values of `model_state` back.

    Args:
        model: a compiled model of the same architecture.
        state: what `model_state` returned.
    """
    for variable, value in zip(variables(model), state, strict=True):
        variable.assign(value)
