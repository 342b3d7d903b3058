"""The ways to train that `time_to_accuracy.py` compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

UNIFORM = "model.fit"
SMALLER = "uniform, smaller batch"
SAME_NOISE = "same noise"
# Their epochs have a number of steps that nobody knows beforehand.
BY_EPOCH = {"InfoBatch"}
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


def arms() -> dict[str, Callable[[Any, int], Any]]:
    """Name to `(model, seed) -> training`; None stands for `model.fit`."""
    from importance_sampling import training as t
    from importance_sampling.experiment._arms import RandomSubsetTraining

    return {
        UNIFORM: lambda model, seed: None,
        SMALLER: lambda model, seed: None,
        SAME_NOISE: lambda model, seed: t.HistoryImportanceTraining(
            model, constant="variance", seed=seed
        ),
        "same noise, k=0.5": lambda model, seed: t.HistoryImportanceTraining(
            model, k=0.5, constant="variance", seed=seed
        ),
        "history": lambda model, seed: t.HistoryImportanceTraining(model, seed=seed),
        "history, k=0.5": lambda model, seed: t.HistoryImportanceTraining(model, k=0.5, seed=seed),
        "auto": lambda model, seed: t.ImportanceTraining(model, presample="auto", seed=seed),
        "auto, full batch": lambda model, seed: t.ImportanceTraining(
            model, presample="auto", constant="batch_size", seed=seed
        ),
        "InfoBatch": lambda model, seed: t.InfoBatchTraining(model, seed=seed),
        "Selective Backprop": lambda model, seed: t.SelectiveBackpropTraining(model, seed=seed),
        "robust": lambda model, seed: t.RobustImportanceTraining(model, seed=seed),
        "pool": lambda model, seed: t.ImportanceTraining(model, seed=seed),
        "pool, measured": lambda model, seed: t.ImportanceTraining(
            model, tau_th="measured", resampling="systematic", seed=seed
        ),
        "pool, reused": lambda model, seed: t.ImportanceTraining(
            model, presample=8, reuse=4, resampling="systematic", seed=seed
        ),
        "random subset": lambda model, seed: RandomSubsetTraining(model, seed=seed),
        "constant variance": lambda model, seed: t.ConstantVarianceImportanceTraining(
            model, seed=seed
        ),
        "constant time": lambda model, seed: t.ConstantTimeImportanceTraining(model, seed=seed),
    }


def smaller_batch(batch_size: int, examples: float, steps: int) -> int:
    """The multiple of 8 that comes nearest to as many examples in as many steps."""
    return min(max(8, 8 * round(examples / steps / 8)), batch_size)
