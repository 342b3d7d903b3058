"""Whether the training set stays on the device, or rows of it are read on the host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np

from .._arrays import flatten
from ..data.arrays import ArrayDataset, ArraysOnDevice
from ..model_wrappers import OracleWrapper
from ..model_wrappers._device_data import bytes_on_device
from ..protocols import Dataset

OnDevice: TypeAlias = bool | Literal["auto"]
"""Whether the training set is to stay on the device."""

# The share of the free memory that "auto" takes, and how much where nobody says what is free.
_SHARE = 0.25
_UNKNOWN = 2**30
# Rows are found by 32-bit indices there.
_MOST_ROWS = 2**31


def check_device_data(value: object) -> OnDevice:
    """True, False or "auto", or an error that says what was given."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value == "auto":
        return "auto"
    raise ValueError(f'`device_data` must be "auto", True or False, got {value!r}.')


@contextlib.contextmanager
def on_device(wrapper: OracleWrapper, dataset: Dataset, wanted: OnDevice) -> Iterator[Dataset]:
    """Puts a training set on the device, where that is asked for or pays, for as long as it trains.

    Args:
        wrapper: the wrapped model, built.
        dataset: the training set.
        wanted: as `fit` was given it.

    Yields:
        The data set to draw from.

    Raises:
        ValueError: if it is asked for and cannot be.
        MemoryError: if it is asked for and does not fit.
    """
    reason = _why_not(wrapper, dataset)
    if wanted is True and reason is not None:
        raise ValueError(f"`device_data=True` {reason}")
    if wanted is False or reason is not None or not isinstance(dataset, ArrayDataset):
        yield dataset
        return
    placed = ArraysOnDevice(dataset)
    runtime = wrapper.compiled.runtime
    needed, free = bytes_on_device(placed.parts), runtime.free_memory()
    if wanted == "auto":
        fits = needed <= (_UNKNOWN if free is None else _SHARE * free)
        if runtime.on_cpu or not fits:
            yield dataset
            return
    elif free is not None and needed > free:
        raise MemoryError(
            f"`device_data=True` needs {needed:,} bytes for the training set, and {free:,} are "
            'free on the device. Leave `device_data` at "auto", by which rows are read on the '
            "host where they do not fit."
        )
    try:
        wrapper.place_data(placed.parts)
        yield placed
    finally:
        wrapper.free_data()


def _why_not(wrapper: OracleWrapper, dataset: Dataset) -> str | None:
    """Why a training set cannot stay on the device, after "`device_data=True`"; None if it can."""
    if not isinstance(dataset, ArrayDataset):
        return (
            f"needs arrays: data in batches, streams and data sets that are asked for rows stay "
            f'where they are, got {type(dataset).__name__}. Leave it at "auto".'
        )
    arrays = flatten(dataset.arrays)
    others = [a for a in arrays if type(a) is not np.ndarray or a.dtype.kind not in "fiub"]
    if others:
        kinds = sorted({f"{type(a).__name__} of {a.dtype}" for a in others})
        return f'needs arrays of numbers in memory, got {kinds}. Leave it at "auto".'
    if len(arrays[0]) >= _MOST_ROWS:
        return f"is for fewer than 2**31 rows, got {len(arrays[0]):,}."
    if not getattr(wrapper, "gathers_rows", False):
        return (
            "needs steps that take their rows from one device: not several devices or processes "
            "that share a batch, SVRG, or a wrapper with a `train` or `train_batch` of its own. "
            'Leave it at "auto".'
        )
    return None
