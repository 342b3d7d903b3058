"""The names that samplers had in 0.10, beside the present ones, for callers and for subclasses.

| 0.10 | now |
|---|---|
| `sample(batch_size)`, unpacked as `idxs, (x, y), w` | `propose(batch_size)`, a `Proposal` |
| `_get_samples_with_scores(batch_size)` | `candidates(batch_size)`, a `Pool` |
| `update(idxs, results)` | `observe(step)`, a `StepRecord` |

Whichever of the two a class defines, it gets the other one. The old name that is added to a class
calls that class's own new method, so that `super().sample(...)` in a subclass ends there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..proposal import Kind, Pool, Proposal, StepRecord


class _Asked(threading.local):
    """What the sampler said that was asked last, below any number of decorators of users."""

    uniform = False


_asked = _Asked()


def add_old_names(cls: Any) -> None:
    """Gives a sampler class the name that it lacks of each pair.

    Args:
        cls: a subclass of `BaseSampler`, just made.
    """
    for new, old, to_old, to_new in (
        ("propose", "sample", _sample, _propose),
        ("candidates", "_get_samples_with_scores", _scored_candidates, _candidates),
        ("observe", "update", _update, _observe),
    ):
        # The class itself, or a mixin that stands before the samplers it derives from.
        kind = next(k for k in cls.__mro__ if {new, old} & set(vars(k)))
        own = vars(kind)
        if new in own:
            if kind is cls and old not in own:
                setattr(cls, old, to_old(own[new]))
            continue
        setattr(cls, new, to_new(own[old]))
        if new != "candidates" and "overlaps" not in vars(cls):
            # Written for a loop that told it of a step before it asked for the next.
            cls.overlaps = False


def as_proposal(
    drawn: Proposal | tuple[np.ndarray, tuple[Any, ...], np.ndarray],
    weights_are_unbiased: Callable[[np.ndarray], bool],
) -> Proposal:
    """A proposal of what a user's `sample` returned, which may be the bare triple.

    Args:
        drawn: a `Proposal`, or `(idxs, (x, y), w)`.
        weights_are_unbiased: says of weights `(b, weight_size)` whether they are the importance
            weights 1/(N p) themselves.
    """
    if isinstance(drawn, Proposal):
        return drawn
    idxs, rows, weights = drawn
    # As if by score, whatever by: only the training pass can tell of the training set.
    ones = np.ones(len(idxs))
    metric_weights = None if weights_are_unbiased(weights) else ones
    return Proposal(idxs, rows, weights, ones, metric_weights, kind=Kind.POOL)


@dataclass(frozen=True)
class GivenScores:
    """The outcome of a step of which nothing but the scores is known."""

    scores: np.ndarray
    logs: dict[str, Any] = field(default_factory=dict)

    @property
    def weighted_losses(self) -> np.ndarray:
        """Not known: an empty array."""
        return np.zeros(0)


def _sample(propose: Any) -> Any:
    def sample(self: Any, batch_size: int) -> Proposal:
        """Draws a mini-batch; unpacks as `idxs, (x, y), w`. The name of `propose` in 0.10."""
        return propose(self, batch_size)

    return sample


def _propose(sample: Any) -> Any:
    def propose(self: Any, batch_size: int) -> Proposal:
        """Draws a mini-batch by the class's own `sample`."""
        return as_proposal(sample(self, batch_size), self._weights_are_unbiased)

    return propose


def _scored_candidates(candidates: Any) -> Any:
    def _get_samples_with_scores(self: Any, batch_size: int) -> Pool:
        """The candidates as in 0.10: a uniform draw has scores, all one."""
        pool = candidates(self, batch_size)
        uniform = pool.scores is None
        _asked.uniform = uniform or pool.decided_uniformly
        return Pool(pool.idxs, np.ones(len(pool.idxs)) if uniform else pool.scores, pool.rows)

    return _get_samples_with_scores


def _candidates(get_samples: Any) -> Any:
    def candidates(self: Any, batch_size: int) -> Pool:
        """The candidates of the class's own `_get_samples_with_scores`."""
        _asked.uniform = False
        found = get_samples(self, batch_size)
        if not isinstance(found, tuple | list | Pool) or len([*found]) != 3:
            raise TypeError(
                f"{type(self).__name__}._get_samples_with_scores must return three things: "
                f"indices, scores and rows (or None), got {type(found).__name__}."
            )
        idxs, scores, rows = found
        idxs = np.asarray(idxs)
        uniform = _asked.uniform and scores is not None
        return Pool(idxs, scores, rows, decided_uniformly=uniform)

    return candidates


def _update(observe: Any) -> Any:
    def update(self: Any, idxs: np.ndarray, results: np.ndarray) -> None:
        """Learns from the scores `(n,)` or `(n, 1)` of examples. The name of `observe` in 0.10."""
        observe(self, StepRecord(self._assumed_proposal(idxs), GivenScores(results)))

    return update


def _observe(update: Any) -> Any:
    def observe(self: Any, step: StepRecord) -> None:
        """Tells the class's own `update` of a step's scores, as a column."""
        if step.proposal.reads_scores:
            update(self, step.proposal.idxs, step.scores[:, None])

    return observe
