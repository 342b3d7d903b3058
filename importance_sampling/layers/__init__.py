"""Keras layers: per-sample loss, gradient norm and metric."""

from ._scores import GradientNormLayer, LossLayer, MetricLayer

__all__ = ["GradientNormLayer", "LossLayer", "MetricLayer"]
