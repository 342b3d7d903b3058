"""Samplers that keep a score for every example, from the passes in which it was trained on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from .._weights import unbiased_weights
from ._base import BaseSampler, Draw, dataset_length, score_rows
from ._conditions import _MovingAverage
from ._draw import check_scores, uniforms_for
from ._sum_tree import SumTree

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy

# Examples scored in one go where all of them are.
_CHUNK = 2**16
# A stored score below this share of the mean counts as that share: an example whose score was
# zero once would otherwise never be looked at again, and the mean step would not be the full one.
_LEAST_SHARE = 0.01


def length_or_refuse(sampler: BaseSampler, dataset: Any) -> int:
    """The number of training examples; streams have none to keep anything for."""
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
    full one however stale the scores are. Subclasses set values in `_tree` in `update`.

    Args:
        dataset: a `BaseDataset` with a length.
        reweighting: a `ReweightingPolicy`.
    """

    def __init__(self, dataset: Any, reweighting: ReweightingPolicy, **kwargs: Any):
        super().__init__(dataset, reweighting, **kwargs)
        self._tree = SumTree(length_or_refuse(self, dataset))
        self._average = _MovingAverage(0.9)

    def _get_samples_with_scores(self, batch_size: int) -> tuple[np.ndarray, np.ndarray, None]:
        """All examples with their scores, for decorators; O(N)."""
        return np.arange(self._tree.n), self._all_scores(), None

    def _all_scores(self) -> np.ndarray:
        return self._tree.values.astype(np.float64)

    @property
    def predicts(self) -> bool:
        """True: a stored score is that of the model as it was."""
        return True

    def _draw_stored(self, size: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Indices, their scores and the sum of all scores."""
        idxs = self._tree.draw(uniforms_for(self.resampling, size, self.rng))
        return idxs, self._tree.get(idxs), self._tree.total

    def sample(self, batch_size: int) -> Draw:
        """Draws a mini-batch; see `BaseSampler.sample`."""
        idxs, scores, total = self._draw_stored(batch_size)
        n = self._tree.n
        w = None
        if has_drawn_weights(self.reweighting):
            w = self.reweighting.drawn_weights(idxs, scores, total, n)
        if w is None:
            w = self.reweighting.sample_weights(idxs, self._all_scores())
        # E[s_i] under the draw is sum(s^2) / sum(s), of which the variance reduction is made.
        self._average.add(np.sqrt(max(scores.mean() * n / total, 1.0)))
        weights = unbiased_weights(scores, total, n)
        draw = Draw(idxs, self.dataset.train_data[idxs], w, scores, weights)
        draw.kind = "history"
        self._announce(draw)
        return draw

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

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`."""
        own = {"scores": self._tree.values.copy(), "average": self._average.state_dict()}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        super().load_state_dict(state)
        self._tree.fill(state["scores"])
        self._average.load_state_dict(state["average"])


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

    def update(self, idxs: np.ndarray, results: np.ndarray) -> None:
        """Keeps the scores, and scores everything anew when it is time."""
        self._store(idxs, np.asarray(results, np.float64).reshape(-1))
        self._batch += 1
        if self.recompute > 0 and self._batch % self.recompute == 0:
            scores = self._rescore(self.model, self.forward_batch_size)
            self._tree.fill(np.maximum(scores, _LEAST_SHARE * scores.mean()))
            self._unseen.fill(0.0)

    def _store(self, idxs: np.ndarray, scores: np.ndarray) -> None:
        floor = _LEAST_SHARE * (scores.mean() if self._tree.total == 0 else self._mean_seen())
        self._tree.set(idxs, np.maximum(scores, floor))
        self._unseen.set(idxs, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`."""
        own = {"unseen": self._unseen.values.copy(), "batch": self._batch}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        super().load_state_dict(state)
        self._unseen.fill(state["unseen"])
        self._batch = state["batch"]


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

    def update(self, idxs: np.ndarray, results: np.ndarray) -> None:
        """Adds the scores to the cache and forgets the oldest."""
        scores = self.smooth + np.asarray(results, np.float64).reshape(-1)
        self._recent.append((np.asarray(idxs), scores))
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

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`."""
        recent = [(idxs.copy(), scores.copy()) for idxs, scores in self._recent]
        return {**super().state_dict(), "recent": recent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        super().load_state_dict(state)
        self._recent = deque((np.array(i), np.array(s)) for i, s in state["recent"])
