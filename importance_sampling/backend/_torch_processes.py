"""The processes of `torch.distributed`: gloo on CPUs, nccl on GPUs."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .base import Tensor
from .processes import Processes

# As `DistributedDataParallel`: large enough to fill a connection, small enough to come in parts.
_BUCKET_BYTES = 25 * 2**20
# How long a process that has failed may take to be gone.
_SECONDS_TO_END = 1.0


_known_groups: weakref.WeakKeyDictionary[Any, TorchProcesses] = weakref.WeakKeyDictionary()


def current_group() -> TorchProcesses | None:
    """The processes of the default group; None if there is none, or it has one process.

    All must ask for the first time together: they tell each other who they are.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    group = dist.group.WORLD
    if group not in _known_groups:
        _known_groups[group] = TorchProcesses()
    return _known_groups[group]


class TorchProcesses(Processes):
    """The processes of PyTorch's default group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        # What concerns the host alone goes from host to host, past an accelerator that is busy.
        on_host = dist.get_backend() == "gloo"
        self._hosts = None if on_host else dist.new_group(backend="gloo")
        self._known: list[str] = []
        self._known = self.texts(f"{socket.gethostname()} {os.getpid()}", "the beginning of `fit`")

    def _meet(self, what: str, number: int = 0) -> None:
        """Makes sure that all exchange the same next, so that its size is the same everywhere.

        Args:
            what: what it is.
            number: int, of 32 bits.

        Raises:
            RuntimeError: if they do not. All do so at one time, so that they can tell each other.
        """
        self._begin_to_meet(what, number)()

    def _begin_to_meet(self, what: str, number: int) -> Callable[[], None]:
        """As `_meet`, which is what the function does that this returns.

        Not begun with the step: the two numbers wake threads, which then take the cores from those
        that compute.
        """
        number = zlib.crc32(what.encode(), number)
        # The largest, and the smallest with another sign.
        told = torch.tensor([number, -number], device="cpu")
        with self._told():
            work = dist.all_reduce(told, dist.ReduceOp.MAX, group=self._hosts, async_op=True)

        def meet() -> None:
            with self._told():
                work.wait()
            largest, smallest = told.tolist()
            if largest == -smallest:
                return
            places = [text.split(" ", 1) for text in self._all_texts(f"{number} {what}")]
            (first_number, first), *_ = places
            rank = next(rank for rank, (its, _) in enumerate(places) if its != first_number)
            raise self.apart(first, rank, places[rank][1])

        return meet

    def sum(
        self,
        tensors: Sequence[Tensor],
        scale: float = 1.0,
        plain: Sequence[Tensor] = (),
        *,
        what: str,
        number: int = 0,
    ) -> list[Tensor]:
        """Sums in buckets, all under way at one time; see `Processes.sum`.

        Args:
            tensors: of the same shapes and types in every process.
            scale: float, what this process' own are multiplied by.
            plain: more tensors, which are not multiplied.
            what: what they are.
            number: int, the same in every process.
        """
        every = [tensor.detach() for tensor in (*tensors, *plain)]
        meet: Callable[[], None] | None = None
        if not self.sure:
            meet = self._begin_to_meet(what, zlib.crc32(_layout(every), number))
        filled = []
        for places in _buckets(every):
            flat = torch.cat([_dense(every[i]).reshape(-1) for i in places])
            # Those that are not multiplied come last, in the list and so in a bucket.
            scaled = flat[: sum(every[i].numel() for i in places if i < len(tensors))]
            if scale == 0.0:
                # Not a product: what is left out may be infinite.
                scaled.zero_()
            elif scale != 1.0 and len(scaled):
                # A bucket of integers has none that are scaled, and refuses even that.
                scaled.mul_(scale)
            filled.append((places, flat))
        if meet is not None:
            meet()
        sums: list[Any] = [None] * len(every)
        with self._told():
            under_way = [(*each, dist.all_reduce(each[1], async_op=True)) for each in filled]
            for places, flat, work in under_way:
                work.wait()
                pieces = flat.split([every[i].numel() for i in places])
                for i, piece in zip(places, pieces, strict=True):
                    sums[i] = piece.view(every[i].shape)
        return sums

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites tensors with those of the first process; see `Processes.copy_first`.

        Args:
            tensors: changed in place.
        """
        every = [tensor.detach() for tensor in tensors]
        self._meet("the weights to begin with", zlib.crc32(_layout(every)))
        with self._told(), torch.no_grad():
            for places in _buckets(every):
                flat = torch.cat([every[i].reshape(-1) for i in places])
                dist.broadcast(flat, src=0)
                pieces = flat.split([every[i].numel() for i in places])
                for i, piece in zip(places, pieces, strict=True):
                    every[i].copy_(piece.view(every[i].shape))

    def assign(self, tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Overwrites tensors of this process; see `Processes.assign`.

        Args:
            tensors: changed in place.
            values: one for each.
        """
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)

    def pad(self, rows: Tensor, start: int, n: int) -> Tensor:
        """Rows among zeros; see `Processes.pad`.

        Args:
            rows: `(m, ...)`.
            start: int, where the first of them is to be.
            n: int, rows of the result.
        """
        padded = rows.new_zeros((n, *rows.shape[1:]))
        padded[start : start + len(rows)] = rows.detach()
        return padded

    def first(self, numbers: Sequence[float], what: str) -> list[float]:
        """The numbers that the first process has; see `Processes.first`.

        Args:
            numbers: as many in every process.
            what: what they are.
        """
        found = torch.tensor(list(numbers), dtype=torch.float64, device="cpu")
        self._meet(what, len(found))
        with self._told():
            dist.broadcast(found, src=0, group=self._hosts)
        return found.tolist()

    def texts(self, text: str, what: str) -> list[str]:
        """What every process says; see `Processes.texts`.

        Args:
            text: what this one says.
            what: what it is.
        """
        self._meet(what)
        return self._all_texts(text)

    def _all_texts(self, text: str) -> list[str]:
        said = torch.tensor(list(text.encode()), dtype=torch.uint8, device="cpu")
        lengths = torch.zeros(self.size, dtype=torch.int64, device="cpu")
        lengths[self.rank] = len(said)
        with self._told():
            dist.all_reduce(lengths, group=self._hosts)
            longest = max(int(lengths.max()), 1)
            table = torch.zeros((self.size, longest), dtype=torch.uint8, device="cpu")
            table[self.rank, : len(said)] = said
            dist.all_reduce(table, group=self._hosts)
        rows = zip(table.numpy(), lengths.tolist(), strict=True)
        return [row[:length].tobytes().decode() for row, length in rows]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Says in words that another process is gone, or does not answer."""
        try:
            yield
        except RuntimeError as error:
            lost = self._lost()
            which = f"process {', '.join(map(str, lost))}" if lost else "another process"
            more = "; one that waits is given up after the `timeout` of init_process_group"
            said = str(error).splitlines()[0].split(". ")[0]
            raise self.gone(which, more, said) from error

    def _lost(self) -> list[int]:
        """Processes of this machine that are gone; waits a moment for one that is about to."""
        host, until = socket.gethostname(), time.monotonic() + _SECONDS_TO_END
        here = {}
        for rank, text in enumerate(self._known):
            name, pid = text.rsplit(" ", 1)
            if name == host and rank != self.rank:
                here[rank] = int(pid)
        while True:
            lost = [rank for rank, pid in here.items() if not _runs(pid)]
            if lost or not here or time.monotonic() > until:
                return lost
            time.sleep(0.05)


def _layout(tensors: Sequence[Tensor]) -> bytes:
    """The shapes and types of tensors."""
    return repr([(t.dtype, tuple(t.shape)) for t in tensors]).encode()


def _dense(tensor: Tensor) -> Tensor:
    return tensor.to_dense() if tensor.is_sparse else tensor


def _runs(pid: int) -> bool:
    """Whether a process of this machine is there, and not one that only waits to be counted out."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return not Path("/proc/self").exists()
    return status.rsplit(")", 1)[1].split()[0] not in "ZX"


def _buckets(tensors: Sequence[Tensor]) -> list[list[int]]:
    """The places of tensors that go together: of one type and device, in order."""
    filled: list[list[int]] = []
    last: dict[Any, tuple[list[int], int]] = {}
    for i, tensor in enumerate(tensors):
        kind = tensor.dtype, tensor.device
        places, held = last.get(kind, ([], 0))
        size = tensor.numel() * tensor.element_size()
        if not places or held + size > _BUCKET_BYTES:
            places, held = [], 0
            filled.append(places)
        places.append(i)
        last[kind] = places, held + size
    return filled
