"""Forward passes in lower precision than the model trains in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from ._outputs import OutputInfo

LOW_PRECISIONS = ("bfloat16", "float16")


@contextlib.contextmanager
def lower_precision(model: keras.Model, info: OutputInfo, dtype: str | None) -> Iterator[None]:
    """Lets the model's layers compute in `dtype`, all but those that make its outputs.

    Close to one or zero a probability in lower precision is exactly that, and so would be the
    score of every example the model is sure of. Features may be rounded; what is made of them
    in the end must not be.

    Args:
        model: the built model.
        info: what is known of its outputs.
        dtype: one of `LOW_PRECISIONS`, or None to change nothing.
    """
    if dtype is None:
        yield
        return
    kept = {id(layer) for layer in _endings(model, info)}
    lowered = [
        layer
        for layer in _leaves(model)
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


def _leaves(model: keras.Model) -> list[keras.Layer]:
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.extend(_leaves(layer))
        elif not isinstance(layer, keras.layers.InputLayer):
            found.append(layer)
    return found


def _endings(model: keras.Model, info: OutputInfo) -> list[keras.Layer]:
    """The layers from the last ones with weights on."""
    leaves = _leaves(model)
    if any(layer is None for layer in info.layer):
        # Not known what makes the outputs: keep everything after the last weights.
        return _from_last_weights(leaves)
    found = []
    for maker in info.layer:
        while maker is not None:
            found.append(maker)
            maker = None if maker.weights else _before(leaves, maker)
    return found or _from_last_weights(leaves)


def _before(leaves: list[keras.Layer], layer: keras.Layer) -> keras.Layer | None:
    """The layer whose output is `layer`'s input, where layers say what theirs are."""
    inputs = tree.flatten(_tensor_of(layer, "input"))
    for other in leaves:
        if any(o is i for o in tree.flatten(_tensor_of(other, "output")) for i in inputs):
            return other
    return None


def _tensor_of(layer: keras.Layer, name: str) -> Any:
    # Layers outside a graph, or in several places of one, have no single input.
    try:
        return getattr(layer, name)
    except (AttributeError, ValueError):
        return []


def _from_last_weights(leaves: list[keras.Layer]) -> list[keras.Layer]:
    for position in range(len(leaves) - 1, -1, -1):
        if leaves[position].weights:
            return leaves[position:]
    return leaves
