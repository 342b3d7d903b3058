"""Arrays of the user's in the types in which Keras' own `fit` hands them to a model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from .._arrays import Nested, map_arrays, native
from .._pending_rows import PendingRows


def cast_floats(data: Nested) -> Nested:
    """Casts floating point arrays in nested data to Keras' float type."""
    return map_arrays(cast_array, data)


def cast_array(array: Any) -> Any:
    """Casts a numpy array to Keras' float type if it is of floating point, to native byte order.

    Raises:
        ValueError: for strings, where the backend has no tensors of them.
    """
    if not isinstance(array, np.ndarray | PendingRows):
        return array
    if array.dtype.kind == "f":
        return array.astype(keras.config.floatx(), copy=False)
    if array.dtype.kind in "US" and keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Got an array of strings ({array.dtype}), of which only TensorFlow makes "
            "tensors. Encode them as integers first, or set KERAS_BACKEND=tensorflow."
        )
    return native(array)
