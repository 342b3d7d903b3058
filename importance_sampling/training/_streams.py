"""Training on what comes in batches: what an epoch is, and how large a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arrays import count_rows
from ..datasets import StreamEnded
from ..datasets._generator import StreamDataset
from ..datasets._sources import Source
from ._arguments import check_optional_count
from ._data import class_weights


def refuse_beside_a_stream(name: str, **arguments: Any) -> None:
    """Raises for arguments that only make sense with arrays."""
    reasons = {
        "y": "the targets come with it",
        "sample_weight": "yield (x, y, sample_weight) instead",
        "validation_split": "pass `validation_data` instead",
    }
    for argument, value in arguments.items():
        number = isinstance(value, int | float)
        if value is not None and not (number and value == 0):
            raise ValueError(f"`{argument}` cannot be given with a {name}: {reasons[argument]}.")


@dataclass
class StreamPlan:
    """A stream, opened, with what one step and one epoch mean.

    Attributes:
        dataset: the stream.
        batch_size: examples per step.
        steps_per_epoch: steps per epoch; None if only the first pass can tell.
    """

    dataset: StreamDataset
    batch_size: int
    steps_per_epoch: int | None


def plan_stream(
    source: Source,
    batch_size: int | None,
    steps_per_epoch: int | None,
    class_weight: Mapping[int, float] | None,
    needs_targets: bool = True,
) -> StreamPlan:
    """Opens a stream and settles how large a step and how long an epoch is.

    A uniform step takes the source's next batch, as Keras does, or as many examples as
    `batch_size` says. An epoch has `steps_per_epoch` steps, by default as many as uniform steps
    would need for one pass; if nobody knows how long that is, the first one tells.

    Args:
        source: where the batches come from.
        batch_size: int, examples per step; None for the source's own batches.
        steps_per_epoch: int or None.
        class_weight: dict of class to weight, or None.
        needs_targets: whether every batch must have targets.

    Raises:
        ValueError: if the stream has no end that could be known and `steps_per_epoch` is None.
    """
    steps_per_epoch = check_optional_count("steps_per_epoch", steps_per_epoch)
    if steps_per_epoch is None and (source.infinite or not source.repeats):
        raise ValueError(
            f"A {source.name} needs `steps_per_epoch`: it does not say how long it is."
        )
    dataset = StreamDataset(
        source,
        cache_size=source.ahead,
        marks_passes=steps_per_epoch is None and source.batches is None,
        prepare=_weigher(class_weight),
        keeps_batches=batch_size is None,
        needs_targets=needs_targets,
    )
    try:
        rows = count_rows(_first_batch(dataset, source.name))
        batch_size = rows if batch_size is None else batch_size
        if steps_per_epoch is None and source.batches is not None:
            steps_per_epoch = -(-source.batches * rows // batch_size)
    except BaseException:
        dataset.close()
        raise
    return StreamPlan(dataset, batch_size, steps_per_epoch)


def _first_batch(dataset: StreamDataset, name: str) -> tuple[Any, ...]:
    try:
        return dataset.peek()
    except StreamEnded as error:
        raise ValueError(f"The {name} is empty: it gave no batch to train on.") from error


def _weigher(
    class_weight: Mapping[int, float] | None,
) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    if class_weight is None:
        return None

    def weigh(batch: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(batch) > 2:
            raise ValueError(
                "`class_weight` was given, but the batches already hold sample weights: multiply "
                "them into one."
            )
        return (*batch, class_weights(batch[1], class_weight).astype(np.float32))

    return weigh
