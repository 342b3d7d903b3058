"""What may stand before a sampler's name: smoothings and conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .rows import Hyperparameter, Row, Table


def _kind(name: str) -> Any:
    # Read late: `--help` needs no sampler.
    from ... import samplers

    return getattr(samplers, name)


SMOOTH = Hyperparameter("smooth", "f", "how much scores are made alike", 1.0, least=0)

SMOOTHINGS = Table(
    "smoothing",
    Row(
        "smooth-",
        "adds a constant to every score",
        lambda sampler, smooth: _kind("AdditiveSmoothingSampler")(sampler, c=smooth),
        (SMOOTH,),
    ),
    Row(
        "adaptive-smooth-",
        "adds a share of the mean score",
        lambda sampler, smooth: _kind("AdaptiveAdditiveSmoothingSampler")(
            sampler, percentage=smooth
        ),
        (SMOOTH.but(default=0.5),),
    ),
    Row(
        "power-smooth-",
        "raises scores to a power",
        lambda sampler, smooth: _kind("PowerSmoothingSampler")(sampler, power=smooth),
        (SMOOTH.but(default=0.5, most=1),),
    ),
)
"""What may stand before a sampler that is `smoothed`; `build(sampler)`."""


def _condition(name: str) -> Callable[..., Any]:
    def build(sampler: Any, **threshold: Any) -> Any:
        (value,) = threshold.values()
        return _kind("ConditionalStartSampler")(sampler, _kind(name)(value))

    return build


def _threshold(name: str, summary: str, default: float) -> Hyperparameter:
    return Hyperparameter(name, "f", summary, default, least=0)


CONDITIONS = Table(
    "condition",
    Row(
        "warmup-",
        "uniform for some steps, then by score",
        _condition("WarmupCondition"),
        (Hyperparameter("warmup", "i", "uniform steps", 100, least=0),),
    ),
    Row(
        "exp-",
        "by score once the mean score is small enough",
        _condition("ExpCondition"),
        (_threshold("exp_th", "smallest 1/mean of the scores", 2.0),),
    ),
    Row(
        "tv-",
        "by score once the total variation to uniform is large enough",
        _condition("TotalVariationCondition"),
        (_threshold("tv_th", "smallest total variation to uniform", 0.5),),
    ),
    Row(
        "vr-",
        "by score once the variance reduction is large enough",
        _condition("VarianceReductionCondition"),
        (
            _threshold(
                "vr_th",
                "variance reduction to exceed, tau_th in 1803.00942: at t a uniform batch of t^2 "
                "times the size is as noisy",
                1.2,
            ),
        ),
    ),
)
"""What may stand before a sampler that is `conditional`, before its smoothing; `build(sampler)`."""
