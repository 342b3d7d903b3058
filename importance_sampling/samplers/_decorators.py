"""Samplers around samplers: what is drawn by, and when, changed by a function of the pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ..proposal import Pool, Proposal, StepRecord, check_scores
from ._history_store import batches_at_once
from ._pool import UniformSampler
from .ahead import batches_ahead, observe_one_by_one, observe_together
from .base import BaseSampler, check_pool
from .conditions import (
    Condition,
    MeasuredReductionCondition,
    VarianceReductionCondition,
    as_condition,
)
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


class ConditionalStartSampler(SamplerDecorator):
    """Draws uniformly while a condition does not hold, and from a sampler while it does.

    Args:
        sampler: the sampler to decorate.
        condition: a `Condition`, or anything with `satisfied` and `update(scores)`.
        in_blocks: keyword-only; bool, whether a uniform draw decides for the next ones, too, as
            many as the history draws at once, so that their steps can be made together. The block
            after them is decided by what was known when this one began, so that its steps may
            begin before those of this one have ended. Asking whether the condition is `satisfied`
            must then change nothing. Defaults to `False`, one decision for each draw.
    """

    _state: tuple[str, ...] = (
        *SamplerDecorator._state,
        "condition",
        "_decided_draws",
        "_drawn",
        "_observed",
        "_block_start",
        "_held",
    )

    def __init__(self, sampler: BaseSampler, condition: Condition, *, in_blocks: bool = False):
        super().__init__(sampler)
        self.in_blocks = in_blocks
        # Uniform draws to come that are decided already.
        self._decided_draws = 0
        # Steps that were drawn, were observed, and were drawn before the present block.
        self._drawn = self._observed = self._block_start = 0
        # Whether the condition held when those before the block were observed; None without a
        # block, or before they were.
        self._held: bool | None = None
        self.condition = as_condition(condition)
        measures = isinstance(condition, MeasuredReductionCondition)
        self.uses_step_times = measures or sampler.uses_step_times
        self.uniform = UniformSampler(sampler.dataset, sampler.reweighting)
        self.uniform._share_index_stream(self)

    def candidates(self, batch_size: int) -> Pool:
        """A uniform batch or the decorated sampler's candidates, as the condition decides.

        Args:
            batch_size: int, how many will be drawn.
        """
        # What was prepared while the condition held is used, whatever it says now.
        if self.prepared:
            self._drawn += 1
        elif not self._decide(batch_size):
            return self.uniform.candidates(batch_size)
        pool = self.sampler.candidates(batch_size)
        if pool.scores is not None:
            self.condition.update(pool.scores)
        return pool

    def begin_epoch(self, epoch: int) -> None:
        """Decides anew, so that what is drawn together begins with the epoch.

        Args:
            epoch: int, counted from 0.
        """
        super().begin_epoch(epoch)
        self._decided_draws = 0

    def _decide(self, batch_size: int) -> bool:
        """Whether to draw by score."""
        if self._decided_draws > 0:
            self._decided_draws -= 1
        else:
            held, self._held = self._held, None
            if self.condition.decide() if held is None else self.condition.decide_as(held):
                self._drawn += 1
                return True
            self._decided_draws = self._block(batch_size) - 1
            self._block_start = self._drawn
            if self._lags and self._observed >= self._drawn:
                self._held = bool(self.condition.satisfied)
        self._drawn += 1
        return False

    @property
    def _lags(self) -> bool:
        """Whether blocks are decided by what was known when the one before began.

        Not by a condition that does more than to look when it is asked to decide.
        """
        return self.in_blocks and type(self.condition).decide is Condition.decide

    def _block(self, batch_size: int) -> int:
        n = self._indices.n
        return batches_at_once(n, batch_size) if self.in_blocks and n is not None else 1

    def batches_ahead(self, batch_size: int) -> int:
        """The uniform draws that are decided, or would be now; of a pass, its whole batches.

        Args:
            batch_size: int, number of examples of a uniform step.
        """
        if not self.in_blocks or self.prepared:
            return 1
        ahead = self._decided_draws
        holds = self.condition.satisfied if self._held is None else self._held
        if not ahead and not holds:
            ahead = self._block(batch_size)
        return min(ahead, self._rows.whole_batches(batch_size))

    def settled_ahead(self, batch_size: int) -> int:
        """The same, once the steps before the present block were observed.

        Args:
            batch_size: int, number of examples of a uniform step.
        """
        if self._lags and (self._decided_draws or self._held is False):
            return self.batches_ahead(batch_size)
        return 0

    def propose_many(self, batch_size: int, count: int) -> list[Proposal]:
        """Draws the next mini-batches; see `BaseSampler`.

        Args:
            batch_size: int, number of examples of a uniform step.
            count: int, how many batches.
        """
        if count == 1:
            return [self.propose(batch_size)]
        for _ in range(count):
            self._decide(batch_size)
        return self._propose_many_uniformly(batch_size, count)

    def observe(self, step: StepRecord) -> None:
        """Tells the condition, of the scores while draws are uniform, and the decorated sampler."""
        proposal = step.proposal
        if proposal.reads_scores and (not proposal.by_score or proposal.decided_uniformly):
            self.condition.update(step.scores)
        self.condition.record_step_time(proposal, step.seconds)
        self._count_observed()
        self.sampler.observe(step)

    def _count_observed(self) -> None:
        self._observed += 1
        if self._lags and self._observed == self._block_start:
            self._held = bool(self.condition.satisfied)

    def observe_many(
        self, steps: Sequence[StepRecord], before: Callable[[StepRecord], None]
    ) -> None:
        """As `observe` of each step, in order; the condition is told of uniform ones at once.

        Args:
            steps: the steps made, whose scores are known to be valid.
            before: called with each step before it is learnt from.
        """
        size = len(steps[0].proposal.idxs)
        # What is known at the start of a block may be asked for between two of them.
        before_block = self._block_start - self._observed
        if 0 < before_block < len(steps) or not all(
            step.proposal.reads_scores
            and not step.proposal.by_score
            and len(step.proposal.idxs) == size
            for step in steps
        ):
            observe_one_by_one(self, steps, before)
            return
        for step in steps:
            before(step)
        self.condition.update_many(np.stack([step.scores for step in steps]))
        for step in steps:
            self.condition.record_step_time(step.proposal, step.seconds)
            self._count_observed()
        observe_together(self.sampler, steps, lambda step: None)

    def _assumed_proposal(self, idxs: np.ndarray) -> Proposal:
        proposal = super()._assumed_proposal(idxs)
        if self.condition.previously_satisfied:
            return replace(proposal, scores=np.ones(len(proposal.idxs)))
        return proposal

    def prepare(self, batch_size: int) -> None:
        """Prepares a draw by score, if the last one was.

        Args:
            batch_size: int, examples of the next draw.
        """
        if self.condition.previously_satisfied:
            super().prepare(batch_size)

    @property
    def variance_reduction(self) -> float | None:
        """The condition's estimate, where it keeps one."""
        estimate = getattr(self.condition, "variance_reduction", None)
        return self.sampler.variance_reduction if estimate is None else estimate

    @property
    def reduction_threshold(self) -> float | None:
        """The condition's, where it is one of the variance reduction."""
        if isinstance(self.condition, VarianceReductionCondition):
            return self.condition.threshold
        return self.sampler.reduction_threshold

    @property
    def why_uniform(self) -> str | None:
        """What the condition says, while it does not hold."""
        if self.condition.previously_satisfied:
            return self.sampler.why_uniform
        return self.condition.unmet
