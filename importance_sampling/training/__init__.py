"""Trainings: wrap a compiled Keras model and call `fit` on the wrapper."""

from ._base import BaseTraining
from ._trainings import (
    ApproximateImportanceTraining,
    BiasedImportanceTraining,
    ConstantTimeImportanceTraining,
    ConstantVarianceImportanceTraining,
    ImportanceTraining,
)

__all__ = [
    "ApproximateImportanceTraining",
    "BaseTraining",
    "BiasedImportanceTraining",
    "ConstantTimeImportanceTraining",
    "ConstantVarianceImportanceTraining",
    "ImportanceTraining",
]
