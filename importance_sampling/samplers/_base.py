"""What every sampler is: a draw of examples with weights, and an update with what was learnt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from blinker import signal

from .._arrays import known_length, take_rows
from .._weights import unbiased_weights
from ._draw import (
    IndexStream,
    check_resampling,
    check_scores,
    draw_positions,
    drawable,
    make_rng,
)
from ._rows import RowReader
from ._user_samplers import tell_by_column

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


class Draw(tuple):
    """The triple `(idxs, (x, y), w)`, with what else is known about the draw.

    Attributes:
        predicted_scores: `(b,)` scores the examples were drawn by; ones if drawn uniformly.
        metric_weights: `(b,)` weights 1/(N p), which make averages over the batch estimates
            of averages over the training set, whatever the training weights are.
        importance: whether the draw was by score.
        pool_scores: `(B,)` scores of the whole pool by the model as it is, or None if it was
            not asked.
        kind: how it was drawn, for reports: `"uniform"`, `"pool"` or `"history"`.
        wants_scores: whether the scores of the training pass are of use to anybody; True unless
            the sampler says otherwise.
    """

    predicted_scores: np.ndarray
    metric_weights: np.ndarray
    importance: bool
    pool_scores: np.ndarray | None
    kind: str
    wants_scores: bool

    def __new__(
        cls,
        idxs: np.ndarray,
        xy: tuple[Any, ...],
        w: np.ndarray,
        predicted_scores: np.ndarray | None = None,
        metric_weights: np.ndarray | None = None,
        pool_scores: np.ndarray | None = None,
    ) -> Draw:
        draw = super().__new__(cls, (idxs, xy, w))
        ones = np.ones(len(idxs))
        draw.importance = predicted_scores is not None
        draw.predicted_scores = ones if predicted_scores is None else predicted_scores
        draw.metric_weights = ones if metric_weights is None else metric_weights
        draw.pool_scores = pool_scores
        draw.kind = "pool" if draw.importance else "uniform"
        draw.wants_scores = True
        return draw


def dataset_length(dataset: Any) -> int | None:
    """Number of training examples, or None for a stream."""
    return known_length(dataset.train_data)


class BaseSampler:
    """Decides which examples to train on next.

    A sampler is written by implementing `_get_samples_with_scores`; drawing
    from what it returns, weights and data are done here.

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
        rng: keyword-only; a `numpy.random.Generator` or a seed. Defaults to a fresh one.
        shuffle: keyword-only; whether uniform draws go through the data in random order.
        resampling: keyword-only; `"multinomial"`, independent draws, or `"systematic"`, which
            draws example i either floor(b p_i) or ceil(b p_i) times.

    Example:

    ```python
    class Hardest(BaseSampler):
        def _get_samples_with_scores(self, batch_size):
            idxs = np.arange(len(self.dataset.train_data))
            return idxs, self.my_scores, None
    ```
    """

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        *,
        rng: np.random.Generator | int | None = None,
        shuffle: bool = True,
        resampling: str = "multinomial",
    ):
        self.dataset = dataset
        self.reweighting = reweighting
        self.rng = make_rng(rng)
        self.resampling = check_resampling(resampling)
        self._indices = IndexStream(dataset_length(dataset), self.rng, shuffle)
        self._rows = RowReader(dataset, self._indices)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        tell_by_column(cls)

    resampling = "multinomial"
    keeps_history = False
    """Whether what it learnt of the examples is worth keeping from one `fit` to the next."""

    def _join(self, other: BaseSampler) -> None:
        """Takes its random numbers, and uniform draws and their rows, from where `other` does."""
        self.rng, self._indices, self._rows = other.rng, other._indices, other._rows

    @property
    def predicts(self) -> bool:
        """Whether the scores drawn by are predictions, not what the model says now."""
        return False

    def _get_samples_with_scores(
        self, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray | None, tuple[Any, ...] | None]:
        """Proposes examples to draw from.

        Args:
            batch_size: how many will be drawn.

        Returns:
            `(idxs, scores, xy)`: indices `(B,)`; their scores, or None for a uniform draw (of
            fewer than `batch_size`, all are taken);
            their data, or None to read only the rows drawn.
        """
        name = type(self).__name__
        if type(self).sample is not BaseSampler.sample:
            raise NotImplementedError(
                f"{name} draws its batches itself and has no scores to propose. A decorator of it "
                "changes what `sample` returns, not `_get_samples_with_scores`."
            )
        raise NotImplementedError(f"{name} must implement _get_samples_with_scores(batch_size)")

    def sample(self, batch_size: int) -> Draw:
        """Draws a mini-batch.

        Args:
            batch_size: int, number of examples. Uniform draws go through the data in passes,
                of which the last batch may be smaller.

        Returns:
            A `Draw`, which is the triple `(idxs, (x, y), w)`: indices `(b,)`, data, and what
            the reweighting policy's layer needs, `(b, reweighting.weight_size)`.
        """
        return self._draw(*self._get_samples_with_scores(batch_size), batch_size)

    def _draw(
        self,
        idxs: np.ndarray,
        scores: np.ndarray | None,
        xy: tuple[Any, ...] | None,
        batch_size: int,
    ) -> Draw:
        if scores is None:
            positions = None
            # Fewer are the last batch of a pass; the batches of a stream come as they are.
            whole = getattr(self.dataset, "keeps_batches", False)
            size = len(idxs) if whole else min(batch_size, len(idxs))
            if len(idxs) > size:
                # Without replacement: less variance, same mean.
                positions = self.rng.choice(len(idxs), size, replace=False, shuffle=False)
            w = self.reweighting.uniform_weights(size)
            return self._finish(idxs, xy, positions, w)
        pool_scores = check_scores(scores, idxs)
        positions = draw_positions(drawable(pool_scores), batch_size, self.rng, self.resampling)
        return self._draw_at(positions, idxs, pool_scores, xy, pool_scores)

    def _draw_at(
        self,
        positions: np.ndarray,
        idxs: np.ndarray,
        scores: np.ndarray,
        xy: tuple[Any, ...] | None,
        pool_scores: np.ndarray | None,
    ) -> Draw:
        """The batch at `positions` of a pool, drawn by `scores`."""
        scores = drawable(scores)
        w = self.reweighting.sample_weights(positions, scores)
        if self.reweighting.unbiased and w.shape[1] == 1:
            metric_weights = w[:, 0]
        else:
            metric_weights = unbiased_weights(scores[positions], scores.sum(), len(scores))
        if self.predicts:
            pool_scores = None
        return self._finish(idxs, xy, positions, w, scores[positions], metric_weights, pool_scores)

    def _finish(
        self,
        idxs: np.ndarray,
        xy: tuple[Any, ...] | None,
        positions: np.ndarray | None,
        *known: Any,
    ) -> Draw:
        if positions is not None:
            idxs = idxs[positions]
            if xy is not None:
                xy = take_rows(xy, positions)
        if xy is None:
            xy = self.dataset.train_data[idxs]
        draw = Draw(idxs, xy, *known)
        self._announce(draw)
        return draw

    def _announce(self, draw: Draw) -> None:
        channel = signal("is.sample")
        if channel.receivers:
            idxs, xy, w = draw
            event = {"idxs": idxs, "xy": xy, "w": w, "predicted_scores": draw.predicted_scores}
            channel.send(event)

    def update(self, idxs: np.ndarray, results: np.ndarray) -> None:
        """Learns from the scores that the training pass computed for the drawn examples.

        Args:
            idxs: `(b,)` indices as drawn.
            results: scores, a column `(b, 1)` where a sampler of your own defines this method;
                all samplers of the library also take them as `(b,)`.
        """

    def update_from(self, draw: Draw, results: np.ndarray) -> None:
        """As `update`, for callers that can still say which draw the scores belong to.

        Args:
            draw: the `Draw` that was trained on.
            results: `(b,)` scores.
        """
        self.update(draw[0], results)

    def learns_from(self, draw: Draw) -> bool:
        """Whether `update` has any use for the scores of this draw."""
        return type(self).update is not BaseSampler.update

    def batch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """The sizes of its batches, largest first: one, unless the sampler chooses among several.

        Args:
            batch_size: int, the size that is asked for.
        """
        return (batch_size,)

    epoch_over: bool | None = None
    """Whether the present epoch is over; None where the number of steps alone says so."""

    def begin_epoch(self, epoch: int) -> None:
        """Hears before an epoch's first draw which one it is, counted from 0."""

    def tell_anew(self) -> None:
        """Begins anew with what reports are told, as for another call of `fit`."""

    def prepare(self, batch_size: int) -> None:
        """Asks the device for what the next draw needs, while it works on the present step.

        Args:
            batch_size: int, examples of the next draw.
        """

    @property
    def prepared(self) -> bool:
        """Whether `prepare` has asked for something that the next draw will use."""
        return False

    def timed(self, draw: Draw, seconds: float) -> None:
        """Learns how long a step took, from the draw to the last thing done for it.

        Args:
            draw: the step's draw.
            seconds: float; callbacks are not in it. Where the device works asynchronously, what
                it did of the step before is.
        """

    @property
    def tolerates_delay(self) -> bool:
        """Whether the next batch may be drawn before `update` was told of the last one.

        It lets the host prepare a batch while the device works on the one before. False for
        samplers of your own, until they say otherwise.
        """
        return type(self).__module__.startswith(__package__)

    @property
    def variance_reduction(self) -> float | None:
        """The present estimate of the variance reduction, where the sampler keeps one."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while sampling, as plain numbers and arrays.

        Two samplers of the same kind on the same data, scored by the same model, draw the
        same from here on if one loads the other's state.
        """
        return {"rng": self.rng.bit_generator.state, "indices": self._indices.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self.rng.bit_generator.state = state["rng"]
        self._indices.load_state_dict(state["indices"])


def score_rows(model: Any, xy: tuple[Any, ...], batch_size: int) -> np.ndarray:
    """Scores `(x, y)` or `(x, y, sample_weight)` with a model wrapper."""
    return _ask(model.score, xy, batch_size)


def score_rows_later(model: Any, xy: tuple[Any, ...], batch_size: int) -> Callable[[], np.ndarray]:
    """As `score_rows`, but only begins; what it returns waits for the scores."""
    return _ask(model.score_later, xy, batch_size)


def _ask(score: Callable[..., Any], xy: tuple[Any, ...], batch_size: int) -> Any:
    if len(xy) > 2:
        return score(xy[0], xy[1], batch_size=batch_size, sample_weight=xy[2])
    return score(xy[0], xy[1], batch_size=batch_size)
