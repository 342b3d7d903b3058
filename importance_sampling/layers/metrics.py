"""Metrics per sample and the triplet loss, under the module's name of 0.10."""

from ._scores import MetricLayer
from ._triplet import TripletLossLayer

__all__ = ["MetricLayer", "TripletLossLayer"]
