"""Whether an element of a stream is a batch, as Keras takes it, or a single example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._arrays import Nested, flatten, map_arrays

Shape = tuple[int | None, ...]
"""A shape with None where an axis has no fixed length."""


class _Shape:
    """Stands for an array of which only the shape is known."""

    def __init__(self, shape: Any):
        self.shape: Shape = tuple(shape)


def shapes_only(element: Nested) -> Nested:
    """Replaces arrays, specs and numbers by their shapes, in the same structure."""
    return map_arrays(lambda leaf: _Shape(getattr(leaf, "shape", np.shape(leaf))), element)


def holds_single_examples(element: Nested, inputs: Mapping[str, Shape] | None) -> bool:
    """Whether `(x, y, ...)`, as `shapes_only` gives it, is one example rather than a batch.

    Whatever Keras would take for a batch is one: rows of the model's inputs, also with a last axis
    of one missing or to spare, and targets with as many rows. A scalar is no batch of anything.
    Where the inputs are not known, arrays of different lengths give a single example away.

    Args:
        element: the shapes.
        inputs: shape of a batch of each of the model's inputs, by name; None if not known.
    """
    parts = element if isinstance(element, tuple | list) else (element,)
    leaves = [leaf.shape for leaf in flatten(parts)]
    if any(not shape for shape in leaves):
        return True
    lengths = {shape[0] for shape in leaves}
    equal = len(lengths - {None}) <= 1
    expected = None if inputs is None else _expected(parts[0], inputs)
    if expected is None:
        return not equal
    pairs = list(zip([leaf.shape for leaf in flatten(parts[0])], expected, strict=True))
    if equal and all(_may_be_batch(shape, batch) for shape, batch in pairs):
        return False
    if lengths == {None} and any(batch[1:2] != (None,) for batch in expected):
        # An axis of unknown length where the model has a known one: the batch axis.
        return False
    return all(len(shape) == len(batch) - 1 for shape, batch in pairs)


def _expected(x: Any, inputs: Mapping[str, Shape]) -> list[Shape] | None:
    """The shape of a batch for each array in `x`, in order; None where that is not known."""
    if isinstance(x, dict):
        return [inputs[name] for name in x] if set(x) == set(inputs) else None
    return list(inputs.values()) if len(flatten(x)) == len(inputs) else None


def _may_be_batch(shape: Shape, batch: Shape) -> bool:
    """Whether a model whose input is `batch` takes arrays of this shape, as Keras adjusts them."""
    batch = (None, *batch[1:])
    return (
        _fits(shape, batch)
        or (len(batch) > 1 and batch[-1] == 1 and _fits(shape, batch[:-1]))
        or (shape[-1] == 1 and _fits(shape[:-1], batch))
    )


def _fits(shape: Shape, expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        None in (a, b) or a == b for a, b in zip(shape, expected, strict=True)
    )
