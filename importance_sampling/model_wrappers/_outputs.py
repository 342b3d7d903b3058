"""What is known about a model's outputs before it runs: shapes, masks, last activations."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from .._arrays import like_dict
from ..layers import _activations, _masks


@dataclass
class OutputInfo:
    """One record per model, made once from a sample batch.

    Attributes:
        spec: symbolic outputs, in the structure the model returns.
        nested: whether `spec` is a list, tuple or dict.
        masked: for each output, whether it carries a Keras mask.
        ending: for each output, the activation it ends in (None: not known).
        layer: for each output, the layer that makes it (None: not known).
    """

    spec: Any
    nested: bool
    masked: list[bool]
    ending: list[Callable[..., Any] | None]
    layer: list[Any]

    @property
    def flat(self) -> list[Any]:
        """The symbolic outputs as a flat list."""
        return tree.flatten(self.spec)


def symbolic(model: keras.Model, data: Any) -> Any:
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


def input_shapes(model: Any) -> dict[str, tuple[int | None, ...]] | None:
    """Shape of a batch of each of the model's inputs, by name, where it says so itself."""
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):
        return None
    if not inputs or not all(isinstance(tensor, keras.KerasTensor) for tensor in inputs):
        return None
    return {tensor.name: tuple(tensor.shape) for tensor in inputs}


def _dtype(dtype: Any) -> str:
    return "string" if "string" in str(dtype) else keras.backend.standardize_dtype(dtype)


def takes_training(function: Callable[..., Any]) -> bool:
    """Whether a `call` or `compute_loss` accepts the argument `training`."""
    parameters = inspect.signature(function).parameters
    return "training" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )


def symbolic_outputs(model: keras.Model, x: Any) -> Any:
    """Calls the model for the shapes and types of its outputs; builds it where needed."""
    arguments = {"training": False} if takes_training(model.call) else {}
    # Layers that read strings do not always know what shape they make of them.
    if not any("string" in str(array.dtype) for array in tree.flatten(x)):
        # Nor do layers that wrap a module of another library, inside a `Sequential`.
        with contextlib.suppress(NotImplementedError):
            return model(symbolic(model, x), **arguments)
    outputs = model(x, **arguments)
    return tree.map_structure(lambda t: keras.KerasTensor(t.shape, _dtype(t.dtype)), outputs)


def describe(model: keras.Model, x: Any) -> OutputInfo:
    """Builds the model on the shapes of `x` where needed and describes its outputs."""
    spec = symbolic_outputs(model, x)
    flat = tree.flatten(spec)
    if _is_functional(model):
        # Symbolic calls lose masks; the outputs the model was made with have them.
        outputs, makers = tree.flatten(model.outputs), _static_makers(model)
        if None in makers:
            # A layer that was called more than once does not say which output is whose.
            _, traced = _traced_makers(model, x)
            makers = [a or b for a, b in zip(makers, traced, strict=True)]
    else:
        outputs, makers = _traced_makers(model, x)
    if not len(outputs) == len(makers) == len(flat):
        raise ValueError(
            f"The model {model.name!r} gave {len(flat)} outputs when called symbolically and "
            f"{len(outputs)} on data."
        )
    return OutputInfo(
        spec=spec,
        nested=tree.is_nested(spec),
        masked=[_masks.read_mask(t) is not None for t in outputs],
        ending=[None if m is None else _ending(m) for m in makers],
        layer=makers,
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


def _static_makers(model: keras.Model) -> list[Any]:
    """For each output, the innermost layer whose output it is."""
    makers = []
    for output in tree.flatten(model.outputs):
        maker = None
        for layer in reversed(model.layers):
            outputs = tree.flatten(getattr(layer, "output", None))
            if any(o is output for o in outputs):
                position = [o is output for o in outputs].index(True)
                maker = layer
                if isinstance(layer, keras.Model) and _is_functional(layer):
                    maker = _static_makers(layer)[position]
                break
        makers.append(maker)
    return makers


def _traced_makers(model: keras.Model, x: Any) -> tuple[list[Any], list[Any]]:
    """Outputs of a subclassed model, and for each the sub-layer seen to return that tensor."""
    returned: list[tuple[int, Any, Any]] = []
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]

    def watch(layer: Any) -> Callable[..., Any]:
        call = layer.call

        def watched(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            returned.extend((id(t), t, layer) for t in tree.flatten(result))
            return result

        watched.__signature__ = inspect.signature(call)
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


def _ending(layer: Any) -> Callable[..., Any] | None:
    if isinstance(layer, keras.Sequential) and layer.layers:
        return _ending(layer.layers[-1])
    return _activations.of_layer(layer)


def is_plain_last(info: OutputInfo, layer: Any) -> bool:
    """Whether `layer` is the last layer, so that no tensor inside the network is needed."""
    if len(info.layer) != 1 or info.ending[0] is None:
        return False
    return info.layer[0] is layer and not isinstance(
        layer, keras.layers.Activation | keras.layers.Softmax
    )
