"""Keras layers: per-sample loss, gradient norm, metric and triplet loss; normalizations."""

from .._requirements import check_backend

# Before Keras, whose own error does not say what to install.
check_backend()

from ._normalization import (
    BatchRenormalization,
    GroupNormalization,
    LayerNormalization,
    StatsBatchNorm,
)
from ._scores import GradientNormLayer, LossLayer, MetricLayer
from ._triplet import TripletLossLayer

__all__ = [
    "BatchRenormalization",
    "GradientNormLayer",
    "GroupNormalization",
    "LayerNormalization",
    "LossLayer",
    "MetricLayer",
    "StatsBatchNorm",
    "TripletLossLayer",
]
