"""What a network says: compiled scores, training steps and evaluation."""

from ._base import ModelWrapper, ModelWrapperDecorator, StepResult
from ._oracle import OracleWrapper

__all__ = ["ModelWrapper", "ModelWrapperDecorator", "OracleWrapper", "StepResult"]
