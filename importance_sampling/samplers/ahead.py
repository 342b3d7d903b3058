"""Several batches at a time: how many a sampler may be asked for, and telling it of their steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..proposal import StepRecord

if TYPE_CHECKING:
    from .base import BaseSampler

# What `batches_ahead` of a class makes a statement about.
_DRAWS_OR_LEARNS = {
    *("propose", "propose_many", "candidates", "transform", "observe"),
    *("sample", "_get_samples_with_scores", "update", "_draw_stored"),
}

# What `observe_many` of a class makes a statement about.
_LEARNS = {"observe", "update", "learn_scores"}


def _holds(sampler: BaseSampler, statement: str, about: set[str]) -> bool:
    """Whether what a class says of itself holds for a sampler that may be of a class below it.

    Args:
        sampler: the sampler.
        statement: name of the method that says it.
        about: names of the methods that it is about; a subclass that has its own says it anew.
    """
    for kind in type(sampler).__mro__:
        if statement in vars(kind):
            return True
        if not about.isdisjoint(vars(kind)):
            return False
    return False


def batches_ahead(sampler: BaseSampler, batch_size: int) -> int:
    """What a sampler says of itself; one where a subclass draws or learns in its own way.

    Args:
        sampler: the sampler.
        batch_size: int, number of examples of a uniform step.
    """
    if not _holds(sampler, "batches_ahead", _DRAWS_OR_LEARNS):
        return 1
    return max(1, sampler.batches_ahead(batch_size))


def settled_ahead(sampler: BaseSampler, batch_size: int) -> int:
    """What a sampler says of itself; 0 where a subclass draws or learns in its own way.

    Args:
        sampler: the sampler.
        batch_size: int, number of examples of a uniform step.
    """
    about = _DRAWS_OR_LEARNS | _LEARNS | {"batches_ahead"}
    return sampler.settled_ahead(batch_size) if _holds(sampler, "settled_ahead", about) else 0


def observe_together(
    sampler: BaseSampler, steps: Sequence[StepRecord], before: Callable[[StepRecord], None]
) -> None:
    """Tells a sampler of steps in order: at once where it says how, and one by one otherwise.

    Args:
        sampler: the sampler.
        steps: the steps, whose scores are known to be valid.
        before: called with each step before it is learnt from.
    """
    if _holds(sampler, "observe_many", _LEARNS):
        many: Any = sampler
        many.observe_many(steps, before)
    else:
        observe_one_by_one(sampler, steps, before)


def observe_one_by_one(
    sampler: BaseSampler, steps: Sequence[StepRecord], before: Callable[[StepRecord], None]
) -> None:
    """Tells a sampler of one step after the other.

    Args:
        sampler: the sampler.
        steps: the steps.
        before: called with each step before it is learnt from.
    """
    for step in steps:
        before(step)
        sampler.observe(step)


def batches_by_score(steps: Sequence[StepRecord]) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights and scores of batches drawn by score, `(steps, b)` each; None if they are not alike.

    Args:
        steps: the steps that were made of them.
    """
    size = len(steps[0].proposal.idxs)
    if not all(s.proposal.by_score and len(s.proposal.idxs) == size for s in steps):
        return None
    weights = np.stack([step.proposal.importance_weights for step in steps])
    return weights, np.stack([step.scores for step in steps])
