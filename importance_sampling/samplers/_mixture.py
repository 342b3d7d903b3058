"""Draws from all examples by what training's own passes said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._weights import unbiased_weights
from ._base import Draw, score_rows
from ._batch_size import BatchSizer, batch_sizes, check_constant
from ._blocks import DrawnBatches, NotedScores, batches_at_once
from ._draw import check_scores, uniforms_for
from ._gain import MeasuredReduction, momentum_over
from ._refresher import Refresher
from ._score_cells import ScoreCells, robust_second_moments, score_bin
from ._stored import _LEAST_SHARE, StoredScoreSampler

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy

# How often per epoch all examples' expected scores are worked out anew.
_REFITS = 4
# Examples whose expected scores are worked out together.
_PIECE = 1 << 18


class HistoryMixtureSampler(StoredScoreSampler):
    r"""Draws by the score to be expected of each example, mixed with a uniform draw.

    The first pass visits every example once. Then example i is drawn with probability

    $$p_i = (1 - \text{mix}) \frac{\hat s_i}{\sum_j \hat s_j} + \frac{\text{mix}}{N}, \qquad
      \hat s_i = \sqrt{E[s_i^2 \mid \text{score seen last, its age}]}$$

    which for known expectations is the draw of least variance. They are learnt from training
    itself: every example trained on again says what has become of a score of its size and age
    (`ScoreCells`). So a score is trusted as long as scores have been seen to last, an example
    whose score was next to nothing comes back as often as such examples turn out to matter, and
    no weight is above 1/mix. Weights are made of the probabilities really drawn with: with
    k = 1 the mean step is the full one however wrong the expectations are.

    No forward pass but training's own is made unless `refresh` asks for some. A step costs
    O(b log N), the store 13 bytes per example. Where an epoch has batches enough, up to 8 are
    drawn by the same probabilities, independently, which costs little more than drawing one.

    With `constant="variance"` draws hold no more examples than it takes for the noise of a
    uniform batch (`BatchSizer`), by the ratio of second moments measured over the last epoch.

    Args:
        dataset: a `BaseDataset` with a length.
        reweighting: a `ReweightingPolicy`.
        mix: float in (0, 1), share of the draws that are uniform. Defaults to `0.3`.
        robust: float >= 0, radius of the ellipsoid around the expected squared scores within
            which the worst ones are drawn by instead (Johnson & Guestrin, NeurIPS 2018); 0
            trusts the expectations. Defaults to `0.0`.
        refresh: float >= 0, examples scored by forward passes for each example trained on; those
            that were not seen for longest come first. Defaults to `0.0`.
        model: anything with `score(x, y, batch_size)`; needed for `refresh` only.
        resampling: `"systematic"` or `"multinomial"`. Defaults to `"systematic"`.
        constant: keyword-only; what a draw by score keeps of a uniform one: its
            `"batch_size"` or its `"variance"`. Defaults to `"batch_size"`.
        min_batch_size: keyword-only; int, the floor of the batch size at constant variance.
            Defaults to an eighth of the batch size.
    """

    keeps_history = True

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        mix: float = 0.3,
        robust: float = 0.0,
        refresh: float = 0.0,
        model: Any = None,
        resampling: str = "systematic",
        *,
        constant: str = "batch_size",
        min_batch_size: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, resampling=resampling, **kwargs)
        if not 0 < mix < 1 or not robust >= 0 or not refresh >= 0:
            raise ValueError(
                "Expected 0 < mix < 1, robust >= 0 and refresh >= 0, got "
                f"mix={mix!r}, robust={robust!r}, refresh={refresh!r}."
            )
        if refresh and model is None:
            raise ValueError(f"`refresh`={refresh!r} needs a `model` to score examples with.")
        self.mix = mix
        self.robust = robust
        self.refresh = refresh
        self.model = model
        self.constant = check_constant(constant)
        self.min_batch_size = min_batch_size
        n = self._tree.n
        self._bins = np.zeros(n, np.uint8)
        # The step each score is of; 0 for examples that were not seen yet.
        self._seen = np.zeros(n, np.int32)
        self._step = 0
        self._first_pass = n
        self._drawn = DrawnBatches()
        self._noted = NotedScores()
        self._next_refit = 0
        self._cells: ScoreCells | None = None
        self._fresh = np.ones(1)
        self._reduction = MeasuredReduction()
        self._refresher = Refresher()
        self._sizer = BatchSizer()

    @property
    def _plus(self) -> float:
        """The uniform share as a number added to every score."""
        return self.mix / (1.0 - self.mix) * self._tree.total / self._tree.n

    def _all_scores(self) -> np.ndarray:
        return super()._all_scores() + self._plus

    def _get_samples_with_scores(
        self, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray | None, tuple[Any, ...] | None]:
        """All examples with their scores, for decorators; O(N)."""
        self.catch_up(batch_size)
        if self._first_pass > 0:
            return self._next_of_first_pass(batch_size)
        self._learn_noted()
        return super()._get_samples_with_scores(batch_size)

    def _next_of_first_pass(self, batch_size: int) -> tuple[np.ndarray, None, tuple[Any, ...]]:
        idxs, xy = self._rows.next_batch(batch_size)
        self._first_pass -= len(idxs)
        return idxs, None, xy

    def end_first_pass(self) -> None:
        """Draws by score from now on, whoever has told it of all examples."""
        self._first_pass = 0

    def forget_drawn(self) -> None:
        """Drops batches that were drawn ahead, by what may have grown old."""
        self._drawn.forget()

    def pass_over(self) -> None:
        """Counts a step whose scores nobody looks at, so that scores grow older."""
        self._step += 1

    def weights_of(self, idxs: np.ndarray) -> np.ndarray:
        """The weights 1/(N p) that examples would have if they were drawn now."""
        plus = self._plus
        return unbiased_weights(
            self._tree.get(idxs) + plus, self._tree.total + plus * self._tree.n, self._tree.n
        )

    def _look_back(self, epoch: int) -> None:
        """Begins to learn, with so many steps per epoch."""
        self._cells = ScoreCells(epoch)
        self._reduction.set_momentum(momentum_over(epoch))

    def catch_up(self, batch_size: int, drawn: int | None = None) -> None:
        """Works out anew what to expect of all examples, if it is time; O(N).

        Args:
            batch_size: int, examples of a uniform step.
            drawn: int, examples that will be drawn, to which `refresh` refers. Defaults to
                `batch_size`.
        """
        if self._cells is None:
            self._look_back(-(-self._tree.n // batch_size))
        if self._first_pass <= 0 and self._step >= self._next_refit and not len(self._drawn):
            self._refit(batch_size)
        if self.refresh and self._first_pass <= 0:
            # Who was seen last, and when; and what is noted must not replace what is newer.
            self._learn_noted()
            self._refresher.earn(self.refresh * (batch_size if drawn is None else drawn))
            for idxs in self._refresher.due(self._seen, batch_size, self._tree.n):
                rows = self.dataset.train_data[idxs]
                scores = check_scores(score_rows(self.model, rows, batch_size), idxs)
                steps = np.full(len(idxs), self._step, np.int32)
                self._learn(idxs, scores, steps, 1)

    def sample(self, batch_size: int) -> Draw:
        """Draws a mini-batch; see `BaseSampler.sample`."""
        if self._first_pass > 0:
            self.catch_up(batch_size)
            return self._draw(*self._next_of_first_pass(batch_size), batch_size)
        size = self._next_size(batch_size, self._reduction.ratio)
        self.catch_up(batch_size, size)
        return super().sample(size)

    def sample_by_score(
        self,
        batch_size: int,
        ratio: float,
        seconds: Callable[[], Mapping[int, float]] | None = None,
    ) -> Draw:
        """Draws a mini-batch by score, whether or not all examples were seen.

        Args:
            batch_size: int, the size of uniform batches.
            ratio: float, of the second moments of uniform and weighted gradients.
            seconds: gives the measured times of a step by size; see `BatchSizer`.
        """
        return super().sample(self._next_size(batch_size, ratio, seconds))

    def _next_size(
        self,
        batch_size: int,
        ratio: float,
        seconds: Callable[[], Mapping[int, float]] | None = None,
    ) -> int:
        sizes = self.batch_sizes(batch_size)
        # Batches that were drawn ahead keep their size.
        if self._drawn.size in sizes:
            return self._drawn.size
        return self._sizer.choose(
            sizes,
            ratio,
            lambda size: batches_at_once(self._tree.n, size),
            seconds and seconds(),
        )

    def batch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """See `BaseSampler.batch_sizes`."""
        batch_size = min(batch_size, self._tree.n)
        if self.constant == "batch_size":
            return (batch_size,)
        return batch_sizes(batch_size, self.min_batch_size)

    def _draw_stored(self, size: int) -> tuple[np.ndarray, np.ndarray, float]:
        drawn = self._drawn.next(size)
        if drawn is not None:
            return drawn
        self._learn_noted()
        batches = batches_at_once(self._tree.n, size)
        uniforms = [uniforms_for(self.resampling, size, self.rng) for _ in range(batches)]
        plus = self._plus
        idxs = self._tree.draw(np.concatenate(uniforms), plus).reshape(batches, size)
        total = self._tree.total + plus * self._tree.n
        self._drawn.fill(idxs, self._tree.get(idxs) + plus, total)
        return self._drawn.next(size)

    def _refit(self, batch_size: int) -> None:
        """Works out anew what to expect of every example, O(N)."""
        self._learn_noted()
        self._next_refit = self._step + max(1, self._tree.n // (_REFITS * batch_size))
        mean, variance = self._cells.moments()
        cells = np.empty(self._tree.n, np.int16)
        size = np.zeros(mean.size + 1, np.int64)
        # Piece by piece: what is worked with takes several times the memory of what is kept.
        for start in range(0, len(cells), _PIECE):
            piece = slice(start, start + _PIECE)
            ages = self._cells.age_bin(self._step - self._seen[piece])
            found = self._bins[piece].astype(np.int64) * mean.shape[1] + ages
            # Examples that were not seen yet have a cell of their own, the last.
            found[self._seen[piece] == 0] = mean.size
            cells[piece] = found
            size += np.bincount(found, minlength=len(size))
        size = size[:-1]
        moments = mean.reshape(-1)
        if self.robust:
            moments = robust_second_moments(moments, variance.reshape(-1), size, self.robust)
        values = np.sqrt(moments)
        average = float(values @ size) / max(size.sum(), 1)
        # An example whose expectation was zero would never be looked at again by `mix` alone
        # where a decorator takes the mixture away.
        values = np.maximum(values, _LEAST_SHARE * average or 1.0)
        self._fresh = values.reshape(mean.shape)[:, 0]
        self._tree.fill(np.append(values, average or 1.0).astype(np.float32)[cells])

    def update(self, idxs: np.ndarray, results: np.ndarray) -> None:
        """Keeps the scores, and learns what became of the ones seen before."""
        self._step += 1
        scores = np.asarray(results, np.float64).reshape(-1)
        self._noted.add(np.asarray(idxs), scores, self._step)
        if len(self._noted) >= batches_at_once(self._tree.n, len(scores)):
            self._learn_noted()

    def update_from(self, draw: Draw, results: np.ndarray) -> None:
        """See `BaseSampler.update_from`."""
        if draw.importance:
            self._reduction.add(draw.metric_weights, results)
        self.update(draw[0], results)

    def _learn_noted(self) -> None:
        if len(self._noted):
            batches = len(self._noted)
            self._learn(*self._noted.take(), batches)

    def _learn(self, idxs: np.ndarray, scores: np.ndarray, steps: np.ndarray, batches: int) -> None:
        if self._cells is None:
            self._look_back(-(-self._tree.n * batches // len(idxs)))
        seen = self._seen[idxs]
        known = seen > 0
        if known.any():
            ages = steps[known] - seen[known]
            self._cells.observe(self._bins[idxs[known]], ages, scores[known], batches)
        bins = score_bin(scores)
        # Of an example that comes twice, the last score stays.
        self._bins[idxs] = bins
        self._seen[idxs] = np.maximum(steps, 1)
        if len(self._fresh) > 1:
            self._tree.set(idxs, self._fresh[bins])

    @property
    def variance_reduction(self) -> float:
        """Measured on the examples drawn; 1.0 while draws are uniform."""
        return self._reduction.value

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`."""
        return {
            **super().state_dict(),
            "bins": self._bins.copy(),
            "seen": self._seen.copy(),
            "step": self._step,
            "first_pass": self._first_pass,
            "next_refit": self._next_refit,
            "cells": None if self._cells is None else self._cells.state_dict(),
            "epoch": None if self._cells is None else self._cells.epoch,
            "fresh": self._fresh.copy(),
            "reduction": self._reduction.state_dict(),
            "refresher": self._refresher.state_dict(),
            "sizer": self._sizer.state_dict(),
            "drawn": self._drawn.state_dict(),
            "noted": self._noted.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        super().load_state_dict(state)
        self._bins = np.array(state["bins"], np.uint8)
        self._seen = np.array(state["seen"], np.int32)
        self._step = int(state["step"])
        self._first_pass = int(state["first_pass"])
        self._next_refit = int(state["next_refit"])
        if state["cells"] is not None:
            self._look_back(int(state["epoch"]))
            self._cells.load_state_dict(state["cells"])
        self._fresh = np.array(state["fresh"])
        self._reduction.load_state_dict(state["reduction"])
        self._refresher.load_state_dict(state["refresher"])
        self._sizer.load_state_dict(state["sizer"])
        self._drawn.load_state_dict(state["drawn"])
        self._noted.load_state_dict(state["noted"])
