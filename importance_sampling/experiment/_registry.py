"""From the names on the command line to the parts of an experiment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import datasets, reweighting, samplers
from .._names import unknown
from ._hyperparams import Hyperparams

_CHANGES = {"width_shift_range": 0.1, "height_shift_range": 0.1, "horizontal_flip": True}
_WHITENED = 15 * 10**5
_LATER = ("svrg", "katyusha", "scsg")

# -- data sets -------------------------------------------------------------------------------------


def _canevet(smooth: float) -> Callable[[Hyperparams], Any]:
    return lambda hp: datasets.CanevetICML2016(hp.get("N", 8192), smooth=smooth)


def _loaded(kind: Any) -> Callable[[Hyperparams], Any]:
    return lambda hp: kind(path=hp.get("data"))


def _augmented(kind: Any) -> Callable[[Hyperparams], Any]:
    return lambda hp: datasets.OntheflyAugmentedImages(
        kind(path=hp.get("data")), _CHANGES, hp.get("N")
    )


def _whitened(kind: Any) -> Callable[[Hyperparams], Any]:
    return lambda hp: datasets.OntheflyAugmentedImages(
        datasets.ZCAWhitening(kind(path=hp.get("data"))), _CHANGES, hp.get("N", _WHITENED)
    )


def _location(hp: Hyperparams, name: str, variable: str) -> str:
    path = hp.get(name) or os.environ.get(variable)
    if not path:
        raise ValueError(
            f"Where the data set lies is not known. Set the environment variable {variable} or the "
            f"hyper-parameter {name}=sPATH."
        )
    return path


def _imagenet(size: int) -> Callable[[Hyperparams], Any]:
    return lambda hp: datasets.ImageNetDownsampled(_location(hp, "imagenet", "IMAGENET"), size=size)


DATASETS: dict[str, Callable[[Hyperparams], Any]] = {
    "mnist": _loaded(datasets.MNIST),
    "cifar10": _loaded(datasets.CIFAR10),
    "cifar100": _loaded(datasets.CIFAR100),
    "cifar-sanity-check": _loaded(datasets.CIFARSanityCheck),
    "canevet-icml2016": _canevet(40),
    "canevet-icml2016-jittered": _canevet(10),
    "canevet-icml2016-smooth": _canevet(15000),
    "cifar10-augmented": _augmented(datasets.CIFAR10),
    "cifar100-augmented": _augmented(datasets.CIFAR100),
    "cifar10-whitened-augmented": _whitened(datasets.CIFAR10),
    "cifar100-whitened-augmented": _whitened(datasets.CIFAR100),
    "ptb": lambda hp: datasets.PennTreeBank(20, hp.get("ptb")),
    "imagenet-32x32": _imagenet(32),
    "imagenet-64x64": _imagenet(64),
    "timit": lambda hp: datasets.TIMIT(20, _location(hp, "timit", "TIMIT")),
    "mit-67": lambda hp: datasets.MIT67(_location(hp, "mit67", "MIT67")),
    "casia": lambda hp: datasets.CASIAWebFace(
        _location(hp, "casia", "CASIA"),
        alpha=hp.get("triplet_alpha", 0.2),
        embedding=hp.get("triplet_embedding", 128),
    ),
    "casia-cls": lambda hp: datasets.CASIAWebFace2(_location(hp, "casia", "CASIA")),
    "pixel-mnist": lambda hp: datasets.PixelByPixelMNIST(path=hp.get("data")),
}

# -- reweighting -----------------------------------------------------------------------------------

REWEIGHTINGS: dict[str, Callable[[Hyperparams], Any]] = {
    "unweighted": lambda hp: reweighting.NoReweightingPolicy(),
    "predicted": lambda hp: reweighting.BiasedReweightingPolicy(hp.get("k", 1.0)),
    "adjusted": lambda hp: reweighting.AdjustedBiasedReweightingPolicy(hp.get("k", 1.0)),
    "correcting": lambda hp: reweighting.CorrectingReweightingPolicy(hp.get("k", 1.0)),
}

# -- wrappers --------------------------------------------------------------------------------------

_SCORES = {"oracle-loss": "loss", "oracle-gnorm": "gnorm", "oracle-acc": "acc"}
WRAPPERS = (*_SCORES, "svrg", "katyusha")


def check_wrapper(name: str) -> None:
    """Raises if there is no such wrapper, before anything that takes time."""
    if name in _LATER:
        raise ValueError(
            f"The wrapper {name!r} is not there yet. Wrappers now: {', '.join(_SCORES)}."
        )
    if name not in _SCORES:
        raise unknown("wrapper", name, _SCORES)


def build_wrapper(name: str, model: Any, policy: Any) -> Any:
    """Wraps a compiled model."""
    from ..model_wrappers import OracleWrapper

    check_wrapper(name)
    return OracleWrapper(model, policy, score=_SCORES[name])


# -- samplers --------------------------------------------------------------------------------------


def forward_batch_size(dataset: Any, hp: Hyperparams) -> int:
    """Examples to score in one call: few calls for small examples, little memory for large ones."""
    if "forward_batch_size" in hp:
        return hp["forward_batch_size"]
    shapes = dataset.shape if isinstance(dataset.shape, list) else [dataset.shape]
    values = sum(int(np.prod(shape)) for shape in shapes)
    return max(16, min(1024, 2**22 // max(1, values)))


def _model(dataset: Any, policy: Any, wrapper: Any, hp: Hyperparams, **options: Any) -> Any:
    return samplers.ModelSampler(
        dataset,
        policy,
        wrapper,
        large_batch=hp.get("presample", 1024),
        forward_batch_size=forward_batch_size(dataset, hp),
        **options,
    )


def _lstm(dataset: Any, policy: Any, wrapper: Any, hp: Hyperparams, **options: Any) -> Any:
    return samplers.LSTMSampler(
        dataset,
        policy,
        presample=hp.get("presample", 2048),
        log=bool(hp.get("lstm_log", 0)),
        **options,
    )


def _pcg(dataset: Any, policy: Any, wrapper: Any, hp: Hyperparams, **options: Any) -> Any:
    return samplers.PerClassGaussian(
        dataset, policy, hp.get("alpha", 0.9), hp.get("presample", 2048), **options
    )


def _obs(dataset: Any, policy: Any, wrapper: Any, hp: Hyperparams, **options: Any) -> Any:
    return samplers.OnlineBatchSelectionSampler(
        dataset,
        policy,
        wrapper,
        forward_batch_size=forward_batch_size(dataset, hp),
        steps_per_epoch=hp.get("steps_per_epoch", 300),
        recompute=hp.get("obs_recompute", 2),
        s_e=(hp.get("obs_se0", 1), hp.get("obs_seend", 1)),
        n_epochs=hp.get("obs_epochs", 1),
        **options,
    )


def _history(dataset: Any, policy: Any, wrapper: Any, hp: Hyperparams, **options: Any) -> Any:
    return samplers.HistorySampler(
        dataset,
        policy,
        wrapper,
        forward_batch_size=forward_batch_size(dataset, hp),
        recompute=hp.get("history_recompute", 600),
        **options,
    )


def _mixture(mix: float, radius: float) -> Callable[..., Any]:
    def build(dataset: Any, policy: Any, wrapper: Any, hp: Hyperparams, **options: Any) -> Any:
        return samplers.HistoryMixtureSampler(
            dataset,
            policy,
            mix=hp.get("mix", mix),
            robust=hp.get("radius", radius),
            refresh=hp.get("refresh", 0.0),
            model=wrapper,
            **options,
        )

    return build


def _cache(dataset: Any, policy: Any, wrapper: Any, hp: Hyperparams, **options: Any) -> Any:
    return samplers.CacheSampler(
        dataset,
        policy,
        staleness=hp.get("staleness", 3),
        cache_prob=hp.get("cache_prob", 0.5),
        smooth=hp.get("smooth", 0.2),
        **options,
    )


def _comparison(dataset: Any, policy: Any, wrapper: Any, hp: Hyperparams, **options: Any) -> Any:
    return samplers.LSTMComparisonSampler(
        dataset,
        _lstm(dataset, policy, wrapper, hp, **options),
        _model(dataset, policy, wrapper, hp, **options),
        subset=hp.get("lstm_comparison", 1024),
    )


_BASE: dict[str, Callable[..., Any]] = {
    "uniform": lambda dataset, policy, wrapper, hp, **options: samplers.UniformSampler(
        dataset, policy, **options
    ),
    "model": _model,
    "lstm": _lstm,
    "pcg": _pcg,
    "obs": _obs,
    "history": _history,
    "mixture": _mixture(mix=0.3, radius=0.0),
    "robust": _mixture(mix=0.1, radius=1.0),
    "cache": _cache,
    "lstm-comparison": _comparison,
}
_SMOOTHED = ("model", "lstm", "pcg", "history")
_SMOOTHINGS: dict[str, Callable[[Any, Hyperparams], Any]] = {
    "smooth-": lambda s, hp: samplers.AdditiveSmoothingSampler(s, c=hp.get("smooth", 1.0)),
    "adaptive-smooth-": lambda s, hp: samplers.AdaptiveAdditiveSmoothingSampler(
        s, percentage=hp.get("smooth", 0.5)
    ),
    "power-smooth-": lambda s, hp: samplers.PowerSmoothingSampler(s, power=hp.get("smooth", 0.5)),
}
_CONDITIONS: dict[str, Callable[[Hyperparams], Any]] = {
    "warmup-": lambda hp: samplers.WarmupCondition(hp.get("warmup", 100)),
    "exp-": lambda hp: samplers.ExpCondition(hp.get("exp_th", 2.0)),
    "tv-": lambda hp: samplers.TotalVariationCondition(hp.get("tv_th", 0.5)),
    "vr-": lambda hp: samplers.VarianceReductionCondition(hp.get("vr_th", 1.2)),
}


def _sampler_names() -> list[str]:
    names = [*_BASE, *(smoothing + base for base in _SMOOTHED for smoothing in _SMOOTHINGS)]
    conditional = [name for name in names if "model" in name or "lstm" in name]
    return names + [condition + name for name in conditional for condition in _CONDITIONS]


SAMPLERS = _sampler_names()
"""All samplers with all that may stand before them."""


def check_sampler(name: str) -> None:
    """Raises if there is no such sampler, before anything that takes time."""
    if name in _LATER:
        raise ValueError(f"The sampler {name!r} is not there yet.")
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)


def build_sampler(
    name: str, dataset: Any, policy: Any, wrapper: Any, hp: Hyperparams, **options: Any
) -> Any:
    """Makes a sampler by its name.

    Args:
        name: one of `SAMPLERS`.
        dataset: a `BaseDataset`.
        policy: a `ReweightingPolicy`.
        wrapper: a `ModelWrapper`.
        hp: hyper-parameters.
        **options: keyword arguments of all samplers, `rng` for one.
    """
    check_sampler(name)
    condition = next((prefix for prefix in _CONDITIONS if name.startswith(prefix)), "")
    rest = name.removeprefix(condition)
    smoothing = next((p for p in _SMOOTHINGS if rest.startswith(p)), "")
    sampler = _BASE[rest.removeprefix(smoothing)](dataset, policy, wrapper, hp, **options)
    if smoothing:
        sampler = _SMOOTHINGS[smoothing](sampler, hp)
    if condition:
        sampler = samplers.ConditionalStartSampler(sampler, _CONDITIONS[condition](hp))
    return sampler


def look_up(kind: str, table: Mapping[str, Any], name: str) -> Any:
    """An entry of one of the tables above.

    Raises:
        ValueError: if there is none; names the one most alike.
    """
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]
