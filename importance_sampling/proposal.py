"""What passes between sampler, model and loop: what to train on next, and what came of it.

sampler.propose(batch_size) -> Proposal
model.train(proposal)       -> StepResult
sampler.observe(StepRecord)
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

_NOT_FINITE = (
    "Check these rows of the data for NaN and infinity, lower the learning rate, or clip the "
    "gradients."
)
_NEGATIVE = (
    "Probabilities are proportional to scores: a score of your own must say how much an example "
    "matters, as its absolute value may; a loss that can be negative is none, 'gnorm' is."
)


class InvalidScores(ValueError):
    """Scores that nothing can be drawn by: NaN, infinite or negative ones."""


def are_valid(scores: np.ndarray) -> bool:
    """Whether none of the scores is NaN, infinite or negative.

    Args:
        scores: an array of any shape.
    """
    scores = scores.reshape(-1)
    # The ufuncs themselves: half of what `min` and `max` of a batch take is Python.
    return scores.size == 0 or bool(
        np.minimum.reduce(scores) >= 0 and np.maximum.reduce(scores) < np.inf
    )


def check_scores(scores: ArrayLike, idxs: np.ndarray | None = None) -> np.ndarray:
    """Scores as a float64 vector.

    Args:
        scores: `(n,)` scores.
        idxs: `(n,)` the examples they belong to.

    Raises:
        InvalidScores: if any is NaN, infinite or negative; says how many, of which examples
            and what to check.
    """
    scores = np.asarray(scores, dtype=np.float64).reshape(-1)
    if are_valid(scores):
        return scores
    rows = np.flatnonzero(~((scores >= 0) & np.isfinite(scores)))
    which = rows[:5] if idxs is None else np.asarray(idxs)[rows[:5]]
    raise InvalidScores(
        f"{len(rows)} of {len(scores)} scores are NaN, infinite or negative; the first belong to "
        f"the examples with index {which.tolist()} (scores {scores[rows[:5]].tolist()}). "
        + (_NEGATIVE if np.isfinite(scores).all() else _NOT_FINITE)
    )


class Kind(enum.Enum):
    """How a batch was drawn; the values are the names in reports."""

    UNIFORM = "uniform"
    POOL = "pool"
    HISTORY = "history"


@dataclass(frozen=True, eq=False)
class Pool:
    """Candidates to draw a batch from, with the scores that make the proposal distribution.

    It unpacks as the triple `(idxs, scores, rows)` of `_get_samples_with_scores` in 0.10.

    Attributes:
        idxs: `(B,)` indices of the candidates.
        scores: `(B,)` scores, to which the probabilities are proportional; None for a uniform
            draw, which takes all candidates if there are no more than asked for.
        rows: data of the candidates, or None to read only the rows drawn.
        decided_uniformly: whether the scores are a decorator's own, of what would have been a
            uniform draw.
    """

    idxs: np.ndarray
    scores: np.ndarray | None = None
    rows: tuple[Any, ...] | None = None
    decided_uniformly: bool = False

    def __iter__(self) -> Iterator[Any]:
        return iter((self.idxs, self.scores, self.rows))

    def map_scores(self, function: Callable[[np.ndarray], np.ndarray]) -> Pool:
        """The same candidates with other scores; as it is, for a uniform draw.

        Args:
            function: gives `(B,)` new scores of the present ones.
        """
        return self if self.scores is None else replace(self, scores=function(self.scores))


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mini-batch to train on, and how it was drawn.

    It unpacks as the triple `(idxs, (x, y), w)` that samplers of 0.10 return.

    Attributes:
        idxs: `(b,)` indices of the examples.
        rows: `(x, y)` or `(x, y, sample_weight)`, the data of the examples.
        weights: `(b, weight_size)` what the reweighting policy's layer takes.
        scores: `(b,)` the scores the examples were drawn by; None if drawn uniformly.
        metric_weights: `(b,)` importance weights 1/(N p), which make averages over the batch
            estimates of averages over the training set; None where the column of `weights`
            already is that.
        kind: how it was drawn.
        pool_scores: `(B,)` scores of all candidates by the model as it is; None if it was not
            asked.
        reads_scores: whether the scores of the training pass are of use to anybody.
        decided_uniformly: as of the `Pool`.
        number: int, which of its sampler's steps this is, counted from 1; 0 where it counts none.
    """

    idxs: np.ndarray
    rows: tuple[Any, ...]
    weights: np.ndarray
    scores: np.ndarray | None = None
    metric_weights: np.ndarray | None = None
    kind: Kind = Kind.UNIFORM
    pool_scores: np.ndarray | None = None
    reads_scores: bool = True
    decided_uniformly: bool = False
    number: int = 0

    def with_number(self, number: int) -> Proposal:
        """The same proposal with its number.

        Args:
            number: int, counted from 1.
        """
        proposal = object.__new__(type(self))
        vars(proposal).update(vars(self), number=number)
        return proposal

    @property
    def by_score(self) -> bool:
        """Whether it was drawn by score."""
        return self.scores is not None

    @property
    def importance_weights(self) -> np.ndarray:
        """`(b,)` weights 1/(N p), whatever the training weights are."""
        return self.weights[:, 0] if self.metric_weights is None else self.metric_weights

    @property
    def predicted_scores(self) -> np.ndarray:
        """`(b,)` scores drawn by; ones if drawn uniformly, as hooks and signals have them."""
        return np.ones(len(self.idxs)) if self.scores is None else self.scores

    def __iter__(self) -> Iterator[Any]:
        return iter((self.idxs, self.rows, self.weights))

    def __len__(self) -> int:
        return 3

    def __getitem__(self, item: Any) -> Any:
        return (self.idxs, self.rows, self.weights)[item]


