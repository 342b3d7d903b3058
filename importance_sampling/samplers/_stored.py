"""Samplers that keep a score for every example, from the passes in which it was trained on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from ..proposal import StepRecord
from ..protocols import Dataset, ScoringModel
from ._stored_base import StoredScoreSampler
from .drawing import uniforms_for
from .score_cells import LEAST_SHARE
from .sum_tree import SumTree

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


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
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        model: ScoringModel,
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
        dataset: Dataset,
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
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        model: ScoringModel,
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
