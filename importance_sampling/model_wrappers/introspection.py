"""What a Keras model says of itself: its inputs, its layers, what its class overrides."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import keras


def overrides(model: keras.Model, method: str) -> bool:
    """Whether the model's class has a method of the user's in the place of Keras' own.

    Args:
        model: a Keras model.
        method: the method's name.
    """
    return not getattr(type(model), method).__module__.startswith("keras.")


# The methods between a training step and the metrics' results.
LOGGING = ("train_step", "compute_metrics", "get_metrics_result")


def changed(model: keras.Model, methods: Iterable[str]) -> set[str]:
    """Which of Keras' methods the user has replaced, in the class or on the model itself.

    Args:
        model: a Keras model.
        methods: names of methods.
    """
    return {name for name in methods if overrides(model, name) or name in vars(model)}


def takes_training(function: Callable[..., Any]) -> bool:
    """Whether a `call` or `compute_loss` accepts the argument `training`."""
    parameters = inspect.signature(function).parameters
    return "training" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )


def input_shapes(model: keras.Model) -> dict[str, tuple[int | None, ...]] | None:
    """Shape of a batch of each of the model's inputs, by name; None where it does not say."""
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):
        return None
    if not inputs or not all(isinstance(tensor, keras.KerasTensor) for tensor in inputs):
        return None
    return {tensor.name: tuple(tensor.shape) for tensor in inputs}


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model and of the models within it."""
    found = []
    for layer in model.layers:
        found.append(layer)
        if isinstance(layer, keras.Model):
            found.extend(all_layers(layer))
    return found


def normalizes_batches(model: keras.Model) -> bool:
    """Whether a layer normalizes by the statistics of the batch: one that is not frozen.

    Args:
        model: a built Keras model.
    """
    trainable = {_layer_of(variable.path) for variable in model.trainable_variables}
    kept = [variable.path for variable in model.non_trainable_variables]
    # With `center=False, scale=False` there is no weight that would be among the trainable ones.
    frozen = {_layer_of(path) for path in kept if path.endswith(("/gamma", "/beta"))}
    frozen |= {layer.path for layer in all_layers(model) if not layer.trainable}
    found = {_layer_of(path) for path in kept if path.endswith("/moving_mean")}
    return any(layer in trainable or layer not in frozen for layer in found)


def convolves(model: keras.Model) -> bool:
    """Whether a layer is a convolution, or has a kernel of as many axes as one.

    Args:
        model: a built Keras model.
    """
    kernels = any(len(variable.shape) >= 4 for variable in model.weights)
    return kernels or any(hasattr(layer, "kernel_size") for layer in all_layers(model))


def _layer_of(path: str) -> str:
    return path.rsplit("/", 1)[0]
