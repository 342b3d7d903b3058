"""What cannot be trained with importance sampling is refused here, before the first step."""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import tree

_AVERAGING = ("sum_over_batch_size", "mean")


def check_model(model: Any) -> None:
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
    kind = type(model)
    own = kind.compute_loss.__module__, kind.train_step.__module__
    if model.loss is None and all(module.startswith("keras.") for module in own):
        raise ValueError(
            f"The model {model.name!r} is compiled without a loss, so that its samples have no "
            "losses to score (`add_loss` adds what belongs to no sample). Compile it with a "
            "`loss`, or override `compute_loss` and multiply `sample_weight` into the loss of "
            "each sample."
        )
    if getattr(model, "steps_per_execution", 1) not in (None, 1):
        raise ValueError(
            f"The model was compiled with steps_per_execution={model.steps_per_execution}, but the "
            "next batch depends on the scores of this one. Compile it with steps_per_execution=1."
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


def losses_by_output(model: keras.Model, spec: Any) -> list[Any]:
    """The compiled loss of each output, in the order in which the outputs are flattened."""
    outputs = tree.flatten(spec)
    return align(model, model.loss, spec, len(outputs))


def align(model: keras.Model, data: Any, spec: Any, outputs: int) -> list[Any]:
    """Leaves of `data`, one per output, in the order of the flattened outputs.

    A dict that belongs to a list of outputs is ordered by the outputs' names, as Keras does.
    """
    if isinstance(data, dict) and not isinstance(spec, dict):
        names = getattr(model, "output_names", None)
        if names and set(data) <= set(names):
            return [data.get(name) for name in names]
    leaves = tree.flatten(data)
    return leaves if len(leaves) == outputs else leaves[:1] * outputs


def find_layer(model: keras.Model, layer: Any) -> Any:
    """Resolves the argument `layer` (None, an index or a layer) to a layer of the model."""
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
    if not any(layer is known for known in _all_layers(model)):
        raise ValueError(
            f"`layer`={layer.name!r} is not a layer of the model {model.name!r}; it has "
            f"{[known.name for known in model.layers]}."
        )
    return layer


def _all_layers(model: Any) -> list[Any]:
    found = []
    for layer in model.layers:
        found.append(layer)
        if isinstance(layer, keras.Model):
            found.extend(_all_layers(layer))
    return found


def weighable_metrics(model: keras.Model) -> tuple[list[Any], list[str]]:
    """The compiled metrics that accept weights, and the names of those that do not."""
    weighable, others = [], []
    for container in model.metrics:
        for metric in getattr(container, "metrics", []):
            parameters = inspect.signature(metric.update_state).parameters
            if "sample_weight" in parameters:
                weighable.append(metric)
            else:
                others.append(metric.name)
    return weighable, others
