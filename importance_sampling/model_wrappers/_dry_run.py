"""Before the first step: does the model take these rows, and if not, what is wrong with them?"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from .._arrays import Nested, flatten
from ..backend.array_types import tensor_to_numpy
from ._objective import Objective
from ._outputs import symbolic_outputs


def row_shapes(data: Nested) -> list[tuple[int, ...]]:
    """Shapes of one row of every array."""
    return [tuple(array.shape[1:]) for array in flatten(data)]


def signature(*data: Nested) -> tuple[Any, ...]:
    """What a compiled function could tell two sets of rows apart by."""
    return tuple(
        (array.shape[1:], str(array.dtype)) for part in data for array in [None, *flatten(part)][1:]
    )


def dry_run(objective: Objective, x_name: str, y_name: str, rows: tuple[Nested, ...]) -> None:
    """Tries rows on a model and its loss, without changing anything.

    Args:
        objective: what the model minimises.
        x_name: what to call the inputs in errors.
        y_name: what to call the targets in errors.
        rows: `(x, y, sample_weight)`, a few rows as tensors.

    Raises:
        ValueError: if the model or its loss cannot take them.
    """
    model, (x, y, sample_weight) = objective.loss.model, rows
    with reraise_with_context(model, x, x_name):
        spec = symbolic_outputs(model, x)
    zeros = tree.map_structure(lambda s: ops.zeros(s.shape, s.dtype), spec)
    with reraise_loss_with_context(model, spec, y, y_name), objective.runtime.scope():
        objective.loss.value(x, y, zeros, sample_weight)


@contextlib.contextmanager
def reraise_with_context(model: keras.Model, x: Nested, where: str) -> Iterator[None]:
    """Names the argument at fault where the model cannot be called.

    Args:
        model: the model that is called inside the block.
        x: the inputs it is called on.
        where: what to call them.

    Raises:
        ValueError: in the place of any error.
    """
    try:
        yield
    except Exception as error:
        expected = ""
        with contextlib.suppress(AttributeError, ValueError):
            expected = f" The model expects inputs of shape {model.input_shape}."
        raise ValueError(
            f"The model {model.name!r} cannot be called on {where}, whose rows have the shapes "
            f"{row_shapes(x)}.{expected} It said: {_cause_of(error)}"
        ) from error


@contextlib.contextmanager
def reraise_loss_with_context(
    model: keras.Model, outputs: Nested, y: Nested, where: str
) -> Iterator[None]:
    """Names the argument at fault where the loss or a metric cannot be computed.

    Args:
        model: the compiled model.
        outputs: what the model gave.
        y: the targets that the loss compares them with inside the block.
        where: what to call the targets.

    Raises:
        ValueError: in the place of any error.
    """
    try:
        yield
    except Exception as error:
        got = [tuple(output.shape[1:]) for output in tree.flatten(outputs)]
        raise ValueError(
            f"The compiled loss or metrics cannot compare the outputs of {model.name!r}, of shape "
            f"{got} per row, with {where}, whose rows have the shapes {row_shapes(y)}. "
            f"{_labels_hint(model, got, row_shapes(y))} Keras said: {_cause_of(error)}"
        ) from error


def _labels_hint(
    model: keras.Model, outputs: list[tuple[int, ...]], labels: list[tuple[int, ...]]
) -> str:
    """What to do about labels that do not fit: they may be one-hot, or may have to be."""
    loss = getattr(model, "loss", None)
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", ""))
    if len(outputs) == len(labels) == 1:
        if name == "sparse_categorical_crossentropy" and labels == outputs:
            return (
                "They look like one-hot labels, and this loss takes the numbers of classes: "
                'compile with "categorical_crossentropy", or pass `y.argmax(-1)`.'
            )
        if name == "categorical_crossentropy" and labels[0] in ((), (1,)):
            return (
                "They look like numbers of classes, and this loss takes one-hot labels: compile "
                'with "sparse_categorical_crossentropy", or pass `keras.utils.to_categorical(y)`.'
            )
    return "Check the number of classes and the loss."


def check_strings(model: keras.Model, x: Nested) -> None:
    """Raises if strings go where the model says that it takes numbers.

    Args:
        model: the model.
        x: inputs, a few rows.
    """
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


def _cause_of(error: BaseException) -> str:
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


def warn_if_padding_scores(
    model: keras.Model, rows: list[tuple[Nested, ...]], scores: list[Any]
) -> None:
    """Warns if padding with zeros changes the score of a row, as it does without masks.

    Args:
        model: the model that scored.
        rows: `(x, y)` or `(x, y, sample_weight)` of one row before and after it was padded.
        scores: the scores of the two.
    """
    plain, padded = (tensor_to_numpy(score) for score in scores)
    tolerance = 1e-3 if model.compute_dtype == "float32" else 2e-2
    if np.allclose(plain, padded, rtol=tolerance, atol=1e-6):
        return
    shapes = [row_shapes(row[0]) for row in rows]
    warnings.warn(
        f"The batches of the training data differ in length, so that rows of shape {shapes[0]} "
        f"were padded with zeros to {shapes[1]}, to draw from several batches by score. The "
        f"model does not mask the padding: the score of a row was {float(plain[0]):.4g} and is "
        f"{float(padded[0]):.4g} when padded. Mask it (`Embedding(..., mask_zero=True)`, a "
        "`Masking` layer), or pad all batches to one length.",
        stacklevel=3,
    )
