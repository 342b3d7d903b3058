"""Asking a model wrapper for the scores of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..protocols import AsynchronousScoringModel, ScoringModel

_Answer = TypeVar("_Answer")


def score_rows(model: ScoringModel, rows: tuple[Any, ...], batch_size: int) -> np.ndarray:
    """Scores of rows by a model wrapper.

    Args:
        model: anything with `score(x, y, batch_size)`.
        rows: `(x, y)` or `(x, y, sample_weight)`.
        batch_size: int, examples per forward pass.
    """
    return _ask(model.score, rows, batch_size)


def score_rows_later(
    model: AsynchronousScoringModel, rows: tuple[Any, ...], batch_size: int
) -> Callable[[], np.ndarray]:
    """As `score_rows`, but only begins; what it returns waits for the scores.

    Args:
        model: anything with `score_later(x, y, batch_size)`.
        rows: `(x, y)` or `(x, y, sample_weight)`.
        batch_size: int, examples per forward pass.
    """
    return _ask(model.score_later, rows, batch_size)


def _ask(score: Callable[..., _Answer], rows: tuple[Any, ...], batch_size: int) -> _Answer:
    if len(rows) > 2:
        return score(rows[0], rows[1], batch_size=batch_size, sample_weight=rows[2])
    return score(rows[0], rows[1], batch_size=batch_size)
