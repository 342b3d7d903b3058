"""Which examples to score anew by forward passes."""

from __future__ import annotations

from typing import Any

import numpy as np


class Refresher:
    """Which examples to score by forward passes: those not seen for longest, within a budget."""

    def __init__(self):
        self._budget = 0.0
        self._queue = np.zeros(0, np.int64)

    def earn(self, examples: float) -> None:
        """Adds to the budget."""
        self._budget += examples

    def due(self, seen: np.ndarray, batch_size: int, n: int) -> list[np.ndarray]:
        """Batches to score now, whole ones, so that a compiled function sees one shape."""
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

    def state_dict(self) -> dict[str, Any]:
        """What changes, as arrays and numbers."""
        return {"budget": self._budget, "queue": self._queue.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self._budget, self._queue = float(state["budget"]), np.array(state["queue"], np.int64)
