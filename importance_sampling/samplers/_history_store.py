"""Parts of the history: batches drawn ahead, where a run began, examples to score anew."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._state import Stateful
from ..protocols import Dataset
from ._rows_ahead import RowsAhead, most_read_together

# Batches that are drawn by the same probabilities.
_MOST = 32
# The share of an epoch that they may be: what is learnt meanwhile is not drawn by.
_SHARE = 8


def batches_at_once(n: int, batch_size: int) -> int:
    """How many batches to draw at once.

    Args:
        n: int, examples of the data set.
        batch_size: int, examples of a batch.
    """
    return max(1, min(n // (_SHARE * batch_size), _MOST))


class DrawnBatches(Stateful):
    """Batches that were drawn together, with the scores they were drawn by.

    Each is a draw of its own: given the probabilities, no batch says anything about the others.
    """

    _state: tuple[str, ...] = ("_idxs", "_scores", "_total")

    def __init__(self) -> None:
        self._rows = RowsAhead()
        self.forget()

    def __len__(self) -> int:
        return len(self._idxs)

    @property
    def size(self) -> int:
        """Examples in each batch; 0 if there is none left."""
        return self._idxs.shape[1] if len(self) else 0

    def forget(self) -> None:
        """Drops what is left."""
        self.fill(np.zeros((0, 0), np.int64), np.zeros((0, 0)), 0.0)

    def fill(self, idxs: np.ndarray, scores: np.ndarray, total: float) -> None:
        """Takes new batches in.

        Args:
            idxs: `(batches, b)` indices.
            scores: `(batches, b)` what they were drawn by.
            total: float, the sum of that over all examples.
        """
        self._idxs, self._scores, self._total = idxs, scores, total
        self._rows.forget()

    def next(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Takes out a batch: its indices, their scores and the sum of all scores."""
        found = self._idxs[0], self._scores[0], self._total
        self._idxs, self._scores = self._idxs[1:], self._scores[1:]
        return found

    def rows_of(self, idxs: np.ndarray, dataset: Dataset) -> tuple[Any, ...]:
        """The data of the batch taken out last; those of small rows are read with the next ones.

        Args:
            idxs: `(b,)` its indices.
            dataset: the data set.
        """
        rows = self._rows.take(idxs)
        if rows is not None:
            return rows
        most = most_read_together(dataset, len(idxs))
        if most == 1 or not len(self) or len(idxs) != self.size:
            return dataset.train_data[idxs]
        following = self._idxs[: most - 1].reshape(-1)
        return self._rows.read(dataset, idxs, following)

    def forget_rows(self) -> None:
        """Has data that was read ahead read anew, because the user may have changed it."""
        self._rows.forget()

    def _after_loading(self) -> None:
        self._rows.forget()


class RunStart(Stateful):
    """Where the present run of batches began, and what was known of the steps before it.

    The next run is drawn by that: then the steps of this one may still be under way.

    Attributes:
        step: int, the steps drawn before the run.
        batches: int, of the run.
        ratio: float, the ratio of second moments as measured on them.
        observed: int, the last step that was observed.
        batches_left: int, of a run in the first pass, whose batches are not drawn together.
    """

    _state: tuple[str, ...] = ("step", "batches", "ratio", "observed", "batches_left")

    def __init__(self) -> None:
        self.step = 0
        self.batches = 0
        self.ratio = 1.0
        self.observed = 0
        self.batches_left = 0

    def begin(self, step: int, batches: int, ratio: float) -> None:
        """Begins another run.

        Args:
            step: int, the steps drawn so far.
            batches: int, how many it will have.
            ratio: float, as measured now.
        """
        self.step, self.batches = step, batches
        if self.observed >= step:
            self.ratio = ratio

    def observe(self, number: int, ratio: float) -> None:
        """Takes note of a step that was observed.

        Args:
            number: int, of the step.
            ratio: float, as measured with it.
        """
        if self.observed < self.step <= number:
            self.ratio = ratio
        self.observed = max(number, self.observed)


class Refresher(Stateful):
    """Which examples to score by forward passes: those of stalest score, within a budget."""

    _state: tuple[str, ...] = ("_budget", "_queue")

    def __init__(self) -> None:
        self._budget = 0.0
        self._queue = np.zeros(0, np.int64)

    def earn(self, examples: float) -> None:
        """Adds to the budget.

        Args:
            examples: float, examples that may be scored.
        """
        self._budget += examples

    def due(self, seen: np.ndarray, batch_size: int, n: int) -> list[np.ndarray]:
        """Batches to score now, whole ones, so that a compiled function sees one shape.

        Args:
            seen: `(n,)` the step that each example's score is of.
            batch_size: int, examples of a batch.
            n: int, examples of the data set.
        """
        batches = []
        while self._budget >= batch_size:
            self._budget -= batch_size
            if len(self._queue) < batch_size:
                # An eighth of the data at a time: O(N) work for O(N) examples scored.
                size = min(n, max(batch_size, n // 8))
                oldest = np.argpartition(seen, size - 1)[:size]
                self._queue = oldest[np.argsort(seen[oldest], kind="stable")]
            batches.append(self._queue[:batch_size])
            self._queue = self._queue[batch_size:]
        return batches
