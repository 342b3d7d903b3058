"""Losses and gradient norms per sample, under the module's name of 0.10."""

from ._scores import GradientNormLayer, LossLayer

__all__ = ["GradientNormLayer", "LossLayer"]
