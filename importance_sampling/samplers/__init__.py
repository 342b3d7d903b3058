"""Which examples to train on. Numpy only; knows nothing of Keras."""

from ._base import BaseSampler, Draw
from ._conditions import (
    Condition,
    ExpCondition,
    TotalVariationCondition,
    VarianceReductionCondition,
    WarmupCondition,
    variance_reduction,
)
from ._decorators import (
    AdaptiveAdditiveSmoothingSampler,
    AdditiveSmoothingSampler,
    ConditionalStartSampler,
    PowerSmoothingSampler,
    SamplerDecorator,
)
from ._pool import ConstantTimeSampler, ConstantVarianceSampler, ModelSampler, UniformSampler

__all__ = [
    "AdaptiveAdditiveSmoothingSampler",
    "AdditiveSmoothingSampler",
    "BaseSampler",
    "Condition",
    "ConditionalStartSampler",
    "ConstantTimeSampler",
    "ConstantVarianceSampler",
    "Draw",
    "ExpCondition",
    "ModelSampler",
    "PowerSmoothingSampler",
    "SamplerDecorator",
    "TotalVariationCondition",
    "UniformSampler",
    "VarianceReductionCondition",
    "WarmupCondition",
    "variance_reduction",
]
