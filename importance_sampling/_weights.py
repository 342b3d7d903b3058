"""The one formula that samplers and reweighting share; numpy only."""

from __future__ import annotations

import numpy as np


def unbiased_weights(scores: np.ndarray, total: float, size: int) -> np.ndarray:
    """Weights `w_i = 1 / (N p_i) = sum(s) / (N s_i)` of drawn examples.

    Args:
        scores: `(b,)` scores that the examples were drawn by, with p_i = s_i / total.
        total: float, sum of the scores of the whole pool.
        size: int, number of examples N of the pool.

    Returns:
        `(b,)` float64 array.
    """
    return total / (size * np.asarray(scores, dtype=np.float64))
