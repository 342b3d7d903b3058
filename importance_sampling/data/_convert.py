"""From whatever holds numbers to numpy arrays, and from what a stream yields to a batch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import Nested

if TYPE_CHECKING:
    from scipy import sparse

from .._arrays import flatten, like_dict, map_arrays, native
from ..backend import array_types
from ._checks import check_not_distributed


def is_pandas(leaf: object) -> bool:
    """Whether `leaf` is a pandas DataFrame or Series."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(leaf, pandas.DataFrame | pandas.Series)


def is_scipy_sparse(leaf: object) -> bool:
    """Whether `leaf` is a scipy sparse matrix or array."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and sparse.issparse(leaf)


def to_array(leaf: Any, where: str) -> np.ndarray:
    """One array of whatever kind as a dense numpy array; numpy arrays are not copied.

    Args:
        leaf: a numpy array, a tensor, a pandas object, a scipy sparse matrix or numbers.
        where: where it comes from, for errors.

    Raises:
        TypeError: if it is split among replicas.
        ValueError: if it holds what no network can read.
    """
    if isinstance(leaf, np.ndarray):
        return check_type(leaf, where)
    check_not_distributed(leaf, where)
    if is_scipy_sparse(leaf):
        array = leaf.toarray()
    elif is_pandas(leaf):
        array = leaf.to_numpy()
    elif array_types.is_tensor(leaf):
        array = array_types.tensor_to_numpy(leaf)
    else:
        array = np.asarray(leaf)
    return check_type(array, where)


def check_type(array: np.ndarray, where: str) -> np.ndarray:
    """The array, with strings and small floating point types in the form numpy knows best.

    Args:
        array: of any shape and type.
        where: str, where it comes from, for errors.

    Returns:
        The array, or a copy of a type that a network can read.

    Raises:
        ValueError: if there is no such type.
    """
    kind = array.dtype.kind
    if kind in "biufcUS":
        return array
    if array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return array.astype(np.float32)
    if kind in "OT" and array.size:
        kinds = {type(value) for value in array.flat}
        if kinds <= {str}:
            return array.astype(np.str_)
        if kinds <= {bytes}:
            return array.astype(np.bytes_)
        names = ", ".join(sorted(k.__name__ for k in kinds))
        if array.ndim == 0 and callable(array[()]):
            raise ValueError(
                f"`{where}` is a {names}, which nobody has called. If it makes a generator, pass "
                "what it returns."
            )
        raise ValueError(
            f"`{where}` is an array of Python objects ({names}), which no network can read. If "
            "its rows differ in length or size, pad them to one; otherwise convert it to a "
            "numeric type."
        )
    raise ValueError(
        f"`{where}` has the type {array.dtype}, which no network can read. Convert it to floating "
        "point numbers or integers."
    )


def is_number(value: object) -> bool:
    """Whether `value` is one Python or numpy number, string or boolean."""
    return isinstance(value, bool | int | float | complex | str | bytes | np.generic)


def numbers_to_array(data: Nested, where: str) -> Nested:
    """Turns lists that hold only numbers, however nested, into arrays; leaves others alone.

    Args:
        data: lists, tuples and dicts of numbers or arrays.
        where: str, where they come from, for errors.

    Returns:
        The same with an array in the place of each list of numbers.

    Raises:
        ValueError: if the lists are of different lengths.
    """
    if isinstance(data, dict):
        return like_dict(data, ((key, numbers_to_array(v, where)) for key, v in data.items()))
    if not isinstance(data, list | tuple) or hasattr(data, "_fields"):
        return data
    if data and _only_numbers(data):
        try:
            return check_type(np.asarray(data), where)
        except ValueError as error:
            raise ValueError(
                f"`{where}` is a list of rows of different lengths, or of mixed kinds. Pad the "
                "rows to one length, or pass a numpy array."
            ) from error
    return type(data)(numbers_to_array(value, where) for value in data)


def _only_numbers(data: Any) -> bool:
    if isinstance(data, list | tuple):
        return bool(data) and all(_only_numbers(value) for value in data)
    return is_number(data)


class SparseRows:
    """A scipy sparse matrix of which only the rows that are read are made dense.

    Args:
        matrix: any scipy sparse matrix; kept in CSR form.
    """

    def __init__(self, matrix: sparse.spmatrix | sparse.sparray):
        self._matrix = matrix.tocsr()
        self.shape: tuple[int, ...] = self._matrix.shape
        self.dtype: np.dtype = self._matrix.dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> SparseRows:
        return SparseRows(self._matrix[rows])

    def dense(self) -> np.ndarray:
        """The rows as an array."""
        return self._matrix.toarray()


def densify(leaf: Any) -> Any:
    """Rows of a sparse matrix as an array; anything else as it is."""
    return leaf.dense() if isinstance(leaf, SparseRows) else leaf


def check_batch(item: Nested, name: str, needs_targets: bool = True) -> tuple[Any, ...]:
    """A batch as a tuple of two or three numpy arrays (or nests of them) of equal length.

    Args:
        item: `(x, y)` or `(x, y, sample_weight)`; also `x` or `(x,)`, which gives `(x, None)`.
        name: what to call its source in errors.
        needs_targets: whether there must be targets.

    Raises:
        ValueError: if it is not of that form.
    """
    item = tuple(item) if isinstance(item, tuple | list) else (item,)
    if len(item) not in (1, 2, 3):
        raise ValueError(
            f"The {name} must yield (x, y) or (x, y, sample_weight), got a tuple of length "
            f"{len(item)}."
        )
    batch = map_arrays(
        lambda leaf: native(to_array(leaf, f"a batch of the {name}")), (*item, None)[:3]
    )
    batch = batch if len(item) == 3 else batch[:2]
    if not flatten(batch[0]):
        raise ValueError(f"The {name} must yield inputs and targets, got a batch without inputs.")
    if needs_targets and not flatten(batch[1]):
        raise ValueError(
            f"The {name} must yield (x, y) or (x, y, sample_weight), got inputs without targets: "
            "importance sampling scores each example by its loss. Yield the targets too (an "
            "autoencoder's are its inputs: (x, x)), or give the model a `compute_loss` of its own "
            "that needs none."
        )
    if any(array.ndim == 0 for array in flatten(batch)):
        raise ValueError(
            f"The {name} yielded scalars; it must yield batches, arrays with one row per example."
        )
    lengths = {len(a) for a in flatten(batch)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"The {name} yielded arrays with {sorted(lengths)} rows; all arrays of a batch need "
            "the same number of rows, at least one."
        )
    return batch
