"""What all trainings share: they wrap a compiled model and are used as `X(model).fit(...)`."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from ..datasets import BaseDataset, GeneratorDataset
from ..model_wrappers import OracleWrapper
from ..reweighting import ReweightingPolicy
from ..samplers import (
    AdaptiveAdditiveSmoothingSampler,
    AdditiveSmoothingSampler,
    BaseSampler,
)
from ..samplers._base import dataset_length
from . import _data
from ._loop import Loop, OnSample, OnScores


def check_count(name: str, value: Any, least: int = 1) -> int:
    """An integer of at least `least`, or an error that says what was given."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}.")
    return int(value)


def check_number(name: str, value: Any, least: float = -math.inf, open_end: bool = False) -> float:
    """A finite number of at least (above, if `open_end`) `least`."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least or (open_end and value == least):
        bound = "" if least == -math.inf else f" {'above' if open_end else 'of at least'} {least:g}"
        raise ValueError(f"`{name}` must be a number{bound}, got {value!r}.")
    return float(value)


class BaseTraining:
    """Base of the trainings.

    Subclasses implement `sampler` and hand a reweighting policy to this constructor.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        reweighting: the policy that turns scores into weights.
        score: the score to draw by; see `OracleWrapper`.
        layer: the layer that `"gnorm"` refers to.
        seed: int or None; all randomness of the training comes from one generator made of it.
    """

    def __init__(
        self,
        model: Any,
        reweighting: ReweightingPolicy,
        score: str = "gnorm",
        layer: Any = None,
        seed: int | None = None,
    ):
        self._reweighting = reweighting
        self.original_model = model
        self.model = OracleWrapper(model, reweighting, score=score, layer=layer)
        self.history: keras.callbacks.History | None = None
        self._rng = np.random.default_rng(seed)
        self._shuffle = True

    @property
    def reweighting(self) -> ReweightingPolicy:
        """The policy that turns scores into weights."""
        return self._reweighting

    @property
    def metrics_names(self) -> tuple[str, ...]:
        """`("loss", *metrics, "score")`; metrics are known once training has begun."""
        return self.model.metrics_names

    @property
    def _sampler_options(self) -> dict[str, Any]:
        return {"rng": self._rng, "shuffle": self._shuffle}

    def sampler(
        self, dataset: BaseDataset, batch_size: int, steps_per_epoch: int, epochs: int
    ) -> BaseSampler:
        """Makes the sampler that draws the batches of one call of `fit`.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int.
            epochs: int.

        Returns:
            A `BaseSampler`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement sampler(...)")

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: Any = 1,
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        *,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
        on_sample: OnSample | None = None,
        on_scores: OnScores | None = None,
    ) -> keras.callbacks.History:
        """Trains the model on arrays, as `model.fit` does, with importance sampling.

        Args:
            x: inputs with n rows: a numpy array or tensor of the backend, or a list or dict of
                them.
            y: targets with n rows, likewise.
            batch_size: int, examples per step. Defaults to `32`.
            epochs: int, when to stop, counted from 0. Defaults to `1`.
            verbose: "auto", 0, 1 or 2, as in Keras. Defaults to `1`.
            callbacks: list of `keras.callbacks.Callback`.
            validation_split: float in [0, 1), the share of rows, from the end, to validate on.
            validation_data: `(x, y)` or `(x, y, sample_weight)` to validate on, or anything
                `model.evaluate` takes.
            shuffle: bool, whether uniform draws go through the data in random order.
            class_weight: dict of class to weight.
            sample_weight: weights `(n,)`, `(n, steps)` or one such array per output; they
                multiply the importance weights and are taken into the scores.
            initial_epoch: int, the epoch to start at.
            steps_per_epoch: int; n // batch_size by default.
            validation_steps: int, batches to validate on.
            validation_batch_size: int; `batch_size` by default.
            validation_freq: int or list of int, epochs after which to validate.
            on_sample: called as `on_sample(sampler, idxs, w, predicted_scores)` after each draw.
            on_scores: called as `on_scores(sampler, scores)` with the scores of each step's
                pool, or of its batch where no pool was scored.

        Returns:
            A `keras.callbacks.History`. Beside `loss` and the metrics, which are
            importance-weighted and so estimate the training set's values, it holds `score` (mean
            score of the training set), `variance_reduction` (its present estimate) and
            `importance_sampling` (share of steps drawn by score).
        """
        if isinstance(x, BaseDataset):
            raise TypeError("`fit` takes arrays; use `fit_dataset(dataset)` for a data set.")
        batch_size = check_count("batch_size", batch_size)
        x, y, sample_weight = _data.to_numpy((x, y, sample_weight))
        _data.check_lengths(x, y, sample_weight)
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(
                    "Give either `class_weight` or `sample_weight`, not both: multiply them into "
                    "one `sample_weight`."
                )
            sample_weight = _data.class_weights(y, class_weight)
        if validation_data is None and validation_split:
            (x, y, sample_weight), validation_data = _data.split_validation(
                x, y, sample_weight, validation_split
            )
        validation = None
        if validation_data is not None:
            size = check_count("validation_batch_size", validation_batch_size or batch_size)
            validation = _data.Validation(validation_data, size, validation_steps, validation_freq)
        self._shuffle = bool(shuffle)
        return self._run(
            _data.ArrayDataset(x, y, sample_weight),
            validation,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            epochs=epochs,
            initial_epoch=initial_epoch,
            verbose=verbose,
            callbacks=callbacks,
            on_sample=on_sample,
            on_scores=on_scores,
        )

    def fit_generator(
        self,
        train: Any,
        steps_per_epoch: int | None = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: Any = 1,
        callbacks: Any = None,
        validation_data: Any = None,
        validation_steps: int | None = None,
        on_sample: OnSample | None = None,
        on_scores: OnScores | None = None,
    ) -> keras.callbacks.History:
        """Trains on a generator, which a background thread reads ahead.

        A step reads `batch_size` examples while draws are uniform and the whole pool while
        importance sampling is on, whatever the size of the generator's own batches.

        Args:
            train: yields `(x, y)` or `(x, y, sample_weight)`.
            steps_per_epoch: int, optimizer steps per epoch; required.
            batch_size: int, examples per step. Defaults to `32`.
            epochs: int. Defaults to `1`.
            verbose: "auto", 0, 1 or 2, as in Keras. Defaults to `1`.
            callbacks: list of `keras.callbacks.Callback`.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or a generator of such batches.
            validation_steps: int, batches to read from a validation generator.
            on_sample: see `fit`.
            on_scores: see `fit`.

        Returns:
            A `keras.callbacks.History`; see `fit`.
        """
        if steps_per_epoch is None:
            raise ValueError(
                "`fit_generator` needs `steps_per_epoch`: a generator does not say how long it is."
            )
        batch_size = check_count("batch_size", batch_size)
        validation = None
        if validation_data is not None:
            arrays = isinstance(validation_data, tuple | list)
            if not arrays and validation_steps is None and not hasattr(validation_data, "__len__"):
                raise ValueError("A `validation_data` generator needs `validation_steps`.")
            validation = _data.Validation(validation_data, batch_size, validation_steps)
        self._shuffle = True
        with GeneratorDataset(train) as dataset:
            return self._run(
                dataset,
                validation,
                steps_per_epoch=steps_per_epoch,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                on_sample=on_sample,
                on_scores=on_scores,
            )

    def fit_dataset(
        self,
        dataset: BaseDataset,
        steps_per_epoch: int | None = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: Any = 1,
        callbacks: Any = None,
        on_sample: OnSample | None = None,
        on_scores: OnScores | None = None,
    ) -> keras.callbacks.History:
        """Trains on a data set's training data and validates on its test data.

        Args:
            dataset: a `BaseDataset`.
            steps_per_epoch: int; training examples // batch_size by default.
            batch_size: int, examples per step. Defaults to `32`.
            epochs: int. Defaults to `1`.
            verbose: "auto", 0, 1 or 2, as in Keras. Defaults to `1`.
            callbacks: list of `keras.callbacks.Callback`.
            on_sample: see `fit`.
            on_scores: see `fit`.

        Returns:
            A `keras.callbacks.History`; see `fit`.
        """
        if not isinstance(dataset, BaseDataset):
            raise TypeError(
                f"`fit_dataset` takes a BaseDataset, got {type(dataset).__name__}; use `fit` for "
                "arrays and `fit_generator` for generators."
            )
        batch_size = check_count("batch_size", batch_size)
        self._shuffle = True
        return self._run(
            dataset,
            _data.Validation.of_dataset(dataset, batch_size),
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            on_sample=on_sample,
            on_scores=on_scores,
        )

    def _run(
        self,
        dataset: BaseDataset,
        validation: _data.Validation | None,
        *,
        steps_per_epoch: int | None,
        batch_size: int,
        epochs: int,
        verbose: Any,
        callbacks: Any,
        on_sample: OnSample | None,
        on_scores: OnScores | None,
        initial_epoch: int = 0,
    ) -> keras.callbacks.History:
        epochs = check_count("epochs", epochs, 0)
        initial_epoch = check_count("initial_epoch", initial_epoch, 0)
        length = dataset_length(dataset)
        if length is not None and length < batch_size:
            raise ValueError(
                f"`batch_size`={batch_size} is larger than the training set of {length} examples."
            )
        if steps_per_epoch is None:
            if length is None:
                raise ValueError("A stream needs `steps_per_epoch`: it has no length.")
            steps_per_epoch = length // batch_size
        steps_per_epoch = check_count("steps_per_epoch", steps_per_epoch)
        self.model.build(*_first_rows(dataset, length))
        sampler = self.sampler(dataset, batch_size, steps_per_epoch, epochs)
        loop = Loop(self.model, sampler, self.original_model, batch_size, on_sample, on_scores)
        self.history = loop.run(
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            callbacks=callbacks,
            verbose=verbose,
            validation=validation,
            initial_epoch=initial_epoch,
        )
        return self.history


def _first_rows(dataset: BaseDataset, length: int | None) -> tuple[Any, ...]:
    """A few rows, for shapes and types, without taking anything out of a stream."""
    if length is not None:
        return dataset.train_data[np.arange(min(2, length))]
    if isinstance(dataset, GeneratorDataset):
        return dataset.peek()
    return dataset.train_data[np.arange(2)]


def smoothed(sampler: BaseSampler, smooth: float, adaptive: bool) -> BaseSampler:
    """Adds additive smoothing where it was asked for."""
    if smooth == 0:
        return sampler
    if adaptive:
        return AdaptiveAdditiveSmoothingSampler(sampler, percentage=smooth)
    return AdditiveSmoothingSampler(sampler, c=smooth)
