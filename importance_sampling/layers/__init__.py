"""Keras layers: per-sample loss, gradient norm, metric and triplet loss; normalizations."""

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
