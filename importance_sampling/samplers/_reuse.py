"""Several mini-batches from one scored pool."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._base import BaseSampler, Draw
from ._decorators import SamplerDecorator
from ._draw import check_scores, draw_positions, drawable


class PoolReuseSampler(SamplerDecorator):
    """Draws several mini-batches from every pool that the decorated sampler scores.

    All of them are drawn when the pool is scored, with the same probabilities, and weighted
    by these: the mean step is the full one, although later batches of a pool are drawn by scores
    of a model some steps old. Systematic resampling then spreads an example's draws over all
    batches of the pool. Uniform draws are passed on as they are.

    Args:
        sampler: the sampler to decorate.
        reuse: int, mini-batches per pool. Defaults to `4`.
    """

    def __init__(self, sampler: BaseSampler, reuse: int = 4):
        super().__init__(sampler)
        if reuse < 1:
            raise ValueError(f"`reuse` must be at least 1, got {reuse!r}.")
        self.reuse = reuse
        self._pool: tuple[np.ndarray, np.ndarray, Any] | None = None
        self._positions: list[np.ndarray] = []

    def sample(self, batch_size: int) -> Draw:
        """Draws a mini-batch; see `BaseSampler.sample`."""
        if self._positions and len(self._positions[0]) == batch_size:
            idxs, scores, xy = self._pool
            return self._draw_at(self._positions.pop(), idxs, scores, xy, None)
        idxs, scores, xy = self._get_samples_with_scores(batch_size)
        self._positions = []
        if scores is None:
            return self._draw(idxs, None, xy, batch_size)
        scores = check_scores(scores, idxs)
        size = self.reuse * batch_size
        positions = draw_positions(drawable(scores), size, self.rng, self.resampling)
        self.rng.shuffle(positions)
        self._pool = idxs, scores, xy
        self._positions = list(positions.reshape(self.reuse, batch_size))
        return self._draw_at(self._positions.pop(), idxs, scores, xy, scores)

    def forget(self) -> None:
        """Drops what is left of the present pool."""
        self._pool, self._positions = None, []

    def prepare(self, batch_size: int) -> None:
        """Prepares a pool, if this one is used up."""
        if not self._positions:
            super().prepare(batch_size)

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`. Of a stream's pool nothing is kept: it is read past."""
        pool = None
        if self._positions and self._indices.n is not None:
            idxs, scores, _ = self._pool
            pool = {"idxs": idxs.copy(), "scores": scores, "positions": np.array(self._positions)}
        return {**super().state_dict(), "pool": pool}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        super().load_state_dict(state)
        self.forget()
        pool = state["pool"]
        if pool is not None:
            idxs = np.array(pool["idxs"])
            self._pool = idxs, np.array(pool["scores"]), self.dataset.train_data[idxs]
            self._positions = list(np.array(pool["positions"]))
