"""All that changes in a compiled model while it trains, as arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ..backend.array_types import tensor_to_numpy
from ..backend.random_state import global_state, load_global_state


def _groups(model: keras.Model) -> dict[str, list[Any]]:
    """The variables of a compiled model, seeds of its layers among them."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return {
        "weights": list(model.variables),
        "optimizer": list(model.optimizer.variables),
        "metrics": list(model.metrics_variables),
    }


def model_state(model: keras.Model) -> dict[str, Any]:
    """Weights, optimizer, metrics and random numbers, copied.

    Args:
        model: a compiled model, whose variables are up to date.

    Returns:
        dict of lists of arrays, which `save_state` can write.
    """
    state: dict[str, Any] = {
        name: [np.array(tensor_to_numpy(variable.value)) for variable in group]
        for name, group in _groups(model).items()
    }
    return {**state, "random": global_state()}


def load_model_state(model: keras.Model, state: dict[str, Any]) -> None:
    """Puts back what `model_state` took.

    Args:
        model: a compiled model of the same architecture.
        state: what `model_state` returned.

    Raises:
        ValueError: if the model has other variables; nothing is changed then.
    """
    groups = _groups(model)
    for name, group in groups.items():
        values = state[name]
        shapes = [tuple(variable.shape) for variable in group]
        found = [np.shape(value) for value in values]
        if shapes != found:
            raise ValueError(
                f"The state is of another model: its {name} have the shapes {_listed(found)}, "
                f"those of this model {_listed(shapes)}."
            )
    for name, group in groups.items():
        for variable, value in zip(group, state[name], strict=True):
            variable.assign(value)
    load_global_state(state["random"])


def _listed(shapes: list[Any]) -> str:
    few = ", ".join(map(str, shapes[:6]))
    return f"[{few}{', ...' if len(shapes) > 6 else ''}] ({len(shapes)} arrays)"
