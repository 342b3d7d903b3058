"""Data sets of HuggingFace's `datasets`: columns of Arrow tables, read by index."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import Nested, flatten, map_arrays
from .._names import unknown
from ._convert import to_array
from .adapter import Options, Rows
from .indexed import IndexedAdapter, RowsByIndex

if TYPE_CHECKING:
    import datasets

# Rows of which lengths and missing values are looked at together.
_PIECE = 2**16
# Formats that are no arrays; rows are read as numpy's instead.
_NO_ARRAYS = (None, "python", "arrow", "pandas", "polars")


class HuggingFaceAdapter(IndexedAdapter):
    """Columns of a `datasets.Dataset`, which stays where it is: mapped from files, as a rule.

    Args:
        x: the data set, or columns of it (`data["image"]`), alone, in lists or dicts.
        y: the name of the column of targets, or that column; in lists and dicts for several
            outputs.
        sample_weight: likewise; None for no weights.
        options: what it is for.

    Raises:
        TypeError: if it is a whole of several splits, or something that has no columns.
        ValueError: if there is no such column, if rows lack values or differ in length, or if it
            is not clear which columns the inputs are.
    """

    def __init__(self, x: Nested, y: Nested, sample_weight: Nested, options: Options):
        data = _dataset_of(x)
        known = _columns_of(data)
        names = functools.partial(_names_of, data, known)
        targets, weights = names(y, "y"), names(sample_weight, "sample_weight")
        if targets is None and options.needs_targets:
            call = "fit(dataset, y='label')"
            if options.role == "validation":
                call = "fit(..., validation_data=(dataset, 'label'))"
            raise ValueError(
                f"`y` of the {options.role} data is None: name the column of the targets, as in "
                f"{call}. The columns are {known}."
            )
        used = flatten((targets, weights))
        inputs = _inputs(known, used, options) if x is data else names(x, "x")
        columns = (inputs, targets) if weights is None else (inputs, targets, weights)
        used = list(dict.fromkeys(flatten(columns)))
        given = data.format
        if given["type"] in _NO_ARRAYS:
            read_from = data.with_format("numpy", columns=used)
        elif given["type"] == "custom":
            # A transform may need columns that are not used afterwards.
            read_from = data
        else:
            read_from = data.with_format(given["type"], columns=used, **given["format_kwargs"])
        if given["type"] != "custom":
            _check_rows(data, used, weights)

        def read(idxs: np.ndarray) -> Rows:
            batch = read_from[idxs]
            return map_arrays(lambda name: to_array(batch[name], f"the column {name!r}"), columns)

        rows = RowsByIndex(read, range(len(data)), origin=(data, columns))
        super().__init__(f"Dataset of {options.role} data", rows, options)

    @classmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` is a data set of `datasets`, or columns of one."""
        library = sys.modules.get("datasets")
        # There may be other modules of that name.
        if library is None or not hasattr(library, "DatasetDict"):
            return False
        names = ("Dataset", "IterableDataset", "DatasetDict", "IterableDatasetDict")
        kinds = tuple(getattr(library, name) for name in names)
        return isinstance(data, kinds) or any(map(_is_column, flatten(data)))


def _is_column(value: object) -> bool:
    column: Any = getattr(sys.modules.get("datasets"), "Column", None)
    return column is not None and isinstance(value, column)


def _dataset_of(x: Nested) -> datasets.Dataset:
    """The data set that is `x`, or that all columns in `x` are of."""
    library: Any = sys.modules["datasets"]
    if isinstance(x, library.DatasetDict | library.IterableDatasetDict):
        raise TypeError(
            f"`x` is a {type(x).__name__} of the splits {list(x)}: give one of them, as in "
            f"fit(dataset[{next(iter(x), 'train')!r}], y='label')."
        )
    if isinstance(x, library.IterableDataset):
        raise TypeError(
            "`x` is an IterableDataset, a stream of dicts. Give `fit` a class whose `__iter__` "
            "yields (batch['image'], batch['label']) for the batches of "
            "dataset.with_format('numpy').iter(32); or a Dataset, of which examples can be drawn."
        )
    if isinstance(x, library.Dataset):
        return x
    first = next(leaf for leaf in flatten(x) if _is_column(leaf))
    if not isinstance(first.source, library.Dataset):
        raise TypeError(
            "`x` is a part of a column that holds dicts. Make columns of its parts first, with "
            "dataset.flatten()."
        )
    return first.source


