"""Training on what comes in batches: what an epoch is, and how large a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .._arrays import count_rows
from ..datasets import StreamEnded
from ..datasets._generator import StreamDataset
from ..datasets._sources import Source
from ._arguments import BATCH_SIZE, DefaultBatchSize, check_count, check_optional_count
from ._data import class_weights


def input_ranks(model: Any) -> Sequence[int] | None:
    """Number of axes of a batch of each of the model's inputs, where it says so itself."""
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):
        return None
    if not inputs:
        return None
    return [len(tensor.shape) for tensor in inputs if isinstance(tensor, keras.KerasTensor)]


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
        steps_per_epoch: steps per epoch; None if an epoch is one pass over the data.
    """

    dataset: StreamDataset
    batch_size: int
    steps_per_epoch: int | None


def plan_stream(
    source: Source,
    batch_size: int | None,
    steps_per_epoch: int | None,
    class_weight: Mapping[int, float] | None,
) -> StreamPlan:
    """Opens a stream and settles how large a step and how long an epoch is.

    A step takes `batch_size` examples, by default as many as the source's own batches hold. An
    epoch has `steps_per_epoch` steps, by default as many as uniform steps would need for one
    pass; if nobody knows how long that is, it ends with the pass itself.

    Raises:
        ValueError: if the stream has no end that could be known and `steps_per_epoch` is None.
    """
    steps_per_epoch = check_optional_count("steps_per_epoch", steps_per_epoch)
    if steps_per_epoch is None and (source.infinite or not source.repeats):
        raise ValueError(
            f"A {source.name} needs `steps_per_epoch`: it does not say how long it is."
        )
    own_size = batch_size is None or isinstance(batch_size, DefaultBatchSize)
    if not own_size:
        batch_size = check_count("batch_size", batch_size)
    marks = steps_per_epoch is None and source.batches is None
    dataset = StreamDataset(
        source, cache_size=source.ahead, marks_passes=marks, prepare=_weigher(class_weight)
    )
    try:
        rows = count_rows(_first_batch(dataset, source.name))
        if own_size:
            batch_size = int(BATCH_SIZE) if source.single else rows
        if steps_per_epoch is None and source.batches is not None:
            steps_per_epoch = source.batches
            if batch_size != rows:
                steps_per_epoch = source.batches * rows // batch_size
            if steps_per_epoch == 0:
                raise ValueError(
                    f"`batch_size`={batch_size} is larger than the {source.name}, which has "
                    f"{source.batches} batches of {rows}."
                )
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
