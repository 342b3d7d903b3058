"""Integer labels are checked against the classes of their output before they meet the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from .._arrays import Nested
from . import _checks
from ._outputs import OutputInfo


class LabelLimit(NamedTuple):
    """What labels of an output may be.

    Attributes:
        classes: int, labels are from 0 to one less.
        ignored: int, a label that Keras ignores, which may be any number; None where it has none.
    """

    classes: int
    ignored: int | None


def label_limits(losses: list[Any], info: OutputInfo) -> list[LabelLimit | None]:
    """The limit of each output that has integer labels; None for the others.

    Args:
        losses: the compiled loss of each output.
        info: what is known of the outputs.
    """
    limits: list[LabelLimit | None] = []
    for loss, output in zip(losses, info.flat, strict=True):
        name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
        sparse = name.lower().replace("_", "") == "sparsecategoricalcrossentropy"
        if not sparse or len(output.shape) < 2:
            limits.append(None)
            continue
        axis = getattr(loss, "axis", -1)
        limits.append(LabelLimit(output.shape[axis], getattr(loss, "ignore_class", None)))
    return limits


def check_targets(
    model: keras.Model, info: OutputInfo, limits: list[LabelLimit | None], y: Nested, where: str
) -> None:
    """Raises if integer labels are outside the classes of their output.

    Args:
        model: the compiled model.
        info: what is known of its outputs.
        limits: what `label_limits` gave for them.
        y: targets.
        where: what to call them in errors.
    """
    if not any(limits):
        return
    if not info.nested and isinstance(y, np.ndarray):
        _check_labels(y, limits[0], where)
        return
    targets = _checks.align(model, y, info.spec, len(info.flat))
    for labels, limit in zip(targets, limits, strict=True):
        _check_labels(labels, limit, where)


def _check_labels(labels: Any, limit: LabelLimit | None, where: str) -> None:
    if limit is None or not isinstance(labels, np.ndarray) or not labels.size:
        return
    if labels.dtype.kind not in "iufb":
        return
    classes, ignored = limit
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
