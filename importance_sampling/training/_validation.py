"""Validation: any data that `fit` takes, never more of a stream in memory than a batch."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from .._arrays import TRIED_ROWS, count_rows, flatten, known_length, take_rows
from ..backend import _foreign
from ..datasets import InMemoryDataset
from ..datasets._elements import Shape
from ..datasets._reader import check_batch
from ..datasets._sources import Source, find_source
from ..model_wrappers.signals import is_heard
from ..utils.keras_utils import DatasetSequence
from ._arguments import check_count, check_optional_count, check_validation_freq
from ._data import ArrayDataset, check_lengths, to_arrays


class Validation:
    """What to evaluate the model on, and how; `run` gives Keras' own logs.

    Args:
        data: `(x, y)`, `(x, y, sample_weight)`, or anything that can be read in batches.
        batch_size: int, for arrays.
        steps: int or None, batches to evaluate on.
        freq: int or list of int, epochs after which to evaluate, as in Keras.
        inputs: shape of a batch of each of the model's inputs, by name, where known.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        steps: int | None = None,
        freq: Any = 1,
        inputs: Mapping[str, Shape] | None = None,
    ):
        batch_size = check_count("validation_batch_size", batch_size)
        self._steps = check_optional_count("validation_steps", steps)
        self._freq = check_validation_freq(freq)
        self._arrays: tuple[Any, ...] | None = None
        self._batches: Any = None
        self._source: Source | None = None
        self._stream: Iterator[Any] | None = None
        self._kept: list[tuple[Any, ...]] | None = None
        if isinstance(data, tuple | list):
            self._take_arrays(data, batch_size)
        elif hasattr(data, "train_data") and hasattr(data, "test_data"):
            self._take_dataset(data, batch_size)
        else:
            self._take_source(data, inputs)
        self._batch_size = batch_size

    @classmethod
    def of_dataset(cls, dataset: Any, batch_size: int) -> Validation | None:
        """Validation on a data set's test data, or None where it has none."""
        return cls(dataset, batch_size) if known_length(dataset.test_data) else None

    def _take_arrays(self, data: Any, batch_size: int) -> None:
        if len(data) not in (2, 3):
            raise ValueError(
                "`validation_data` must be (x, y) or (x, y, sample_weight), got a "
                f"{type(data).__name__} of length {len(data)}."
            )
        parts = to_arrays((*data, None)[:3], "validation_data")
        check_lengths(*parts, what="validation_data")
        plain = all(type(a) is np.ndarray for a in flatten(parts))
        if plain:
            self._arrays = parts
        else:
            self._batches = DatasetSequence(ArrayDataset(*parts), batch_size=batch_size)

    def _take_dataset(self, dataset: Any, batch_size: int) -> None:
        if isinstance(dataset, InMemoryDataset):
            self._arrays = (*dataset.test_data[:], None)[:3]
        else:
            self._batches = DatasetSequence(dataset, train=False, batch_size=batch_size)

    def _take_source(self, data: Any, inputs: Mapping[str, Shape] | None) -> None:
        source = find_source(data, inputs, name="validation data")
        if source is None:
            raise TypeError(
                "`validation_data` must be (x, y), (x, y, sample_weight), a tf.data.Dataset, a "
                "DataLoader, a PyDataset, a Grain data set or a generator of batches, got "
                f"{type(data).__name__}."
            )
        if self._steps is None and (source.infinite or not source.repeats):
            raise ValueError(
                f"`validation_data` is a {'generator' if not source.repeats else 'stream'} without "
                "an end that could be known: pass `validation_steps`, the number of batches to "
                "evaluate on."
            )
        native = _foreign.is_tf_dataset(data) or _foreign.is_torch_loader(data)
        native = native or isinstance(data, keras.utils.PyDataset)
        if native and not source.single:
            self._batches = data
        self._source = source

    def first_rows(self) -> tuple[Any, ...]:
        """A few rows, for shapes and types; nothing is taken out of a stream."""
        if self._arrays is not None:
            return take_rows(self._arrays, slice(0, TRIED_ROWS))
        if self._source is None or isinstance(self._batches, keras.utils.PyDataset):
            batch = self._batches[0]
        else:
            stream = self._open()
            batch = next(stream, None)
            if batch is None:
                raise ValueError("`validation_data` is empty: it gave no batch.")
            if self._stream is not None:
                self._stream = itertools.chain([batch], stream)
        rows = check_batch(batch, "validation data", needs_targets=False)
        return take_rows((*rows, None)[:3], slice(0, TRIED_ROWS))

    def _open(self) -> Iterator[Any]:
        if self._source.repeats:
            return iter(self._source.open())
        if self._stream is None:
            self._stream = iter(self._source.open())
        return self._stream

    def due(self, epoch: int) -> bool:
        """Whether to evaluate after this epoch (counted from 0)."""
        if isinstance(self._freq, int):
            return (epoch + 1) % self._freq == 0
        return epoch + 1 in self._freq

    def run(self, model: keras.Model, callbacks: keras.callbacks.CallbackList) -> dict[str, float]:
        """Evaluates, with the callbacks' test hooks, and names the results as `fit` does."""
        arguments: dict[str, Any] = {"steps": self._steps}
        if self._arrays is not None:
            x, y, sample_weight = self._arrays
            arguments |= {"x": x, "y": y, "sample_weight": sample_weight}
            arguments["batch_size"] = self._batch_size
        elif self._batches is not None:
            arguments["x"] = self._batches
        else:
            steps = self._steps or self._source.batches
            batches = self._read(steps)
            first = next(batches, None)
            if first is None:
                warnings.warn(
                    "`validation_data` has no more batches; this epoch is not validated.",
                    stacklevel=2,
                )
                return {}
            arguments = {"x": _as_generator(first, batches), "steps": steps}
        logs = model.evaluate(**arguments, verbose=0, callbacks=callbacks, return_dict=True)
        return {f"val_{name}": value for name, value in logs.items()}

    def _read(self, steps: int | None) -> Iterator[Any]:
        self._kept = [] if is_heard("is.evaluate_batch") else None
        for batch in itertools.islice(self._open(), steps):
            rows = check_batch(batch, "validation data", needs_targets=False)
            if self._kept is not None:
                self._kept.append(rows)
            yield rows

    def batches(self) -> Iterator[tuple[Any, ...]]:
        """The batches of the last `run` once more; of a generator, those that were kept."""
        if self._arrays is not None:
            for start in range(0, count_rows(self._arrays[0]), self._batch_size):
                yield take_rows(self._arrays, slice(start, start + self._batch_size))
        elif isinstance(self._batches, keras.utils.PyDataset):
            for i in range(self._steps or len(self._batches)):
                yield check_batch(self._batches[i], "validation data", needs_targets=False)
        elif self._source.repeats:
            steps = self._steps or self._source.batches
            for batch in itertools.islice(iter(self._source.open()), steps):
                yield check_batch(batch, "validation data", needs_targets=False)
        else:
            yield from self._kept or []


def _as_generator(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    """Keras takes generators for data, but no other iterators."""
    yield first
    yield from rest
