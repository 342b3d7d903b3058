"""How many steps of a sample count, on average over the training set, for losses with masks."""

from __future__ import annotations

from typing import Any

import numpy as np


class MeanValidSteps:
    """A running mean over all samples seen, by which a masked loss is normalised.

    Attributes:
        mean: `(outputs,)` float64; None before anything was seen.
    """

    def __init__(self) -> None:
        self.mean: np.ndarray | None = None
        self._seen = 0.0

    def add(self, counts: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Takes in the valid steps of a batch.

        Args:
            counts: `(n, outputs)`.
            weights: `(n,)` importance weights; None for ones.
        """
        counts = counts.astype(np.float64)
        weights = np.ones(len(counts)) if weights is None else weights
        seen = self._seen + weights.sum()
        old = 0.0 if self.mean is None else self.mean * self._seen
        self.mean = (old + weights @ counts) / seen
        self._seen = seen

    def state_dict(self) -> dict[str, Any]:
        """The mean and the number of samples behind it."""
        return {"tokens": self.mean, "tokens_seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self.mean, self._seen = state["tokens"], state["tokens_seen"]
