"""What a network says: compiled scores, training steps and evaluation."""

from .._requirements import check_backend

# Before Keras, whose own error does not say what to install.
check_backend()

from ._base import ModelWrapper
from ._decorator import ModelWrapperDecorator
from ._katyusha import KatyushaWrapper
from ._objective import Score
from ._oracle import OracleWrapper
from ._precision import ScoreDtype
from ._step_result import StepResult
from ._svrg import SVRGWrapper

__all__ = [
    "KatyushaWrapper",
    "ModelWrapper",
    "ModelWrapperDecorator",
    "OracleWrapper",
    "SVRGWrapper",
    "Score",
    "ScoreDtype",
    "StepResult",
]
