"""Forward passes in lower precision than the model trains in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, get_args

import keras
from keras import tree

from ._outputs import OutputInfo

ScoreDtype: TypeAlias = Literal["bfloat16", "float16"]
"""Types that forward passes for scores may compute in; see `OracleWrapper`."""

LOW_PRECISIONS: tuple[ScoreDtype, ...] = get_args(ScoreDtype)


@contextlib.contextmanager
def lower_precision(
    model: keras.Model, info: OutputInfo, dtype: ScoreDtype | None
) -> Iterator[None]:
    """Lets the model's layers compute in `dtype`, all but those that make its outputs.

    In lower precision a probability close to one or zero is rounded to it, and the score of every
    example that the model is sure of would be zero. So features are rounded, and outputs are not.

    Args:
        model: the built model.
        info: what is known of its outputs.
        dtype: one of `LOW_PRECISIONS`, or None to change nothing.
    """
    if dtype is None:
        yield
        return
    kept = {id(layer) for layer in _output_layers(model, info)}
    lowered = [
        layer
        for layer in _flat_layers(model)
        if id(layer) not in kept and layer.dtype_policy.name == "float32"
    ]
    policy = keras.dtype_policies.DTypePolicy(f"mixed_{dtype}")
    before = [layer.dtype_policy for layer in lowered]
    try:
        for layer in lowered:
            layer.dtype_policy = policy
        yield
    finally:
        for layer, old in zip(lowered, before, strict=True):
            layer.dtype_policy = old


def _flat_layers(model: keras.Model) -> list[keras.Layer]:
    found: list[keras.Layer] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.extend(_flat_layers(layer))
        elif not isinstance(layer, keras.layers.InputLayer):
            found.append(layer)
    return found


def _output_layers(model: keras.Model, info: OutputInfo) -> list[keras.Layer]:
    """The layers from the last ones with weights on."""
    layers = _flat_layers(model)
    if any(layer is None for layer in info.producers):
        # Not known what makes the outputs: keep everything after the last weights.
        return _from_last_weights(layers)
    found = []
    for producer in info.producers:
        while producer is not None:
            found.append(producer)
            producer = None if producer.weights else _layer_before(layers, producer)
    return found or _from_last_weights(layers)


def _layer_before(layers: list[keras.Layer], layer: keras.Layer) -> keras.Layer | None:
    """The layer whose output is `layer`'s input, where layers say what theirs are."""
    inputs = tree.flatten(_tensor_of(layer, "input"))
    for other in layers:
        if any(o is i for o in tree.flatten(_tensor_of(other, "output")) for i in inputs):
            return other
    return None


def _tensor_of(layer: keras.Layer, name: str) -> Any:
    # Layers outside a graph, or in several places of one, have no single input.
    try:
        return getattr(layer, name)
    except (AttributeError, ValueError):
        return []


def _from_last_weights(layers: list[keras.Layer]) -> list[keras.Layer]:
    for position in range(len(layers) - 1, -1, -1):
        if layers[position].weights:
            return layers[position:]
    return layers
