"""Processes of JAX that train together, as `keras.distribution.initialize` has joined them.

Steps and scoring passes are shared by the compiled program itself, over arrays that span all
processes (`_jax_layout`). What is here is for what the host decides: who draws, who writes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

from .processes import Processes, Tensor

# What JAX says of processes that are gone, among other errors of a computation.
_LOST = ("Gloo ", "heartbeat timeout", "coordination service")


class JaxProcesses(Processes):
    """All processes of `jax.distributed`; each has the whole of what compiled functions return."""

    rank: int
    size: int

    def __init__(self) -> None:
        self.rank, self.size = jax.process_index(), jax.process_count()

    def sum(
        self,
        tensors: Sequence[Tensor],
        scale: float = 1.0,
        plain: Sequence[Tensor] = (),
        *,
        what: str,
        number: int = 0,
    ) -> list[Tensor]:
        """See `Processes.sum`; processes at different places are not told apart."""
        scaled = [scale * np.asarray(t) if scale else np.zeros_like(t) for t in tensors]
        found = multihost_utils.process_allgather([*scaled, *map(np.asarray, plain)])
        return [np.sum(each, axis=0) for each in found]

    def first(self, numbers: Sequence[float], what: str) -> list[float]:
        """See `Processes.first`; as text, which keeps all digits."""
        text = json.dumps([float(n) for n in numbers])
        found: list[float] = json.loads(self.texts(text, what)[0])
        return found

    def texts(self, text: str, what: str) -> list[str]:
        """See `Processes.texts`."""
        mine = np.frombuffer(text.encode(), np.uint8)
        lengths = np.asarray(multihost_utils.process_allgather(np.array([len(mine)], np.int32)))
        room = np.zeros(int(lengths.max()), np.uint8)
        room[: len(mine)] = mine
        found = np.asarray(multihost_utils.process_allgather(room))
        pairs = zip(found.reshape(self.size, -1), lengths.reshape(-1), strict=True)
        return [row[:length].tobytes().decode() for row, length in pairs]

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """See `processes.told`: any computation may end in such an error."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            said = str(error)
            if not any(word in said for word in _LOST):
                raise
            more = "; JAX itself ends one that goes on alone, after a minute and a half"
            raise self.gone("another process", more, said.splitlines()[0]) from error


def current_group() -> JaxProcesses | None:
    """The processes that train together; None without several, or without a distribution."""
    if jax.process_count() == 1 or keras.distribution.distribution() is None:
        return None
    return JaxProcesses()