def _columns_of(data: datasets.Dataset) -> list[str]:
    """The names of what a row holds: the columns, or what a transform makes of them."""
    if data.format["type"] == "custom" and len(data) > 0:
        return list(data[:1])
    return list(data.column_names)


def _names_of(data: datasets.Dataset, known: list[str], given: Nested, argument: str) -> Nested:
    """The names of columns, each checked, in the structure of what was given."""

    def name_of(value: Any) -> str:
        if isinstance(value, str):
            if value not in known:
                raise unknown("column", value, known)
            return value
        if not _is_column(value):
            raise TypeError(
                f"`{argument}` must be a column of the Dataset or its name, got "
                f"{type(value).__name__}. Columns are added by dataset.add_column(name, values)."
            )
        if value.source is not data:
            raise ValueError(
                f"`{argument}` is the column {value.column_name!r} of another Dataset object: take "
                "all columns from one."
            )
        return value.column_name

    return map_arrays(name_of, given)


def _inputs(known: list[str], used: list[str], options: Options) -> Nested:
    """The columns that are inputs: those named as the model's, or the only one that is left."""
    rest = [name for name in known if name not in used]
    named = [name for name in options.inputs or () if name in rest]
    if named and len(named) == len(options.inputs or ()):
        return named[0] if len(named) == 1 else {name: name for name in named}
    if len(rest) == 1:
        return rest[0]
    raise ValueError(
        f"Which of the columns {rest} are the inputs? Give them, as in fit(dataset['image'], "
        "dataset['label']); or name the model's inputs as the columns are named."
        if rest
        else f"No column is left for the inputs: the columns are {known}."
    )


def _check_rows(data: datasets.Dataset, used: list[str], weights: Nested) -> None:
    """Raises if rows of a column lack values or differ in length, or if weights are not finite.

    Only lengths are read, piece by piece.
    """
    arrow = data.with_format("arrow", columns=used)
    checks = {name: _lengths_checker(name) for name in used}
    finite = set(flatten(weights))
    for start in range(0, len(data), _PIECE):
        table = arrow[start : start + _PIECE]
        for name, check in checks.items():
            check(table[name], start)
            if name in finite:
                _check_finite(table[name], name, start)


def _check_finite(column: Any, name: str, start: int) -> None:
    import pyarrow as pa

    kinds = pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean
    if not any(is_kind(column.type) for is_kind in kinds):
        raise ValueError(
            f"The weights in the column {name!r} must be numbers, one for each row, got "
            f"{column.type}."
        )
    bad = ~np.isfinite(column.to_numpy().astype(np.float64))
    if bad.any():
        raise ValueError(
            f"The weights in the column {name!r} must be finite; that of row "
            f"{start + int(bad.argmax())} is not."
        )


def _lengths_checker(name: str) -> Callable[[Any, int], None]:
    """Makes what checks the pieces of a column, one after the other."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    # The first length of each nesting of lists.
    known: list[int] = []

    def check(column: Any, start: int) -> None:
        _check_values(column, name, start)
        depth = 0
        if isinstance(column.type, pa.ExtensionType):
            # Arrays of two axes and more are kept as lists of lists.
            stored = [chunk.storage for chunk in column.chunks]
            column = pa.chunked_array(stored, type=column.type.storage_type)
        while any(is_kind(column.type) for is_kind in lists):
            lengths = pc.list_value_length(column)
            if not len(lengths):
                return
            if len(known) == depth:
                known.append(lengths[0].as_py())
            differ = pc.not_equal(lengths, known[depth])
            if pc.any(differ).as_py():
                place = pc.index(differ, True).as_py()
                at = "one of its lists" if depth else f"row {start + place}"
                raise ValueError(
                    f"The column {name!r} has rows of different lengths: {known[depth]}, and "
                    f"{lengths[place].as_py()} in {at}. Pad them to one length first, with "
                    "dataset.map."
                )
            column, depth = pc.list_flatten(column), depth + 1
            _check_values(column, name)

    return check


def _check_values(column: Any, name: str, start: int | None = None) -> None:
    if column.null_count:
        import pyarrow.compute as pc

        place = pc.index(column.is_null(), True).as_py()
        row = "" if start is None else f", row {start + place} first"
        raise ValueError(f"The column {name!r} lacks values{row}: fill or filter them out.")
