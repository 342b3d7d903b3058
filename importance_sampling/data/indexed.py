"""Examples that are asked for by their index, a batch at a time, and never all at once."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .._arrays import TRIED_ROWS, flatten, join_arrays
from ..backend import array_types
from ._convert import check_batch
from .adapter import DataAdapter, Options, Rows, TrainingData
from .class_weight import weigher
from .dataset import BaseDataset, output_size

# Examples whose targets are read together where all targets have to be seen.
_PIECE = 2**12
# A Grain data set that repeats for ever says that it has this many elements, or more.
_INFINITE = sys.maxsize // 2


class RowsByIndex(BaseDataset):
    """Training data that is read by index; what was held out of it is the test data.

    Args:
        read: gives the rows at `(n,)` indices of the source.
        train: the part of the source to train on.
        test: the part of it to validate on. Defaults to none.
        origin: what it is read from: the object, and what else says how it is read.
    """

    reads_ahead = True

    def __init__(
        self,
        read: Callable[[np.ndarray], Rows],
        train: range,
        test: range = range(0),
        origin: tuple[Any, ...] = (),
    ):
        self._read = read
        self._parts = train, test
        self._origin = origin
        self.check: Callable[[Rows], Any] | None = None
        """Called with all training rows that are read, before they are used."""

    def split(self, cut: int) -> tuple[RowsByIndex, RowsByIndex]:
        """What comes before a row, and the same with the rest as its test data.

        Args:
            cut: int, how many rows to train on.
        """
        train, _ = self._parts
        return (
            RowsByIndex(self._read, train[:cut], origin=self._origin),
            RowsByIndex(self._read, train[:cut], train[cut:]),
        )

    def changed(self, change: Callable[[Rows], Rows]) -> RowsByIndex:
        """The same with rows that are changed when they are read.

        Args:
            change: called with the rows of a batch.
        """
        read = self._read
        return RowsByIndex(lambda idxs: change(read(idxs)), *self._parts, origin=self._origin)

    def same_as(self, other: RowsByIndex) -> bool:
        """Whether another data set, which must be alive, is read from the same source.

        Args:
            other: the other one.
        """
        mine, theirs = self._origin, other._origin
        # Objects may be equal in ways of their own, which could mean reading all of them.
        return (
            bool(mine)
            and bool(theirs)
            and mine[0] is theirs[0]
            and mine[1:] == theirs[1:]
            and self._parts == other._parts
        )

    def _train_data(self, idxs: Any) -> Rows:
        rows = self._read(np.asarray(idxs) + self._parts[0].start)
        if self.check is not None:
            self.check(rows)
        return rows

    def _train_size(self) -> int:
        return len(self._parts[0])

    def _test_data(self, idxs: Any) -> Rows:
        return self._read(np.asarray(idxs) + self._parts[1].start)

    def _test_size(self) -> int:
        return len(self._parts[1])

    def _count_outputs(self) -> int:
        n = self._train_size()
        pieces = (np.arange(i, min(i + _PIECE, n)) for i in range(0, n, _PIECE))
        first = output_size(self._train_data(next(pieces))[1])
        if flatten(self._train_data(np.arange(1))[1])[0].dtype.kind not in "iu":
            return first
        return max([first, *(output_size(self._train_data(piece)[1]) for piece in pieces)])


class IndexedAdapter(DataAdapter):
    """Data that is read by index.

    Args:
        name: str, what to call it in errors.
        rows: the data set.
        options: what it is for.

    Raises:
        ValueError: if it is empty, or the first rows cannot be trained on.
    """

    def __init__(self, name: str, rows: RowsByIndex, options: Options):
        self.name = name
        self._rows = rows
        self._options = options
        if not len(rows.train_data):
            raise ValueError(f"The {name} has no examples: there is nothing to train on.")
        self._first = check_batch(
            rows.train_data[:TRIED_ROWS], name, needs_targets=options.needs_targets
        )

    @contextlib.contextmanager
    def training(self, steps_per_epoch: int | None) -> Iterator[TrainingData]:
        """Gives the data set, with the weights of classes if there are any."""
        rows, weigh = self._rows, weigher(self._options.class_weight)
        if weigh is not None:
            rows = rows.changed(weigh)
        yield TrainingData(rows, self._options.batch_size, steps_per_epoch)

    def first_rows(self) -> Rows:
        """The first rows, which were read to be checked."""
        return (*self._first, None)[:3]

    def keras_arguments(self) -> dict[str, Any] | None:
        """A `DatasetSequence`, which reads a batch at a time."""
        return {"x": self._sequence()}

    def batches(self, steps: int | None = None) -> Iterator[Rows]:
        """Batches of `batch_size` rows, in order."""
        sequence = self._sequence()
        for index in range(len(sequence) if steps is None else min(steps, len(sequence))):
            yield check_batch(sequence[index], self.name, needs_targets=False)

    def _sequence(self) -> Any:
        from .sequence import DatasetSequence

        return DatasetSequence(self._rows, batch_size=self._options.batch_size)

    def split(self, share: float) -> tuple[DataAdapter, Any]:
        """Sets aside the last rows, before any shuffling; see `DataAdapter.split`."""
        n = len(self._rows.train_data)
        cut = int(np.floor(n * (1.0 - share)))
        if cut in (0, n):
            raise ValueError(
                f"`validation_split`={share!r} of {n} examples leaves {cut} to train on and "
                f"{n - cut} to validate on; both need at least one."
            )
        rest = copy.copy(self)
        rest._rows, held_out = self._rows.split(cut)
        return rest, held_out


class IndexedExamples:
    """Examples that can be asked for by index, as `x` of `fit`, which reads those it draws.

    What `fit` would otherwise go through as a stream keeps a history so: a Grain `MapDataset` of
    single examples, or a class of your own that reads them from files. (A map-style `Dataset` of
    PyTorch is taken as it is.)

    Args:
        source: has a length, and gives `(x, y)` or `(x, y, sample_weight)` of one example for an
            index; all examples of one shape. Where it has `__getitems__`, that is asked for the
            list of examples at a list of indices. It is asked in a background thread, too.

    Raises:
        TypeError: if it has no length or cannot be indexed.

    Example:

    ```python
    source = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(paths)).map(parse)
    HistoryImportanceTraining(model).fit(IndexedExamples(source), batch_size=128)
    ```
    """

    def __init__(self, source: Any):
        if not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
            raise TypeError(
                f"`source` must have `__len__` and `__getitem__`, got {type(source).__name__}. "
                "What can only be gone through is given to `fit` as it is."
            )
        if len(source) > _INFINITE:
            raise ValueError("`source` never ends: leave out its `repeat()`.")
        self.source = source


def _form_of(value: Any) -> Any:
    """How the arrays of an example are nested: itself, with a word in the place of each array."""
    if isinstance(value, dict):
        return {key: _form_of(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map(_form_of, value))
    return None if value is None else "array"


def _has_form(value: Any, form: Any) -> bool:
    """Whether arrays are nested so; called for every example that is read."""
    if isinstance(form, dict):
        alike = isinstance(value, dict) and value.keys() == form.keys()
        return alike and all(_has_form(value[key], part) for key, part in form.items())
    if isinstance(form, tuple):
        alike = isinstance(value, tuple | list) and len(value) == len(form)
        return alike and all(map(_has_form, value, form))
    return not isinstance(value, dict | tuple | list) and (value is None) == (form is None)


class IndexedExamplesAdapter(IndexedAdapter):
    """Single examples by index: an `IndexedExamples`, or a map-style `Dataset` of PyTorch.

    Args:
        data: the examples.
        options: what they are for.
    """

    def __init__(self, data: Any, options: Options):
        self._source = data.source if isinstance(data, IndexedExamples) else data
        self._what = f"{type(self._source).__name__} of {options.role} data"
        # That of the first example that is read.
        self._form: Any = None
        rows = RowsByIndex(self._read, range(len(self._source)), origin=(self._source,))
        super().__init__(self._what, rows, options)

    @classmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` is an `IndexedExamples`, or a `Dataset` of PyTorch with indices."""
        return isinstance(data, IndexedExamples) or array_types.is_torch_dataset(data)

    def _read(self, idxs: np.ndarray) -> Rows:
        places = idxs.tolist()
        together = getattr(self._source, "__getitems__", None)
        examples = together(places) if together else [self._source[i] for i in places]
        if together:
            examples = self._check_together(examples, len(places))
        for place, example in zip(places, examples, strict=True):
            is_tuple = isinstance(example, tuple | list)
            if not is_tuple or len(example) not in (1, 2, 3):
                said = f"a tuple of length {len(example)}" if is_tuple else type(example).__name__
                # A `MapDataset` of Grain keeps the indices of what it filters out.
                gap = "" if example is not None else " What is filtered must have no gaps."
                raise ValueError(
                    f"The {self._what} must give (x, y) or (x, y, sample_weight) for an index, got "
                    f"{said} for {place}.{gap}"
                )
            if self._form is None:
                self._form = _form_of(example)
            elif not _has_form(example, self._form):
                raise ValueError(
                    f"The {self._what} must give examples of one structure, got {self._form} first "
                    f"and {_form_of(example)} for index {place}."
                )
        examples = [tuple(example) for example in examples]
        rows = join_arrays(lambda parts: self._stacked(parts, places), examples)
        return check_batch(rows, self._what, needs_targets=False)

    def _check_together(self, examples: Any, count: int) -> list[Any]:
        """What `__getitems__` returned, as a list of examples; raises if it is none."""
        said = (
            f"The `__getitems__` of {self._what} must return a list with an example for each index"
        )
        try:
            each = iter(examples)
        except TypeError as error:
            raise TypeError(f"{said}, got {type(examples).__name__}.") from error
        examples = list(each)
        if len(examples) != count:
            raise ValueError(f"{said}, got {len(examples)} for {count} indices.")
        return examples

    def _stacked(self, parts: Sequence[Any], places: list[int]) -> np.ndarray:
        arrays = [
            array_types.tensor_to_numpy(part) if array_types.is_tensor(part) else np.asarray(part)
            for part in parts
        ]
        for array, place in zip(arrays, places, strict=True):
            if array.shape != arrays[0].shape:
                raise ValueError(
                    f"The {self._what} gives examples of different shapes: {arrays[0].shape} for "
                    f"index {places[0]} and {array.shape} for {place}. Pad them to one."
                )
        return np.stack(arrays)
