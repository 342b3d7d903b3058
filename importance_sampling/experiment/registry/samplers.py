"""Samplers: what is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .rows import Hyperparameter, Row, Table

if TYPE_CHECKING:
    from ...datasets import BaseDataset
    from ...model_wrappers import ModelWrapper
    from ...reweighting import ReweightingPolicy


class Parts(NamedTuple):
    """What every sampler may be built of.

    Attributes:
        dataset: a `BaseDataset`.
        policy: a `ReweightingPolicy`.
        wrapper: a `ModelWrapper`.
        forward_batch_size: int, examples to score in one call.
        options: keyword arguments of all samplers, `rng` for one.
    """

    dataset: BaseDataset
    policy: ReweightingPolicy
    wrapper: ModelWrapper
    forward_batch_size: int
    options: dict[str, Any]


@dataclass(frozen=True)
class SamplerRow(Row):
    """A row of `SAMPLERS`; see `Row`.

    Attributes:
        smoothed: bool, whether the names of `SMOOTHINGS` may stand before it.
        conditional: bool, whether the names of `CONDITIONS` may stand before it.
        by_score: bool, whether it draws by score, so that reweighting has an effect.
        takes_snapshots: bool, whether it asks for snapshots, of a wrapper that takes them.
    """

    smoothed: bool = False
    conditional: bool = False
    by_score: bool = True
    takes_snapshots: bool = False


PRESAMPLE = Hyperparameter("presample", "i", "size of the pool", 1024, least=1)
BOTH_POOLS = PRESAMPLE.but(
    default=None, summary="size of the pools; 1024 of the network and 2048 of the LSTM if left out"
)
LOG = Hyperparameter("lstm_log", "i", "1: predict the score's logarithm", 0, choices=(0, 1))
COMPARED = Hyperparameter("lstm_comparison", "i", "examples to compare on", 1024, least=1)
ALPHA = Hyperparameter("alpha", "f", "momentum of a class's mean score", 0.9, least=0, below=1)
MIX = Hyperparameter("mix", "f", "share of uniform draws", 0.3, above=0, below=1)
RADIUS = Hyperparameter("radius", "f", "radius of the ball in which scores may lie", 0.0, least=0)
REFRESH = Hyperparameter("refresh", "f", "examples scored anew per example trained", 0.0, least=0)
ONLINE_BATCH_SELECTION = (
    Hyperparameter("steps_per_epoch", "i", "steps of an epoch", 300, least=1),
    Hyperparameter(
        "obs_recompute", "i", "epochs between scorings of all examples; 0: never", 2, least=0
    ),
    Hyperparameter("obs_se0", "f", "selection pressure at the start", 1.0, least=1),
    Hyperparameter("obs_seend", "f", "selection pressure at the end", 1.0, least=1),
    Hyperparameter("obs_epochs", "i", "epochs from start to end", 1, least=1),
)
RECOMPUTE = Hyperparameter(
    "history_recompute", "i", "steps between scorings of all examples; 0: never", 600, least=0
)
SCSG = (
    Hyperparameter("scsg_B", "i", "examples whose gradient a snapshot has; 0: all", 1024, least=0),
    Hyperparameter("scsg_B_over_b", "i", "steps from one snapshot to the next", 32, least=1),
    Hyperparameter("scsg_B_rate", "f", "what `scsg_B` grows by at each", 1.0, above=0),
)
CACHE = (
    Hyperparameter("staleness", "i", "updates after which a score is stale", 3, least=0),
    Hyperparameter(
        "cache_prob", "f", "probability of drawing from the cache", 0.5, least=0, below=1
    ),
    Hyperparameter("smooth", "f", "added to scores, in units of their mean", 0.2, least=0),
)


def _kind(name: str) -> Any:
    # Read late: `--help` needs no sampler.
    from ... import samplers

    return getattr(samplers, name)


def _uniform(parts: Parts) -> Any:
    return _kind("UniformSampler")(parts.dataset, parts.policy, **parts.options)


def _model(parts: Parts, presample: int) -> Any:
    return _kind("ModelSampler")(
        parts.dataset,
        parts.policy,
        parts.wrapper,
        large_batch=presample,
        forward_batch_size=parts.forward_batch_size,
        **parts.options,
    )


def _lstm(parts: Parts, presample: int, lstm_log: int) -> Any:
    return _kind("LSTMSampler")(
        parts.dataset, parts.policy, presample=presample, log=bool(lstm_log), **parts.options
    )


def _class_gaussian(parts: Parts, alpha: float, presample: int) -> Any:
    return _kind("PerClassGaussian")(parts.dataset, parts.policy, alpha, presample, **parts.options)


def _online_batch_selection(
    parts: Parts,
    steps_per_epoch: int,
    obs_recompute: int,
    obs_se0: float,
    obs_seend: float,
    obs_epochs: int,
) -> Any:
    return _kind("OnlineBatchSelectionSampler")(
        parts.dataset,
        parts.policy,
        parts.wrapper,
        forward_batch_size=parts.forward_batch_size,
        steps_per_epoch=steps_per_epoch,
        recompute=obs_recompute,
        s_e=(obs_se0, obs_seend),
        n_epochs=obs_epochs,
        **parts.options,
    )


def _history(parts: Parts, history_recompute: int) -> Any:
    return _kind("HistorySampler")(
        parts.dataset,
        parts.policy,
        parts.wrapper,
        forward_batch_size=parts.forward_batch_size,
        recompute=history_recompute,
        **parts.options,
    )


def _mixture(parts: Parts, mix: float, radius: float, refresh: float) -> Any:
    return _kind("HistoryMixtureSampler")(
        parts.dataset,
        parts.policy,
        mix=mix,
        robust=radius,
        refresh=refresh,
        model=parts.wrapper,
        **parts.options,
    )


def _cache(parts: Parts, staleness: int, cache_prob: float, smooth: float) -> Any:
    return _kind("CacheSampler")(
        parts.dataset,
        parts.policy,
        staleness=staleness,
        cache_prob=cache_prob,
        smooth=smooth,
        **parts.options,
    )


def _scsg(parts: Parts, scsg_B: int, scsg_B_over_b: int, scsg_B_rate: float) -> Any:
    return _kind("SCSGSampler")(
        parts.dataset,
        parts.policy,
        parts.wrapper,
        B=scsg_B,
        B_over_b=scsg_B_over_b,
        B_rate=scsg_B_rate,
        **parts.options,
    )


def _lstm_comparison(
    parts: Parts, presample: int | None, lstm_log: int, lstm_comparison: int
) -> Any:
    return _kind("LSTMComparisonSampler")(
        parts.dataset,
        _lstm(parts, presample or 2048, lstm_log),
        _model(parts, presample or 1024),
        subset=lstm_comparison,
    )


SAMPLERS = Table(
    "sampler",
    SamplerRow("uniform", "uniformly, in passes", _uniform, by_score=False),
    SamplerRow(
        "model",
        "by the network's score, of a pool drawn uniformly",
        _model,
        (PRESAMPLE,),
        smoothed=True,
        conditional=True,
    ),
    SamplerRow(
        "lstm",
        "by the score that an LSTM predicts from an example's history",
        _lstm,
        (PRESAMPLE.but(default=2048), LOG),
        smoothed=True,
        conditional=True,
    ),
    SamplerRow(
        "pcg",
        "by mean and deviation of the class's scores",
        _class_gaussian,
        (ALPHA, PRESAMPLE.but(default=2048)),
        smoothed=True,
    ),
    SamplerRow(
        "obs",
        "by the rank of the score (online batch selection)",
        _online_batch_selection,
        ONLINE_BATCH_SELECTION,
    ),
    SamplerRow(
        "history",
        "by scores of all examples, which are computed anew now and then",
        _history,
        (RECOMPUTE,),
        smoothed=True,
    ),
    SamplerRow(
        "mixture",
        "by the scores of an example's earlier passes, mixed with uniform draws",
        _mixture,
        (MIX, RADIUS, REFRESH),
    ),
    SamplerRow(
        "robust",
        "the same, by the largest scores that are likely",
        _mixture,
        (MIX.but(default=0.1), RADIUS.but(default=1.0), REFRESH),
    ),
    SamplerRow(
        "cache",
        "by recent scores, uniformly where they are stale",
        _cache,
        CACHE,
    ),
    SamplerRow(
        "lstm-comparison",
        "by the network's score; compares what an LSTM predicts",
        _lstm_comparison,
        (BOTH_POOLS, LOG, COMPARED),
        conditional=True,
    ),
    SamplerRow(
        "scsg",
        "uniformly, with a snapshot now and then, for the wrappers svrg and katyusha",
        _scsg,
        SCSG,
        by_score=False,
        takes_snapshots=True,
    ),
)
"""The third argument of `run`; `build(parts)`, a `Parts`."""
