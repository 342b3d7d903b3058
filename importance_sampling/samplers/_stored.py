"""Samplers that keep a score for every example, from the passes in which it was trained on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import dataset_length
from .._weights import unbiased_weights
from ..proposal import Kind, Pool, Proposal, StepRecord, check_scores
from .base import BaseSampler, score_rows
from .drawing import uniforms_for
from .score_cells import LEAST_SHARE
from .sum_tree import SumTree
from .variance import MovingAverage

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy

# Examples scored in one go where all of them are.
_CHUNK = 2**16


def length_or_refuse(sampler: BaseSampler, dataset: Any) -> int:
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
            "examples to come back to. Use a data set with a length, or ModelSampler."
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

    def __init__(self, dataset: Any, reweighting: ReweightingPolicy, **kwargs: Any):
        super().__init__(dataset, reweighting, **kwargs)
        self._tree = SumTree(length_or_refuse(self, dataset))
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
        idxs, scores, total = self._draw_stored(batch_size)
        n = self._tree.n
        weights = None
        if has_drawn_weights(self.reweighting):
            weights = self.reweighting.drawn_weights(idxs, scores, total, n)
        if weights is None:
            weights = self.reweighting.sample_weights(idxs, self._all_scores())
        # E[s_i] under the draw is sum(s^2) / sum(s), of which the variance reduction is made.
        self._average.add(np.sqrt(max(scores.mean() * n / total, 1.0)))
        importance_weights = unbiased_weights(scores, total, n)
        rows = self.dataset.train_data[idxs]
        return self._proposal_by_score(
            idxs, rows, weights, scores, importance_weights, kind=Kind.HISTORY
        )

    @property
    def variance_reduction(self) -> float:
        """By the stored scores, as a moving average over the draws."""
        return self._average.value if self._average.known else 1.0

    def _rescore(self, model: Any, batch_size: int) -> np.ndarray:
        """Scores of all examples by forward passes."""
        parts = []
        for start in range(0, self._tree.n, _CHUNK):
            rows = self.dataset.train_data[np.arange(start, min(start + _CHUNK, self._tree.n))]
            parts.append(np.asarray(score_rows(model, rows, batch_size)).reshape(-1))
        return check_scores(np.concatenate(parts), np.arange(self._tree.n))


def has_drawn_weights(policy: Any) -> bool:
    """Whether the class that says `sample_weights` also says `drawn_weights`: both agree then."""
    names = ("sample_weights", "drawn_weights")
    for kind in type(policy).__mro__:
        found = [name in vars(kind) for name in names]
        if any(found):
            return all(found)
    return False


class HistorySampler(StoredScoreSampler):
    """Draws by the score each example had when it was last trained on.

    Examples that were not seen yet count as much as the mean of those that were. Every
    `recompute` batches all examples are scored anew, as in the original; 0 leaves the scores to
    the training passes.

    Args:
        dataset: a `BaseDataset` with a length.
        reweighting: a `ReweightingPolicy`.
        model: anything with `score(x, y, batch_size)`.
        forward_batch_size: int, examples per scoring pass. Defaults to `128`.
        recompute: int, batches after which to score the whole data set. Defaults to `2`.
    """

    _state: tuple[str, ...] = (*StoredScoreSampler._state, "_unseen", "_batch")

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        model: Any,
        forward_batch_size: int = 128,
        recompute: int = 2,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        self.model = model
        self.forward_batch_size = forward_batch_size
        self.recompute = recompute
        self._batch = 0
        self._tree.fill(0.0)
        # One per example that was not seen yet: drawn as one group with the mean's weight.
        self._unseen = SumTree(self._tree.n, 1.0)

    def _mean_seen(self) -> float:
        seen = self._tree.n - self._unseen.total
        mean = self._tree.total / seen if seen else 1.0
        return mean if mean > 0 else 1.0

    def _all_scores(self) -> np.ndarray:
        return self._tree.values + self._mean_seen() * self._unseen.values.astype(np.float64)

    def _draw_stored(self, size: int) -> tuple[np.ndarray, np.ndarray, float]:
        mean = self._mean_seen()
        new = mean * self._unseen.total
        total = self._tree.total + new
        positions = uniforms_for(self.resampling, size, self.rng) * total
        from_new = positions < new
        idxs = np.empty(size, np.int64)
        if from_new.any():
            idxs[from_new] = self._unseen.draw(positions[from_new] / new)
        if not from_new.all():
            idxs[~from_new] = self._tree.draw((positions[~from_new] - new) / self._tree.total)
        return idxs, np.where(from_new, mean, self._tree.get(idxs)), total

    def observe(self, step: StepRecord) -> None:
        """Keeps the scores, and scores all examples anew when it is time.

        Args:
            step: the step made.
        """
        self._store(step.proposal.idxs, step.scores)
        self._batch += 1
        if self.recompute > 0 and self._batch % self.recompute == 0:
            scores = self._rescore(self.model, self.forward_batch_size)
            self._tree.fill(np.maximum(scores, LEAST_SHARE * scores.mean()))
            self._unseen.fill(0.0)

    def _store(self, idxs: np.ndarray, scores: np.ndarray) -> None:
        floor = LEAST_SHARE * (scores.mean() if self._tree.total == 0 else self._mean_seen())
        self._tree.set(idxs, np.maximum(scores, floor))
        self._unseen.set(idxs, 0.0)


class CacheSampler(StoredScoreSampler):
    r"""Draws a share of each batch by the scores of the last few batches, the rest uniformly.

    With the cached scores $s$, $S$ their sum and $a = \text{cache\_prob} / (1 -
    \text{cache\_prob})$, example i is drawn in proportion to $1 + a N s_i / S$, and to 1 if it
    is not cached.

    Args:
        dataset: a `BaseDataset` with a length.
        reweighting: a `ReweightingPolicy`.
        staleness: int, updates after which a score is forgotten. Defaults to `3`.
        cache_prob: float in [0, 1), share of the draws from the cache. Defaults to `0.5`.
        smooth: float >= 0, added to every score. Defaults to `0.2`.
    """

    _state: tuple[str, ...] = (*StoredScoreSampler._state, "_recent")

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        staleness: int = 3,
        cache_prob: float = 0.5,
        smooth: float = 0.2,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        if not 0 <= cache_prob < 1 or not smooth >= 0 or staleness < 0:
            raise ValueError(
                "Expected staleness >= 0, 0 <= cache_prob < 1 and smooth >= 0, got "
                f"staleness={staleness!r}, cache_prob={cache_prob!r}, smooth={smooth!r}."
            )
        self.staleness = staleness
        self.cache_prob = cache_prob
        self.smooth = smooth
        self._recent: deque[tuple[np.ndarray, np.ndarray]] = deque()

    def observe(self, step: StepRecord) -> None:
        """Adds the scores to the cache and forgets the oldest.

        Args:
            step: the step made.
        """
        self._recent.append((step.proposal.idxs, self.smooth + step.scores))
        if len(self._recent) > self.staleness + 1:
            self._tree.set(self._recent.popleft()[0], 1.0)
        # Newest first, so that of an example in several updates the latest score counts.
        known = np.concatenate([part[0] for part in reversed(self._recent)])
        values = np.concatenate([part[1] for part in reversed(self._recent)])
        cached, first = np.unique(known, return_index=True)
        total = values[first].sum()
        if total > 0:
            share = self.cache_prob / (1.0 - self.cache_prob)
            self._tree.set(cached, 1.0 + share * self._tree.n * values[first] / total)


class OnlineBatchSelectionSampler(StoredScoreSampler):
    r"""Draws by the rank of each example's latest loss.

    With $i$ the rank (0: the largest loss) and $s_e$ going from `s_e[0]` to `s_e[1]`
    geometrically over `n_epochs` epochs,

    $$p_i \propto \left(1 / \exp(\ln(s_e) / N)\right)^i$$

    so that the first rank is drawn $s_e$ times as often as the last ([Online Batch Selection
    for Faster Training of Neural Networks](https://arxiv.org/abs/1511.06343), eqs. 2 and 3).
    Ranks are made anew once per epoch.

    Args:
        dataset: a `BaseDataset` with a length.
        reweighting: a `ReweightingPolicy`.
        model: anything with `score(x, y, batch_size)`.
        large_batch: int, kept for the original's sake; nothing is presampled here.
        forward_batch_size: int, examples per scoring pass. Defaults to `128`.
        steps_per_epoch: int, updates between two rankings. Defaults to `300`.
        recompute: int, epochs after which all examples are scored anew; 0 for never. Defaults
            to `2`.
        s_e: pair of floats >= 1, ratio of the largest to the smallest probability at the
            beginning and at the end. Defaults to `(1, 1)`, uniform.
        n_epochs: int, epochs from the one to the other. Defaults to `1`.
    """

    _state: tuple[str, ...] = (*StoredScoreSampler._state, "_batch", "_losses")

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        model: Any,
        large_batch: int = 1024,
        forward_batch_size: int = 128,
        steps_per_epoch: int = 300,
        recompute: int = 2,
        s_e: tuple[float, float] = (1, 1),
        n_epochs: int = 1,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        if len(s_e) != 2 or not min(s_e) >= 1 or n_epochs < 1 or steps_per_epoch < 1:
            raise ValueError(
                "Expected two values of s_e of at least 1, n_epochs >= 1 and steps_per_epoch >= 1, "
                f"got s_e={s_e!r}, n_epochs={n_epochs!r}, steps_per_epoch={steps_per_epoch!r}."
            )
        self.model = model
        self.large_batch = large_batch
        self.forward_batch_size = forward_batch_size
        self.steps_per_epoch = steps_per_epoch
        self.recompute = recompute
        self.s_e = s_e
        self.n_epochs = n_epochs
        self._batch = 0
        self._losses = np.ones(self._tree.n, np.float32)

    @property
    def pressure(self) -> float:
        """The present ratio of the largest to the smallest probability."""
        start, end = self.s_e
        epoch = min(self._batch // self.steps_per_epoch, self.n_epochs)
        return float(start * (end / start) ** (epoch / self.n_epochs))

    def observe(self, step: StepRecord) -> None:
        """Keeps the losses; ranks them anew at the end of an epoch.

        Args:
            step: the step made.
        """
        self._losses[step.proposal.idxs] = step.scores
        self._batch += 1
        if self._batch % self.steps_per_epoch:
            return
        epoch = self._batch // self.steps_per_epoch
        if self.recompute > 0 and epoch % self.recompute == 0:
            self._losses[:] = self._rescore(self.model, self.forward_batch_size)
        n = self._tree.n
        ranks = np.empty(n, np.int64)
        ranks[np.argsort(-self._losses, kind="stable")] = np.arange(n)
        self._tree.fill(np.exp(-np.log(self.pressure) * ranks / n))
