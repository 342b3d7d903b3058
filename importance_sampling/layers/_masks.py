"""Masks, read and passed on by Keras' own rules for layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class _MaskReader(keras.layers.Layer):
    """Identity that remembers the mask its input carried."""

    def __init__(self) -> None:
        super().__init__(name="mask_reader", dtype="float32", autocast=False)
        self.supports_masking = True
        self.mask: Any = None

    def call(self, inputs: Any, mask: Any = None) -> Any:
        self.mask = mask
        return inputs


class _MaskWriter(keras.layers.Layer):
    """Identity that gives its output a mask."""

    def __init__(self, mask: Any) -> None:
        super().__init__(name="mask_writer", dtype="float32", autocast=False)
        self.supports_masking = True
        # Belongs to one pass: the layer is made for it and thrown away.
        self._masks = (mask,)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        return inputs

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return self._masks[0]


def read_mask(tensor: Any) -> Any:
    """Returns the Keras mask that `tensor` carries, or None."""
    reader = _MaskReader()
    reader(tensor)
    return reader.mask


def write_mask(tensor: Any, mask: Any) -> Any:
    """Returns `tensor` carrying `mask` (unchanged where `mask` is None)."""
    return tensor if mask is None else _MaskWriter(mask)(tensor)


def count_valid(mask: Any) -> Any:
    """Number of valid steps per sample, shape `(n,)`, from a mask `(n, ...)`."""
    counts = ops.cast(mask, "float32")
    axes = tuple(range(1, len(counts.shape)))
    return ops.sum(counts, axis=axes) if axes else counts
