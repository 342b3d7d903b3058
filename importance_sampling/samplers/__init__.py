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
from ._infobatch import InfoBatchSampler
from ._lstm import LSTMComparisonSampler, LSTMSampler
from ._mixture import HistoryMixtureSampler
from ._pool import ConstantTimeSampler, ConstantVarianceSampler, ModelSampler, UniformSampler
from ._ranked import OnlineBatchSelectionSampler
from ._reuse import PoolReuseSampler
from ._selective import SelectiveBackpropSampler
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
    "InfoBatchSampler",
    "LSTMComparisonSampler",
    "LSTMSampler",
    "ModelSampler",
    "OnlineBatchSelectionSampler",
    "PerClassGaussian",
    "PoolReuseSampler",
    "PowerSmoothingSampler",
    "SamplerDecorator",
    "SelectiveBackpropSampler",
    "TotalVariationCondition",
    "UniformSampler",
    "VarianceReductionCondition",
    "WarmupCondition",
    "variance_reduction",
]
