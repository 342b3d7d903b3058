"""What all kinds of data have in common, once they are adapted."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ..protocols import Dataset
from ._elements import Shape

Rows = tuple[Any, ...]
"""`(x, y)` or `(x, y, sample_weight)`, arrays of equal length or nests of them."""


@dataclass(frozen=True)
class Options:
    """What is to be known about a use of data beside the data.

    Attributes:
        role: what it is for; names the data in errors.
        batch_size: int, examples per batch where the data does not come in batches.
        rebatch: whether data in batches is put together anew into batches of `batch_size`,
            instead of taking its own.
        inputs: shape of a batch of each of the model's inputs, by name, where known; it tells
            single examples from batches.
        needs_targets: whether there must be targets.
        class_weight: dict of class to weight, or None.
        rng: generator to shuffle the batches of a `PyDataset` by; None keeps their order.
    """

    role: Literal["training", "validation"] = "training"
    batch_size: int = 32
    rebatch: bool = False
    inputs: Mapping[str, Shape] | None = None
    needs_targets: bool = False
    class_weight: Mapping[int, float] | None = None
    rng: np.random.Generator | None = None


class TrainingData(NamedTuple):
    """A data set to draw from, with what one step and one epoch mean.

    Attributes:
        dataset: the data set.
        batch_size: int, examples per step.
        steps_per_epoch: int, steps per epoch; None for those of one pass, which the data set
            tells by its length or, if it has none, by its first pass.
    """

    dataset: Dataset
    batch_size: int
    steps_per_epoch: int | None


class DataAdapter(ABC):
    """One kind of data that users hand over, for training and for validation alike.

    Attributes:
        name: what to call the data in errors.
        repeats: whether it can be read more than once.
        infinite: whether it never ends.
        batches_per_pass: int, or None if nobody knows, or it does not come in batches.
    """

    name: str
    repeats = True
    infinite = False
    batches_per_pass: int | None = None

    @classmethod
    @abstractmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` is of this kind."""

    @abstractmethod
    def training(
        self, steps_per_epoch: int | None
    ) -> contextlib.AbstractContextManager[TrainingData]:
        """Opens the data for training, and closes it at the end.

        Args:
            steps_per_epoch: int, optimizer steps per epoch, or None for those of one pass.

        Returns:
            A context manager of a `TrainingData`.

        Raises:
            ValueError: if there is nothing to train on, or no telling how long an epoch is.
        """

    @abstractmethod
    def first_rows(self) -> Rows:
        """A few rows, for shapes and types; nothing is taken out of a stream."""

    @abstractmethod
    def keras_arguments(self) -> dict[str, Any] | None:
        """Arguments with which `model.evaluate` reads the data, or None if it cannot."""

    @abstractmethod
    def batches(self, steps: int | None = None) -> Iterator[Rows]:
        """Batches to validate on, one at a time; of a generator, those after the last ones read.

        Args:
            steps: int, how many at most.
        """

    def split(self, share: float) -> tuple[DataAdapter, Rows]:
        """Sets aside the last rows for validation.

        Args:
            share: float in (0, 1), the share of the rows.

        Returns:
            What is left to train on, and `(x, y, sample_weight)` to validate on.

        Raises:
            ValueError: if the data has no rows to count.
        """
        raise ValueError(
            f"`validation_split` cannot be given with a {self.name}: pass `validation_data` "
            "instead."
        )
