"""Validation: any data that `fit` takes; of a stream no more is held than Keras reads ahead.

Only where somebody listens to what the wrapper says of every batch, the batches of a generator,
which cannot be read again, are kept until they heard.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator, Mapping
from typing import Any

import keras

from .._arrays import count_rows, known_length, rows_of_batches
from ..data import adapt_validation
from ..data.adapter import Rows
from ..model_wrappers import ModelWrapper
from ..model_wrappers.signals import is_heard
from ..protocols import Dataset
from ._arguments import check_count, check_optional_count, check_validation_freq


class Validation:
    """What to evaluate the model on, and how; `run` gives Keras' own logs.

    Args:
        data: `(x, y)`, `(x, y, sample_weight)`, anything that can be read in batches, or a data
            set, of which the test data is taken.
        batch_size: int, for arrays.
        steps: int or None, batches to evaluate on.
        freq: int or list of int, epochs after which to evaluate, as in Keras.
        inputs: shape of a batch of each of the model's inputs, by name, where known.
        wrapper: the wrapped model; where its `evaluate_batch` is the user's own, the batches of a
            generator are kept for it.

    Raises:
        TypeError: if `data` is no data.
        ValueError: if it cannot work, or has no end that could be known and `steps` is None.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        steps: int | None = None,
        freq: int | Container[int] = 1,
        inputs: Mapping[str, Any] | None = None,
        wrapper: ModelWrapper | None = None,
    ):
        batch_size = check_count("validation_batch_size", batch_size)
        self._steps = check_optional_count("validation_steps", steps)
        self._freq = check_validation_freq(freq)
        self._wrapper = wrapper
        needs_targets = wrapper is not None and not wrapper.knows_its_targets
        self._adapter = adapt_validation(
            data, batch_size=batch_size, inputs=inputs, needs_targets=needs_targets
        )
        endless = self._adapter.infinite or not self._adapter.repeats
        if endless and self._steps is None:
            raise ValueError(
                f"`validation_data` is a {self._adapter.name} without an end that could be known: "
                "pass `validation_steps`, the number of batches to evaluate on."
            )
        self._kept: list[Rows] | None = None

    @classmethod
    def of_dataset(
        cls, dataset: Dataset, batch_size: int, wrapper: ModelWrapper | None = None
    ) -> Validation | None:
        """Validation on a data set's test data, or None where it has none.

        Args:
            dataset: a data set.
            batch_size: int, examples per batch.
            wrapper: the wrapped model, as for the class.
        """
        has_some = known_length(dataset.test_data)
        return cls(dataset, batch_size, wrapper=wrapper) if has_some else None

    def first_rows(self) -> Rows:
        """A few rows, for shapes and types; nothing is taken out of a stream."""
        return self._adapter.first_rows()

    def due(self, epoch: int) -> bool:
        """Whether to evaluate after this epoch (counted from 0)."""
        if isinstance(self._freq, int):
            return (epoch + 1) % self._freq == 0
        return epoch + 1 in self._freq

    @property
    def rows_of_batches(self) -> tuple[int, ...]:
        """The different numbers of rows that batches have; none where that is not known."""
        arguments = self._adapter.keras_arguments() or {"x": None}
        if "batch_size" not in arguments:
            return getattr(arguments["x"], "rows_of_batches", ())
        return rows_of_batches(count_rows(arguments["x"]), arguments["batch_size"])

    def run(
        self, model: keras.Model, callbacks: keras.callbacks.CallbackList, replicas: int = 1
    ) -> dict[str, float]:
        """Evaluates, with the callbacks' test hooks, and names the results as `fit` does.

        Args:
            model: the model.
            callbacks: hear of it.
            replicas: int, how many replicas share a batch.

        Returns:
            Keras' logs, their names beginning with "val_"; none if there were no batches.
        """
        arguments, steps = self._adapter.keras_arguments(), self._steps
        if arguments is None:
            # Told how many there are, Keras does not warn that they end.
            steps = steps or self._adapter.batches_per_pass
            batches = self._read()
            first = next(batches, None)
            if first is None:
                warnings.warn(
                    "`validation_data` has no more batches; this epoch is not validated.",
                    stacklevel=2,
                )
                return {}
            arguments = {"x": _as_generator(first, batches)}
        elif replicas > 1 and "batch_size" in arguments:
            # Keras builds the model by the mean of the first batch's parts, which must be alike.
            rows = min(arguments["batch_size"], count_rows(arguments["x"]))
            arguments["batch_size"] = max(rows - rows % replicas, replicas)
        logs = model.evaluate(
            **arguments, steps=steps, verbose=0, callbacks=callbacks, return_dict=True
        )
        return {f"val_{name}": value for name, value in logs.items()}

    def _read(self) -> Iterator[Rows]:
        asked = getattr(self._wrapper, "evaluates_itself", False) or is_heard("is.evaluate_batch")
        # What can be read once only is kept for those who ask for it again.
        self._kept = [] if asked and not self._adapter.repeats else None
        for rows in self._adapter.batches(self._steps):
            if self._kept is not None:
                self._kept.append(rows)
            yield rows

    def batches(self) -> Iterator[Rows]:
        """The batches of the last `run` once more; of a generator, those that were kept."""
        if self._adapter.repeats:
            yield from self._adapter.batches(self._steps)
        else:
            yield from self._kept or []


def _as_generator(first: Rows, rest: Iterator[Rows]) -> Iterator[Rows]:
    """Keras takes generators for data, but no other iterators."""
    yield first
    yield from rest
