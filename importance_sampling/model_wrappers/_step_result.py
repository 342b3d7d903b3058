"""What one training step said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


class StepResult:
    """What one training step said; arrays are computed and fetched when they are read.

    Args:
        logs: the metrics, running averages over the epoch.
        fetch: returns `(weighted losses, scores)`, numpy arrays `(n,)`.
        fetch_scores: returns the scores alone, where that is cheaper.
        scores_of_call: returns those of all steps of the same call, `(steps, n)`, if there were
            several.
        row: int, which of these steps it is.
    """

    def __init__(
        self,
        logs: Mapping[str, Any],
        fetch: Callable[[], tuple[np.ndarray, np.ndarray]],
        fetch_scores: Callable[[], np.ndarray] | None = None,
        scores_of_call: Callable[[], np.ndarray] | None = None,
        row: int = 0,
    ):
        self.logs = logs
        self._fetch = fetch
        self._fetch_scores = fetch_scores or (lambda: fetch()[1])
        self.scores_of_call = scores_of_call
        self.row = row
        self._losses: np.ndarray | None = None
        self._scores: np.ndarray | None = None

    @property
    def weighted_losses(self) -> np.ndarray:
        """Weight times loss of each example, `(n,)`."""
        if self._losses is None:
            self._losses, scores = self._fetch()
            # Scores that were read stay what they were, to the last digit.
            self._scores = scores if self._scores is None else self._scores
        return self._losses

    @property
    def scores(self) -> np.ndarray:
        """Score of each example in this very pass, `(n,)`."""
        if self._scores is None:
            self._scores = self._fetch_scores()
        return self._scores


def scores_together(outcomes: Sequence[Any]) -> np.ndarray | None:
    """The scores of steps that follow each other in one call; None if they are no such steps.

    Args:
        outcomes: what the steps said.

    Returns:
        `(steps, n)` scores in the type that samplers learn in, not checked.
    """
    first = outcomes[0]
    if not isinstance(first, StepResult) or first.scores_of_call is None:
        return None
    for i, outcome in enumerate(outcomes):
        same = isinstance(outcome, StepResult) and outcome.scores_of_call == first.scores_of_call
        if not same or outcome.row != first.row + i:
            return None
    return first.scores_of_call()[first.row : first.row + len(outcomes)]
