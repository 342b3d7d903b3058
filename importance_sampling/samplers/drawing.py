"""Drawing positions by score, and indices and their rows uniformly."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np

from .._arrays import count_rows, take_rows
from .._state import Stateful
from .._threads import DaemonExecutor
from ..protocols import Dataset
from ._rows_ahead import RowsAhead, most_read_together
from .permutation import permuted


def make_rng(rng: np.random.Generator | int | None) -> np.random.Generator:
    """A generator of its own, from a generator, a seed or nothing."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)


def uniform_if_all_zero(scores: np.ndarray) -> np.ndarray:
    """The scores, or ones where all are zero: then no candidate is worth more than another.

    Args:
        scores: `(B,)` scores of a pool.
    """
    return scores if scores.any() else np.ones_like(scores)


Resampling: TypeAlias = Literal["multinomial", "systematic"]
"""How a batch is drawn by given probabilities; see `BaseSampler`."""

RESAMPLINGS: tuple[Resampling, ...] = get_args(Resampling)


def check_resampling(resampling: Resampling) -> Resampling:
    """One of `RESAMPLINGS`, or an error that names them."""
    if resampling not in RESAMPLINGS:
        raise ValueError(f"`resampling` must be one of {list(RESAMPLINGS)}, got {resampling!r}.")
    return resampling


def uniforms_for(
    resampling: Resampling, size: int, rng: np.random.Generator, batches: int | None = None
) -> np.ndarray:
    """Numbers in [0, 1), each uniform, for inverting a cumulative distribution.

    Multinomial ones are independent. Systematic ones are equally spaced from one random start:
    example i is then drawn either floor(b p_i) or ceil(b p_i) times, b p_i times on average,
    which leaves the mean of a weighted batch as it is and takes variance away.

    Args:
        resampling: one of `RESAMPLINGS`.
        size: int, how many.
        rng: the training's generator.
        batches: int, for how many batches, each with numbers of its own: a row for each, as so
            many calls would give. Defaults to one, without rows.
    """
    rows = () if batches is None else (batches,)
    if resampling == "systematic":
        return (np.arange(size) + rng.random((*rows, 1))) / size
    return rng.random((*rows, size))


def draw_positions(
    scores: np.ndarray, size: int, rng: np.random.Generator, resampling: Resampling = "multinomial"
) -> np.ndarray:
    """Draws `size` positions, each with probability `s_i / sum(s)`.

    Inverts the cumulative sum, O(B + b log B), with no Python loop.

    Args:
        scores: `(B,)` scores, not all of them 0.
        size: int, how many.
        rng: the training's generator.
        resampling: `"multinomial"`, independent draws, or `"systematic"`; see `uniforms_for`.
            Defaults to `"multinomial"`.

    Returns:
        `(size,)` positions, of which some may be equal.
    """
    cumulative = np.cumsum(scores)
    positions = np.searchsorted(
        cumulative, uniforms_for(resampling, size, rng) * cumulative[-1], side="right"
    )
    # Rounding may put a draw past the end or on a run of zero scores.
    return np.minimum(positions, np.flatnonzero(scores)[-1])


