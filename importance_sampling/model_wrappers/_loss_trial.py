"""A loss that Keras did not write, tried on a few rows: is it a weighted mean over samples?"""

from __future__ import annotations

import dataclasses
import warnings
from typing import NamedTuple

import keras
import numpy as np
from keras import ops, tree

from .._arrays import Nested, flatten, take_rows
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Tensor
from ._objective import Objective

# Keras' own losses that reduce over the whole batch, and one with a value per sample, not step.
_TO_BE_TRIED = ("dice", "tversky", "circle", "ctc")

_COMPARES = (
    "This loss compares the examples of a batch with each other, or is no mean over them (as the "
    "root of a mean is not), so that they have no losses of their own by which they could be drawn "
    "and weighed. Give it one loss per example, or train this model with `model.fit`."
)
_IGNORES_WEIGHTS = (
    "The model's loss does not use `sample_weight`, by which importance sampling weighs and tells "
    "samples apart. Multiply it into the loss of each sample (an own `compute_loss` may pass it on "
    "to `super().compute_loss(...)`)."
)
_REDUCES = (
    "The loss of one sample depends on the other samples of its batch: the loss function reduces "
    "over the batch, so that samples have no scores of their own. Return one loss per sample, "
    "shape (batch_size,): take the mean over the last axis only."
)


def needs_trial(objective: Objective) -> bool:
    """Whether the loss may reduce over the batch, leave weights out, or want a form of its own."""
    model = objective.loss.model
    if not objective.loss.uses_keras_loss or model.loss is None:
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


def choose_weight_form(objective: Objective, x: Nested, y: Nested, weight: Nested) -> Objective:
    """Finds the form of weights under which the loss is a weighted mean of one loss per sample.

    Args:
        objective: the objective, with the most likely form.
        x: inputs, a few rows as tensors.
        y: targets, likewise.
        weight: the user's own weights, likewise; or None.

    Returns:
        The objective with that form. Where the loss does not depend on the model's outputs, as
        that of a model whose `compute_loss` makes its own forward pass, it becomes the score.

    Raises:
        ValueError: if there is no such form, saying what is wrong with the first.
    """
    errors: list[Exception] = []
    for form in objective.loss.weight_forms():
        tried = dataclasses.replace(objective, loss=objective.loss.with_form(form))
        try:
            return _check_per_sample(tried, x, y, weight)
        except Exception as error:  # noqa: BLE001 - whatever the user's own code raises
            errors.append(error)
    raise errors[0]


class _Measured(NamedTuple):
    losses: np.ndarray
    scores: np.ndarray
    total: float


def _check_per_sample(objective: Objective, x: Nested, y: Nested, weight: Nested) -> Objective:
    """Tries whether the loss is a weighted mean of one loss per sample.

    Returns:
        The objective, with another score where this one cannot be.

    Raises:
        ValueError: if it ignores the weights, or if one sample's loss depends on another.
    """
    if len(flatten(x)[0]) < 2:
        return objective
    loss = objective.loss
    with objective.runtime.scope():
        outputs = loss.forward(x)
    masks = loss.masks(outputs)

    def batch_loss(*data: Nested) -> float:
        with objective.runtime.scope():
            total = loss.value(*data)
        return float(tensor_to_numpy(ops.cast(total, "float32")))

    def measure(predictions: Nested) -> _Measured:
        losses, scores = objective.measure(x, y, predictions, weight, masks)
        losses = tensor_to_numpy(losses).astype(np.float64)
        total = batch_loss(x, y, predictions, weight)
        return _Measured(losses, tensor_to_numpy(scores), total)

    def compares_rows(total: float, rows: int) -> bool:
        if loss.has_masked_timesteps or objective.summed:
            return False
        data = (x, y, outputs, weight)
        alone = [batch_loss(*take_rows(data, slice(i, i + 1))) for i in range(rows)]
        return not np.isclose(total, np.mean(alone), rtol=1e-2, atol=1e-5)

    plain = measure(outputs)
    changed = measure(tree.map_structure(_change_first, outputs))
    if not np.isfinite([*plain.losses, *changed.losses, plain.total, changed.total]).all():
        return objective
    constant = plain.total == changed.total
    unused = not constant or (plain.total != 0 and not loss.model.losses)
    if not plain.losses.any() and not changed.losses.any() and unused:
        compares = compares_rows(plain.total, len(plain.losses))
        raise ValueError(_COMPARES if compares else _IGNORES_WEIGHTS)
    moved = np.abs(changed.losses - plain.losses)
    if moved[1:].max() > max(1e-6, 0.01 * moved[0]):
        compares = compares_rows(plain.total, len(plain.losses))
        raise ValueError(_COMPARES if compares else _REDUCES)
    without_gradient = plain.losses.any() and not plain.scores.any() and constant
    if not (objective.scores_at_outputs and without_gradient):
        return objective
    _warn_without_gradient(loss.model)
    return dataclasses.replace(objective, score="loss")


def _warn_without_gradient(model: keras.Model) -> None:
    warnings.warn(
        f"score='gnorm': the loss of {model.name!r} does not depend on what its `call` returns, "
        "so that the gradient at the outputs is zero. The loss itself is the score instead; pass "
        "score='loss' to say so.",
        stacklevel=8,
    )


def _change_first(output: Tensor) -> Tensor:
    """Outputs of which those of the first row are others."""
    keep = ops.reshape(
        ops.cast(ops.arange(ops.shape(output)[0]) > 0, output.dtype),
        (-1,) + (1,) * (len(output.shape) - 1),
    )
    changed = 0.5 * output + ops.cast(0.25, output.dtype)
    return keep * output + (1 - keep) * changed
