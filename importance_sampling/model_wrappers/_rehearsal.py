"""A model tried on a few rows before the first step, and what it says put into clear words."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from .._arrays import flatten, take_rows
from ..backend.array_types import tensor_to_numpy

# Keras' own losses that reduce over the whole batch, and one with a value per sample, not step.
_TO_BE_TRIED = ("dice", "tversky", "circle", "ctc")


def shapes_of(data: Any) -> list[tuple[int, ...]]:
    """Shapes of one row of every array."""
    return [tuple(array.shape[1:]) for array in flatten(data)]


def signature(*data: Any) -> tuple[Any, ...]:
    """What a compiled function could tell two sets of rows apart by."""
    return tuple(
        (array.shape[1:], str(array.dtype)) for part in data for array in [None, *flatten(part)][1:]
    )


@contextlib.contextmanager
def explained(model: keras.Model, x: Any, where: str) -> Iterator[None]:
    """Says which argument did not fit where the model cannot be called."""
    try:
        yield
    except Exception as error:
        expected = ""
        with contextlib.suppress(AttributeError, ValueError):
            expected = f" The model expects inputs of shape {model.input_shape}."
        raise ValueError(
            f"The model {model.name!r} cannot be called on {where}, whose rows have the shapes "
            f"{shapes_of(x)}.{expected} It said: {cause_of(error)}"
        ) from error


@contextlib.contextmanager
def explained_loss(model: keras.Model, outputs: Any, y: Any, where: str) -> Iterator[None]:
    """Says which argument did not fit where the loss or a metric cannot be computed."""
    try:
        yield
    except Exception as error:
        got = [tuple(output.shape[1:]) for output in tree.flatten(outputs)]
        raise ValueError(
            f"The compiled loss or metrics cannot compare the outputs of {model.name!r}, of shape "
            f"{got} per row, with {where}, whose rows have the shapes {shapes_of(y)}. Check the "
            f"number of classes and the loss. Keras said: {cause_of(error)}"
        ) from error


def check_strings(model: keras.Model, x: Any) -> None:
    """Raises if strings go where the model says that it takes numbers."""
    inputs = getattr(model, "inputs", None) or []
    wants_strings = any(getattr(i, "dtype", None) == "string" for i in inputs)
    if not inputs or wants_strings:
        return
    for array in flatten(x):
        if getattr(array.dtype, "kind", "") in "US":
            raise ValueError(
                f"The model {model.name!r} cannot be called on `x`, which holds strings "
                f"({array.dtype}): its inputs are numbers. Begin it with "
                '`keras.Input(..., dtype="string")` and a `StringLookup` layer.'
            )


def cause_of(error: BaseException) -> str:
    """The line of an error that says what is wrong.

    Keras begins with the layer that was called and puts the cause below it, in bold letters.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    layer = ""
    if lines and lines[0].startswith("Exception encountered when calling"):
        layer = lines.pop(0).removeprefix("Exception encountered when calling").strip(" .")
    if not lines or lines[0].startswith("Arguments received by"):
        return f"{type(error).__name__} in {layer}" if layer else type(error).__name__
    return f"{lines[0]} (in {layer})" if layer else lines[0]


def is_custom(model: keras.Model, own_compute_loss: bool) -> bool:
    """Whether the loss may reduce over the batch, leave weights out, or want a form of its own."""
    if own_compute_loss or model.loss is None:
        return True
    for loss in tree.flatten(model.loss):
        if loss is None:
            continue
        if isinstance(loss, str):
            name = loss
        else:
            named = loss if hasattr(loss, "__name__") else type(loss)
            if not named.__module__.startswith("keras."):
                return True
            name = named.__name__
        if name.lower() in _TO_BE_TRIED:
            return True
    return False


def settle_weights(objective: Any, x: Any, y: Any, sample_weight: Any) -> None:
    """Finds the form of weights under which the loss is a weighted mean of one loss per sample.

    Raises:
        ValueError: if there is none, saying what is wrong with the first.
    """
    first: Exception | None = None
    for form in objective.weight_forms():
        objective.use_weights(form)
        try:
            check_per_sample(objective, x, y, sample_weight)
        except Exception as error:  # noqa: BLE001 - whatever the user's own code raises
            first = first or error
        else:
            return
    if first is not None:
        raise first


