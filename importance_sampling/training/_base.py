"""What all trainings share: they wrap a compiled model and are used as `X(model).fit(...)`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np

from .._arrays import TRIED_ROWS, dataset_length, take_rows
from .._files import Allocate, AnyPath
from ..backend.processes import current
from ..data import RowsByIndex, StreamDataset
from ..data import arrays as _data
from ..data.when_needed import RowsWhenNeeded, whole_of
from ..model_wrappers import OracleWrapper, Score, ScoreDtype
from ..protocols import Dataset
from ..reweighting import ReweightingPolicy
from ..samplers import (
    AdaptiveAdditiveSmoothingSampler,
    AdditiveSmoothingSampler,
    BaseSampler,
)
from ..state_files import load_state
from . import _arguments
from ._arguments import Callbacks, KnownSettings, Verbose
from ._device_data import OnDevice, check_device_data, on_device
from ._fit import FitMethods
from ._model_methods import ModelMethods
from ._report import TrainingReport
from ._saved_state import SavedState, check_belongs
from ._stepper import OnSample, OnScores
from ._steps_per_call import StepsPerCall, steps_for
from ._together import check_same, check_supported, settings_of, shared_callbacks
from ._validation import Validation
from .backup import FollowBackup, RestoreOnce, Restorer
from .loop import Loop


class BaseTraining(FitMethods, ModelMethods, KnownSettings):
    """Base of the trainings.

    Subclasses implement `make_sampler` and hand a reweighting policy to this constructor.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        reweighting: the policy that turns scores into weights.
        score: the score to draw by; see `OracleWrapper`.
        layer: the layer that `"gnorm"` refers to.
        seed: int or None; all randomness of the training comes from one generator made of it.
        score_dtype: the type that forward passes for scores compute in; see `OracleWrapper`.
    """

    _allocate: Allocate = np.empty
    """Makes the arrays of a state that is read from a file."""

    def __init__(
        self,
        model: keras.Model,
        reweighting: ReweightingPolicy,
        score: Score = "gnorm",
        layer: int | keras.Layer | None = None,
        seed: int | None = None,
        score_dtype: ScoreDtype | None = None,
    ):
        self._reweighting = reweighting
        self.original_model = model
        self.model = self._wrap(model, score, layer, score_dtype)
        self.history: keras.callbacks.History | None = None
        self._rng = np.random.default_rng(_arguments.check_optional_count("seed", seed, 0))
        self._shuffle = True
        self._report: TrainingReport | None = None
        self._last: tuple[BaseSampler, int] | None = None
        self._saved: SavedState | None = None
        self._loaded: tuple[Any, AnyPath] | None = None

    def _wrap(
        self,
        model: keras.Model,
        score: Score,
        layer: int | keras.Layer | None,
        score_dtype: ScoreDtype | None,
    ) -> OracleWrapper:
        """The wrapper that makes the steps."""
        return OracleWrapper(
            model, self.reweighting, score=score, layer=layer, score_dtype=score_dtype
        )

    @property
    def reweighting(self) -> ReweightingPolicy:
        """The policy that turns scores into weights."""
        return self._reweighting

    @property
    def metrics_names(self) -> list[str]:
        """`["loss", *metrics, "score"]`, the compiled metrics by the names of their logs."""
        # A wrapper of the user's own may have none.
        return getattr(self.model, "metrics_names", ["loss", "score"])

    def report(self) -> TrainingReport:
        """What the last call of `fit` did and gained: `print(training.report())`.

        Returns:
            A `TrainingReport`: steps drawn by score and uniformly, why they were uniform, time
            spent scoring, variance reduction, effective sample size, the examples drawn most and
            least. Notebooks show it as a table, `training.report().figure()` as a picture.

        Raises:
            RuntimeError: if nothing has been trained yet.
        """
        if self._report is None:
            raise RuntimeError("There is nothing to report yet: call `fit` first.")
        return self._report

    @property
    def steps_per_call(self) -> int:
        """How many steps of the last `fit` went to the device in one call, where draws allowed it.

        1 before any `fit`; docs/speed.md says on what it depends.
        """
        return 1 if self._saved is None else self._saved.loop.calls.most

    @property
    def sampler_options(self) -> dict[str, Any]:
        """What every sampler is made with: the generator of the seed, and whether to shuffle."""
        return {"rng": self._rng, "shuffle": self._shuffle}

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes the sampler that draws the batches of one call of `fit`.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement make_sampler(...)")

    def sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """The name of `make_sampler` in 0.10, by which it is called: either may be overridden.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int or None.
            epochs: int.
        """
        made: BaseSampler | None = self.make_sampler(dataset, batch_size, steps_per_epoch, epochs)
        if made is None:
            raise TypeError(f"{type(self).__name__}.make_sampler() returned None, not a sampler.")
        return made

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
        device_data = check_device_data(device_data)
        epochs, initial_epoch = _arguments.check_epochs(epochs, initial_epoch)
        verbose = _arguments.check_verbose(verbose)
        callbacks = _arguments.check_callbacks(callbacks)
        _arguments.check_hook("on_sample", on_sample)
        _arguments.check_hook("on_scores", on_scores)
        steps_per_epoch = _arguments.check_optional_count("steps_per_epoch", steps_per_epoch)
        together = _arguments.check_optional_count("steps_per_execution", steps_per_execution)
        length = dataset_length(dataset)
        if length is not None:
            batch_size = min(batch_size, length)
            steps_per_epoch = steps_per_epoch or -(-length // batch_size)
        steps_per_epoch = _arguments.cap_steps(steps_per_epoch)
        processes = current()
        first_rows = _first_rows(dataset, length)
        self.model.build(*first_rows)
        if processes is not None:
            check_supported(processes, self.model)
        self._check_targets(dataset)
        if validation is not None:
            self.model.dry_run("validation_data", *validation.first_rows())
        if processes is not None and length is not None and getattr(dataset, "reads_ahead", False):
            # Each process reads its own part of a batch, and nothing ahead: it cannot know which.
            dataset = RowsWhenNeeded(dataset)
        with on_device(self.model, dataset, device_data) as dataset:
            sampler = self.sampler(dataset, batch_size, steps_per_epoch, epochs)
            self._restore_history(sampler, batch_size)
            suits = steps_for(self.model, sampler, first_rows, batch_size, steps_per_epoch, epochs)
            calls = StepsPerCall(self.original_model, together, suits)
            loop = Loop(
                self.model,
                sampler,
                self.original_model,
                batch_size,
                on_sample,
                on_scores,
                processes=processes,
                calls=calls,
            )
            self._report = loop.report
            kind, score = type(self).__name__, self.model.score_name
            saved = self._saved = SavedState(loop, kind, score, steps_per_epoch, first_rows)
            if processes is not None:
                given = {
                    "epochs": epochs,
                    "initial_epoch": initial_epoch,
                    "callbacks": shared_callbacks(callbacks),
                    "load_state": None if self._loaded is None else self._loaded[0]["loop"]["step"],
                    "on_scores": on_scores is not None,
                    "validation_data": validation is not None,
                }
                told = {**saved.belongs_to(), **given, **settings_of(sampler)}
                check_same(processes, told, first_rows)
            own_callbacks = self._own_callbacks(callbacks, saved)
            with (
                contextlib.closing(sampler),
                saved.noting_interruption(),
                loop.report.ending_with(sampler),
            ):
                self.history = loop.run(
                    epochs=epochs,
                    steps_per_epoch=steps_per_epoch,
                    callbacks=callbacks,
                    verbose=verbose,
                    validation=validation,
                    initial_epoch=initial_epoch,
                    own_callbacks=own_callbacks,
                )
        return self.history

    def _own_callbacks(self, callbacks: Callbacks, saved: SavedState) -> list[Restorer]:
        """What saves and restores the whole state, where callbacks or `load_state` ask for it."""
        found: list[Restorer] = []
        if self._loaded is not None:
            found.append(RestoreOnce(*self._loaded, done=self._forget_loaded))
        for callback in getattr(callbacks, "callbacks", callbacks) or ():
            if isinstance(callback, Restorer):
                callback.bind(saved)
                callback.before_training()
            elif isinstance(callback, keras.callbacks.BackupAndRestore) and FollowBackup.can_follow(
                callback
            ):
                found.append(FollowBackup(callback))
        for restorer in found:
            restorer.bind(saved)
            restorer.before_training()
        return found

    def _forget_loaded(self) -> None:
        self._loaded = None

    def save_state(self, path: AnyPath) -> None:
        """Saves everything by which a later `fit` can go on exactly where this one is.

        Weights, optimizer, metrics, what importance sampling has learnt and drawn, the place in
        the epoch and in the data, and random numbers. Call it when `fit` has ended, or between
        two steps: in a callback's `on_train_batch_end`, `on_epoch_begin` or `on_epoch_end`.

        Args:
            path: the file, a `.npz`; it is written whole or not at all.

        Raises:
            RuntimeError: if `fit` was not called yet, or if a step is under way.
            OSError: if the file cannot be written.
        """
        if self._saved is None:
            raise RuntimeError("There is no state to save yet: call `fit` first.")
        # A callback's model is up to date; on JAX its variables are elsewhere while it trains.
        getattr(self.original_model, "jax_state_sync", lambda: None)()
        path = Path(path)
        if path.is_dir():
            raise IsADirectoryError(f"`path` must be a file, but {path} is a folder.")
        self._saved.save(path)

    def load_state(self, path: AnyPath) -> None:
        """Lets the next call of `fit` go on from where `save_state` was called.

        Call `fit` with the same data and arguments; `epochs` may be larger. The model is as it was
        until then.

        Args:
            path: the file.

        Raises:
            OSError: if it is missing or damaged.
            ValueError: if it is of something else; also at the beginning of `fit`, if it is of
                another model, other data or other arguments.
        """
        state = load_state(Path(path), self._allocate)
        check_belongs(state, {"training": type(self).__name__}, path)
        self._loaded = state, path

    def _restore_history(self, sampler: BaseSampler, batch_size: int) -> None:
        """Goes on with what was learnt of the same examples by an earlier call of `fit`."""
        last, self._last = self._last, None
        if not sampler.keeps_history:
            return
        if (
            last is not None
            and type(last[0]) is type(sampler)
            and last[1] == batch_size
            and _data.same_data(whole_of(last[0].dataset), whole_of(sampler.dataset))
        ):
            sampler.restore_history(last[0])
        self._last = sampler, batch_size

    def _check_targets(self, dataset: Dataset) -> None:
        """Checks all targets that are in memory now, and others when they are read."""
        if isinstance(dataset, _data.ArrayDataset) and dataset.targets is not None:
            self.model.check_targets(dataset.targets, "y")
        elif isinstance(dataset, RowsByIndex):
            dataset.check = lambda rows: self.model.check_targets(rows[1], "y")
        elif isinstance(dataset, StreamDataset):
            dataset.check = lambda rows: self.model.check_targets(rows[1], "y")
            dataset.check_padding = self.model.check_padding

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


def _first_rows(dataset: Dataset, length: int | None) -> tuple[Any, ...]:
    """A few rows, for shapes and types, without taking anything out of a stream."""
    if length is not None:
        return dataset.train_data[np.arange(min(TRIED_ROWS, length))]
    if isinstance(dataset, StreamDataset):
        return take_rows(dataset.peek(), slice(0, TRIED_ROWS))
    return dataset.train_data[np.arange(TRIED_ROWS)]


def with_smoothing(sampler: BaseSampler, smooth: float, adaptive: bool) -> BaseSampler:
    """The sampler with additive smoothing around it, where that was asked for.

    Args:
        sampler: the sampler to decorate.
        smooth: float, what is added to every score; 0 for nothing.
        adaptive: bool, whether that is a share of the mean score.
    """
    if smooth == 0:
        return sampler
    if adaptive:
        return AdaptiveAdditiveSmoothingSampler(sampler, percentage=smooth)
    return AdditiveSmoothingSampler(sampler, c=smooth)
