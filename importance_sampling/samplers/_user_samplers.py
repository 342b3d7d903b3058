"""What samplers written by users, also for 0.10, are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def as_column(results: np.ndarray) -> np.ndarray:
    """Scores of a training pass as `(n, 1)`."""
    return np.asarray(results).reshape(-1, 1)


def tell_by_column(sampler: type) -> None:
    """Has the loop call the `update(idxs, results)` that a user's class defines.

    The loop calls `update_from(draw, results)` with results `(n,)`, which samplers of the library
    define where a draw says more than its indices. A class outside of the library that defines
    `update` alone would be passed over; it is called after every step, with a column.

    Args:
        sampler: a subclass of `BaseSampler`, just made.
    """
    own = vars(sampler)
    if _is_ours(sampler.__module__) or "update" not in own:
        return

    def update_from(self: Any, draw: Any, results: np.ndarray) -> None:
        """Calls `update` with the results as a column."""
        self.update(draw[0], as_column(results))

    def learns_from(self: Any, draw: Any) -> bool:
        """True: it defines `update`."""
        return True

    for method in (update_from, learns_from):
        if method.__name__ not in own:
            setattr(sampler, method.__name__, method)


def decides_by_scores(sampler: Any) -> bool:
    """Whether a decorator has a `_get_samples_with_scores` of a user's own."""
    return not _is_ours(type(sampler)._get_samples_with_scores.__module__)


class ScoredProposals:
    """A sampler's proposals in which a uniform draw has scores, all one.

    Args:
        propose: the sampler's `_get_samples_with_scores`.
    """

    def __init__(self, propose: Callable[[int], Any]):
        self._propose = propose
        self.uniform = False
        """Whether the last proposal was a uniform draw."""

    def __call__(self, batch_size: int) -> Any:
        idxs, scores, xy = self._propose(batch_size)
        self.uniform = scores is None
        return idxs, np.ones(len(idxs)) if self.uniform else scores, xy


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == __package__.partition(".")[0]
