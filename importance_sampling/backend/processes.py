"""Several processes that make each step of a training together, every one with a part of the rows.

Every process draws the same batch, by the same generator. `Share` says which of its rows are whose,
and puts together what each has found out of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

Tensor: TypeAlias = Any


class Processes:
    """The processes that train together, as one of them sees them.

    A backend derives its own. All methods must be called by every process, in the same order.

    Attributes:
        rank: int, which of the processes this is, from 0 on. What is written, the first one writes.
        size: int, how many there are.
        sure: bool, whether they are known to be at the same place whenever they exchange something:
            same draws, by nobody's own code, from data with a length. Before a sum it is not asked
            then, which takes some time.
    """

    rank: int
    size: int
    sure: bool = False

    def sum(
        self,
        tensors: Sequence[Tensor],
        scale: float = 1.0,
        plain: Sequence[Tensor] = (),
        *,
        what: str,
        number: int = 0,
    ) -> list[Tensor]:
        """Sums of what the processes hold, added up in the same order everywhere.

        Args:
            tensors: of the same shapes and types in every process.
            scale: float, what this process' own are multiplied by; 0 leaves them out, whatever they
                are.
            plain: more tensors, which are not multiplied.
            what: what they are, for the error in which all end if they are not at the same place.
            number: int, of 32 bits, which must be the same in every process, too.

        Returns:
            The sums of `tensors`, then those of `plain`.

        Raises:
            RuntimeError: if processes are at different places, or one of them is gone. So do all
                methods that exchange something.
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

    def first(self, numbers: Sequence[float], what: str) -> list[float]:
        """The numbers that the first process has.

        Args:
            numbers: as many in every process.
            what: what they are; see `sum`.
        """
        raise NotImplementedError

    def texts(self, text: str, what: str) -> list[str]:
        """What every process says, in the order of their ranks.

        Args:
            text: what this one says.
            what: what it is; see `sum`.
        """
        raise NotImplementedError

    def apart(self, first: str, rank: int | None = None, its: str | None = None) -> RuntimeError:
        """The error in which all processes end because they have come to different places.

        Args:
            first: where the first process is.
            rank: int, one that is somewhere else; None if nobody knows which.
            its: where that one is; None for the same, with other rows.
        """
        there = "likewise, with others" if its in (None, first) else f"at {its}"
        which = "another one" if rank is None else f"process {rank}"
        return RuntimeError(
            "The processes have drawn different batches, or have come to different places, so that "
            f"their parts do not make a step: process 0 (of {self.size}) is at {first}, "
            f"{which} {there}. Draws come from one generator, which is the same in every process: "
            "a sampler of your own must draw from `self.rng` alone, and data in batches must come "
            "in the same order, and end at the same place, everywhere (give what shuffles it a "
            "seed, and every process the whole of the data). No weight was changed by this step."
        )

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

    def padded(self, rows: Tensor) -> Tensor:
        """What this process knows of its rows, with zeros for all others.

        Args:
            rows: `(count, ...)`; one that only stands in for none is left out.
        """
        return self.processes.pad(rows[: self.count], self._start, self.n)

    def gather(self, parts: Sequence[Tensor], what: str = "what is known") -> list[Tensor]:
        """What all processes together know of the rows of the batch.

        Args:
            parts: tensors `(count, ...)` of this process' rows.
            what: what they are; see `Processes.sum`.

        Returns:
            Tensors `(n, ...)` in the order of the batch, the same to the last digit everywhere.
        """
        padded = [self.padded(part) for part in parts]
        return self.processes.sum(padded, what=f"{what} of {self.n} rows")

    def mean(self, rows: Tensor) -> Tensor:
        """The mean over all rows of the batch.

        Args:
            rows: `(count, ...)` of this process' rows.
        """
        mean = ops.mean(rows, axis=0)
        (found,) = self.processes.sum([mean], self.weight, what=f"a mean over {self.n} rows")
        return found


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
