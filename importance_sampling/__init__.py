"""Importance sampling for the training of Keras models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._names import nearest

if TYPE_CHECKING:
    from .training import (
        SVRG,
        ApproximateImportanceTraining,
        BiasedImportanceTraining,
        ConstantTimeImportanceTraining,
        ConstantVarianceImportanceTraining,
        HistoryImportanceTraining,
        ImportanceTraining,
        InfoBatchTraining,
        RobustImportanceTraining,
        SelectiveBackpropTraining,
    )

__version__ = "1.0.0"

__all__ = [
    "SVRG",
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

_ROOMS = (
    "backend",
    "data",
    "datasets",
    "experiment",
    "layers",
    "model_wrappers",
    "models",
    "plots",
    "pretrained",
    "proposal",
    "protocols",
    "reweighting",
    "samplers",
    "state_files",
    "training",
    "transparent",
    "utils",
)


def __getattr__(name: str) -> Any:
    # Samplers, data sets and the command line read and draw files without a deep learning
    # framework, so that Keras is only imported with the first training.
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        hint = nearest(name, (*__all__, *_ROOMS))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{hint}")
    found = getattr(importlib.import_module(f"{__name__}.training"), name)
    # The next look-up does not come here any more.
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    # What there is to use: nothing that this module itself imports.
    own = (name for name in globals() if name.startswith("__") and name.endswith("__"))
    return sorted({*own, *__all__, *_ROOMS})
