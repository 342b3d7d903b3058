"""Batches of the examples that a forward pass found hard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import concatenate, steps_per_pass, take_rows
from ..proposal import Kind, Proposal, check_scores
from ..protocols import Dataset, ScoringModel
from ._model_scores import score_rows
from .base import BaseSampler, announced
from .saved_rows import restored_rows, saved_rows

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


class SelectiveBackpropSampler(BaseSampler):
    r"""Scores uniform batches and collects the hard examples of them for training.

    With $l_i$ the loss of an example by a forward pass, it is kept with probability

    $$q_i = \mathrm{CDF}_R(l_i)^\beta, \qquad \mathrm{CDF}_R(l) = \frac{1}{R} \# \{l_j \le l\}$$

    over the last R losses, its own batch's included. Once there are enough for a batch, it is
    trained on with weights of one: larger losses count more, on purpose, and the mean step is
    not that of uniform training ([Accelerating Deep Learning by Focusing on the Biggest
    Losers](https://arxiv.org/abs/1910.00762), Jiang et al. 2019).

    Metric weights are $\bar q / q_i$, with $\bar q$ the mean over the last R examples scored, so
    that the logs estimate the training set's values.

    An epoch scores as many batches as uniform training would train on (`epoch_over`), of which
    about 1 in $1 + \beta$ is left to train on. What is left of the last is trained on in the next.

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`; no weights are asked of it but uniform ones.
        model: anything with `score(x, y, batch_size)`, whose scores are the losses.
        beta: float >= 0, the paper's exponent: the larger, the fewer and the harder the examples
            that are trained on; 0 keeps all. Defaults to `1.0`.
        history: int, the paper's R: losses that are looked back at. Defaults to `1024`.
        steps_per_epoch: int, batches that an epoch scores. Defaults to those of one pass.

    Raises:
        ValueError: if an argument is out of its range.
    """

    _state: tuple[str, ...] = (*BaseSampler._state, "_batch_size", "_scored", "_losses", "_chances")

    overlaps = True

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        model: ScoringModel,
        beta: float = 1.0,
        history: int = 1024,
        steps_per_epoch: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        if not 0 <= beta < np.inf or history < 1:
            raise ValueError(
                f"Expected beta >= 0 and history >= 1, got beta={beta!r}, history={history!r}."
            )
        self.model = model
        self.beta = beta
        self.history = history
        self._steps_per_epoch = steps_per_epoch
        self._batch_size: int | None = None
        # Batches scored since the epoch began.
        self._scored = 0
        self._losses = np.zeros(0)
        self._chances = np.zeros(0)
        # What was kept and not trained on yet: indices, rows, chances and metric weights.
        self._kept: list[tuple[np.ndarray, Any, np.ndarray, np.ndarray]] = []

    def begin_epoch(self, epoch: int) -> None:
        """Begins to count the batches scored; those beyond the last epoch's end count in.

        Args:
            epoch: int, counted from 0.
        """
        super().begin_epoch(epoch)
        self._scored = max(0, self._scored - (self._batches_per_epoch() or self._scored))

    def _batches_per_epoch(self) -> int | None:
        if self._steps_per_epoch is not None:
            return self._steps_per_epoch
        if self._batch_size is None:
            return None
        return steps_per_pass(self.dataset, self._batch_size)

    @property
    def epoch_over(self) -> bool:
        """Whether as many batches were scored as an epoch has."""
        needed = self._batches_per_epoch()
        return needed is not None and self._scored >= needed

    def keep_probabilities(self, losses: np.ndarray) -> np.ndarray:
        """The probabilities of being kept that losses have, by the last ones seen.

        Args:
            losses: `(n,)` losses.

        Returns:
            `(n,)` array, CDF(loss)^beta.
        """
        below = np.searchsorted(np.sort(self._losses), losses, side="right")
        return (below / max(len(self._losses), 1)) ** self.beta

    def _score_batch(self, batch_size: int) -> np.ndarray:
        """Scores the next uniform batch and keeps some of it; returns all its losses."""
        idxs, xy = self._rows.next_batch(batch_size)
        losses = check_scores(score_rows(self.model, xy, batch_size), idxs)
        self._scored += 1
        self._losses = np.append(self._losses, losses)[-self.history :]
        chances = self.keep_probabilities(losses)
        self._chances = np.append(self._chances, chances)[-self.history :]
        chosen = np.flatnonzero(self.rng.random(len(losses)) < chances)
        if len(chosen):
            # Given the losses, a kept example is i with probability q_i / sum(q).
            weights = self._chances.mean() / chances[chosen]
            self._kept.append((idxs[chosen], take_rows(xy, chosen), chances[chosen], weights))
        return losses

    def propose(self, batch_size: int) -> Proposal:
        """Scores uniform batches until enough examples were kept, and draws these.

        Args:
            batch_size: int, number of examples, of the batches scored as of the one drawn.

        Returns:
            A `Proposal`; what was drawn by are the probabilities of being kept.
        """
        self._batch_size = batch_size
        scored = []
        while sum(len(part[0]) for part in self._kept) < batch_size:
            scored.append(self._score_batch(batch_size))
        idxs, rows, chances, importance_weights = self._take(batch_size)
        return announced(
            Proposal(
                idxs,
                rows,
                self.reweighting.uniform_weights(batch_size),
                chances,
                importance_weights,
                kind=Kind.POOL,
                pool_scores=np.concatenate(scored) if scored else None,
            )
        )

    def _take(self, size: int) -> tuple[np.ndarray, Any, np.ndarray, np.ndarray]:
        """The first `size` examples kept."""
        taken = []
        while size > 0:
            part = self._kept.pop(0)
            if len(part[0]) > size:
                self._kept.insert(0, take_rows(part, slice(size, None)))
                part = take_rows(part, slice(0, size))
            taken.append(part)
            size -= len(part[0])
        return concatenate(taken)

    @property
    def variance_reduction(self) -> float:
        """1.0: the step is another one than uniform training's, not the same with less noise."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """All that changes, with the examples kept and not trained on yet.

        See `Stateful.state_dict`.
        """
        kept = [
            {
                "idxs": idxs.copy(),
                "chances": chances.copy(),
                "weights": weights.copy(),
                "rows": saved_rows(self.dataset, rows),
            }
            for idxs, rows, chances, weights in self._kept
        ]
        return {**super().state_dict(), "kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken; reads the rows kept again.

        Args:
            state: what `state_dict` returned.
        """
        super().load_state_dict(state)
        self._kept = []
        for part in state["kept"]:
            idxs, chances, weights = (np.array(part[n]) for n in ("idxs", "chances", "weights"))
            rows = restored_rows(self.dataset, idxs, part["rows"])
            self._kept.append((idxs, rows, chances, weights))
