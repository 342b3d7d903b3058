"""Samplers around samplers: what is drawn by, and when, changed by a function of the pool."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..proposal import Pool, Proposal, StepRecord, check_scores
from .ahead import batches_ahead
from .base import BaseSampler, check_pool
from .variance import MovingAverage


class SamplerDecorator(BaseSampler):
    """Passes everything on to another sampler; the base of what changes some of it.

    A decorator is a function from a pool to a pool: `transform`. One of your own that defines
    `_get_samples_with_scores`, as in 0.10, is given scores by the sampler it decorates whatever
    that one does: ones while it draws uniformly. If it leaves them all alike, the draw stays
    uniform.

    Args:
        sampler: the sampler to decorate.
    """

    _state: tuple[str, ...] = ("sampler",)

    overlaps = True

    def __init__(self, sampler: BaseSampler):
        self.sampler = sampler
        self.dataset = sampler.dataset
        self.reweighting = sampler.reweighting
        # One generator and one stream of indices for the whole stack.
        self._share_index_stream(sampler)
        self.resampling = sampler.resampling
        self.uses_stale_scores = sampler.uses_stale_scores
        self.uses_step_times = sampler.uses_step_times
        self.overlaps = self.overlaps and sampler.overlaps

    def transform(self, pool: Pool) -> Pool:
        """The pool to draw from, made of the decorated sampler's; by default that itself.

        Args:
            pool: the candidates; scores of None stand for a uniform draw (`Pool.map_scores`).
        """
        return pool

    def candidates(self, batch_size: int) -> Pool:
        """The decorated sampler's candidates, transformed.

        Args:
            batch_size: int, how many will be drawn.
        """
        pool = check_pool(self.sampler.candidates(batch_size), self.sampler)
        if pool.scores is not None:
            check_scores(pool.scores, pool.idxs)
        return self.transform(pool)

    @property
    def _leaves_pools_alone(self) -> bool:
        kind, base = type(self), SamplerDecorator
        return kind.transform is base.transform and kind.candidates is base.candidates

    def propose(self, batch_size: int) -> Proposal:
        """Draws the next mini-batch.

        Args:
            batch_size: int, number of examples.
        """
        if self._leaves_pools_alone:
            return self.sampler.propose(batch_size)
        return super().propose(batch_size)

    def propose_many(self, batch_size: int, count: int) -> list[Proposal]:
        """Draws the next mini-batches; see `BaseSampler`.

        Args:
            batch_size: int, number of examples of a uniform step.
            count: int, how many batches.
        """
        if self._leaves_pools_alone and count > 1:
            return self.sampler.propose_many(batch_size, count)
        return super().propose_many(batch_size, count)

    def batches_ahead(self, batch_size: int) -> int:
        """Those of the decorated sampler; one, where the decorator draws by scores of its own."""
        return batches_ahead(self.sampler, batch_size) if self._leaves_pools_alone else 1

    def observe(self, step: StepRecord) -> None:
        """Passes the step on to the decorated sampler."""
        self.sampler.observe(step)

    def _assumed_proposal(self, idxs: np.ndarray) -> Proposal:
        return self.sampler._assumed_proposal(idxs)

    @property
    def times_step(self) -> bool:
        """Whether it is so for the decorated sampler."""
        return self.sampler.times_step

    @property
    def epoch_over(self) -> bool | None:
        """Whether it is for the decorated sampler."""
        return self.sampler.epoch_over

    def begin_epoch(self, epoch: int) -> None:
        """Passes the call on to the decorated sampler."""
        self.sampler.begin_epoch(epoch)

    def batch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """Those of the decorated sampler; one, where the decorator draws by scores of its own."""
        return self.sampler.batch_sizes(batch_size) if self._leaves_pools_alone else (batch_size,)

    def prepare(self, batch_size: int) -> None:
        """Passes the call on to the decorated sampler."""
        self.sampler.prepare(batch_size)

    @property
    def prepared(self) -> bool:
        """Whether the decorated sampler is."""
        return self.sampler.prepared

    @property
    def model(self) -> Any:
        """The model of the decorated sampler."""
        return cast(Any, self.sampler).model

    @property
    def variance_reduction(self) -> float | None:
        """The decorated sampler's estimate."""
        return self.sampler.variance_reduction

    @property
    def reduction_threshold(self) -> float | None:
        """The decorated sampler's."""
        return self.sampler.reduction_threshold

    @property
    def why_uniform(self) -> str | None:
        """What the decorated sampler says."""
        return self.sampler.why_uniform


class AdditiveSmoothingSampler(SamplerDecorator):
    """Adds a constant to every score, which moves the draw towards uniform.

    Args:
        sampler: the sampler to decorate.
        c: float >= 0, in units of the score. Defaults to `1.0`.
    """

    def __init__(self, sampler: BaseSampler, c: float = 1.0):
        super().__init__(sampler)
        if not c >= 0:
            raise ValueError(f"`c` must be at least 0, got {c!r}.")
        self.c = c

    def transform(self, pool: Pool) -> Pool:
        """The pool with smoothed scores."""
        return pool.map_scores(lambda scores: scores + self.c)


class AdaptiveAdditiveSmoothingSampler(SamplerDecorator):
    """Adds a share of the moving average of the scores to every score.

    Args:
        sampler: the sampler to decorate.
        percentage: float >= 0, the share (0.5 is one half). Defaults to `0.5`.
        forget: float in [0, 1), momentum of the moving average. Defaults to `0.9`.
    """

    _state: tuple[str, ...] = (*SamplerDecorator._state, "_average")

    def __init__(self, sampler: BaseSampler, percentage: float = 0.5, forget: float = 0.9):
        super().__init__(sampler)
        if not percentage >= 0:
            raise ValueError(f"`percentage` must be at least 0, got {percentage!r}.")
        self.percentage = percentage
        self.forget = forget
        self._average = MovingAverage(forget)

    @property
    def mu(self) -> float:
        """The moving average of the scores."""
        return self._average.value

    def transform(self, pool: Pool) -> Pool:
        """The pool with smoothed scores; its own are averaged in before."""

        def smoothed(scores: np.ndarray) -> np.ndarray:
            self._average.add(scores.mean())
            return scores + self.percentage * self._average.value

        return pool.map_scores(smoothed)


class PowerSmoothingSampler(SamplerDecorator):
    """Raises the scores to a power: 1 leaves them, 0 makes the draw uniform.

    Args:
        sampler: the sampler to decorate.
        power: float in [0, 1]. Defaults to `0.5`.
    """

    def __init__(self, sampler: BaseSampler, power: float = 0.5):
        super().__init__(sampler)
        if not 0 <= power <= 1:
            raise ValueError(f"`power` must be in [0, 1], got {power!r}.")
        self.power = power

    def transform(self, pool: Pool) -> Pool:
        """The pool with smoothed scores."""
        return pool.map_scores(lambda scores: scores**self.power)
