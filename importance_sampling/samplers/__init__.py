"""Which examples to train on. Numpy only; knows nothing of Keras."""

from ..proposal import Kind, Pool, Proposal, StepRecord
from ._auto import AutoSampler
from ._conditional_start import ConditionalStartSampler
from ._decorators import (
    AdaptiveAdditiveSmoothingSampler,
    AdditiveSmoothingSampler,
    PowerSmoothingSampler,
    SamplerDecorator,
)
from ._lstm import LSTMComparisonSampler, LSTMSampler
from ._pool import ModelSampler, UniformSampler
from ._resized import ConstantTimeSampler, ConstantVarianceSampler
from ._reuse import PoolReuseSampler
from ._scsg import SCSGSampler
from ._selective import SelectiveBackpropSampler
from ._stored import CacheSampler, HistorySampler, OnlineBatchSelectionSampler
from .base import BaseSampler
from .batch_size import Constant
from .classes import PerClassGaussian
from .conditions import (
    Condition,
    ExpCondition,
    MeasuredReductionCondition,
    TotalVariationCondition,
    VarianceReductionCondition,
    WarmupCondition,
)
from .drawing import Resampling
from .history import HistoryMixtureSampler
from .infobatch import InfoBatchSampler
from .variance import variance_reduction

__all__ = [
    "AdaptiveAdditiveSmoothingSampler",
    "AdditiveSmoothingSampler",
    "AutoSampler",
    "BaseSampler",
    "CacheSampler",
    "Condition",
    "ConditionalStartSampler",
    "Constant",
    "ConstantTimeSampler",
    "ConstantVarianceSampler",
    "ExpCondition",
    "HistoryMixtureSampler",
    "HistorySampler",
    "InfoBatchSampler",
    "Kind",
    "LSTMComparisonSampler",
    "LSTMSampler",
    "MeasuredReductionCondition",
    "ModelSampler",
    "OnlineBatchSelectionSampler",
    "PerClassGaussian",
    "Pool",
    "PoolReuseSampler",
    "PowerSmoothingSampler",
    "Proposal",
    "Resampling",
    "SCSGSampler",
    "SamplerDecorator",
    "SelectiveBackpropSampler",
    "StepRecord",
    "TotalVariationCondition",
    "UniformSampler",
    "VarianceReductionCondition",
    "WarmupCondition",
    "variance_reduction",
]
