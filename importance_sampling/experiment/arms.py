"""What the demo compares: five ways to take the same steps."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from ..protocols import Dataset
from ..reweighting import BiasedReweightingPolicy
from ..samplers import BaseSampler, ModelSampler, Pool, UniformSampler
from ..training import BaseTraining, HistoryImportanceTraining, ImportanceTraining
from .arm_names import HISTORY, POOLS, SAME_NOISE, SUBSET, UNIFORM


class UniformTraining(BaseTraining):
    """Draws uniformly, by the same loop as the others.

    Args:
        model: a compiled `keras.Model`.
        seed: int or None, of all that is random.
    """

    def __init__(self, model: keras.Model, seed: int | None = None):
        super().__init__(model, BiasedReweightingPolicy(1.0), seed=seed)

    def sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes a `UniformSampler`.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int or None.
            epochs: int.
        """
        return UniformSampler(dataset, self.reweighting, **self.sampler_options)


class _IgnoredScores(ModelSampler):
    """Pays for the scores of a pool, and then draws from it uniformly."""

    # It overlaps with the step as what it is compared with does.
    overlaps = True

    def candidates(self, batch_size: int) -> Pool:
        return super().candidates(batch_size).map_scores(np.ones_like)


class RandomSubsetTraining(UniformTraining):
    """Trains on a random part of each scored pool: the cost of importance sampling without it.

    Args:
        model: a compiled `keras.Model`.
        presample: float, the pool in batches.
        seed: int or None, of all that is random.
    """

    def __init__(self, model: keras.Model, presample: float = 3.0, seed: int | None = None):
        super().__init__(model, seed)
        self._presample = presample

    def sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes a sampler that pays for scores and draws without them.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int or None.
            epochs: int.
        """
        pool = int(self._presample * batch_size)
        return _IgnoredScores(
            dataset, self.reweighting, self.model, pool, pool, **self.sampler_options
        )


def same_noise(model: keras.Model, seed: int | None = None) -> HistoryImportanceTraining:
    """Steps on as few examples as the noise of a uniform batch allows.

    Args:
        model: a compiled `keras.Model`.
        seed: int or None, of all that is random.

    Returns:
        A `HistoryImportanceTraining`.
    """
    return HistoryImportanceTraining(model, constant="variance", seed=seed)


ARMS: dict[str, Callable[..., BaseTraining]] = {
    UNIFORM: UniformTraining,
    SUBSET: RandomSubsetTraining,
    POOLS: ImportanceTraining,
    HISTORY: HistoryImportanceTraining,
    SAME_NOISE: same_noise,
}
