"""Rows in a sampler's state: of a stream they are kept, of other data read again."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays import dataset_length
from ..protocols import Dataset

_TUPLE = "tuple"


def saved_rows(dataset: Dataset, rows: tuple[Any, ...]) -> Any:
    """Rows as a state holds them: None where the data set gives them again.

    Args:
        dataset: the data set that they are of.
        rows: arrays, or nests of them.
    """
    return None if dataset_length(dataset) is not None else _packed(rows)


def restored_rows(dataset: Dataset, idxs: np.ndarray, saved: Any) -> tuple[Any, ...]:
    """The rows that `saved_rows` was given.

    Args:
        dataset: the data set.
        idxs: the indices of the rows.
        saved: what `saved_rows` returned.
    """
    return dataset.train_data[idxs] if saved is None else _unpacked(saved)


def _packed(rows: Any) -> Any:
    if isinstance(rows, tuple):
        return {_TUPLE: [_packed(part) for part in rows]}
    if isinstance(rows, list):
        return [_packed(part) for part in rows]
    if isinstance(rows, dict):
        return {f"{name}": _packed(part) for name, part in rows.items()}
    return None if rows is None else np.array(rows)


def _unpacked(saved: Any) -> Any:
    if isinstance(saved, list):
        return [_unpacked(part) for part in saved]
    if isinstance(saved, dict):
        if set(saved) == {_TUPLE}:
            return tuple(_unpacked(part) for part in saved[_TUPLE])
        return {name: _unpacked(part) for name, part in saved.items()}
    return saved
