"""Validation: any data that `fit` takes, never more of a stream in memory than a batch."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from .._arrays import known_length
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
        wrapper: the wrapped model, whose `evaluate_batch` is asked as well where somebody
            listens or it is the user's own.

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
        self._adapter = adapt_validation(data, batch_size=batch_size, inputs=inputs)
        if self._adapter.needs_steps and self._steps is None:
            raise ValueError(
                f"`validation_data` is a {self._adapter.name} without an end that could be known: "
                "pass `validation_steps`, the number of batches to evaluate on."
            )
        self.means: np.ndarray | None = None
        """Loss and metrics of the last `run` as the wrapper says, if it was asked."""

    @classmethod
    def of_dataset(
        cls, dataset: Dataset, batch_size: int, wrapper: ModelWrapper | None = None
    ) -> Validation | None:
        """Validation on a data set's test data, or None where it has none."""
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

    def run(self, model: keras.Model, callbacks: keras.callbacks.CallbackList) -> dict[str, float]:
        """Evaluates, with the callbacks' test hooks, and names the results as `fit` does.

        Keras reads the data itself where it can, unless the wrapper is asked as well.

        Args:
            model: the model.
            callbacks: hear of it.

        Returns:
            Keras' logs, their names beginning with "val_"; none if there were no batches.
        """
        self.means = None
        asked = self._wrapper
        if not getattr(asked, "evaluates_itself", False) and not is_heard("is.evaluate_batch"):
            asked = None
        arguments = self._adapter.keras_arguments() if asked is None else None
        if arguments is not None:
            logs = model.evaluate(
                **arguments, steps=self._steps, verbose=0, callbacks=callbacks, return_dict=True
            )
        else:
            logs = self._run_in_batches(model, callbacks, asked)
        return {f"val_{name}": value for name, value in logs.items()}

    def _run_in_batches(
        self,
        model: keras.Model,
        callbacks: keras.callbacks.CallbackList,
        asked: ModelWrapper | None,
    ) -> dict[str, Any]:
        logs: dict[str, Any] = {}

        def evaluated() -> Iterator[Rows]:
            for step, rows in enumerate(self._adapter.batches(self._steps)):
                callbacks.on_test_batch_begin(step)
                # Metrics go on from batch to batch, so that the last logs are those of all.
                logs.update(model.test_on_batch(*rows, return_dict=True))
                callbacks.on_test_batch_end(step, dict(logs))
                yield rows
                if model.stop_evaluating:
                    return

        model.stop_evaluating = False
        model.reset_metrics()
        callbacks.on_test_begin()
        if asked is not None:
            # Of no batches the mean is not a number.
            with np.errstate(invalid="ignore"):
                means = asked.evaluate_batches(evaluated())
            self.means = means if logs else None
        else:
            for _ in evaluated():
                pass
        if not logs:
            warnings.warn(
                "`validation_data` has no more batches; this epoch is not validated.",
                stacklevel=3,
            )
        callbacks.on_test_end(dict(logs))
        return logs
