"""Checks of arrays that belong together."""

from __future__ import annotations

import numpy as np

from .._arrays import Nested, flatten
from ..backend.array_types import is_distributed

# So many lengths are told one by one.
_LISTED = 8


def check_not_distributed(data: object, what: str) -> None:
    """Raises for what is split among replicas already.

    Args:
        data: what a user has handed over, or one value of it.
        what: str, where it comes from, for errors.

    Raises:
        TypeError: if it is a data set of `tf.distribute`, or values of one.
    """
    if is_distributed(data):
        raise TypeError(
            f"`{what}` is a {type(data).__name__} of tf.distribute, which is split among the "
            "replicas already. Importance sampling draws one batch for all of them and splits it "
            "itself: give it the arrays or the tf.data.Dataset that this was made of."
        )


def check_lengths(x: Nested, y: Nested, sample_weight: Nested, what: str = "") -> int:
    """Number of examples.

    Args:
        x: inputs.
        y: targets.
        sample_weight: weights.
        what: the argument they are a part of, for errors.

    Raises:
        ValueError: if arrays differ in length or are empty.
    """
    where = f" of `{what}`" if what else ""
    lengths: dict[str, list[int]] = {}
    for name, data in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        for array in flatten(data):
            if array.ndim == 0:
                raise ValueError(
                    f"`{name}`{where} must be an array with one row per example, got a scalar."
                )
            lengths.setdefault(name, []).append(len(array))
    if "x" not in lengths:
        raise ValueError(f"`x`{where} holds no arrays: there is nothing to train on.")
    if len({n for found in lengths.values() for n in found}) != 1:
        raise ValueError(
            f"All arrays{where} need the same number of rows, got "
            + ", ".join(f"{name}: {_few(found)}" for name, found in lengths.items())
            + "."
            + _rows_hint(lengths)
        )
    n = lengths["x"][0]
    if n == 0:
        raise ValueError(f"`x`{where} has no rows: there is nothing to train on.")
    return n


def _few(lengths: list[int]) -> str:
    """The lengths of the first arrays, and how many there are."""
    if len(lengths) <= _LISTED:
        return str(lengths)
    return f"[{', '.join(map(str, lengths[:_LISTED]))}, ...] ({len(lengths)} arrays)"


def _rows_hint(lengths: dict[str, list[int]]) -> str:
    """What to do where lists of rows were given, as many as there are labels."""
    listed = [name for name, found in lengths.items() if len(found) > _LISTED]
    if not listed:
        return ""
    return (
        " A list of arrays is several inputs or outputs; if these are rows, pass "
        + " and ".join(f"`np.stack({name})`" for name in listed)
        + "."
    )


def check_weights(sample_weight: Nested, what: str) -> None:
    """Raises if any sample weight is NaN or infinite.

    Args:
        sample_weight: weights with n rows, or nests of them; None passes.
        what: str, the argument they are, for errors.

    Raises:
        ValueError: if they are no numbers or not finite; names the first row.
    """
    for array in flatten(sample_weight):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"`{what}` must hold numbers, got the type {array.dtype}.")
        bad = ~np.isfinite(array)
        if bad.any():
            raise ValueError(
                f"`{what}` must be finite, but {int(bad.sum())} of its {array.size} values are NaN "
                f"or infinite, the first in row {int(np.argwhere(bad)[0][0])}."
            )
