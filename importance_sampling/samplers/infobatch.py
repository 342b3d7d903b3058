"""Passes over a part of the data set, from which some of the easy examples were left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._state import Stateful
from ..proposal import Kind, Proposal, StepRecord
from ..protocols import Dataset
from ._stored_base import has_drawn_weights, length_or_refuse
from .base import BaseSampler, announced
from .drawing import RowReader
from .variance import MeasuredReduction

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


def pruned_epochs(epochs: int, anneal: float) -> int:
    """How many of the first epochs leave examples out: floor(anneal * epochs).

    Args:
        epochs: int, epochs of the whole training.
        anneal: float in [0, 1], the share of them that may leave examples out.
    """
    return int(np.floor(anneal * epochs + 1e-9))


class _KeptExamples(Stateful):
    """The indices of one pass, in the order in which they come; a `RowReader` reads by them."""

    _state: tuple[str, ...] = ("order", "position")

    def __init__(self) -> None:
        self.begin(np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.order)

    def begin(self, order: np.ndarray, position: int = 0) -> None:
        """Begins a pass, or goes to a position in it.

        Args:
            order: `(n,)` the examples in the order in which they come.
            position: int, how many of them were drawn. Defaults to `0`.
        """
        self.order, self.position = order, position

    @property
    def left(self) -> int:
        """How many are still to come."""
        return len(self.order) - self.position

    def end(self) -> None:
        """Leaves the rest of the pass out."""
        self.position = len(self.order)

    def rows_in_batch(self, size: int) -> int:
        """How many the next batch takes; the last of a pass may be smaller."""
        return min(size, self.left)

    def whole_batches(self, size: int) -> int:
        """How many whole batches are left of the pass.

        Args:
            size: int, the batch size.
        """
        return self.left // size

    def next(self, size: int) -> np.ndarray:
        """The next `size` indices."""
        part = self.order[self.position : self.position + size]
        self.position += len(part)
        return part

    def peek(self, size: int) -> np.ndarray | None:
        """The next `size` indices, which stay; None at the end of the pass."""
        if not self.left:
            return None
        return self.order[self.position : self.position + size]


class InfoBatchSampler(BaseSampler):
    r"""Goes through the data in passes, each without some of the examples of small loss.

    With $l_i$ the loss that example i had when it was last trained on, and $\bar l$ the mean of
    the losses known, a pass leaves out example i with probability

    $$P_i = \begin{cases} r & l_i < \bar l \\ 0 & \text{otherwise, or not seen yet} \end{cases}$$

    and the examples of it weigh $1 / (1 - P_i)$, so that the weighted sum over a pass is, on
    average, the sum over the data set. In the last $(1 - \delta)$ share of the epochs nothing is
    left out and all weights are one ([InfoBatch: Lossless Training Speed Up by Unbiased Dynamic
    Data Pruning](https://arxiv.org/abs/2303.04947), Qin et al., ICLR 2024).

    An epoch is a pass, of fewer batches than the whole data set has (`epoch_over`). As in the
    paper it is the sum over an epoch that is unbiased: of N examples a pass over S has the weights
    $(N/S) \cdot 1/(N p_i)$, so that its mean step is N/S times as long as the full one. Metric
    weights are $1/(N p_i)$.

    Args:
        dataset: a `BaseDataset` with a length.
        reweighting: a `ReweightingPolicy` that makes weights of drawn examples alone.
        ratio: float in [0, 1), the paper's r: the probability with which an example of small
            loss is left out. Defaults to `0.5`.
        anneal: float in [0, 1], the paper's delta: the share of the epochs that may leave
            examples out. Defaults to `0.875`.
        epochs: int, epochs of the whole training; None if it has no end to anneal at.
        epoch_size: int, examples of the data set that an epoch stands for, left out ones
            included. Defaults to all.

    Raises:
        ValueError: if an argument is out of its range.
    """

    _state: tuple[str, ...] = (
        *BaseSampler._state,
        "_losses",
        "_epoch",
        "_covered",
        "_pass",
        "_easy",
        "_pruned",
        "_reduction",
    )

    overlaps = True
    keeps_history = True

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        ratio: float = 0.5,
        anneal: float = 0.875,
        epochs: int | None = None,
        epoch_size: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        n = length_or_refuse(self, dataset)
        if not 0 <= ratio < 1 or not 0 <= anneal <= 1:
            raise ValueError(
                "Expected 0 <= ratio < 1 and 0 <= anneal <= 1, got "
                f"ratio={ratio!r}, anneal={anneal!r}."
            )
        if not has_drawn_weights(reweighting):
            raise ValueError(
                f"InfoBatchSampler needs a reweighting policy with `drawn_weights`, which "
                f"{type(reweighting).__name__} does not define beside its `sample_weights`."
            )
        self.ratio = ratio
        self.anneal = anneal
        self._pruned_epochs = None if epochs is None else pruned_epochs(epochs, anneal)
        self._epoch_size = n if epoch_size is None else epoch_size
        # float32, of which equal ones have exactly their own value as their mean in float64.
        self._losses = np.full(n, np.nan, np.float32)
        self._epoch = 0
        self._covered = 0
        self._pass = _KeptExamples()
        self._rows = RowReader(dataset, self._pass)
        # Whether any could be left out of the present pass, and which of those in it could.
        self._pruned = False
        self._easy = np.zeros(0, bool)
        self._reduction = MeasuredReduction()

    def begin_epoch(self, epoch: int) -> None:
        """Begins to count anew what an epoch goes through.

        Args:
            epoch: int, counted from 0; it says whether examples are left out.
        """
        super().begin_epoch(epoch)
        self._epoch = epoch
        self._covered = 0
        if self._epoch_size % len(self._losses) == 0:
            # What an interrupted epoch left of its pass would shift all passes to come.
            self._pass.end()

    @property
    def epoch_over(self) -> bool:
        """Whether the examples drawn stand for as many as an epoch has."""
        return self._covered >= self._epoch_size

    @property
    def prunes(self) -> bool:
        """Whether passes of the present epoch may leave examples out."""
        return self._pruned_epochs is None or self._epoch < self._pruned_epochs

    def keep_probabilities(self) -> np.ndarray:
        """Probabilities `(N,)` of being in a pass that began now: 1 - ratio or 1."""
        keep = np.ones(len(self._losses))
        seen = self._losses[~np.isnan(self._losses)]
        if self.prunes and len(seen):
            # Not seen yet is NaN, which is not below anything.
            keep[self._losses < seen.mean(dtype=np.float64)] = 1.0 - self.ratio
        return keep

    def _begin_pass(self) -> None:
        keep = self.keep_probabilities()
        order = np.flatnonzero(self.rng.random(len(keep)) < keep)
        if self._indices.shuffle:
            self.rng.shuffle(order)
        self._easy = keep[order] < 1.0
        self._pruned = bool((keep < 1.0).any())
        self._pass.begin(order)

    def propose(self, batch_size: int) -> Proposal:
        """Draws the next batch of the pass, of which the last may be smaller.

        Args:
            batch_size: int, number of examples.

        Returns:
            A `Proposal`; what was drawn by are the probabilities of being in the pass.
        """
        if self.epoch_over:
            self.begin_epoch(self._epoch + 1)
        if not self._pass.left or (self._pruned and not self.prunes):
            self._begin_pass()
        start = self._pass.position
        idxs, rows = self._rows.next_batch(batch_size)
        end = self._pass.position
        n, kept = len(self._losses), len(self._pass)
        # In integers, so that a pass stands for exactly the whole data set.
        self._covered += n * end // kept - n * start // kept
        if not self._pruned:
            # Metric weights of their own in all passes: a compiled step sees one kind.
            ones = self.reweighting.uniform_weights(len(idxs))
            return announced(Proposal(idxs, rows, ones, metric_weights=np.ones(len(idxs))))
        keep = np.where(self._easy[start:end], 1.0 - self.ratio, 1.0)
        # What makes the sum over a pass unbiased is not what makes the mean of a step so.
        weights = self.reweighting.drawn_weights(idxs, keep, float(n), n)
        if weights is None:
            raise ValueError(f"{type(self.reweighting).__name__}.drawn_weights returned None.")
        importance_weights = kept / (n * keep)
        return announced(Proposal(idxs, rows, weights, keep, importance_weights, kind=Kind.HISTORY))

    def observe(self, step: StepRecord) -> None:
        """Keeps the losses.

        Args:
            step: the step made.
        """
        proposal = step.proposal
        if proposal.by_score:
            self._reduction.add(proposal.importance_weights, step.scores)
        self._losses[proposal.idxs] = step.scores

    @property
    def variance_reduction(self) -> float:
        """Measured on the examples drawn; 1.0 before the first pass that leaves some out."""
        return self._reduction.value
