"""Which examples to train on. Numpy only; knows nothing of Keras."""

from ._auto import AutoSampler
from ._base import BaseSampler, Draw
from ._classes import PerClassGaussian
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
from ._lstm import LSTMComparisonSampler, LSTMSampler
from ._mixture import HistoryMixtureSampler
from ._pool import ConstantTimeSampler, ConstantVarianceSampler, ModelSampler, UniformSampler
from ._ranked import OnlineBatchSelectionSampler
from ._reuse import PoolReuseSampler
from ._stored import CacheSampler, HistorySampler

__all__ = [
    "AdaptiveAdditiveSmoothingSampler",
    "AdditiveSmoothingSampler",
    "AutoSampler",
    "BaseSampler",
    "CacheSampler",
    "Condition",
    "ConditionalStartSampler",
    "ConstantTimeSampler",
    "ConstantVarianceSampler",
    "Draw",
    "ExpCondition",
    "HistoryMixtureSampler",
    "HistorySampler",
    "LSTMComparisonSampler",
    "LSTMSampler",
    "ModelSampler",
    "OnlineBatchSelectionSampler",
    "PerClassGaussian",
    "PoolReuseSampler",
    "PowerSmoothingSampler",
    "SamplerDecorator",
    "TotalVariationCondition",
    "UniformSampler",
    "VarianceReductionCondition",
    "WarmupCondition",
    "variance_reduction",
]
