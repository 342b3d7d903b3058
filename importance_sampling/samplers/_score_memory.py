"""What is remembered of every example's score, and what is learnt of what becomes of scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._files import Allocate
from .._state import Stateful
from .score_cells import ScoreCells, expected_scores, score_bin
from .sum_tree import SumTree


class PendingScores:
    """Scores of training passes that were not learnt from yet."""

    def __init__(self) -> None:
        self._batches: list[tuple[np.ndarray, np.ndarray, int]] = []

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, idxs: np.ndarray, scores: np.ndarray, step: int) -> None:
        """Keeps the scores of a batch.

        Args:
            idxs: `(b,)` indices of the examples.
            scores: `(b,)` their scores.
            step: int, the step they were trained on at.
        """
        self._batches.append((idxs, scores, step))

    def take(
        self, last: int | None = None
    ) -> tuple[int, np.ndarray, np.ndarray, np.ndarray] | None:
        """Takes out the number of batches, their indices, scores and steps, oldest first.

        Args:
            last: int, the last step to take; all by default.

        Returns:
            The four, or None if there is nothing to take.
        """
        count = sum(last is None or step <= last for _, _, step in self._batches)
        if not count:
            return None
        idxs, scores, steps = zip(*self._batches[:count], strict=True)
        self._batches = self._batches[count:]
        repeated = np.repeat(np.array(steps, np.int32), [len(i) for i in idxs])
        return count, np.concatenate(idxs), np.concatenate(scores), repeated

    def state_dict(self) -> dict[str, Any]:
        """What changes, as arrays and numbers."""
        return {"batches": [[i.copy(), s.copy(), step] for i, s, step in self._batches]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken.

        Args:
            state: what `state_dict` returned.
        """
        self._batches = [
            (np.array(i, np.int64), np.array(s, np.float64), int(step))
            for i, s, step in state["batches"]
        ]


class ScoreMemory(Stateful):
    """The score of each example that was seen last, its age, and what to expect of it now.

    Steps are counted when they are drawn. What they say is kept when it is known (`keep`), and
    learnt when it is time (`learn_pending`): then it may be drawn by.

    Args:
        tree: holds what to expect of each example, by which they are drawn.
        robust: float >= 0, as for `HistoryMixtureSampler`.
        allocate: makes the arrays of a number for each example.

    Attributes:
        bins: `(N,)` the bin of the score seen last.
        seen: `(N,)` the step it is of; 0 for examples that were not seen yet.
        step: int, steps that were drawn.
        next_refit: int, the step at which all expectations are worked out anew.
        steps_per_epoch: int; 0 until that is known.
        cells: what has become of scores by their size and age.
        pending: scores that are known and not learnt from yet.
    """

    _state: tuple[str, ...] = (
        "bins",
        "seen",
        "step",
        "next_refit",
        "steps_per_epoch",
        "cells",
        "_fresh",
        "pending",
    )

    def __init__(self, tree: SumTree, robust: float, allocate: Allocate):
        self.allocate = allocate
        self._tree = tree
        self._robust = robust
        self.bins = allocate((tree.n,), np.uint8)
        self.seen = allocate((tree.n,), np.int32)
        self.step = 0
        self.next_refit = 0
        self.steps_per_epoch = 0
        self.cells = ScoreCells(1)
        # The score to expect right after a score of each bin.
        self._fresh = np.ones(1)
        self.pending = PendingScores()

    def begin(self, steps: int) -> None:
        """Begins to learn.

        Args:
            steps: int, steps per epoch.
        """
        self.steps_per_epoch = steps
        self.cells.epoch = max(1, steps)

    def keep(self, idxs: np.ndarray, scores: np.ndarray, number: int) -> None:
        """Keeps the scores of one step's examples, to be learnt from when it is time.

        Args:
            idxs: `(b,)` indices.
            scores: `(b,)` scores of the training pass.
            number: int, which of the steps drawn it was.
        """
        # Steps that others drew are counted here.
        self.step = max(self.step, number)
        self.pending.add(idxs, scores, number)

    def learn_pending(self, last: int | None = None) -> None:
        """Learns from the scores that were kept.

        Args:
            last: int, the last step to learn from; all by default.
        """
        found = self.pending.take(last)
        if found is not None:
            self.learn(*found)

    def learn(self, batches: int, idxs: np.ndarray, scores: np.ndarray, steps: np.ndarray) -> None:
        """Learns from scores: what has become of the examples' earlier ones, and what they are now.

        Args:
            batches: int, of how many batches they are.
            idxs: `(n,)` indices; of an example that comes twice, the last score stays.
            scores: `(n,)` scores.
            steps: `(n,)` the step each is of.
        """
        seen = self.seen[idxs]
        known = seen > 0
        if known.any():
            ages = steps[known] - seen[known]
            self.cells.observe(self.bins[idxs[known]], ages, scores[known], batches)
        bins = score_bin(scores)
        self.bins[idxs] = bins
        self.seen[idxs] = np.maximum(steps, 1)
        if len(self._fresh) > 1:
            self._tree.set(idxs, self._fresh[bins])

    def refit(self, interval: int) -> None:
        """Works out anew what to expect of all examples; O(N).

        Args:
            interval: int, steps until it is due again.
        """
        self.next_refit = self.step + interval

        def ages(piece: slice) -> np.ndarray:
            seen = self.seen[piece]
            return np.where(seen == 0, -1, self.step - seen)

        scores, cell, self._fresh = expected_scores(
            self.cells, self.bins, ages, self._robust, self.allocate
        )
        scores = scores.astype(np.float32)
        self._tree.fill_pieces(lambda piece: scores[cell[piece]])
