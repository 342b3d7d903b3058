"""Samplers that look at a uniformly drawn pool, or at nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import dataset_length
from ..proposal import Pool, Proposal
from ..protocols import AsynchronousScoringModel, Dataset, ScoringModel
from ._model_scores import score_rows, score_rows_later
from .base import BaseSampler

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


class UniformSampler(BaseSampler):
    """Draws uniformly: in passes over the data, each in a new random order.

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
    """

    overlaps = True

    _chosen: np.ndarray | None = None

    @property
    def idxs(self) -> np.ndarray:
        """The examples to draw from; assign some of them to draw from these alone."""
        if self._chosen is None:
            return np.arange(dataset_length(self.dataset) or 1)
        return self._chosen

    @idxs.setter
    def idxs(self, idxs: ArrayLike) -> None:
        self._chosen = np.asarray(idxs)

    @property
    def why_uniform(self) -> str:
        """Nothing else is ever drawn."""
        return f"{type(self).__name__} draws in no other way"

    def batches_ahead(self, batch_size: int) -> int:
        """The whole batches left of the pass, for nothing is learnt; see `BaseSampler`.

        Args:
            batch_size: int, number of examples of a uniform step.
        """
        return 1 if self._chosen is not None else self._rows.whole_batches(batch_size)

    def settled_ahead(self, batch_size: int) -> int:
        """The same.

        Args:
            batch_size: int, number of examples of a uniform step.
        """
        return self.batches_ahead(batch_size)

    def candidates(self, batch_size: int) -> Pool:
        """The next batch of the pass; the chosen examples, where `idxs` was assigned.

        Args:
            batch_size: int, the most examples in it.
        """
        if self._chosen is not None:
            return Pool(self._chosen)
        idxs, rows = self._rows.next_batch(batch_size)
        return Pool(idxs, None, rows)

    def propose_many(self, batch_size: int, count: int) -> list[Proposal]:
        """Draws the next mini-batches; see `BaseSampler`.

        Args:
            batch_size: int, number of examples of a uniform step.
            count: int, how many batches.
        """
        return self._propose_many_uniformly(batch_size, count)


class ModelSampler(BaseSampler):
    r"""Draws a pool uniformly, scores it with a model and resamples by score.

    With the pool's scores $s$, example $i$ is drawn with probability
    $p_i = s_i / \sum_j s_j$ ([Not All Samples Are Created Equal](https://arxiv.org/abs/1803.00942),
    algorithm 1).

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
        model: anything with `score(x, y, batch_size)`.
        large_batch: int, the size of the pool, at most the whole data set. From a pool that
            is smaller than the batch, examples come more than once. Defaults to `1024`.
        forward_batch_size: int, how many examples are scored in one call. Defaults to `128`.
    """

    overlaps = True

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        model: ScoringModel,
        large_batch: int = 1024,
        forward_batch_size: int = 128,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        self.model = model
        length = dataset_length(dataset)
        self.N = length or 1
        self.large_batch = large_batch if length is None else min(large_batch, length)
        self.forward_batch_size = forward_batch_size
        self._ahead: tuple[np.ndarray, tuple[Any, ...], Callable[[], np.ndarray]] | None = None

    def prepare(self, batch_size: int) -> None:
        """Reads the next pool and lets the model begin to score it, as it is now.

        The draw after the step under way then finds the scores at hand. They are one step old,
        which the weights, made of the probabilities drawn with, make up for. Streams are left
        alone: reading on could end them before their last batch is trained on.

        Args:
            batch_size: int, examples of the next draw.
        """
        if self._ahead is not None or self._indices.n is None:
            return
        if isinstance(self.model, AsynchronousScoringModel):
            idxs, rows = self._rows.next_pool(self.large_batch)
            later = score_rows_later(self.model, rows, self.forward_batch_size)
            self._ahead = idxs, rows, later

    def state_dict(self) -> dict[str, Any]:
        """All that changes, with the pool that was prepared; waits for its scores.

        See `Stateful.state_dict`.
        """
        ahead = None
        if self._ahead is not None:
            idxs, rows, later = self._ahead
            scores = np.asarray(later())
            self._ahead = idxs, rows, lambda: scores
            ahead = {"idxs": idxs.copy(), "scores": scores.copy()}
        return {**super().state_dict(), "ahead": ahead}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken; reads the prepared pool's rows again.

        Args:
            state: what `state_dict` returned.
        """
        super().load_state_dict(state)
        self._ahead = None
        ahead = state.get("ahead")
        if ahead is not None:
            idxs, scores = np.array(ahead["idxs"]), np.array(ahead["scores"])
            self._ahead = idxs, self.dataset.train_data[idxs], lambda: scores

    @property
    def prepared(self) -> bool:
        """Whether the next pool has been read and is being scored."""
        return self._ahead is not None

    def candidates(self, batch_size: int) -> Pool:
        """A pool of `large_batch` examples and their scores.

        Args:
            batch_size: int, how many will be drawn.
        """
        if self._ahead is not None:
            (idxs, rows, later), self._ahead = self._ahead, None
            return Pool(idxs, later(), rows)
        idxs, rows = self._rows.next_pool(self.large_batch)
        return Pool(idxs, score_rows(self.model, rows, self.forward_batch_size), rows)
