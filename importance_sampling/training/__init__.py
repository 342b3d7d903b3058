"""Trainings: wrap a compiled Keras model and call `fit` on the wrapper."""

from .._requirements import check_backend

# Before Keras, whose own error does not say what to install.
check_backend()

from ._base import BaseTraining
from ._history import HistoryImportanceTraining, RobustImportanceTraining
from ._importance import ImportanceTraining
from ._peers import InfoBatchTraining, SelectiveBackpropTraining
from ._report import TrainingReport
from ._svrg import SVRG
from ._trainings import (
    ApproximateImportanceTraining,
    BiasedImportanceTraining,
    ConstantTimeImportanceTraining,
    ConstantVarianceImportanceTraining,
)
from .backup import BackupState

__all__ = [
    "SVRG",
    "ApproximateImportanceTraining",
    "BackupState",
    "BaseTraining",
    "BiasedImportanceTraining",
    "ConstantTimeImportanceTraining",
    "ConstantVarianceImportanceTraining",
    "HistoryImportanceTraining",
    "ImportanceTraining",
    "InfoBatchTraining",
    "RobustImportanceTraining",
    "SelectiveBackpropTraining",
    "TrainingReport",
]
