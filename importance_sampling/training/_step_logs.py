"""What the logs of steps and epochs say beside the model's own metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._state import Stateful
from ..proposal import Proposal, StepRecord
from ..samplers import BaseSampler, VarianceReductionCondition


class StepLogs(Stateful):
    r"""Mean score, variance reduction, share of steps by score and size of batches.

    The variance reduction is that of the draws that were made, on average over the epoch's steps:
    the root of the ratio of second moments, uniform over drawn, and 1.0 for uniform steps.

    Args:
        sampler: draws the batches; its own estimate of the variance reduction is told, where it
            has one.
        batch_size: int, examples of a uniform step.

    Attributes:
        last: how the last step was drawn: its kind, its examples and whether by score.
    """

    _state: tuple[str, ...] = (
        "_estimate",
        "mean_score",
        "steps",
        "_steps_by_score",
        "_examples",
        "_reductions",
        "_reduced_steps",
        "_scored_examples",
        "_score_sum",
    )

    def __init__(self, sampler: BaseSampler, batch_size: int):
        self._sampler = sampler
        self._estimate = VarianceReductionCondition(sample_size=batch_size)
        self._varies_batch_size = len(sampler.batch_sizes(batch_size)) > 1
        self.mean_score = 0.0
        self.last: tuple[str, int, bool] | None = None
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Begins the sums of an epoch anew."""
        self.steps = 0
        self._steps_by_score = self._examples = self._scored_examples = 0
        self._score_sum = self._reductions = 0.0
        self._reduced_steps = 0

    @property
    def estimate(self) -> float:
        """What a draw by score would have for a variance reduction now, whether it is used or not.

        1.0 before there were any scores to tell.
        """
        own = self._sampler.variance_reduction
        return self._estimate.variance_reduction if own is None else own

    def count(self, proposal: Proposal) -> None:
        """Counts a step that was made.

        Args:
            proposal: what was trained on.
        """
        self.steps += 1
        self.last = proposal.kind.value, len(proposal.idxs), proposal.by_score
        self._steps_by_score += proposal.by_score
        self._examples += len(proposal.idxs)

    def count_reduction(self, proposal: Proposal) -> None:
        """Averages in what a step's draw had for a variance reduction, before it is learnt from.

        Not when the step is made: what is known then depends on how many are made together.

        Args:
            proposal: what was trained on.
        """
        self._reductions += self.estimate if proposal.by_score else 1.0
        self._reduced_steps += 1

    def add_scores(self, record: StepRecord) -> Any:
        """Averages a step's scores in.

        Args:
            record: the step.

        Returns:
            The scores: those of the scored pool if there was one, otherwise those of the batch.
        """
        proposal = record.proposal
        known, size = proposal.pool_scores, len(proposal.idxs)
        if known is None:
            # Where nothing was scored but the batch, its weights make up for the draw.
            known = record.scores
            self.mean_score = float(proposal.importance_weights @ known) / size
        else:
            self.mean_score = float(known.mean())
        self._score_sum += self.mean_score * size
        self._scored_examples += size
        uniform = proposal.pool_scores is not None or not proposal.by_score
        if uniform and self._sampler.variance_reduction is None:
            self._estimate.update(known)
        return known

    def of_epoch(self) -> dict[str, float]:
        """The logs of the epoch as far as it has come."""
        scored, steps, reduced = self._scored_examples, self.steps, self._reduced_steps
        logs = {
            "score": self._score_sum / scored if scored else self.mean_score,
            "variance_reduction": self._reductions / reduced if reduced else 1.0,
            "importance_sampling": self._steps_by_score / steps if steps else 0.0,
        }
        if self._varies_batch_size:
            logs["batch_size"] = self._examples / steps if steps else 0.0
        return logs

    def of_step(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """A step's logs, which mean the same as those of the epoch: of all its steps so far.

        Args:
            metrics: what the model said.
        """
        loss = {"loss": metrics["loss"]} if "loss" in metrics else {}
        return {**loss, **metrics, **self.of_epoch()}