class IndexStream(Stateful):
    """Indices of a data set in passes, each in a new random order; O(n) once per pass.

    For a stream without length the indices only count, and have no meaning.

    Attributes:
        stored: bool, whether the order of a pass is kept in memory, 4 bytes per example. Otherwise
            it is worked out where it is asked for, and is another one.

    Args:
        n: number of examples, or None for a stream.
        rng: the training's generator.
        shuffle: whether each pass has a new random order.
    """

    _state: tuple[str, ...] = ("_started", "_seed", "_position", "stored")

    def __init__(self, n: int | None, rng: np.random.Generator, shuffle: bool = True):
        self.n = n
        self.shuffle = shuffle
        self.stored = True
        self._rng = rng
        self._seed: int | None = None
        self._position = 0
        self._started = False
        # Follows from the seed.
        self._order: np.ndarray | None = None

    def next(self, size: int) -> np.ndarray:
        """The next `size` indices, from the following pass where this one ends.

        Args:
            size: int, how many.
        """
        if self.n is None:
            return np.arange(size)
        if not self._started:
            self._start_pass()
        parts = []
        while size > 0:
            part = self._at(self._position, self._position + size)
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

        Args:
            size: int, the batch size.
        """
        if self.n is None:
            return size
        left = self.n - self._position
        return left if left == self.n % size else size

    def whole_batches(self, size: int) -> int:
        """How many batches of `size` are left of the pass, at least one.

        Args:
            size: int, the batch size.
        """
        if self.n is None:
            return 1
        left = self.n - self._position if self._started else self.n
        return max(1, left // size)

    def peek(self, size: int) -> np.ndarray | None:
        """The next `size` indices, which stay; None where they are not settled yet.

        Args:
            size: int, how many.
        """
        if not self._started or self._position + size > (self.n or 0):
            return None
        return self._at(self._position, self._position + size)

    def _start_pass(self) -> None:
        self._started = True
        self._position = 0
        self._order = None
        if self.shuffle:
            # A pass is a function of one number, so that state stays small.
            self._seed = int(self._rng.integers(2**63))

    def _at(self, start: int, stop: int) -> np.ndarray:
        """The indices at some positions in the order of this pass."""
        n = self.n or 0
        if not self.shuffle or not self.stored:
            positions = np.arange(start, min(stop, n))
            return permuted(positions, n, self._seed or 0) if self.shuffle else positions
        if self._order is None:
            self._order = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
            np.random.default_rng(self._seed).shuffle(self._order)
        return self._order[start:stop]

    def _after_loading(self) -> None:
        self._order = None


class Indices(Protocol):
    """An order in which to go through a data set; see `IndexStream`."""

    def next(self, size: int) -> np.ndarray:
        """The next `size` indices."""

    def rows_in_batch(self, size: int) -> int:
        """How many indices the next batch of at most `size` takes."""

    def peek(self, size: int) -> np.ndarray | None:
        """The next `size` indices, which stay; None where they are not settled yet."""

    def whole_batches(self, size: int) -> int:
        """How many whole batches are left of the pass."""


class RowReader:
    """The data of the next uniformly drawn examples.

    Data sets with `reads_ahead` are asked for the rows after these in a thread, while the
    device is busy with these. Which rows those are does not depend on any score; how many is
    taken to be the same again, and read anew if it was not.

    Args:
        dataset: the data set.
        indices: the order in which to go through it, an `IndexStream` or the like.
    """

    def __init__(self, dataset: Dataset, indices: Indices):
        self._dataset = dataset
        self._indices = indices
        self._ahead: tuple[np.ndarray, Future] | None = None
        self._reads_ahead = getattr(dataset, "reads_ahead", False)
        self._thread: DaemonExecutor | None = None
        self._together = RowsAhead()

    def next_batch(self, size: int) -> tuple[np.ndarray, tuple[Any, ...]]:
        """The next batch to train on as it is: indices and data.

        It holds `size` examples, or what is left of a pass (`IndexStream.rows_in_batch`); of a
        stream that comes in batches, the next of these.

        Args:
            size: int, the batch size.
        """
        if hasattr(self._dataset, "read_batch"):
            return _counted(self._dataset.read_batch(size))
        return self._read_next(self._indices.rows_in_batch(size))

    def next_batches(self, size: int, count: int) -> list[tuple[np.ndarray, tuple[Any, ...]]]:
        """Batches as from so many calls of `next_batch`, read together.

        Args:
            size: int, the batch size.
            count: int, how many; at most `whole_batches`.
        """
        if hasattr(self._dataset, "read_batch") or self._reads_ahead:
            return [self.next_batch(size) for _ in range(count)]
        idxs = self._indices.next(count * size)
        return split_rows(idxs, self._dataset.train_data[idxs], size)

    def whole_batches(self, size: int) -> int:
        """How many batches of `size` are left of the pass, at least one; one for a stream.

        Args:
            size: int, the batch size.
        """
        return self._indices.whole_batches(size)

    def next_pool(self, size: int) -> tuple[np.ndarray, tuple[Any, ...]]:
        """Indices and data of the next examples to draw from, from the next pass where one ends.

        These are `size` examples; of a stream that comes in batches, as many whole ones as hold
        at least so many.

        Args:
            size: int, the size of the pool.
        """
        if hasattr(self._dataset, "read_pool"):
            return _counted(self._dataset.read_pool(size))
        return self._read_next(size)

    def _read_next(self, size: int) -> tuple[np.ndarray, tuple[Any, ...]]:
        left = self._indices.whole_batches(size) - 1
        idxs = self._indices.next(size)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and np.array_equal(ahead[0], idxs):
            rows = ahead[1].result()
        else:
            rows = self._read_together(idxs, left)
        if self._reads_ahead:
            following = self._indices.peek(size)
            if following is not None:
                if self._thread is None:
                    self._thread = DaemonExecutor(1, "importance-sampling-rows")
                self._ahead = following, self._thread.submit(self._read, following)
        return idxs, rows

    def _read_together(self, idxs: np.ndarray, left: int) -> tuple[Any, ...]:
        """The data of a batch; small rows are read with those of batches left in the pass."""
        rows = self._together.take(idxs)
        if rows is not None:
            return rows
        most = min(most_read_together(self._dataset, len(idxs)) - 1, left)
        more = self._indices.peek(most * len(idxs)) if most > 0 else None
        if more is None:
            return self._dataset.train_data[idxs]
        return self._together.read(self._dataset, idxs, more)

    def _read(self, idxs: np.ndarray) -> tuple[Any, ...]:
        return self._dataset.train_data[idxs]

    def forget(self) -> None:
        """Has small rows that were read together read anew, because the user may change them."""
        self._together.forget()

    def close(self) -> None:
        """Ends the reading thread; a later batch would begin another."""
        thread, self._thread, self._ahead = self._thread, None, None
        if thread is not None:
            thread.shutdown(wait=False, cancel_futures=True)


def split_rows(
    idxs: np.ndarray, rows: tuple[Any, ...], size: int
) -> list[tuple[np.ndarray, tuple[Any, ...]]]:
    """Examples in batches, without copying.

    Args:
        idxs: indices.
        rows: the data at them.
        size: int, examples in each batch.
    """
    pieces = [slice(start, start + size) for start in range(0, len(idxs), size)]
    return [(idxs[piece], take_rows(rows, piece)) for piece in pieces]


def _counted(rows: tuple[Any, ...]) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Rows of a stream, whose indices only count."""
    return np.arange(count_rows(rows)), rows
