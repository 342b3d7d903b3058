"""Callbacks that save a training's state and go on from it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras

from .._files import AnyPath
from ..state_files import load_state
from ._arguments import check_count

if TYPE_CHECKING:
    from ._saved_state import SavedState

_NAME = "importance_sampling.npz"
# What Keras' `BackupAndRestore` writes.
_WEIGHTS = "latest.weights.h5"
_METADATA = "training_metadata.json"
_ASIDE = ".aside"


class Restorer(keras.callbacks.Callback):
    """A callback that knows the training whose `fit` it is used in."""

    # On JAX, where variables are brought up to date when `self.model` is read.
    reaches_model_by_property = True

    def __init__(self) -> None:
        super().__init__()
        self._saved: SavedState | None = None

    def bind(self, saved: SavedState) -> None:
        """Says whose state to save; called by `fit` before the first step.

        Args:
            saved: takes the state and puts it back.
        """
        self._saved = saved

    @property
    def saved(self) -> SavedState:
        """Whose state is saved."""
        if self._saved is None:
            raise RuntimeError(
                f"A {type(self).__name__} saves the state of importance sampling: use it in `fit` "
                "of a training, as `ImportanceTraining(model).fit(..., callbacks=[...])`. For "
                "`model.fit` there is `keras.callbacks.BackupAndRestore`."
            )
        return self._saved

    def before_training(self) -> None:
        """Called before any callback hears that training begins."""

    def _read(self, path: Path) -> Any:
        """The state in a file, checked; None if there is no file.

        Of several processes the first one says whether there is one.
        """
        processes = self.saved.loop.processes
        if not self._as_first(path.exists()):
            return None
        if processes is not None and not path.exists():
            raise FileNotFoundError(
                f"Process 0 goes on from {path}, which process {processes.rank} cannot see: the "
                "folder must be one that all processes share."
            )
        state = load_state(path, self.saved.loop.sampler.allocate)
        self.saved.check(state, path)
        return state

    @property
    def _writes(self) -> bool:
        """Whether this process writes, which of several the first one does."""
        processes = self.saved.loop.processes
        return processes is None or processes.rank == 0

    def _as_first(self, decision: bool) -> bool:
        """What the first process has decided by what it sees of the disk."""
        processes = self.saved.loop.processes
        if processes is None:
            return decision
        return bool(processes.first([decision], "whether a state is to be loaded")[0])

    def _save(self, path: Path) -> None:
        # Reading it brings the variables up to date.
        if self.model is not None and self.saved.loop.between_steps:
            self.saved.save(path)


class BackupState(Restorer):
    """Saves the whole state of a training, from which the next `fit` goes on.

    As `keras.callbacks.BackupAndRestore`, but exact: what an interrupted training does after it
    was started again is what it would have done, batch by batch and bit by bit. Beside weights
    and optimizer the file holds everything that importance sampling has learnt and drawn, the
    place in the data and in the epoch, metrics and random numbers. Use it beside callbacks that
    save models in their own way, as `ModelCheckpoint`; with `BackupAndRestore` it is not needed,
    for `fit` then keeps the state beside that one's files.

    It also saves what `EarlyStopping` and `ReduceLROnPlateau` have counted, as it is when it is
    called itself: put it last in the list.

    Args:
        path: the file, a `.npz`; it is written whole or not at all.
        save_freq: `"epoch"`, or int, the number of steps after which to save. Defaults to
            `"epoch"`.
        delete_checkpoint: bool, whether to delete the file when training has ended. Defaults to
            `True`.

    Raises:
        ValueError: if `save_freq` is anything else; at the beginning of `fit`, if the file is
            that of another training.

    Example:

    ```python
    backup = BackupState("training.npz", save_freq=100)
    ImportanceTraining(model).fit(x, y, epochs=10, callbacks=[backup])
    ```
    """

    def __init__(
        self,
        path: AnyPath,
        save_freq: int | Literal["epoch"] = "epoch",
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        self.path = Path(path)
        if self.path.is_dir():
            raise ValueError(f"`path` must be a file, but {self.path} is a folder.")
        self._state: Any = None
        self.save_freq = save_freq if save_freq == "epoch" else check_count("save_freq", save_freq)
        self.delete_checkpoint = delete_checkpoint
        self._saved_at = 0

    def before_training(self) -> None:
        """Reads the file, if there is one, before anything is changed."""
        self._state = self._read(self.path)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Goes on from the file; if there is none, writes the first one.

        Args:
            logs: not looked at.
        """
        if self._state is not None:
            self.saved.apply(self._state, self.path)
            self._state = None
        else:
            # An interruption before anything else is saved goes on from here.
            self._save(self.path)
        self._saved_at = self.saved.loop.step

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves the state, if it is time.

        Args:
            batch: int.
            logs: not looked at.
        """
        step = self.saved.loop.step
        if self.save_freq != "epoch" and step - self._saved_at >= self.save_freq:
            self._save(self.path)
            self._saved_at = step

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves the state, where that is done once per epoch.

        Args:
            epoch: int.
            logs: not looked at.
        """
        if self.save_freq == "epoch":
            self._save(self.path)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Deletes the file, unless it is to be kept.

        Args:
            logs: not looked at.
        """
        if self.delete_checkpoint and self._writes:
            self.path.unlink(missing_ok=True)


class FollowBackup(Restorer):
    """Keeps the state beside the files of Keras' `BackupAndRestore`, whenever that one saves.

    The file is complete in itself, so that it does not matter which of both was written when the
    process was killed. It is written before the first step, too.

    Args:
        backup: the callback to follow, which is called before this one.
    """

    def __init__(self, backup: keras.callbacks.BackupAndRestore):
        super().__init__()
        self._folder = Path(backup.backup_dir)
        self._each_batch = backup.save_freq != "epoch"
        self.path = self._folder / _NAME
        self._stamp: tuple[int, ...] | None = None
        self._state: Any = None

    @staticmethod
    def can_follow(backup: keras.callbacks.BackupAndRestore) -> bool:
        """Whether the callback writes to this machine; warns if it does not.

        Args:
            backup: the callback.
        """
        remote = "://" in os.fspath(backup.backup_dir)
        if remote:
            warnings.warn(
                f"The state of importance sampling is not saved in {backup.backup_dir}, which is "
                "no folder of this machine: training goes on from weights and epoch alone. Add "
                "`BackupState` with a path on this machine to go on exactly.",
                stacklevel=2,
            )
        return not remote

    def before_training(self) -> None:
        """Reads the file, if there is one, before anything is changed.

        What Keras has written is put aside then, until training has begun: it may have been torn by
        an interruption, in ways that only reading it whole shows.
        """
        self._state = self._read(self.path)
        if self._state is not None and self._writes:
            for name in (_WEIGHTS, _METADATA):
                with contextlib.suppress(FileNotFoundError):
                    (self._folder / name).replace(self._folder / (name + _ASIDE))

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Goes on from the file; if there is none, writes the first one.

        Args:
            logs: not looked at.
        """
        if self._state is not None:
            self.saved.apply(self._state, self.path)
            self._state = None
        elif self._as_first(self._current_stamp() is not None):
            warnings.warn(
                f"{self._folder} holds weights but no state of importance sampling: training goes "
                "on from the epoch, but draws its batches anew.",
                stacklevel=2,
            )
        else:
            # An interruption before anything else is saved goes on from here.
            self._save(self.path)
        for name in (_WEIGHTS, _METADATA) if self._writes else ():
            with contextlib.suppress(FileNotFoundError):
                (self._folder / (name + _ASIDE)).replace(self._folder / name)
        self._stamp = self._current_stamp()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves the state if the callback has just saved the model.

        Args:
            batch: int.
            logs: not looked at.
        """
        if self._each_batch:
            self._follow()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves the state if the callback has just saved the model.

        Args:
            epoch: int.
            logs: not looked at.
        """
        self._follow()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Leaves nothing behind where the callback has deleted its files.

        Args:
            logs: not looked at.
        """
        if self._writes and self._current_stamp() is None:
            self.path.unlink(missing_ok=True)

    def _follow(self) -> None:
        stamp = self._current_stamp()
        if self._as_first(stamp != self._stamp):
            self._stamp = stamp
            self._save(self.path)

    def _current_stamp(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._folder / _WEIGHTS)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


class RestoreOnce(Restorer):
    """Goes on from a state that was loaded before `fit` was called.

    Args:
        state: what was loaded.
        where: what to call it in errors.
        done: called once the state was put back.
    """

    def __init__(self, state: Any, where: AnyPath, done: Callable[[], None]):
        super().__init__()
        self._state, self._where, self._done = state, where, done

    def before_training(self) -> None:
        """Checks the state before anything is changed."""
        self.saved.check(self._state, self._where)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Puts the state back.

        Args:
            logs: not looked at.
        """
        self.saved.apply(self._state, self._where)
        self._done()
