"""What is known about a model's outputs before it runs: shapes, masks, last activations."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from .._arrays import Nested, like_dict
from ..layers.activations import Activation, activation_of
from ..layers.masks import read_mask
from .introspection import input_shapes, takes_training


@dataclass(frozen=True)
class OutputInfo:
    """What is known of a model's outputs; made once from a few rows.

    Attributes:
        spec: symbolic outputs, in the structure the model returns.
        nested: bool, whether `spec` is a list, tuple or dict.
        masked: for each output, whether it carries a Keras mask.
        activations: for each output, the activation that was applied last; None if not known.
        producers: for each output, the layer that makes it; None if not known.
    """

    spec: Nested
    nested: bool
    masked: list[bool]
    activations: list[Activation | None]
    producers: list[keras.Layer | None]

    @property
    def flat(self) -> list[keras.KerasTensor]:
        """The symbolic outputs as a flat list."""
        return tree.flatten(self.spec)


def _symbolic_inputs(model: keras.Model, data: Nested) -> Nested:
    """Replaces arrays by symbolic tensors of the same type and the shape that the model sees.

    Keras adds a last axis of one where the model's inputs have it and the data does not, or takes
    one away, but only when it is called on data.
    """
    shapes = input_shapes(model)
    flat = [keras.KerasTensor(a.shape, _dtype(a.dtype)) for a in tree.flatten(data)]
    packed = tree.pack_sequence_as(data, flat)
    if shapes is None:
        return packed
    if isinstance(data, dict):
        ranked = (
            (k, _with_rank(t, len(shapes[k])) if k in shapes else t) for k, t in packed.items()
        )
        return like_dict(data, ranked)
    if len(flat) != len(shapes):
        return packed
    ranks = [len(shape) for shape in shapes.values()]
    return tree.pack_sequence_as(data, [_with_rank(t, r) for t, r in zip(flat, ranks, strict=True)])


def _with_rank(tensor: Any, rank: int) -> Any:
    shape = tensor.shape
    if len(shape) == rank - 1:
        return keras.KerasTensor((*shape, 1), tensor.dtype)
    if len(shape) == rank + 1 and shape[-1] == 1:
        return keras.KerasTensor(shape[:-1], tensor.dtype)
    return tensor


def _dtype(dtype: Any) -> str:
    return "string" if "string" in str(dtype) else keras.backend.standardize_dtype(dtype)


def symbolic_outputs(model: keras.Model, x: Nested) -> Nested:
    """Calls a model for the shapes and types of its outputs; builds it where needed.

    Args:
        model: the model.
        x: inputs, a few rows.

    Returns:
        Symbolic outputs in the structure the model returns.
    """
    arguments = {"training": False} if takes_training(model.call) else {}
    # Layers that read strings do not always know what shape they make of them.
    if not any("string" in str(array.dtype) for array in tree.flatten(x)):
        # Nor do layers that wrap a module of another library, inside a `Sequential`.
        with contextlib.suppress(NotImplementedError):
            return model(_symbolic_inputs(model, x), **arguments)
    outputs = model(x, **arguments)
    return tree.map_structure(lambda t: keras.KerasTensor(t.shape, _dtype(t.dtype)), outputs)


def describe(model: keras.Model, x: Nested) -> OutputInfo:
    """Describes a model's outputs; builds it on the shapes of `x` where needed.

    Args:
        model: the model.
        x: inputs, a few rows.
    """
    spec = symbolic_outputs(model, x)
    flat = tree.flatten(spec)
    if _is_functional(model):
        # Symbolic calls lose masks; the outputs the model was made with have them.
        outputs, producers = tree.flatten(model.outputs), _producers_in_graph(model)
        if None in producers:
            # A layer that was called more than once does not say which output is whose.
            _, traced = _trace_producers(model, x)
            producers = [a or b for a, b in zip(producers, traced, strict=True)]
    else:
        outputs, producers = _trace_producers(model, x)
    if not len(outputs) == len(producers) == len(flat):
        raise ValueError(
            f"The model {model.name!r} gave {len(flat)} outputs when called symbolically and "
            f"{len(outputs)} on data."
        )
    return OutputInfo(
        spec=spec,
        nested=tree.is_nested(spec),
        masked=[read_mask(t) is not None for t in outputs],
        activations=[None if p is None else _last_activation(p) for p in producers],
        producers=producers,
    )


def _is_functional(model: keras.Model) -> bool:
    # A `Sequential` has none where a layer does not tell the shape it makes.
    if getattr(model, "outputs", None) is None:
        return False
    # A subclass with its own `call` may do anything to the outputs it declares.
    return isinstance(model, keras.Sequential) or type(model).call is _functional_call()


def _functional_call() -> Any:
    inputs = keras.Input((1,))
    return type(keras.Model(inputs, keras.layers.Identity()(inputs))).call


def _producers_in_graph(model: keras.Model) -> list[keras.Layer | None]:
    """For each output of a functional model, the innermost layer whose output it is."""
    producers = []
    for output in tree.flatten(model.outputs):
        producer = None
        for layer in reversed(model.layers):
            outputs = tree.flatten(getattr(layer, "output", None))
            if any(o is output for o in outputs):
                position = [o is output for o in outputs].index(True)
                producer = layer
                if isinstance(layer, keras.Model) and _is_functional(layer):
                    producer = _producers_in_graph(layer)[position]
                break
        producers.append(producer)
    return producers


def _trace_producers(model: keras.Model, x: Nested) -> tuple[list[Any], list[keras.Layer | None]]:
    """Outputs of a subclassed model, and for each the sub-layer seen to return that tensor."""
    returned: list[tuple[int, Any, keras.Layer]] = []
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]

    def watch(layer: keras.Layer) -> Any:
        call = layer.call

        # Keras reads the signature of `call`, which this keeps.
        @functools.wraps(call)
        def watched(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            returned.extend((id(t), t, layer) for t in tree.flatten(result))
            return result

        return watched

    watched = {id(layer): watch(layer) for layer in layers}
    try:
        for layer in layers:
            vars(layer)["call"] = watched[id(layer)]
        with keras.StatelessScope():
            outputs = model(x, training=False) if takes_training(model.call) else model(x)
    finally:
        for layer in layers:
            vars(layer).pop("call", None)
    by_id = {identity: layer for identity, _, layer in returned}
    flat = tree.flatten(outputs)
    return flat, [by_id.get(id(t)) for t in flat]


def _last_activation(layer: keras.Layer) -> Activation | None:
    if isinstance(layer, keras.Sequential) and layer.layers:
        return _last_activation(layer.layers[-1])
    return activation_of(layer)


def is_plain_last(info: OutputInfo, layer: keras.Layer) -> bool:
    """Whether a layer is the last one, so that no tensor inside the network is needed.

    Args:
        info: what is known of the model's outputs.
        layer: a layer of the model.
    """
    if len(info.producers) != 1 or info.activations[0] is None:
        return False
    return info.producers[0] is layer and not isinstance(
        layer, keras.layers.Activation | keras.layers.Softmax
    )
