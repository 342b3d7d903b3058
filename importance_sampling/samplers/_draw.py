"""Drawing positions from scores, and indices uniformly."""

from __future__ import annotations

from typing import Any

import numpy as np


def make_rng(rng: np.random.Generator | int | None) -> np.random.Generator:
    """A generator of its own, from a generator, a seed or nothing."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)


class InvalidScores(ValueError):
    """Scores that nothing can be drawn by."""


def check_scores(scores: Any, idxs: np.ndarray | None = None) -> np.ndarray:
    """Scores as a float64 vector.

    Args:
        scores: `(n,)` scores.
        idxs: `(n,)` the examples they belong to.

    Raises:
        InvalidScores: if any is NaN, infinite or negative; says how many, of which examples
            and what to check.
    """
    scores = np.asarray(scores, dtype=np.float64).reshape(-1)
    # One pass for the usual case: any NaN, infinite or negative score fails it.
    if len(scores) and scores.min() >= 0 and scores.max() < np.inf:
        return scores
    rows = np.flatnonzero(~(np.isfinite(scores) & (scores >= 0)))
    if len(rows) == 0:
        return scores
    which = rows[:5] if idxs is None else np.asarray(idxs)[rows[:5]]
    raise InvalidScores(
        f"{len(rows)} of {len(scores)} scores are NaN, infinite or negative; the first belong to "
        f"the examples with index {which.tolist()} (scores {scores[rows[:5]].tolist()}). Check "
        "these rows of the data for NaN and infinity, lower the learning rate, or clip the "
        "gradients."
    )


def drawable(scores: np.ndarray) -> np.ndarray:
    """The scores, or ones where all are zero: then nothing is worth more than anything else."""
    return scores if scores.any() else np.ones_like(scores)


RESAMPLINGS = ("multinomial", "systematic")


def check_resampling(resampling: Any) -> str:
    """One of `RESAMPLINGS`, or an error that names them."""
    if resampling not in RESAMPLINGS:
        raise ValueError(f"`resampling` must be one of {list(RESAMPLINGS)}, got {resampling!r}.")
    return resampling


def uniforms_for(resampling: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers in [0, 1), each uniform, for inverting a cumulative distribution.

    Multinomial ones are independent. Systematic ones are equally spaced from one random start:
    example i is then drawn either floor(b p_i) or ceil(b p_i) times, b p_i times on average,
    which leaves the mean of a weighted batch as it is and takes variance away.

    Args:
        resampling: one of `RESAMPLINGS`.
        size: int, how many.
        rng: the training's generator.
    """
    if resampling == "systematic":
        return (np.arange(size) + rng.random()) / size
    return rng.random(size)


def draw_positions(
    scores: np.ndarray, size: int, rng: np.random.Generator, resampling: str = "multinomial"
) -> np.ndarray:
    """Draws `size` positions, each with probability `s_i / sum(s)`.

    Inverts the cumulative sum, O(B + b log B), with no Python loop.
    """
    cumulative = np.cumsum(scores)
    positions = np.searchsorted(
        cumulative, uniforms_for(resampling, size, rng) * cumulative[-1], side="right"
    )
    # Rounding may put a draw past the end or on a run of zero scores.
    return np.minimum(positions, np.flatnonzero(scores)[-1])


class IndexStream:
    """Indices of a data set in passes, each in a new random order; O(n) once per pass.

    For a stream without length the indices only count, and have no meaning.

    Args:
        n: number of examples, or None for a stream.
        rng: the training's generator.
        shuffle: whether each pass has a new random order.
    """

    def __init__(self, n: int | None, rng: np.random.Generator, shuffle: bool = True):
        self.n = n
        self.shuffle = shuffle
        self._rng = rng
        self._seed: int | None = None
        self._position = 0
        self._order: np.ndarray | None = None

    def next(self, size: int) -> np.ndarray:
        """The next `size` indices, from the following pass where this one ends."""
        if self.n is None:
            return np.arange(size)
        if self._order is None:
            self._start_pass()
        parts = []
        while size > 0:
            part = self._order[self._position : self._position + size]
            parts.append(part)
            self._position += len(part)
            size -= len(part)
            if self._position == self.n:
                self._start_pass()
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def rows_in_batch(self, size: int) -> int:
        """How many indices the next batch of at most `size` takes.

        As in Keras, what whole batches leave of a pass is a batch of its own, and a batch larger
        than the data is cut to it. Where pools were taken in between, so that something else is
        left, the batch goes on into the following pass: batches come in two sizes, for which
        compiled steps are compiled.
        """
        if self.n is None:
            return size
        left = self.n - self._position
        return left if left == self.n % size else size

    def peek(self, size: int) -> np.ndarray | None:
        """The next `size` indices, which stay; None where they are not settled yet."""
        if self._order is None or self._position + size > self.n:
            return None
        return self._order[self._position : self._position + size]

    def _start_pass(self) -> None:
        self._position = 0
        if self.shuffle:
            # A pass is a function of one number, so that state stays small.
            self._seed = int(self._rng.integers(2**63))
        self._order = self._make_order()

    def _make_order(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.n)
        order = np.arange(self.n, dtype=np.int32 if self.n < 2**31 else np.int64)
        np.random.default_rng(self._seed).shuffle(order)
        return order

    def state_dict(self) -> dict[str, Any]:
        """The position as plain numbers."""
        started = self._order is not None
        return {"started": started, "seed": self._seed, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where `state_dict` was taken."""
        self._seed = state["seed"]
        self._position = state["position"]
        self._order = self._make_order() if state["started"] and self.n is not None else None
