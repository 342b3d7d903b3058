"""Importance sampling for the training of Keras models."""

from __future__ import annotations

import importlib
from typing import Any

from ._requirements import check_backend

__version__ = "1.0.0.dev0"

__all__ = [
    "ApproximateImportanceTraining",
    "BiasedImportanceTraining",
    "ConstantTimeImportanceTraining",
    "ConstantVarianceImportanceTraining",
    "HistoryImportanceTraining",
    "ImportanceTraining",
    "InfoBatchTraining",
    "RobustImportanceTraining",
    "SelectiveBackpropTraining",
    "__version__",
]


check_backend()


def __getattr__(name: str) -> Any:
    # Samplers, data sets and the command line's help need no deep learning
    # framework, so that Keras is only imported with the first training.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("importance_sampling.training"), name)
