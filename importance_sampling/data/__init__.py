"""The one door for data: `adapt` turns whatever `fit` takes into one of the adapters.

    fit -> adapt(x, y, sample_weight) -> adapter.training() -> a data set -> sampler
    validation -> adapt(validation_data) -> adapter.keras_arguments(), adapter.batches()

Each kind of data has an adapter of its own, in a file of its own; which one it is, is decided in
`find_kind` and nowhere else. To add a kind, write a `StreamAdapter`, or an `IndexedAdapter`, and
name it there.
"""

from __future__ import annotations

from typing import Any

from .._arrays import Nested
from ._checks import check_not_distributed
from .adapter import DataAdapter, Options, TrainingData
from .arrays import ArrayAdapter
from .dataset import BaseDataset
from .dataset_adapter import DatasetAdapter
from .generator import GeneratorAdapter, IterableAdapter
from .grain_data import GrainAdapter
from .hugging_face import HuggingFaceAdapter
from .indexed import IndexedExamples, IndexedExamplesAdapter, RowsByIndex
from .py_dataset import PyDatasetAdapter
from .stream import StreamDataset, StreamEnded
from .stream_adapter import StreamAdapter
from .tf_data import TFDatasetAdapter
from .torch_loader import TorchLoaderAdapter

__all__ = [
    "ArrayAdapter",
    "BaseDataset",
    "DataAdapter",
    "DatasetAdapter",
    "HuggingFaceAdapter",
    "IndexedExamples",
    "Options",
    "RowsByIndex",
    "StreamAdapter",
    "StreamDataset",
    "StreamEnded",
    "TrainingData",
    "adapt",
    "adapt_validation",
    "find_kind",
]

_STREAMS: tuple[type[StreamAdapter], ...] = (
    TFDatasetAdapter,
    TorchLoaderAdapter,
    PyDatasetAdapter,
    GrainAdapter,
    GeneratorAdapter,
    IterableAdapter,
)
"""Kinds of data in batches; the first that takes some data has it."""

_INDEXED: tuple[type[DataAdapter], ...] = (HuggingFaceAdapter, IndexedExamplesAdapter)
"""Kinds of data that is read by index."""


def find_kind(data: object) -> type[DataAdapter]:
    """The kind of some data: the one place that tells kinds apart.

    Args:
        data: anything.

    Returns:
        The class of the adapter for it; `ArrayAdapter` for all that is not known better.
    """
    kinds: tuple[type[DataAdapter], ...] = (DatasetAdapter, *_INDEXED, *_STREAMS)
    return next((kind for kind in kinds if kind.takes(data)), ArrayAdapter)


def adapt(x: Nested, y: Nested = None, sample_weight: Nested = None, **options: Any) -> DataAdapter:
    """Adapts data that is given as the arguments `x`, `y` and `sample_weight` of `fit`.

    Args:
        x: inputs as arrays, or the whole of the data in one object.
        y: targets as arrays; None with a whole.
        sample_weight: weights as arrays; None with a whole.
        **options: what the data is for, see `Options`.

    Returns:
        A `DataAdapter`.

    Raises:
        TypeError: if it is split among replicas of `tf.distribute`.
        ValueError: if the data cannot work, or something stands beside a whole.
    """
    check_not_distributed(x, "validation_data" if options.get("role") == "validation" else "x")
    kind: Any = find_kind(x)
    if kind in (ArrayAdapter, HuggingFaceAdapter):
        # Of the latter `y` and `sample_weight` are columns.
        return kind(x, y, sample_weight, Options(**options))
    adapter: DataAdapter = kind(x, Options(**options))
    reasons = {
        "y": "the targets come with it",
        "sample_weight": "let it give (x, y, sample_weight) instead",
    }
    for argument, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"`{argument}` cannot be given with a {adapter.name}: {reasons[argument]}."
            )
    return adapter


def adapt_validation(data: Any, **options: Any) -> DataAdapter:
    """Adapts data that is given as the argument `validation_data` of `fit`.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)`, or the whole of the data in one object.
        **options: see `Options`.

    Returns:
        A `DataAdapter`.

    Raises:
        TypeError: if it is no data.
        ValueError: if the data cannot work.
    """
    if isinstance(data, tuple | list):
        if len(data) not in (2, 3):
            raise ValueError(
                "`validation_data` must be (x, y) or (x, y, sample_weight), got a "
                f"{type(data).__name__} of length {len(data)}."
            )
        return adapt(*data, role="validation", **options)
    if find_kind(data) is ArrayAdapter:
        raise TypeError(
            "`validation_data` must be (x, y), (x, y, sample_weight), a tf.data.Dataset, a "
            "DataLoader, a PyDataset, a Grain data set, an IndexedExamples or a generator of "
            "batches, got "
            f"{type(data).__name__}."
        )
    return adapt(data, role="validation", **options)
