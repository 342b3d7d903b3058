"""Samplers of 0.10 that change the size of pool or batch while importance sampling is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..proposal import Pool, Proposal
from ..protocols import Dataset, ScoringModel
from ._conditional_start import ConditionalStartSampler
from ._pool import ModelSampler
from .conditions import VarianceReductionCondition

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


def _round_up(size: float, batch_size: int) -> int:
    """Rounds up to one of 16 sizes per batch, so that a compiled step sees few shapes."""
    unit = max(1, -(-batch_size // 16))
    return max(unit, int(np.ceil(size / unit - 1e-9)) * unit)


class _ResizingSampler(ConditionalStartSampler):
    """Draws uniformly until the variance reduction pays, then by score in another size."""

    sampler: ModelSampler
    condition: VarianceReductionCondition

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        model: ScoringModel,
        threshold: float,
        **kwargs: Any,
    ):
        pools = ModelSampler(dataset, reweighting, model, large_batch=1, **kwargs)
        super().__init__(pools, VarianceReductionCondition(threshold))
        self.N = pools.N

    def _sizes(self, batch_size: int) -> tuple[int, int]:
        """Sizes of the pool and of the draw while importance sampling is on."""
        raise NotImplementedError(f"{type(self).__name__} must implement _sizes(batch_size)")

    def candidates(self, batch_size: int) -> Pool:
        """A uniform batch, or a scored pool of the size that is due.

        Args:
            batch_size: int, examples of a uniform step.
        """
        pool, _ = self._sizes(batch_size)
        self.sampler.large_batch = self.sampler.forward_batch_size = pool
        return super().candidates(batch_size)

    def propose(self, batch_size: int) -> Proposal:
        """Draws the next mini-batch, while by score of another size.

        Args:
            batch_size: int, examples of a uniform step.
        """
        # By the estimate from before the pool.
        _, size = self._sizes(batch_size)
        pool = self.candidates(batch_size)
        return self._draw(pool, batch_size if pool.scores is None else size)

    def prepare(self, batch_size: int) -> None:
        """Prepares nothing: how large the next pool is, only this step's scores tell.

        Args:
            batch_size: int, examples of a uniform step.
        """


class ConstantVarianceSampler(_ResizingSampler):
    r"""Draws fewer examples at the same variance.

    While the variance reduction $\tau$ makes it pay, a uniform batch of $b$ is scored and
    $(1/\tau + \text{extra\_samples})\, b$ of it are drawn by score. It pays once
    $1/\tau + \text{extra\_samples}$ is below $t/(1+t)$, $t$ the backward time in units of a
    forward pass.

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
        model: anything with `score(x, y, batch_size)`.
        backward_time: float, time of a backward pass in units of a forward pass. Defaults
            to `2.0`.
        extra_samples: float, share of the batch to draw beyond what the estimate asks for.
            Defaults to `0.2`.
    """

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        model: ScoringModel,
        backward_time: float = 2.0,
        extra_samples: float = 0.2,
        **kwargs: Any,
    ):
        share = backward_time / (1.0 + backward_time) - extra_samples
        if not backward_time > 0 or not extra_samples >= 0 or share <= 0:
            raise ValueError(
                "Expected backward_time > 0 and 0 <= extra_samples < backward_time / (1 + "
                f"backward_time), got backward_time={backward_time!r}, "
                f"extra_samples={extra_samples!r}."
            )
        super().__init__(dataset, reweighting, model, 1.0 / share, **kwargs)
        self.backward_time = backward_time
        self.extra_samples = extra_samples

    def _sizes(self, batch_size: int) -> tuple[int, int]:
        share = 1.0 / self.condition.variance_reduction + self.extra_samples
        return batch_size, min(batch_size, _round_up(share * batch_size, batch_size))


class ConstantTimeSampler(_ResizingSampler):
    r"""Scores more and trains on less, in the time of one uniform step.

    With $t$ the backward time in units of a forward pass, a uniform step costs $(1 + t) b$.
    While the variance reduction $\tau$ is above `tau_th`, the smallest batch is
    $a = \max(\text{min\_a}\, b, b/\tau)$, which leaves $(1 + t)(b - a)$ examples to score; of
    the room between $b$ and that, `ratio` is used for scoring and the rest goes to the batch.

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
        model: anything with `score(x, y, batch_size)`.
        backward_time: float, time of a backward pass in units of a forward pass. Defaults
            to `2.0`.
        tau_th: float, the variance reduction above which to draw by score. Defaults to `2.0`.
        ratio: float in [0, 1]. Defaults to `0.5`.
        min_a: float in (0, 1], the smallest batch as a share of the batch size. Defaults
            to `0.2`.
    """

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        model: ScoringModel,
        backward_time: float = 2.0,
        tau_th: float = 2.0,
        ratio: float = 0.5,
        min_a: float = 0.2,
        **kwargs: Any,
    ):
        if not backward_time > 0 or not 0 <= ratio <= 1 or not 0 < min_a <= 1:
            raise ValueError(
                "Expected backward_time > 0, 0 <= ratio <= 1 and 0 < min_a <= 1, got "
                f"backward_time={backward_time!r}, ratio={ratio!r}, min_a={min_a!r}."
            )
        super().__init__(dataset, reweighting, model, tau_th, **kwargs)
        self.backward_time = backward_time
        self.ratio = ratio
        self.min_a = min_a

    def _sizes(self, batch_size: int) -> tuple[int, int]:
        step = (1.0 + self.backward_time) * batch_size
        least = max(self.min_a * batch_size, batch_size / self.condition.variance_reduction)
        most_scored = step - (1.0 + self.backward_time) * least
        scored = batch_size + max(most_scored - batch_size, 0.0) * self.ratio
        size = _round_up((step - scored) / (1.0 + self.backward_time), batch_size)
        size = min(size, batch_size)
        pool = round(step - (1.0 + self.backward_time) * size)
        length = self._indices.n
        pool = max(pool, size)
        return (pool if length is None else min(pool, length)), size
