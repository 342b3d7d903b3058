"""What a loop that hands over draws asks for; to be deleted with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..proposal import Proposal


class OldLoop:
    """`train_draw` and `engine`, in terms of `train` and `attached`."""

    def train_draw(self, draw: Any) -> Any:
        """One optimizer step on a draw."""
        (idxs, rows, weights), ones = draw, np.ones(len(draw[0]))
        unbiased = getattr(getattr(self, "reweighting", None), "unbiased", False)
        metric_weights = None if unbiased else getattr(draw, "metric_weights", ones)
        scores = getattr(draw, "predicted_scores", ones)
        scores = scores if getattr(draw, "importance", True) else None
        return self.train(Proposal(idxs, rows, weights, scores, metric_weights))  # type: ignore[attr-defined]

    @property
    def engine(self) -> Any:
        """What has the method `attached`."""
        return self
