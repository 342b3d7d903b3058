"""`tf.data.Dataset`, on every backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._arrays import flatten
from ..backend import array_types
from .adapter import Options
from .stream_adapter import StreamAdapter, first

if TYPE_CHECKING:
    import tensorflow as tf


class TFDatasetAdapter(StreamAdapter):
    """A `tf.data.Dataset`, of batches or of single examples, which are put into batches.

    Args:
        data: the data set.
        options: what it is for.
    """

    prefetches = True

    def __init__(self, data: tf.data.Dataset, options: Options):
        super().__init__("tf.data.Dataset", options)
        specs = flatten(data.element_spec)
        shapes = [getattr(spec, "shape", None) for spec in specs]
        self._shapes_known = all(s is not None and s.rank is not None for s in shapes)
        element = data.element_spec if self._shapes_known else first(data.take(1), self.name)
        if self._holds_single_examples(element):
            data = data.batch(options.batch_size)
        batches = array_types.tf_cardinality(data)
        self.infinite = batches == -1
        self.batches_per_pass = None if self.infinite else batches
        self._data = data
        self._ahead = data.prefetch(self.ahead)

    @classmethod
    def takes(cls, data: object) -> bool:
        """Whether `data` is a `tf.data.Dataset`."""
        return array_types.is_tf_dataset(data)

    def open(self) -> Iterable[Any]:
        """Begins a pass over the batches, which `tf.data` fetches ahead."""
        return iter(self._ahead)

    def keras_arguments(self) -> dict[str, Any] | None:
        """The data set, in batches; None for elements of unknown shape."""
        # Keras on TensorFlow cannot read elements of unknown shape.
        return {"x": self._data} if self._shapes_known else None
