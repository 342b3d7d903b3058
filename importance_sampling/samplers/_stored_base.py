"""Drawing from all examples by a score that is kept for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import dataset_length
from .._weights import unbiased_weights
from ..proposal import Kind, Pool, Proposal, check_scores
from ..protocols import Dataset, ScoringModel
from ._model_scores import score_rows
from .base import BaseSampler, announced
from .drawing import uniforms_for
from .sum_tree import SumTree
from .variance import MovingAverage

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy

# Examples scored in one go where all of them are.
_CHUNK = 2**16


def length_or_refuse(sampler: BaseSampler, dataset: Dataset) -> int:
    """The number of training examples; streams have none to keep anything for.

    Args:
        sampler: who asks.
        dataset: the data set.

    Raises:
        NotImplementedError: for a stream.
    """
    length = dataset_length(dataset)
    if length is None:
        raise NotImplementedError(
            f"{type(sampler).__name__} keeps something for every example, and a stream has no "
            "examples to come back to. Train on a stream with ImportanceTraining(model, "
            'presample="auto"), or with ModelSampler; or use data with a length: arrays, memory '
            "maps, a datasets.Dataset, or what gives an example for an index, as "
            "importance_sampling.datasets.IndexedExamples(source)."
        )
    return length


class StoredScoreSampler(BaseSampler):
    """Base of the samplers that draw from all examples by stored scores, in O(b log N).

    Weights are made of the scores really drawn by, so that with k = 1 the mean step is the
    full one however stale the scores are. Subclasses set values in `_tree` in `observe`.

    Args:
        dataset: a `BaseDataset` with a length.
        reweighting: a `ReweightingPolicy`.
    """

    _state: tuple[str, ...] = (*BaseSampler._state, "_tree", "_average")

    overlaps = True
    uses_stale_scores = True

    def __init__(self, dataset: Dataset, reweighting: ReweightingPolicy, **kwargs: Any):
        super().__init__(dataset, reweighting, **kwargs)
        self._tree = SumTree(length_or_refuse(self, dataset), allocate=self.allocate)
        self._average = MovingAverage(0.9)

    def candidates(self, batch_size: int) -> Pool:
        """All examples with their scores, for decorators; O(N).

        Args:
            batch_size: int, how many will be drawn.
        """
        return Pool(np.arange(self._tree.n), self._all_scores())

    def _all_scores(self) -> np.ndarray:
        return self._tree.values.astype(np.float64)

    def _draw_stored(self, size: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Indices, their scores and the sum of all scores."""
        idxs = self._tree.draw(uniforms_for(self.resampling, size, self.rng))
        return idxs, self._tree.get(idxs), self._tree.total

    def propose(self, batch_size: int) -> Proposal:
        """Draws the next mini-batch from all examples.

        Args:
            batch_size: int, number of examples.
        """
        drawn = self._draw_stored(batch_size)
        return self._proposal_of(*drawn, self._read_drawn(drawn[0]))

    def _read_drawn(self, idxs: np.ndarray) -> tuple[Any, ...]:
        """The data of examples that `_draw_stored` drew."""
        return self.dataset.train_data[idxs]

    def _proposal_of(
        self, idxs: np.ndarray, scores: np.ndarray, total: float, rows: tuple[Any, ...]
    ) -> Proposal:
        """The proposal of what `_draw_stored` drew.

        Args:
            idxs: `(b,)` indices.
            scores: `(b,)` scores they were drawn by.
            total: float, the sum of all scores.
            rows: data of the examples.
        """
        n = self._tree.n
        weights = None
        if has_drawn_weights(self.reweighting):
            weights = self.reweighting.drawn_weights(idxs, scores, total, n)
        if weights is None:
            weights = self.reweighting.sample_weights(idxs, self._all_scores())
        # E[s_i] under the draw is sum(s^2) / sum(s), of which the variance reduction is made.
        self._average.add(np.sqrt(max(np.add.reduce(scores) / len(scores) * n / total, 1.0)))
        other = None
        if not self._weights_are_unbiased(weights):
            other = unbiased_weights(scores, total, n)
        return announced(
            Proposal(idxs, rows, weights, scores, metric_weights=other, kind=Kind.HISTORY)
        )

    @property
    def variance_reduction(self) -> float:
        """By the stored scores, as a moving average over the draws."""
        return self._average.value if self._average.known else 1.0

    def _rescore(self, model: ScoringModel, batch_size: int) -> np.ndarray:
        """Scores of all examples by forward passes."""
        parts = []
        for start in range(0, self._tree.n, _CHUNK):
            rows = self.dataset.train_data[np.arange(start, min(start + _CHUNK, self._tree.n))]
            parts.append(np.asarray(score_rows(model, rows, batch_size)).reshape(-1))
        return check_scores(np.concatenate(parts), np.arange(self._tree.n))


def has_drawn_weights(policy: ReweightingPolicy) -> bool:
    """Whether the class that says `sample_weights` also says `drawn_weights`: both agree then."""
    names = ("sample_weights", "drawn_weights")
    for kind in type(policy).__mro__:
        found = [name in vars(kind) for name in names]
        if any(found):
            return all(found)
    return False
