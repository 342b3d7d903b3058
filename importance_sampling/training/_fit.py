"""The methods by which all trainings are used: `fit`, `fit_generator`, `fit_dataset`."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Never

import keras
import numpy as np

from .. import data
from ..backend.processes import current
from ..data.class_weight import check_class_weight
from ..model_wrappers import OracleWrapper
from ..model_wrappers.introspection import input_shapes
from ..protocols import Dataset
from . import _arguments
from ._arguments import BATCH_SIZE, Callbacks, Verbose, check_count, check_optional_count
from ._device_data import OnDevice
from ._exclusive import alone, check_alone
from ._stepper import OnSample, OnScores
from ._together import share_generator
from ._validation import Validation


class FitMethods:
    """Turns what users hand over into a data set, a batch size and a number of steps.

    What trains on them is `_run` of `BaseTraining`.
    """

    model: OracleWrapper
    original_model: keras.Model
    _rng: np.random.Generator
    _shuffle: bool

    def _run(
        self,
        dataset: Dataset,
        validation: Validation | None,
        *,
        steps_per_epoch: int | None,
        batch_size: int,
        epochs: int,
        verbose: Verbose,
        callbacks: Callbacks,
        on_sample: OnSample | None,
        on_scores: OnScores | None,
        initial_epoch: int = 0,
        steps_per_execution: int | None = None,
        device_data: OnDevice = False,
    ) -> keras.callbacks.History:
        raise NotImplementedError(f"{type(self).__name__} must implement _run(...)")

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = BATCH_SIZE,
        epochs: int = 1,
        verbose: Verbose = 1,
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        steps_per_epoch: int | None = None,
        on_sample: OnSample | None = None,
        on_scores: OnScores | None = None,
        *,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Container[int] = 1,
        steps_per_execution: int | None = None,
        device_data: OnDevice = "auto",
        **unknown: Never,
    ) -> keras.callbacks.History:
        """Trains the model as `model.fit` does, with importance sampling.

        Args:
            x: inputs with n rows: numpy arrays (also memory maps, of which only the rows drawn
                are read), tensors of any backend, pandas objects, scipy sparse matrices, or
                nested lists and dicts of them. Or the whole of the data, in batches: a
                `tf.data.Dataset`, PyTorch `DataLoader`, `keras.utils.PyDataset`, Grain data set
                or a generator; by index: an `IndexedExamples`, a map-style `Dataset` of
                PyTorch. Or a `datasets.Dataset` of HuggingFace, or columns of one.
            y: targets with n rows, likewise; of a `datasets.Dataset` the name of a column, or a
                column. None with data in batches or by index, or for a model whose own
                `compute_loss` needs no targets.
            batch_size: int, examples per step; what whole batches leave of the data is one
                more, as in Keras. Defaults to `32`. Data in batches keeps its own.
            epochs: int, when to stop, counted from 0. Defaults to `1`.
            verbose: "auto", 0, 1 or 2, as in Keras; above 2 only the epochs are named. Defaults
                to `1`.
            callbacks: list of `keras.callbacks.Callback`, or a `CallbackList`.
            validation_split: float in [0, 1), the share of rows, from the end, to validate on.
            validation_data: `(x, y)` or `(x, y, sample_weight)` to validate on, or data in
                batches.
            steps_per_epoch: int, optimizer steps per epoch. Defaults to as many as uniform
                steps need for one pass over the data, the last, smaller batch included. A
                generator has one pass: training stops where it ends.
            on_sample: called as `on_sample(sampler, idxs, w, predicted_scores)` after each draw.
            on_scores: called as `on_scores(sampler, scores)` with the scores of each step's
                pool, or of its batch where no pool was scored.
            shuffle: bool, whether uniform draws go through the data in random order; with a
                `PyDataset`, through its batches.
            class_weight: dict of class to weight.
            sample_weight: weights `(n,)`, `(n, steps)` or one such array per output; they
                multiply the importance weights and are taken into the scores.
            initial_epoch: int, the epoch to start at.
            validation_steps: int, batches to validate on, of data in batches.
            validation_batch_size: int; `batch_size` by default.
            validation_freq: int or list of int, epochs after which to validate.
            steps_per_execution: int, steps to make in one call of the device, and to tell
                callbacks of together; it replaces that of `model.compile`. 1 makes them one by
                one. Defaults to None: as many as the model was compiled with, where that is more
                than 1, otherwise as many as suit the model, and only where nobody looks at single
                steps (docs/speed.md).
            device_data: "auto", True or False, whether the arrays are put on the device once and
                rows of them gathered there, instead of on the host for each call of the device.
                Results are the same. "auto", the default, does so on other devices than a CPU, for
                data in memory that takes at most a quarter of the device's free memory. True is
                refused for data in batches.
            **unknown: arguments that there are not.

        Returns:
            A `keras.callbacks.History`. Beside `loss` and the metrics, which are
            importance-weighted and so estimate the training set's values, it holds `score` (mean
            score of the training set), `variance_reduction` (of the draws made, on average over the
            steps: the root of the ratio of second moments, uniform over drawn; 1.0 for uniform
            ones) and `importance_sampling` (share of steps drawn by score).

        Raises:
            TypeError: for an argument that there is not; names the one most alike.
            MemoryError: for `device_data=True` with data that does not fit, before the first step.
            ValueError: for data or arguments that cannot work, before the first step; and for
                scores that are NaN or infinite, at the step at which they appear.
        """
        _arguments.refuse_unknown(self, self.fit, unknown)
        check_alone(self.original_model)
        if data.find_kind(x) is data.DatasetAdapter:
            raise TypeError("`fit` takes arrays; use `fit_dataset(dataset)` for a data set.")
        validation_split = _arguments.check_validation_split(validation_split)
        if class_weight is not None:
            check_class_weight(class_weight)
        batch_size = check_count("batch_size", BATCH_SIZE if batch_size is None else batch_size)
        self._shuffle = bool(shuffle)
        share_generator(current(), self._rng)
        adapter = self._adapt(x, y, sample_weight, batch_size=batch_size, class_weight=class_weight)
        if validation_data is None and validation_split:
            adapter, validation_data = adapter.split(validation_split)
        steps = check_optional_count("steps_per_epoch", steps_per_epoch)
        with alone(self.original_model), adapter.training(steps) as train:
            validation = self._validation(
                validation_data,
                validation_batch_size or train.batch_size,
                validation_steps,
                validation_freq,
            )
            return self._run(
                train.dataset,
                validation,
                steps_per_epoch=train.steps_per_epoch,
                batch_size=train.batch_size,
                epochs=epochs,
                initial_epoch=initial_epoch,
                verbose=verbose,
                callbacks=callbacks,
                on_sample=on_sample,
                on_scores=on_scores,
                steps_per_execution=steps_per_execution,
                device_data=device_data,
            )

    def _adapt(self, x: Any, *rest: Any, **options: Any) -> data.DataAdapter:
        return data.adapt(
            x,
            *rest,
            inputs=input_shapes(self.original_model),
            needs_targets=not self.model.knows_its_targets,
            rng=self._rng if self._shuffle else None,
            **options,
        )

    def _validation(
        self,
        validation_data: Any,
        batch_size: int,
        steps: int | None = None,
        freq: int | Container[int] = 1,
    ) -> Validation | None:
        if validation_data is None:
            return None
        inputs = input_shapes(self.original_model)
        return Validation(validation_data, batch_size, steps, freq, inputs, self.model)

    def fit_generator(
        self,
        train: Any,
        steps_per_epoch: int | None = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: Verbose = 1,
        callbacks: Callbacks = None,
        validation_data: Any = None,
        validation_steps: int | None = None,
        on_sample: OnSample | None = None,
        on_scores: OnScores | None = None,
        *,
        steps_per_execution: int | None = None,
        **unknown: Never,
    ) -> keras.callbacks.History:
        """Trains on a generator, which a background thread reads ahead.

        A step reads `batch_size` examples while draws are uniform and the whole pool while
        importance sampling is on, whatever the size of the generator's own batches.

        Args:
            train: yields `(x, y)` or `(x, y, sample_weight)`; or any other data in batches
                that `fit` takes.
            steps_per_epoch: int, optimizer steps per epoch. Defaults to as many as uniform steps
                need for one pass; a generator ends with its first.
            batch_size: int, examples per step. Defaults to `32`.
            epochs: int. Defaults to `1`.
            verbose: "auto", 0, 1 or 2, as in Keras. Defaults to `1`.
            callbacks: list of `keras.callbacks.Callback`.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or data in batches.
            validation_steps: int, batches to read from a validation generator.
            on_sample: see `fit`.
            on_scores: see `fit`.
            steps_per_execution: keyword-only; see `fit`.
            **unknown: arguments that there are not.

        Returns:
            A `keras.callbacks.History`; see `fit`.
        """
        _arguments.refuse_unknown(self, self.fit_generator, unknown)
        check_alone(self.original_model)
        self._shuffle = True
        batch_size = check_count("batch_size", batch_size)
        if not issubclass(data.find_kind(train), data.StreamAdapter):
            raise TypeError(
                f"`fit_generator` takes a generator of batches, got {type(train).__name__}; use "
                "`fit` for arrays and `fit_dataset` for a data set."
            )
        share_generator(current(), self._rng)
        adapter = self._adapt(train, batch_size=batch_size, rebatch=True)
        steps = check_optional_count("steps_per_epoch", steps_per_epoch)
        with alone(self.original_model), adapter.training(steps) as stream:
            return self._run(
                stream.dataset,
                self._validation(validation_data, batch_size, validation_steps),
                steps_per_epoch=stream.steps_per_epoch,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                on_sample=on_sample,
                on_scores=on_scores,
                steps_per_execution=steps_per_execution,
            )

    def fit_dataset(
        self,
        dataset: Dataset,
        steps_per_epoch: int | None = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: Verbose = 1,
        callbacks: Callbacks = None,
        on_sample: OnSample | None = None,
        on_scores: OnScores | None = None,
        *,
        steps_per_execution: int | None = None,
        **unknown: Never,
    ) -> keras.callbacks.History:
        """Trains on a data set's training data and validates on its test data.

        Args:
            dataset: a `BaseDataset`, or anything with `train_data` and `test_data` that have a
                length and give `(x, y)` for an array of indices.
            steps_per_epoch: int; by default as many as one pass over the training data has batches.
            batch_size: int, examples per step. Defaults to `32`.
            epochs: int. Defaults to `1`.
            verbose: "auto", 0, 1 or 2, as in Keras. Defaults to `1`.
            callbacks: list of `keras.callbacks.Callback`.
            on_sample: see `fit`.
            on_scores: see `fit`.
            steps_per_execution: keyword-only; see `fit`.
            **unknown: arguments that there are not.

        Returns:
            A `keras.callbacks.History`; see `fit`.
        """
        _arguments.refuse_unknown(self, self.fit_dataset, unknown)
        check_alone(self.original_model)
        if data.find_kind(dataset) is not data.DatasetAdapter:
            raise TypeError(
                "`fit_dataset` takes a BaseDataset, or anything with `train_data` and `test_data`, "
                f"got {type(dataset).__name__}; use `fit` for arrays and `fit_generator` for "
                "generators."
            )
        batch_size = check_count("batch_size", batch_size)
        self._shuffle = True
        share_generator(current(), self._rng)
        adapter = data.adapt(dataset, batch_size=batch_size)
        steps = check_optional_count("steps_per_epoch", steps_per_epoch)
        with alone(self.original_model), adapter.training(steps) as train:
            return self._run(
                train.dataset,
                Validation.of_dataset(dataset, batch_size, self.model),
                steps_per_epoch=train.steps_per_epoch,
                batch_size=batch_size,
                epochs=epochs,
                verbose=verbose,
                callbacks=callbacks,
                on_sample=on_sample,
                on_scores=on_scores,
                steps_per_execution=steps_per_execution,
            )
