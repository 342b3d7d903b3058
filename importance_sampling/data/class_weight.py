"""Weights of classes as weights of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def check_class_weight(class_weight: object) -> None:
    """Raises unless it is a dict of class to weight."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"`class_weight` must be a dict of class to weight, got {class_weight!r}.")
    for label, weight in class_weight.items():
        if isinstance(label, bool) or not isinstance(label, int | np.integer):
            raise ValueError(
                f"`class_weight` must map integers to weights, got the class {label!r}."
            )
        number = isinstance(weight, int | float | np.number)
        if not number or not np.isfinite(weight) or weight < 0:
            raise ValueError(
                f"`class_weight` of class {label} must be a number of at least 0, got {weight!r}."
            )


def class_weights(y: object, class_weight: Mapping[int, float]) -> np.ndarray:
    """The weight of each example's class; classes that are not named weigh 1.

    Args:
        y: targets: labels `(n,)` or `(n, 1)`, or rows `(n, classes)` of which the largest counts;
            with more axes, labels `(n, ..., classes)`.
        class_weight: dict of class to weight.

    Returns:
        float32 array, `(n,)`, or `(n, ...)` with more axes.

    Raises:
        ValueError: for targets of several outputs, or none.
    """
    if not isinstance(y, np.ndarray):
        raise ValueError(
            "`class_weight` needs a model with one output, but the targets are "
            f"{'None' if y is None else f'a {type(y).__name__} of arrays'}; use `sample_weight`."
        )
    labels = y.argmax(axis=-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(len(y), -1)[:, 0]
    weights = np.ones(labels.shape, dtype=np.float32)
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    return weights


def weigher(
    class_weight: Mapping[int, float] | None,
) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    """A function that adds the weights of their classes to a batch; None without weights."""
    if class_weight is None:
        return None

    def weigh(batch: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(batch) > 2:
            raise ValueError(
                "`class_weight` was given, but the batches already hold sample weights: multiply "
                "them into one."
            )
        return (*batch, class_weights(batch[1], class_weight))

    return weigh