class Outcome(Protocol):
    """What a training step returns; arrays may be fetched from the device when they are read."""

    @property
    def logs(self) -> Mapping[str, Any]:
        """The metrics, running averages over the epoch."""

    @property
    def weighted_losses(self) -> np.ndarray:
        """`(b,)` weight times loss of each example."""

    @property
    def scores(self) -> np.ndarray:
        """`(b,)` score of each example in the very pass that trained."""


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One optimizer step that was made.

    Attributes:
        proposal: what was trained on.
        outcome: what the model said.
        step: int, the step's number in the run, counted from 1; 0 if that is not known.
        seconds: float, from the draw to the last thing done for it; NaN if that is not known.
            Callbacks are not in it. Where the device works asynchronously, what it did of the
            step before is.
        steps_in_call: int, how many steps were made by the same call of the device, of whose
            time `seconds` is the share.
        timed: bool, whether `seconds` can be compared with those of other steps: not where the
            device works asynchronously and nobody waits for it.
    """

    proposal: Proposal
    outcome: Outcome
    step: int = 0
    seconds: float = float("nan")
    steps_in_call: int = 1
    timed: bool = True

    @cached_property
    def scores(self) -> np.ndarray:
        """`(b,)` float64 scores of the training pass; waits for the device on first reading.

        Raises:
            InvalidScores: if any is NaN, infinite or negative; names the step and the examples.
        """
        try:
            return check_scores(self.outcome.scores, self.proposal.idxs)
        except InvalidScores as error:
            raise at_step(self.step, error) from error

    def keep_scores(self, scores: np.ndarray) -> None:
        """Keeps scores that were fetched and checked with those of other steps.

        Args:
            scores: `(b,)` float64, what reading `scores` would give.
        """
        vars(self)["scores"] = scores

    def with_seconds(self, seconds: float, timed: bool = True) -> StepRecord:
        """The same record with the time of the step; scores that were fetched stay fetched.

        Args:
            seconds: float.
            timed: bool, as of the record.
        """
        record = object.__new__(type(self))
        vars(record).update(vars(self), seconds=seconds, timed=timed)
        return record


def at_step(step: int, error: InvalidScores) -> InvalidScores:
    """The same error with the number of the step, counted from 1, before it.

    Args:
        step: int; 0 if it is not known, which leaves the error as it is.
        error: what was raised.
    """
    return InvalidScores(f"At step {step} (counted from 1): {error}") if step else error
