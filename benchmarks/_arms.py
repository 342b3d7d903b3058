"""The ways to train that `time_to_accuracy.py` compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

UNIFORM = "model.fit"
SMALLER = "uniform, smaller batch"
# What Keras itself gains by making steps together; PyTorch knows no such thing.
TOGETHER = "model.fit, 32 in a call"
SAME_NOISE = "same noise"
# Their epochs have a number of steps that nobody knows beforehand.
BY_EPOCH = {"InfoBatch", "Selective Backprop"}
DEFAULT = [
    UNIFORM,
    SMALLER,
    SAME_NOISE,
    "same noise, k=0.5",
    "history",
    "auto",
    "InfoBatch",
    "Selective Backprop",
]


def _random_subset(t: Any, model: Any, seed: int) -> Any:
    from importance_sampling.experiment.arms import RandomSubsetTraining

    return RandomSubsetTraining(model, seed=seed)


# Name to `(importance_sampling.training, model, seed) -> training`; None stands for `model.fit`.
ARMS: dict[str, Callable[[Any, Any, int], Any]] = {
    UNIFORM: lambda t, model, seed: None,
    SMALLER: lambda t, model, seed: None,
    TOGETHER: lambda t, model, seed: None,
    SAME_NOISE: lambda t, model, seed: t.HistoryImportanceTraining(
        model, constant="variance", seed=seed
    ),
    "same noise, k=0.5": lambda t, model, seed: t.HistoryImportanceTraining(
        model, k=0.5, constant="variance", seed=seed
    ),
    "history": lambda t, model, seed: t.HistoryImportanceTraining(model, seed=seed),
    "history, k=0.5": lambda t, model, seed: t.HistoryImportanceTraining(model, k=0.5, seed=seed),
    "auto": lambda t, model, seed: t.ImportanceTraining(model, presample="auto", seed=seed),
    "auto, full batch": lambda t, model, seed: t.ImportanceTraining(
        model, presample="auto", constant="batch_size", seed=seed
    ),
    "InfoBatch": lambda t, model, seed: t.InfoBatchTraining(model, seed=seed),
    "Selective Backprop": lambda t, model, seed: t.SelectiveBackpropTraining(model, seed=seed),
    "robust": lambda t, model, seed: t.RobustImportanceTraining(model, seed=seed),
    "pool": lambda t, model, seed: t.ImportanceTraining(model, seed=seed),
    "pool, measured": lambda t, model, seed: t.ImportanceTraining(
        model, tau_th="measured", resampling="systematic", seed=seed
    ),
    "pool, reused": lambda t, model, seed: t.ImportanceTraining(
        model, presample=8, reuse=4, resampling="systematic", seed=seed
    ),
    "biased": lambda t, model, seed: t.BiasedImportanceTraining(
        model, presample=384, forward_batch_size=384, seed=seed
    ),
    "approximate": lambda t, model, seed: t.ApproximateImportanceTraining(
        model, presample=1024, seed=seed
    ),
    "random subset": _random_subset,
    "constant variance": lambda t, model, seed: t.ConstantVarianceImportanceTraining(
        model, seed=seed
    ),
    "constant time": lambda t, model, seed: t.ConstantTimeImportanceTraining(model, seed=seed),
}


def make_training(arm: str, model: Any, seed: int) -> Any:
    """The arm's training of a model; None for `model.fit`."""
    from importance_sampling import training

    return ARMS[arm](training, model, seed)


def smaller_batch(batch_size: int, examples: float, steps: int) -> int:
    """The multiple of 8 that comes nearest to as many examples in as many steps."""
    return min(max(8, 8 * round(examples / steps / 8)), batch_size)
