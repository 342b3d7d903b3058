"""Several mini-batches from one scored pool."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..proposal import Pool, Proposal, check_scores
from ._decorators import SamplerDecorator
from .ahead import batches_ahead
from .base import BaseSampler
from .drawing import draw_positions, uniform_if_all_zero
from .saved_rows import restored_rows, saved_rows


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
        self._pool: Pool | None = None
        self._scores = np.zeros(0)
        self._positions: list[np.ndarray] = []

    def propose(self, batch_size: int) -> Proposal:
        """Draws the next mini-batch: of the present pool, if there is one left.

        Args:
            batch_size: int, number of examples.
        """
        if self._pool is not None and self._positions and len(self._positions[0]) == batch_size:
            return self._draw_at(self._positions.pop(), self._pool, self._scores, None)
        pool = self.candidates(batch_size)
        self._positions = []
        if pool.scores is None or pool.decided_uniformly:
            return self._draw(pool, batch_size)
        scores = check_scores(pool.scores, pool.idxs)
        size = self.reuse * batch_size
        self._pool, self._scores = pool, uniform_if_all_zero(scores)
        positions = draw_positions(self._scores, size, self.rng, self.resampling)
        self.rng.shuffle(positions)
        self._positions = list(positions.reshape(self.reuse, batch_size))
        return self._draw_at(self._positions.pop(), pool, self._scores, scores)

    def batches_ahead(self, batch_size: int) -> int:
        """Those of a pool but the last, before which the next pool may be prepared.

        Args:
            batch_size: int, number of examples of a uniform step.
        """
        if self._positions:
            return max(1, len(self._positions) - 1)
        # Uniform draws, or what the next pool will hold.
        return max(batches_ahead(self.sampler, batch_size), self.reuse - 1)

    def propose_many(self, batch_size: int, count: int) -> list[Proposal]:
        """Draws the next mini-batches, of one pool; see `BaseSampler`.

        Args:
            batch_size: int, number of examples of a uniform step.
            count: int, the most batches; where draws turn out to be uniform there may be fewer.
        """
        if not self._positions:
            uniform = min(count, batches_ahead(self.sampler, batch_size))
            if uniform > 1:
                return self.sampler.propose_many(batch_size, uniform)
        first = self.propose(batch_size)
        rest = min(count, len(self._positions)) - 1
        return [first, *(self.propose(batch_size) for _ in range(rest))]

    def forget_pool(self) -> None:
        """Drops what is left of the present pool."""
        self._pool, self._positions = None, []

    def prepare(self, batch_size: int) -> None:
        """Prepares a pool, if this one is used up.

        Args:
            batch_size: int, examples of the next draw.
        """
        if not self._positions:
            super().prepare(batch_size)

    def state_dict(self) -> dict[str, Any]:
        """All that changes, with the present pool; see `Stateful.state_dict`."""
        pool = None
        if self._pool is not None and self._positions:
            rows = self._pool.rows
            pool = {
                "idxs": self._pool.idxs.copy(),
                "scores": self._scores.copy(),
                "positions": np.array(self._positions),
                "rows": None if rows is None else saved_rows(self.dataset, rows),
            }
        return {**super().state_dict(), "pool": pool}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken; reads the pool's rows again.

        Args:
            state: what `state_dict` returned.
        """
        super().load_state_dict(state)
        self.forget_pool()
        pool = state["pool"]
        if pool is not None:
            idxs = np.array(pool["idxs"])
            rows = restored_rows(self.dataset, idxs, pool["rows"])
            self._scores = np.array(pool["scores"])
            self._pool = Pool(idxs, self._scores, rows)
            self._positions = list(np.array(pool["positions"]))
