"""Uniform draws while a condition does not hold, and those of another sampler while it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..proposal import Pool, Proposal, StepRecord
from ._decorators import SamplerDecorator
from ._history_store import batches_at_once
from ._pool import UniformSampler
from .ahead import observe_one_by_one, observe_together
from .base import BaseSampler
from .conditions import (
    Condition,
    MeasuredReductionCondition,
    VarianceReductionCondition,
    as_condition,
)


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
