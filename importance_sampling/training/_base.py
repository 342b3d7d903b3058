"""What all trainings share: they wrap a compiled model and are used as `X(model).fit(...)`."""

from __future__ import annotations

from typing import Any, NoReturn

import keras
import numpy as np

from .._arrays import take_rows
from ..datasets import BaseDataset
from ..datasets._generator import StreamDataset
from ..datasets._sources import Source, find_source
from ..model_wrappers import OracleWrapper
from ..reweighting import ReweightingPolicy
from ..samplers import (
    AdaptiveAdditiveSmoothingSampler,
    AdditiveSmoothingSampler,
    BaseSampler,
)
from ..samplers._base import dataset_length
from . import _arguments, _data, _streams
from ._arguments import BATCH_SIZE, check_count
from ._loop import Loop, OnSample, OnScores
from ._validation import Validation


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
        self._rng = np.random.default_rng(_arguments.check_optional_count("seed", seed, 0))
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
        batch_size: int | None = BATCH_SIZE,
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
        """Trains the model as `model.fit` does, with importance sampling.

        Args:
            x: inputs with n rows: numpy arrays (also memory maps, of which only the rows drawn
                are read), tensors of any backend, pandas objects, scipy sparse matrices, or
                nested lists and dicts of them. Or the whole of the data, in batches: a
                `tf.data.Dataset`, PyTorch `DataLoader`, `keras.utils.PyDataset`, Grain data set
                or a generator.
            y: targets with n rows, likewise. None with data in batches, or for a model whose
                own `compute_loss` needs no targets.
            batch_size: int, examples per step. Defaults to `32`; for data in batches, to the
                size of its own.
            epochs: int, when to stop, counted from 0. Defaults to `1`.
            verbose: "auto", 0, 1 or 2, as in Keras. Defaults to `1`.
            callbacks: list of `keras.callbacks.Callback`, or a `CallbackList`.
            validation_split: float in [0, 1), the share of rows, from the end, to validate on.
            validation_data: `(x, y)` or `(x, y, sample_weight)` to validate on, or data in
                batches.
            shuffle: bool, whether uniform draws go through the data in random order; with a
                `PyDataset`, through its batches.
            class_weight: dict of class to weight.
            sample_weight: weights `(n,)`, `(n, steps)` or one such array per output; they
                multiply the importance weights and are taken into the scores.
            initial_epoch: int, the epoch to start at.
            steps_per_epoch: int, optimizer steps per epoch. Defaults to as many as uniform
                steps need for one pass over the data.
            validation_steps: int, batches to validate on, of data in batches.
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

        Raises:
            ValueError: for data or arguments that cannot work, before the first step; and for
                scores that are NaN or infinite, at the step at which they appear.
        """
        if isinstance(x, BaseDataset):
            raise TypeError("`fit` takes arrays; use `fit_dataset(dataset)` for a data set.")
        validation_split = _arguments.check_validation_split(validation_split)
        if class_weight is not None:
            _data.check_class_weight(class_weight)
        self._shuffle = bool(shuffle)
        run = {
            "epochs": epochs,
            "initial_epoch": initial_epoch,
            "verbose": verbose,
            "callbacks": callbacks,
            "on_sample": on_sample,
            "on_scores": on_scores,
        }

        def validation(data: Any, size: int) -> Validation | None:
            return self._validation(
                data, validation_batch_size or size, validation_steps, validation_freq
            )

        source = self._find_source(x)
        if source is not None:
            _streams.refuse_beside_a_stream(
                source.name, y=y, sample_weight=sample_weight, validation_split=validation_split
            )
            return self._run_stream(
                source, validation_data, validation, batch_size, steps_per_epoch, class_weight, run
            )
        batch_size = check_count("batch_size", BATCH_SIZE if batch_size is None else batch_size)
        x, y, sample_weight = self._take_arrays(x, y, sample_weight, class_weight)
        if validation_data is None and validation_split:
            (x, y, sample_weight), validation_data = _data.split_validation(
                x, y, sample_weight, validation_split
            )
        return self._run(
            _data.ArrayDataset(x, y, sample_weight),
            validation(validation_data, batch_size),
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            **run,
        )

    def _take_arrays(self, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> Any:
        x, y = _data.to_arrays(x, "x"), _data.to_arrays(y, "y")
        sample_weight = _data.to_arrays(sample_weight, "sample_weight")
        if y is None and not self.model.knows_its_targets:
            raise ValueError(
                "`y` is None: importance sampling needs targets, because it scores each example "
                "by its loss."
            )
        _data.check_lengths(x, y, sample_weight)
        _data.check_weights(sample_weight, "sample_weight")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(
                    "Give either `class_weight` or `sample_weight`, not both: multiply them into "
                    "one `sample_weight`."
                )
            sample_weight = _data.class_weights(y, class_weight)
        return x, y, sample_weight

    def _find_source(self, data: Any) -> Source | None:
        rng = None
        if isinstance(data, keras.utils.PyDataset) and self._shuffle:
            # A generator of its own, because it is used in the reading thread.
            rng = np.random.default_rng(self._rng.integers(2**63))
        return find_source(data, _streams.input_ranks(self.original_model), rng)

    def _validation(
        self, data: Any, batch_size: int, steps: Any = None, freq: Any = 1
    ) -> Validation | None:
        if data is None:
            return None
        ranks = _streams.input_ranks(self.original_model)
        return Validation(data, batch_size, steps, freq, ranks)

    def _run_stream(
        self,
        source: Source,
        validation_data: Any,
        validation: Any,
        batch_size: int | None,
        steps_per_epoch: int | None,
        class_weight: Any,
        run: dict[str, Any],
    ) -> keras.callbacks.History:
        plan = _streams.plan_stream(source, batch_size, steps_per_epoch, class_weight)
        with plan.dataset as dataset:
            return self._run(
                dataset,
                validation(validation_data, plan.batch_size),
                steps_per_epoch=plan.steps_per_epoch,
                batch_size=plan.batch_size,
                **run,
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
            train: yields `(x, y)` or `(x, y, sample_weight)`; or any other data in batches
                that `fit` takes.
            steps_per_epoch: int, optimizer steps per epoch; required, unless `train` knows its
                own length.
            batch_size: int, examples per step. Defaults to `32`.
            epochs: int. Defaults to `1`.
            verbose: "auto", 0, 1 or 2, as in Keras. Defaults to `1`.
            callbacks: list of `keras.callbacks.Callback`.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or data in batches.
            validation_steps: int, batches to read from a validation generator.
            on_sample: see `fit`.
            on_scores: see `fit`.

        Returns:
            A `keras.callbacks.History`; see `fit`.
        """
        self._shuffle = True
        source = self._find_source(train)
        if source is None:
            raise TypeError(
                f"`fit_generator` takes a generator of batches, got {type(train).__name__}; use "
                "`fit` for arrays and `fit_dataset` for a data set."
            )
        return self._run_stream(
            source,
            validation_data,
            lambda data, size: self._validation(data, size, validation_steps),
            check_count("batch_size", batch_size),
            steps_per_epoch,
            None,
            {
                "epochs": epochs,
                "verbose": verbose,
                "callbacks": callbacks,
                "on_sample": on_sample,
                "on_scores": on_scores,
            },
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
        if steps_per_epoch is None and dataset_length(dataset) is None:
            raise ValueError("A stream needs `steps_per_epoch`: it has no length.")
        return self._run(
            dataset,
            Validation.of_dataset(dataset, batch_size),
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
        validation: Validation | None,
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
        epochs, initial_epoch = _arguments.check_epochs(epochs, initial_epoch)
        verbose = _arguments.check_verbose(verbose)
        callbacks = _arguments.check_callbacks(callbacks)
        _arguments.check_hook("on_sample", on_sample)
        _arguments.check_hook("on_scores", on_scores)
        steps_per_epoch = _arguments.check_optional_count("steps_per_epoch", steps_per_epoch)
        length = dataset_length(dataset)
        if length is not None:
            if length < batch_size:
                raise ValueError(
                    f"`batch_size`={batch_size} is larger than the training set of {length} "
                    "examples."
                )
            steps_per_epoch = steps_per_epoch or length // batch_size
        steps_per_epoch = _arguments.cap_steps(steps_per_epoch)
        self.model.build(*_first_rows(dataset, length))
        self._check_targets(dataset)
        if validation is not None:
            self.model.rehearse("validation_data", *validation.first_rows())
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

    def _check_targets(self, dataset: BaseDataset) -> None:
        """Checks all targets that are in memory now, and those of a stream when they are read."""
        if isinstance(dataset, _data.ArrayDataset) and dataset.targets is not None:
            self.model.check_targets(dataset.targets, "y")
        elif isinstance(dataset, StreamDataset):
            dataset.check = lambda rows: self.model.check_targets(rows[1], "y")

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise TypeError(self._no_copy("copied"))

    def __reduce__(self) -> NoReturn:
        raise TypeError(self._no_copy("pickled"))

    def _no_copy(self, done: str) -> str:
        name = type(self).__name__
        return (
            f"A {name} cannot be {done}: it holds the compiled functions of one model. Copy or "
            f"save the model (`training.original_model.save(...)`) and make a new {name} for it."
        )


def _first_rows(dataset: BaseDataset, length: int | None) -> tuple[Any, ...]:
    """A few rows, for shapes and types, without taking anything out of a stream."""
    if length is not None:
        return dataset.train_data[np.arange(min(2, length))]
    if isinstance(dataset, StreamDataset):
        return take_rows(dataset.peek(), slice(0, 2))
    return dataset.train_data[np.arange(2)]


def smoothed(sampler: BaseSampler, smooth: float, adaptive: bool) -> BaseSampler:
    """Adds additive smoothing where it was asked for."""
    if smooth == 0:
        return sampler
    if adaptive:
        return AdaptiveAdditiveSmoothingSampler(sampler, percentage=smooth)
    return AdditiveSmoothingSampler(sampler, c=smooth)
