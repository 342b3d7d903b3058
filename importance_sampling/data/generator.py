"""Generators, and whatever else gives batches when it is gone through."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import numpy as np

from .adapter import Options
from .stream_adapter import StreamAdapter, first


class GeneratorAdapter(StreamAdapter):
    """A generator or another iterator of batches, which can be gone through once.

    Nobody can tell whether it ends, so that an epoch without a number of steps goes on until it
    does.

    Args:
        data: the generator.
        options: what it is for.
    """

    repeats = False

    def __init__(self, data: Iterator[Any], options: Options):
        super().__init__("generator", options)
        self._rest = data

    @classmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` is a generator or another iterator."""
        return isinstance(data, Iterator)

    def open(self) -> Iterable[Any]:
        """What is left of it."""
        return self._rest

    def _peek(self) -> Any:
        batch = first(self._rest, self.name)
        self._rest = itertools.chain([batch], self._rest)
        return batch


class IterableAdapter(StreamAdapter):
    """Anything of the user's own that gives batches each time it is gone through.

    Args:
        data: has `__iter__`, and `__len__` where the number of batches is known.
        options: what it is for.
    """

    def __init__(self, data: Iterable[Any], options: Options):
        super().__init__(type(data).__name__, options)
        self._data = data
        self.batches_per_pass = len(data) if isinstance(data, Sized) else None

    @classmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` can be gone through and is no array, list, tuple, dict or string."""
        arrays = dict | list | tuple | str | bytes | np.ndarray
        return (
            hasattr(data, "__iter__")
            and not isinstance(data, arrays)
            and not hasattr(data, "shape")
        )

    def open(self) -> Iterable[Any]:
        """Begins to go through it anew."""
        return iter(self._data)
