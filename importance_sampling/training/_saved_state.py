"""The whole state of a training between two steps, and what it belongs to."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .. import __version__
from .._arrays import dataset_length, flatten
from .._files import make_directory
from ..data.arrays import ArrayDataset
from ..data.when_needed import whole_of
from ..model_wrappers.model_state import load_model_state, model_state
from ..samplers import BaseSampler
from ..state_files import save_state
from ._arguments import short
from ._callbacks import count_on, counted
from .loop import Loop

# Raised when what is saved changes its meaning.
_FORMAT = 2
# Rows whose values tell data in memory apart.
_HASHED_ROWS = 32
_WHAT = {
    "format": "the format",
    "backend": "the backend",
    "training": "the training",
    "sampler": "the sampler",
    "score": "the score",
    "batch_size": "batch_size",
    "steps_per_epoch": "steps_per_epoch",
    "optimizer": "the optimizer",
    "variables": "the model's variables",
    "length": "the number of training examples",
    "elements": "the shapes and types of an example",
    "rows": "the values of some training examples, as a hash",
}


class SavedState:
    """Takes the state of one call of `fit`, and puts it back.

    Args:
        loop: the loop.
        training: str, the name of the training's class.
        score: str, the score that is drawn by.
        steps_per_epoch: int or None.
        first_rows: a few rows of the data.
    """

    def __init__(
        self,
        loop: Loop,
        training: str,
        score: str,
        steps_per_epoch: int | None,
        first_rows: tuple[Any, ...],
    ):
        self.loop = loop
        self._was_interrupted = False
        self._known = {
            "format": _FORMAT,
            "backend": keras.backend.backend(),
            "training": training,
            "sampler": _names(loop.sampler),
            "score": score,
            "length": dataset_length(loop.sampler.dataset),
            "elements": [_element(array, loop.sampler) for array in flatten(first_rows)],
            "rows": _hash_of_rows(loop.sampler),
            "batch_size": loop.batch_size,
            "steps_per_epoch": steps_per_epoch,
        }

    @contextlib.contextmanager
    def noting_interruption(self) -> Iterator[None]:
        """Notes whether the loop is left by an error."""
        try:
            yield
        except BaseException:
            self._was_interrupted = True
            raise

    def belongs_to(self) -> dict[str, Any]:
        """What must be the same for the state to be of any use."""
        model = self.loop.model
        variables = [[v.name, *map(int, v.shape)] for v in model.variables]
        return {
            **self._known,
            "optimizer": type(model.optimizer).__name__,
            "variables": variables,
        }

    def take(self) -> dict[str, Any]:
        """The state, as numbers and arrays.

        Raises:
            RuntimeError: if a step is under way.
        """
        loop = self.loop
        if not loop.between_steps:
            raise RuntimeError(
                "The state of a training can be saved between its steps, not within one: in a "
                "callback's `on_train_batch_end`, `on_epoch_begin` or `on_epoch_end`, or after "
                "`fit` has ended. Of a `fit` that was interrupted within a step, the state that "
                "was saved last is the one to go on from."
            )
        if self._was_interrupted and getattr(loop.model.optimizer, "use_ema", False):
            raise RuntimeError(
                "When `fit` was interrupted the optimizer put averages in the place of the weights "
                "(`use_ema`), from which training cannot go on exactly. Save the state while it "
                "runs: with `BackupState` or `keras.callbacks.BackupAndRestore`."
            )
        return {
            "belongs_to": self.belongs_to(),
            "versions": {"importance_sampling": __version__, "keras": keras.__version__},
            **self._parts(),
        }

    def _parts(self) -> dict[str, Any]:
        loop = self.loop
        stream = _stream(loop)
        return {
            "loop": loop.state_dict(),
            "sampler": loop.sampler.state_dict(),
            "wrapper": loop.wrapper.state_dict(),
            "model": model_state(loop.model),
            "stream": None if stream is None else stream.state_dict(),
            "callbacks": [counted(callback) for callback in loop.counting_callbacks()],
        }

    def save(self, path: Path) -> None:
        """Writes the state to a file, whole or not at all.

        Of several processes that train together the first one writes; all must call this, for they
        may have to wait for each other.

        Args:
            path: the file, whose folder is made.
        """
        state, processes = self.take(), self.loop.processes
        if processes is None or processes.rank == 0:
            make_directory(path.parent)
            save_state(path, state)

    def check(self, state: Any, where: str | os.PathLike[str]) -> None:
        """Raises a ValueError if a state is of another training.

        Args:
            state: what `take` returned.
            where: what to call it in errors.
        """
        check_belongs(state, self.belongs_to(), where)

    def apply(self, state: Any, where: str | os.PathLike[str]) -> None:
        """Goes back to where `take` was called.

        Args:
            state: what `take` returned.
            where: what to call it in errors.

        Raises:
            ValueError: if it is of another training; nothing is changed then.
        """
        self.check(state, where)
        before = self._parts()
        try:
            self._put(state)
        except Exception as error:
            self._put({**before, "stream": None})
            said = error if isinstance(error, ValueError) else repr(error)
            raise ValueError(f"{where} holds no state of this training. {said}") from error

    def _put(self, parts: dict[str, Any]) -> None:
        loop = self.loop
        load_model_state(loop.model, parts["model"])
        loop.wrapper.load_state_dict(parts["wrapper"])
        loop.sampler.load_state_dict(parts["sampler"])
        loop.load_state_dict(parts["loop"])
        for callback, numbers in zip(loop.counting_callbacks(), parts["callbacks"], strict=False):
            count_on(callback, numbers)
        stream = _stream(loop)
        if stream is not None and parts["stream"] is not None:
            stream.load_state_dict(parts["stream"])


def check_belongs(state: Any, present: dict[str, Any], where: str | os.PathLike[str]) -> None:
    """Raises a ValueError that says in what a state is of another training.

    Args:
        state: what `SavedState.take` returned, or something else.
        present: what this training is.
        where: what to call the state in errors.
    """
    before = state.get("belongs_to") if isinstance(state, dict) else None
    if not isinstance(before, dict):
        raise ValueError(f"{where} holds no state of a training.")
    for name, value in present.items():
        if before.get(name) != value:
            raise ValueError(
                f"{where} is the state of another training. What differs is {_WHAT[name]}: "
                f"{short(before.get(name))} there, {short(value)} here. A training goes "
                "on with the same model, data and arguments; leave the file out to begin anew."
            )


def _stream(loop: Loop) -> Any:
    """The data set, if it has a place to go back to, as streams have; None otherwise."""
    dataset: Any = loop.sampler.dataset
    return dataset if hasattr(dataset, "load_state_dict") else None


def _names(sampler: BaseSampler) -> list[str]:
    """The classes of a sampler and of those that it decorates."""
    found: list[str] = []
    part: Any = sampler
    while isinstance(part, BaseSampler):
        found.append(type(part).__name__)
        part = vars(part).get("sampler")
    return found


def _element(array: np.ndarray, sampler: BaseSampler) -> list[Any]:
    # Batches of a stream may differ in length, and begin with another one each time.
    known = dataset_length(sampler.dataset) is not None
    return [array.dtype.name, *(array.shape[1:] if known else [array.ndim])]


def _hash_of_rows(sampler: BaseSampler) -> str | None:
    """A hash of some rows in memory; others may be read in an order of their own."""
    dataset = whole_of(sampler.dataset)
    if not isinstance(dataset, ArrayDataset):
        return None
    n = len(dataset.train_data)
    idxs = np.unique(np.linspace(0, n - 1, min(n, _HASHED_ROWS)).astype(np.int64))
    found = hashlib.sha256()
    for array in flatten(dataset.train_data[idxs]):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
