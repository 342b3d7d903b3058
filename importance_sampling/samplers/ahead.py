"""How many batches a sampler may be asked for before it is told of a step."""

from __future__ import annotations

from .base import BaseSampler

# What `batches_ahead` of a class makes a statement about.
_DRAWS_OR_LEARNS = {
    *("propose", "propose_many", "candidates", "transform", "observe"),
    *("sample", "_get_samples_with_scores", "update", "_draw_stored"),
}


def batches_ahead(sampler: BaseSampler, batch_size: int) -> int:
    """What a sampler says of itself; one where a subclass draws or learns in its own way.

    Args:
        sampler: the sampler.
        batch_size: int, number of examples of a uniform step.
    """
    for kind in type(sampler).__mro__:
        if "batches_ahead" in vars(kind):
            return max(1, sampler.batches_ahead(batch_size))
        if not _DRAWS_OR_LEARNS.isdisjoint(vars(kind)):
            return 1
    return 1
