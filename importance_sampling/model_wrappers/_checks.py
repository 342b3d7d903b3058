"""What cannot be trained with importance sampling is refused here, before the first step."""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import tree

from .._arrays import Nested
from .introspection import all_layers, overrides

_AVERAGING = ("sum_over_batch_size", "mean")


def check_model(model: object) -> None:
    """Raises unless `model` is a compiled Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Expected a compiled keras.Model, got {type(model).__name__}. Build a model, call "
            "`model.compile(optimizer, loss)` and pass it."
        )
    if not model.compiled or model.optimizer is None:
        raise ValueError(
            f"The model {model.name!r} is not compiled with an optimizer. Call "
            '`model.compile(optimizer="adam", loss=...)` before wrapping it.'
        )
    if model.loss is None and not overrides(model, "compute_loss"):
        if overrides(model, "train_step"):
            raise ValueError(no_compute_loss(model))
        raise ValueError(
            f"The model {model.name!r} is compiled without a loss, so that its samples have no "
            "losses to score (`add_loss` adds what belongs to no sample). Compile it with a "
            "`loss`, or override `compute_loss` and multiply `sample_weight` into the loss of "
            "each sample."
        )


def no_compute_loss(model: keras.Model) -> str:
    """The message of an error: a `train_step` of the user's into which no weights can enter."""
    compiled = "" if model.loss is not None else ", and the model is compiled without a loss"
    return (
        f"The train_step of {model.name!r} computes its loss without `self.compute_loss`"
        f"{compiled}. That is where importance sampling weighs the examples and learns what they "
        "score. Move the loss into a `compute_loss(self, x, y, y_pred, sample_weight, training)` "
        "of the model's own that multiplies `sample_weight` into the loss of each example, or "
        "compile the model with a loss, and let the train_step call `self.compute_loss(x=x, y=y, "
        "y_pred=y_pred)`. A step that trains several networks against each other, as a GAN's does, "
        "has no one loss per example: train it with `model.fit`."
    )


def loss_instances(model: keras.Model) -> list[Any]:
    """The compiled loss objects, in the order of the outputs as far as that is known."""
    return [loss for loss in tree.flatten(model.loss) if isinstance(loss, keras.losses.Loss)]


def sums_its_loss(model: keras.Model) -> bool:
    """Whether the compiled losses are summed over the batch.

    Raises:
        ValueError: for reductions under which importance weights lose their meaning.
    """
    reductions = [loss.reduction for loss in loss_instances(model)]
    unsuited = [r for r in reductions if r not in (*_AVERAGING, "sum")]
    if unsuited:
        reason = (
            "divides by the sum of the weights, which makes every importance-weighted step biased"
            if unsuited[0] == "mean_with_sample_weight"
            else "leaves a vector, of which no training step can be taken"
        )
        raise ValueError(
            f"The compiled loss has reduction={unsuited[0]!r}, which {reason}. Use "
            "reduction='sum_over_batch_size' (the default) or 'sum'."
        )
    plain = len(reductions) != len([loss for loss in tree.flatten(model.loss) if loss is not None])
    if "sum" in reductions and (plain or any(r != "sum" for r in reductions)):
        raise ValueError(
            "The compiled losses mix reduction='sum' with the mean over the batch, so that a "
            "sample has no one loss. Use the same reduction for all outputs."
        )
    return bool(reductions) and reductions[0] == "sum"


def losses_by_output(model: keras.Model, spec: Nested) -> list[Any]:
    """The compiled loss of each output, in the order in which the outputs are flattened.

    Args:
        model: the compiled model.
        spec: its outputs, tensors or symbolic ones.
    """
    outputs = tree.flatten(spec)
    return align(model, model.loss, spec, len(outputs))


def align(model: keras.Model, data: Nested, spec: Nested, outputs: int) -> list[Any]:
    """Leaves of `data`, one per output, in the order of the flattened outputs.

    A dict that belongs to a list of outputs is ordered by the outputs' names, as Keras does.

    Args:
        model: the model.
        data: targets, sample weights or losses: a structure as the outputs', or one for all.
        spec: the model's outputs, tensors or symbolic ones.
        outputs: int, how many outputs there are.
    """
    if isinstance(data, dict) and not isinstance(spec, dict):
        names = getattr(model, "output_names", None)
        if names and set(data) <= set(names):
            return [data.get(name) for name in names]
    leaves = tree.flatten(data)
    return leaves if len(leaves) == outputs else leaves[:1] * outputs


def find_layer(model: keras.Model, layer: int | keras.Layer | None) -> keras.Layer | None:
    """Resolves the argument `layer` to a layer of the model.

    Args:
        model: the model.
        layer: None, an index into `model.layers` or a layer.

    Raises:
        TypeError: if it is something else.
        ValueError: if the model has no such layer.
    """
    if layer is None:
        return None
    if isinstance(layer, bool) or not isinstance(layer, int | keras.Layer):
        raise TypeError(
            f"`layer` must be None, an index into model.layers or a layer, got {layer!r}."
        )
    if isinstance(layer, int):
        if not -len(model.layers) <= layer < len(model.layers):
            raise ValueError(
                f"`layer`={layer} is out of range: the model has {len(model.layers)} layers."
            )
        return model.layers[layer]
    if not any(layer is known for known in all_layers(model)):
        raise ValueError(
            f"`layer`={layer.name!r} is not a layer of the model {model.name!r}; it has "
            f"{[known.name for known in model.layers]}."
        )
    return layer


def weighable_metrics(model: keras.Model) -> tuple[list[Any], list[str]]:
    """The metrics of targets and predictions that accept weights, and the names of the others.

    Metrics of other things, as the means that a `train_step` of the user's own keeps, are neither.
    """
    weighable: list[Any] = []
    others: list[str] = []
    found = [m for kept in model.metrics for m in (kept, *getattr(kept, "metrics", []))]
    for metric in found:
        parameters = list(inspect.signature(metric.update_state).parameters)
        if parameters[:2] != ["y_true", "y_pred"] or hasattr(metric, "metrics"):
            continue
        counts = keras.backend.standardize_dtype(metric.dtype).startswith("int")
        # A metric that counts in integers, as IoU does, would cut off the fractions of weights.
        if "sample_weight" in parameters and not counts:
            weighable.append(metric)
        else:
            others.append(metric.name)
    return weighable, others