def check_per_sample(objective: Any, x: Any, y: Any, sample_weight: Any) -> None:
    """Tries whether the loss is a weighted mean of one loss per sample.

    Where such a loss does not depend on the model's outputs, as that of a model whose
    `compute_loss` makes its own forward pass, its value becomes the score.

    Raises:
        ValueError: if it ignores the weights, or if one sample's loss depends on another.
    """
    if len(flatten(x)[0]) < 2:
        return
    with objective.runtime.scope():
        outputs = objective.forward(x)
    masks = objective.masks(outputs)

    def measure(changed: Any) -> tuple[np.ndarray, np.ndarray, float]:
        losses, scores = objective.measure(x, y, changed, sample_weight, masks)
        losses = tensor_to_numpy(losses).astype(np.float64)
        return losses, tensor_to_numpy(scores), total_of(x, y, changed, sample_weight)

    def total_of(*data: Any) -> float:
        with objective.runtime.scope():
            total = objective.loss(*data)
        return float(tensor_to_numpy(ops.cast(total, "float32")))

    def compares_rows(total: float) -> bool:
        data = (x, y, outputs, sample_weight)
        if objective.counts_tokens or objective.summed:
            return False
        rows = range(len(losses))
        alone = [total_of(*take_rows(data, slice(i, i + 1))) for i in rows]
        return not np.isclose(total, np.mean(alone), rtol=1e-2, atol=1e-5)

    losses, scores, total = measure(outputs)
    changed, _, changed_total = measure(tree.map_structure(_change_first, outputs))
    if not np.isfinite([*losses, *changed, total, changed_total]).all():
        return
    unused = total != changed_total or (total != 0 and not objective.model.losses)
    if not losses.any() and not changed.any() and unused:
        raise ValueError(
            _COMPARES
            if compares_rows(total)
            else "The model's loss does not use `sample_weight`, by which importance sampling "
            "weighs and tells samples apart. Multiply it into the loss of each sample (an own "
            "`compute_loss` may pass it on to `super().compute_loss(...)`)."
        )
    moved = np.abs(changed - losses)
    if moved[1:].max() > max(1e-6, 0.01 * moved[0]):
        raise ValueError(
            _COMPARES
            if compares_rows(total)
            else "The loss of one sample depends on the other samples of its batch: the loss "
            "function reduces over the batch, so that samples have no scores of their own. Return "
            "one loss per sample, shape (batch_size,): take the mean over the last axis only."
        )
    at_outputs = objective.score == "gnorm" and objective.layer is None
    if at_outputs and losses.any() and not scores.any() and total == changed_total:
        objective.score = "loss"
        warnings.warn(
            f"score='gnorm': the loss of {objective.model.name!r} does not depend on what its "
            "`call` returns, so that the gradient at the outputs is zero. The loss itself is the "
            "score instead; pass score='loss' to say so.",
            stacklevel=6,
        )


_COMPARES = (
    "This loss compares the examples of a batch with each other, or is no mean over them (as the "
    "root of a mean is not), so that they have no losses of their own by which they could be drawn "
    "and weighed. Give it one loss per example, or train this model with `model.fit`."
)


def _change_first(output: Any) -> Any:
    """Outputs of which those of the first row are others."""
    keep = ops.reshape(
        ops.cast(ops.arange(ops.shape(output)[0]) > 0, output.dtype),
        (-1,) + (1,) * (len(output.shape) - 1),
    )
    changed = 0.5 * output + ops.cast(0.25, output.dtype)
    return keep * output + (1 - keep) * changed


def label_limits(model: keras.Model, losses: list[Any], outputs: list[Any]) -> list[Any]:
    """For each output with integer labels, `(classes, ignored label)`; None for the others."""
    limits: list[Any] = []
    for loss, output in zip(losses, outputs, strict=True):
        name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
        sparse = name.lower().replace("_", "") == "sparsecategoricalcrossentropy"
        if not sparse or len(output.shape) < 2:
            limits.append(None)
            continue
        axis = getattr(loss, "axis", -1)
        limits.append((output.shape[axis], getattr(loss, "ignore_class", None)))
    return limits


def check_labels(labels: Any, limit: Any, where: str) -> None:
    """Raises if an integer label is none of the classes."""
    if limit is None or not isinstance(labels, np.ndarray) or not labels.size:
        return
    classes, ignored = limit
    if labels.dtype.kind not in "iufb":
        return
    low, high = labels.min(), labels.max()
    if low >= 0 and high < classes:
        return
    outside = labels[~((labels >= 0) & (labels < classes))]
    outside = outside if ignored is None else outside[outside != ignored]
    if len(outside):
        raise ValueError(
            f"`{where}` holds the label {outside.flat[0]}, but the model's output has {classes} "
            f"classes, 0 to {classes - 1} ({len(outside)} of {labels.size} labels are outside). "
            "Check the labels, or give the last layer more units."
        )
