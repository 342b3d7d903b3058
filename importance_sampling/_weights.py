"""The one formula that samplers and reweighting share; numpy only."""

from __future__ import annotations

import numpy as np


def unbiased_weights(idxs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Weights `w_i = 1 / (N p_i) = sum(s) / (N s_i)` of drawn examples.

    Args:
        idxs: `(b,)` positions in `scores` that were drawn.
        scores: `(N,)` scores of the pool they were drawn from, with p_i = s_i / sum(s).

    Returns:
        `(b,)` float64 array.
    """
    scores = np.asarray(scores, dtype=np.float64)
    return scores.sum() / (len(scores) * scores[idxs])
