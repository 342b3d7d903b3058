"""Batches drawn, and scores learnt from, several at a time: most of the work is per call."""

from __future__ import annotations

from typing import Any

import numpy as np

# Batches that are drawn by the same probabilities.
_MOST = 8
# The share of an epoch that they may be: what is learnt meanwhile is not drawn by.
_SHARE = 8


def batches_at_once(n: int, batch_size: int) -> int:
    """How many batches to draw at once from `n` examples."""
    return int(np.clip(n // (_SHARE * batch_size), 1, _MOST))


class DrawnBatches:
    """Batches that were drawn together, with the scores they were drawn by.

    Each is a draw of its own: given the probabilities, no batch says anything about the others.
    """

    def __init__(self):
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

    def next(self, size: int) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Indices, scores and the sum of all; None if there is no batch of that size left."""
        if not len(self) or self._idxs.shape[1] != size:
            return None
        found = self._idxs[0], self._scores[0], self._total
        self._idxs, self._scores = self._idxs[1:], self._scores[1:]
        return found

    def state_dict(self) -> dict[str, Any]:
        """What changes, as arrays and numbers."""
        return {"idxs": self._idxs.copy(), "scores": self._scores.copy(), "total": self._total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self.fill(
            np.array(state["idxs"], np.int64), np.array(state["scores"]), float(state["total"])
        )


class NotedScores:
    """Scores of training passes that were not learnt from yet."""

    def __init__(self):
        self._batches: list[tuple[np.ndarray, np.ndarray, int]] = []

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, idxs: np.ndarray, scores: np.ndarray, step: int) -> None:
        """Notes a batch, trained on at `step`."""
        self._batches.append((idxs, scores, step))

    def take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All indices, scores and steps, oldest first; nothing is left."""
        idxs, scores, steps = zip(*self._batches, strict=True)
        self._batches = []
        steps = np.repeat(np.array(steps, np.int32), [len(i) for i in idxs])
        return np.concatenate(idxs), np.concatenate(scores), steps

    def state_dict(self) -> dict[str, Any]:
        """What changes, as arrays and numbers."""
        return {"batches": [(i.copy(), s.copy(), step) for i, s, step in self._batches]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self._batches = [
            (np.array(i, np.int64), np.array(s, np.float64), int(step))
            for i, s, step in state["batches"]
        ]
