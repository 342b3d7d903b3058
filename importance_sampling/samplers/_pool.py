"""Samplers that look at a uniformly drawn pool, or at nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import BaseSampler, Draw, dataset_length, score_rows, score_rows_later
from ._conditions import VarianceReductionCondition

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


class UniformSampler(BaseSampler):
    """Draws uniformly: in passes over the data, each in a new random order.

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
    """

    _chosen: np.ndarray | None = None

    @property
    def idxs(self) -> np.ndarray:
        """The examples to draw from; assign some of them to draw from these alone."""
        if self._chosen is None:
            return np.arange(dataset_length(self.dataset) or 1)
        return self._chosen

    @idxs.setter
    def idxs(self, idxs: Any) -> None:
        self._chosen = np.asarray(idxs)

    def _get_samples_with_scores(
        self, batch_size: int
    ) -> tuple[np.ndarray, None, tuple[Any, ...] | None]:
        if self._chosen is not None:
            return self._chosen, None, None
        idxs, xy = self._rows.next_batch(batch_size)
        return idxs, None, xy


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

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        model: Any,
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
        """
        can_wait = hasattr(self.model, "score_later") and self._indices.n is not None
        if self._ahead is None and can_wait:
            idxs, xy = self._rows.next_pool(self.large_batch)
            later = score_rows_later(self.model, xy, self.forward_batch_size)
            self._ahead = idxs, xy, later

    @property
    def prepared(self) -> bool:
        """See `BaseSampler.prepared`."""
        return self._ahead is not None

    def _get_samples_with_scores(
        self, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
        if self._ahead is not None:
            (idxs, xy, later), self._ahead = self._ahead, None
            return idxs, later(), xy
        idxs, xy = self._rows.next_pool(self.large_batch)
        return idxs, score_rows(self.model, xy, self.forward_batch_size), xy


def _round_up(size: float, batch_size: int) -> int:
    """Rounds up to one of 16 sizes per batch, so that a compiled step sees few shapes."""
    unit = max(1, -(-batch_size // 16))
    return max(unit, int(np.ceil(size / unit - 1e-9)) * unit)


class _VariableSampler(BaseSampler):
    """Draws uniformly until the variance reduction pays, then by score in another size."""

    condition: VarianceReductionCondition
    model: Any

    def __init__(self, dataset: Any, reweighting: ReweightingPolicy, **kwargs: Any):
        super().__init__(dataset, reweighting, **kwargs)
        self.N = dataset_length(dataset) or 1

    def _sizes(self, batch_size: int) -> tuple[int, int]:
        """Sizes of the pool and of the draw while importance sampling is on."""
        raise NotImplementedError(f"{type(self).__name__} must implement _sizes(batch_size)")

    def sample(self, batch_size: int) -> Draw:
        """Draws a mini-batch; see `BaseSampler.sample`."""
        if not self.condition.satisfied:
            idxs, xy = self._rows.next_batch(batch_size)
            return self._draw(idxs, None, xy, batch_size)
        pool, size = self._sizes(batch_size)
        idxs, xy = self._rows.next_pool(pool)
        scores = score_rows(self.model, xy, pool)
        draw = self._draw(idxs, scores, xy, size)
        self.condition.update(draw.pool_scores)
        return draw

    def update(self, idxs: np.ndarray, results: np.ndarray) -> None:
        """Feeds the variance reduction with the scores of a uniform batch."""
        if not self.condition.previously_satisfied:
            self.condition.update(results)

    def update_from(self, draw: Draw, results: np.ndarray) -> None:
        """See `BaseSampler.update_from`."""
        if not draw.importance:
            self.condition.update(results)

    def learns_from(self, draw: Draw) -> bool:
        """Only from uniform draws; while importance sampling is on, the pool's scores serve."""
        return not draw.importance

    @property
    def variance_reduction(self) -> float:
        """The present estimate of the variance reduction."""
        return self.condition.variance_reduction

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`."""
        return {**super().state_dict(), "condition": self.condition.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        super().load_state_dict(state)
        self.condition.load_state_dict(state["condition"])


class ConstantVarianceSampler(_VariableSampler):
    r"""Draws fewer examples at the same variance.

    While the variance reduction $\tau$ makes it pay, a uniform batch of $b$ is scored and
    $(1/\tau + \text{extra\_samples})\, b$ of it are drawn by score. It pays once
    $1/\tau + \text{extra\_samples}$ is below $t/(1+t)$, $t$ the backward time in units of a
    forward pass.

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
        model: anything with `score(x, y, batch_size)`.
        backward_time: float, time of a backward pass in units of a forward pass. Defaults
            to `2.0`.
        extra_samples: float, share of the batch to draw beyond what the estimate asks for.
            Defaults to `0.2`.
    """

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        model: Any,
        backward_time: float = 2.0,
        extra_samples: float = 0.2,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        share = backward_time / (1.0 + backward_time) - extra_samples
        if not backward_time > 0 or not extra_samples >= 0 or share <= 0:
            raise ValueError(
                "Expected backward_time > 0 and 0 <= extra_samples < backward_time / (1 + "
                f"backward_time), got backward_time={backward_time!r}, "
                f"extra_samples={extra_samples!r}."
            )
        self.model = model
        self.backward_time = backward_time
        self.extra_samples = extra_samples
        self.condition = VarianceReductionCondition(1.0 / share)

    def _sizes(self, batch_size: int) -> tuple[int, int]:
        share = 1.0 / self.condition.variance_reduction + self.extra_samples
        return batch_size, min(batch_size, _round_up(share * batch_size, batch_size))


class ConstantTimeSampler(_VariableSampler):
    r"""Scores more and trains on less, in the time of one uniform step.

    With $t$ the backward time in units of a forward pass, a uniform step costs $(1 + t) b$.
    While the variance reduction $\tau$ is above `tau_th`, the smallest batch is
    $a = \max(\text{min\_a}\, b, b/\tau)$, which leaves $(1 + t)(b - a)$ examples to score; of
    the room between $b$ and that, `ratio` is used for scoring and the rest goes to the batch.

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
        model: anything with `score(x, y, batch_size)`.
        backward_time: float, time of a backward pass in units of a forward pass. Defaults
            to `2.0`.
        tau_th: float, the variance reduction above which to draw by score. Defaults to `2.0`.
        ratio: float in [0, 1]. Defaults to `0.5`.
        min_a: float in (0, 1], the smallest batch as a share of the batch size. Defaults
            to `0.2`.
    """

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        model: Any,
        backward_time: float = 2.0,
        tau_th: float = 2.0,
        ratio: float = 0.5,
        min_a: float = 0.2,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, **kwargs)
        if not backward_time > 0 or not 0 <= ratio <= 1 or not 0 < min_a <= 1:
            raise ValueError(
                "Expected backward_time > 0, 0 <= ratio <= 1 and 0 < min_a <= 1, got "
                f"backward_time={backward_time!r}, ratio={ratio!r}, min_a={min_a!r}."
            )
        self.model = model
        self.backward_time = backward_time
        self.ratio = ratio
        self.min_a = min_a
        self.condition = VarianceReductionCondition(tau_th)

    def _sizes(self, batch_size: int) -> tuple[int, int]:
        step = (1.0 + self.backward_time) * batch_size
        least = max(self.min_a * batch_size, batch_size / self.condition.variance_reduction)
        most_scored = step - (1.0 + self.backward_time) * least
        scored = batch_size + max(most_scored - batch_size, 0.0) * self.ratio
        size = _round_up((step - scored) / (1.0 + self.backward_time), batch_size)
        size = min(size, batch_size)
        pool = round(step - (1.0 + self.backward_time) * size)
        length = self._indices.n
        pool = max(pool, size)
        return (pool if length is None else min(pool, length)), size
