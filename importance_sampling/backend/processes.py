"""Several processes that make each step of a training together, every one with a part of the rows.

Every process draws the same batch, by the same generator. `Share` says which of its rows are whose,
and puts together what each has found out of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

Tensor: TypeAlias = Any

# A number is summed in pieces so small that the sums of their squares are exact in float32.
_BITS, _PIECES = 6, 6


def in_pieces(number: int) -> list[float]:
    """A number in the form in which `check_same_batch` finds out whether all have the same.

    Args:
        number: int, of 36 bits at most.
    """
    pieces = [float(number >> (_BITS * i) & (2**_BITS - 1)) for i in range(_PIECES)]
    return [*pieces, *(piece * piece for piece in pieces)]


def check_same_batch(summed: Sequence[float], size: int) -> None:
    """Raises in all processes if a number that each has of its batch is not the same everywhere.

    Args:
        summed: what `in_pieces` returned, summed over the processes.
        size: int, how many processes there are.

    Raises:
        RuntimeError: says what may be the reason.
    """
    # Equal everywhere, or the mean of the squares is above the square of the mean.
    pairs = zip(summed[:_PIECES], summed[_PIECES:], strict=True)
    if any(p * p != size * square for p, square in pairs):
        raise RuntimeError(
            "The processes have drawn different batches, so that their parts do not make one. "
            "Draws come from one generator, which is the same in every process: a sampler of "
            "your own must draw from `self.rng` alone, and data in batches must come in the "
            "same order everywhere (give what shuffles it a seed). No weight was changed by "
            "this step."
        )


class Processes:
    """The processes that train together, as one of them sees them.

    A backend derives its own. All methods must be called by every process, in the same order.

    Attributes:
        rank: int, which of the processes this is, from 0 on. What is written, the first one writes.
        size: int, how many there are.
        room: int, rows of the largest batch that they have put together. What depends on the number
            of rows is exchanged in so much room, which is the same everywhere also where processes
            have drawn batches of different sizes, so that they can be told.
    """

    rank: int
    size: int
    room: int = 0

    @property
    def asynchronous(self) -> bool:
        """Whether what is summed is not known yet when `sum` returns."""
        return False

    def sum(
        self, tensors: Sequence[Tensor], scale: float = 1.0, plain: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """Sums of what the processes hold, added up in the same order everywhere.

        Args:
            tensors: of the same shapes and types in every process.
            scale: float, what this process' own are multiplied by; 0 leaves them out, whatever they
                are.
            plain: more tensors, which are not multiplied.

        Returns:
            The sums of `tensors`, then those of `plain`.
        """
        raise NotImplementedError

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites tensors with those of the first process.

        Args:
            tensors: of the same shapes and types in every process; changed in place.
        """
        raise NotImplementedError

    def assign(self, tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Overwrites tensors of this process.

        Args:
            tensors: changed in place.
            values: one for each.
        """
        raise NotImplementedError

    def pad(self, rows: Tensor, start: int, n: int) -> Tensor:
        """Rows among zeros; concerns this process alone.

        Args:
            rows: `(m, ...)`.
            start: int, where the first of them is to be.
            n: int, rows of the result.
        """
        raise NotImplementedError

    def first(self, numbers: Sequence[float]) -> list[float]:
        """The numbers that the first process has.

        Args:
            numbers: as many in every process.
        """
        raise NotImplementedError

    def texts(self, text: str) -> list[str]:
        """What every process says, in the order of their ranks.

        Args:
            text: what this one says.
        """
        raise NotImplementedError

    def gone(self, which: str, more: str, said: str) -> RuntimeError:
        """The error in which a process ends because another one is gone.

        Args:
            which: the other process, as far as it is known.
            more: what else to know.
            said: the backend's words.
        """
        name = {"jax": "JAX", "torch": "PyTorch"}[keras.backend.backend()]
        return RuntimeError(
            f"Process {self.rank} of {self.size} (counted from 0) ends, because {which} has "
            "ended or does not answer, and no step can be made without it. The reason stands "
            "where that one's error was printed; if it was killed, memory may have run out. "
            "Start all processes again: with BackupState or BackupAndRestore among the "
            "callbacks training goes on where it was saved. All processes must call `fit`, "
            f"with the same arguments{more}. {name} said: {said}"
        )

    def share(self, n: int) -> Share:
        """This process' part of a batch.

        Args:
            n: int, rows of the whole batch.
        """
        return Share(self, n)


class Share:
    """The rows of a batch of one process: in one piece, as many as the others' or one more.

    Where there are fewer rows than processes, some have none. Such a process computes the first row
    of the batch, because every process must take part in every step, and counts for nothing.

    Args:
        processes: those that share the batch.
        n: int, rows of the whole batch.

    Attributes:
        n: int, rows of the whole batch.
        count: int, how many of them are this process' own.
        rows: slice, which to compute.
        weight: float, the share of the batch that they are: `count / n`.
        finish: updates the metrics of a step that has its gradient and has not changed the weights
            yet, and returns what it tells of its samples. None where a step cannot do so before it
            is over.
    """

    finish: Callable[[], Any] | None = None

    def __init__(self, processes: Processes, n: int):
        self.processes = processes
        self.n = n
        each, left = divmod(n, processes.size)
        self.count = each + (processes.rank < left)
        self._start = processes.rank * each + min(processes.rank, left)
        self.rows = slice(self._start, self._start + self.count) if self.count else slice(0, 1)
        self.weight = self.count / n

    @property
    def rows_per_own(self) -> float:
        """Rows of the batch for each own one: what a sum over the own ones is multiplied by."""
        return self.n / max(self.count, 1)

    @property
    def fits(self) -> bool:
        """Whether there is room for what is known of its rows; see `Processes.room`."""
        return self.n <= self.processes.room

    def padded(self, rows: Tensor, size: int | None = None) -> Tensor:
        """What this process knows of its rows, with zeros for all others.

        Args:
            rows: `(count, ...)`; one that only stands in for none is left out.
            size: int, rows of the result. Defaults to those of the batch.
        """
        return self.processes.pad(rows[: self.count], self._start, self.n if size is None else size)

    def in_room(self, rows: Tensor) -> Tensor:
        """As `padded`, in the room that there is; zeros where that is too small.

        Args:
            rows: `(count, ...)`.
        """
        if self.fits:
            return self.padded(rows, self.processes.room)
        return self.processes.pad(rows[:0], 0, self.processes.room)

    def gather(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """What all processes together know of the rows of the batch.

        Args:
            parts: tensors `(count, ...)` of this process' rows.

        Returns:
            Tensors `(n, ...)` in the order of the batch, the same to the last digit everywhere.

        Raises:
            RuntimeError: if the processes have batches of different sizes.
        """
        processes, fits = self.processes, self.fits
        told = ops.convert_to_tensor(np.array(in_pieces(self.n), np.float32))
        check, *found = processes.sum([told, *(self.in_room(part) for part in parts)])
        if not fits or not processes.asynchronous:
            # An accelerator would be waited for; there the check of the gradient tells as well.
            check_same_batch(ops.convert_to_numpy(check).tolist(), processes.size)
        if fits:
            return [part[: self.n] for part in found]
        processes.room = self.n
        return processes.sum([self.padded(part) for part in parts])

    def mean(self, rows: Tensor) -> Tensor:
        """The mean over all rows of the batch.

        Args:
            rows: `(count, ...)` of this process' rows.
        """
        return self.processes.sum([ops.mean(rows, axis=0)], self.weight)[0]


def told() -> contextlib.AbstractContextManager[None]:
    """Says in words that another process is gone, where what the backend says does not."""
    if keras.backend.backend() == "jax":
        from . import _jax_processes

        group = _jax_processes.current_group()
        if group is not None:
            return group.told()
    # On PyTorch each exchange does.
    return contextlib.nullcontext()


def current() -> Processes | None:
    """The processes that train together; None where this one is alone.

    On PyTorch they are those of `torch.distributed`, if the program has initialised it; on JAX
    those of `keras.distribution.initialize`, if a distribution is set.
    """
    if keras.backend.backend() == "torch":
        from . import _torch_processes

        return _torch_processes.current_group()
    if keras.backend.backend() == "jax":
        from . import _jax_processes

        return _jax_processes.current_group()
    return None
