"""How much a training step computes, roughly and by shapes alone."""

from __future__ import annotations

import math
from typing import Any

import keras

from .._arrays import Nested, flatten
from .introspection import all_layers

# A backward pass is two products for each of the forward pass.
_TRAINED = 3
# Operations of an optimizer for each weight, whatever the batch.
_UPDATE = 8


def multiply_adds(model: keras.Model, x: Nested, batch_size: int) -> int:
    """Multiplications and additions of a training step, roughly.

    Every weight counts once for each position at which its layer applies it: the places of a
    convolution, the steps of a sequence. Where a layer does not say its shapes, as in a model that
    is written as a class, the values of an example stand for its positions, which are seldom fewer.
    The same model and batch give the same number on every machine.

    Args:
        model: a built Keras model.
        x: inputs, a few rows.
        batch_size: int, examples of a step.
    """
    most = sum(math.prod(array.shape[1:]) for array in flatten(x))
    by_example = 0
    counted: set[int] = set()
    for layer in all_layers(model):
        if not isinstance(layer, keras.Model):
            by_example += _count(layer, most, counted)
    # What a model holds beside its layers.
    by_example += _times(model.weights, most, counted)
    trainable = sum(math.prod(v.shape) for v in model.trainable_variables)
    return batch_size * by_example + _UPDATE * trainable


def _count(layer: keras.Layer, most: int, counted: set[int]) -> int:
    if isinstance(layer, keras.layers.Embedding):
        # Rows are looked up, whatever the size of the table.
        for variable in layer.weights:
            counted.add(id(variable))
        return 0
    return _times(layer.weights, _positions(layer, most), counted)


def _times(weights: list[Any], positions: int, counted: set[int]) -> int:
    total = 0
    for variable in weights:
        if id(variable) not in counted:
            counted.add(id(variable))
            passes = _TRAINED if variable.trainable else 1
            total += passes * positions * math.prod(variable.shape)
    return total


def _positions(layer: Any, most: int) -> int:
    """At how many positions of one example a layer applies its weights; `most` if unknown."""
    found = 1
    for name in ("input", "output"):
        try:
            tensors = flatten(getattr(layer, name))
        except (AttributeError, ValueError):
            # It was never called by itself, or not in a graph.
            return most
        first = getattr(layer, "data_format", None) == "channels_first"
        for tensor in tensors:
            inner = tensor.shape[2:] if first else tensor.shape[1:-1]
            if None in inner:
                return most
            found = max(found, math.prod(inner))
    return found
