"""Normalizations, under the module's name of 0.10."""

from ._normalization import (
    BatchRenormalization,
    GroupNormalization,
    LayerNormalization,
    StatsBatchNorm,
)

__all__ = ["BatchRenormalization", "GroupNormalization", "LayerNormalization", "StatsBatchNorm"]
