"""What a score seen some time ago says about the score now, learnt from pairs of both."""

from __future__ import annotations

from typing import Any

import numpy as np

# Score bins are half octaves from 2^-16 to 2^16, age bins octaves around one epoch.
_SCORE_BINS = 64
_AGE_BINS = 8
# Observations that a coarser estimate counts for where a cell has few of its own.
_PRIOR = 4.0
_SECOND_MOMENTS = 2.0 ** (np.arange(_SCORE_BINS) - _SCORE_BINS // 2 + 0.5)
"""The squared score in the middle of each score bin."""


def score_bin(scores: np.ndarray) -> np.ndarray:
    """The bin of each score, uint8: one byte is all that is kept of it."""
    with np.errstate(divide="ignore"):
        halves = np.floor(2.0 * np.log2(scores)) + _SCORE_BINS // 2
    return np.clip(halves, 0, _SCORE_BINS - 1).astype(np.uint8)


class ScoreCells:
    r"""Mean and variance of a squared score, given the score seen last and its age.

    The variance of a batch drawn with probabilities p is minimal for
    $p_i \propto \sqrt{E[s_i^2]}$, the expectation over what is not known of $s_i$. Examples are
    told apart by two numbers: the bin of the score seen last (half octaves) and its age (octaves
    of epochs). Whenever an example is trained on, its new squared score is one observation for
    the cell it was in. No curve is assumed: that scores decline, that easy examples come back
    and that old scores say little all appear in the cells' means.

    Args:
        epoch: int, steps per epoch: the unit of age, and the time after which an observation
            counts half.
    """

    def __init__(self, epoch: int):
        self.epoch = max(1, epoch)
        self._decay = 0.5 ** (1.0 / self.epoch)
        self._count = np.zeros((_SCORE_BINS, _AGE_BINS))
        self._sum = np.zeros_like(self._count)
        self._squares = np.zeros_like(self._count)
        # Decays as a growing weight of what is new, so that a step touches only its own cells.
        self._weight = 1.0

    def age_bin(self, age: np.ndarray) -> np.ndarray:
        """The bin of each age, in steps."""
        octave = np.floor(np.log2(np.maximum(age, 1) / self.epoch)) + _AGE_BINS // 2
        return np.clip(octave, 0, _AGE_BINS - 1).astype(np.int64)

    def observe(
        self, bins: np.ndarray, ages: np.ndarray, scores: np.ndarray, steps: int = 1
    ) -> None:
        """Learns from examples whose scores have been seen before.

        Args:
            bins: `(n,)` bins of the scores seen before.
            ages: `(n,)` steps since then.
            scores: `(n,)` scores now.
            steps: int, the steps of training that they are from. Defaults to `1`.
        """
        self._weight /= self._decay**steps
        cells = bins.astype(np.int64) * _AGE_BINS + self.age_bin(ages)
        squares = np.asarray(scores, np.float64) ** 2
        for total, values in (
            (self._count, None),
            (self._sum, squares),
            (self._squares, squares**2),
        ):
            found = np.bincount(cells, values, minlength=total.size)
            total += self._weight * found.reshape(total.shape)
        if self._weight > 1e12:
            self._rescale()

    def _rescale(self) -> None:
        for total in (self._count, self._sum, self._squares):
            total /= self._weight
        self._weight = 1.0

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the squared score in each cell, `(score bins, age bins)`.

        A cell with few observations leans on its score bin at all ages, and that on the
        assumption that scores stay as they were.
        """
        count, total, squares = (
            part / self._weight for part in (self._count, self._sum, self._squares)
        )
        prior, spread = _SECOND_MOMENTS, _SECOND_MOMENTS**2
        bin_mean = (total.sum(1) + _PRIOR * prior) / (count.sum(1) + _PRIOR)
        bin_square = (squares.sum(1) + _PRIOR * 2.0 * spread) / (count.sum(1) + _PRIOR)
        mean = (total + _PRIOR * bin_mean[:, None]) / (count + _PRIOR)
        square = (squares + _PRIOR * bin_square[:, None]) / (count + _PRIOR)
        return mean, np.maximum(square - mean**2, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """What changes, as arrays and numbers."""
        return {
            "count": self._count.copy(),
            "sum": self._sum.copy(),
            "squares": self._squares.copy(),
            "weight": self._weight,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self._count = np.array(state["count"])
        self._sum = np.array(state["sum"])
        self._squares = np.array(state["squares"])
        self._weight = float(state["weight"])


def robust_second_moments(
    mean: np.ndarray, variance: np.ndarray, size: np.ndarray, radius: float = 1.0
) -> np.ndarray:
    r"""The worst squared scores within an ellipsoid around the expected ones.

    Of all $v \ge 0$ with $\frac1N \sum_i (v_i - c_i)^2 / d_i \le r^2$ the ones for which the
    best probabilities do worst: $\max_v \min_p \sum_i v_i / p_i = \max_v (\sum_i \sqrt{v_i})^2$
    (Johnson & Guestrin, NeurIPS 2018, section 3). With a multiplier $\lambda$ the maximum has
    $v_i = c_i + \lambda d_i / \sqrt{v_i}$, a cubic in $\sqrt{v_i}$; $\lambda$ is found by
    bisection. Drawing with $p_i \propto \sqrt{v_i}$ is then the robust choice.

    Args:
        mean: `(cells,)` expected squared scores c.
        variance: `(cells,)` their variances d.
        size: `(cells,)` number of examples in each cell.
        radius: float >= 0, the ellipsoid's radius r. Defaults to `1.0`.

    Returns:
        `(cells,)` array v.
    """
    used = (size > 0) & (variance > 0)
    result = mean.astype(np.float64).copy()
    if radius == 0 or not used.any():
        return result
    c, d, share = mean[used], variance[used], size[used] / size.sum()

    def worst(multiplier: float) -> np.ndarray:
        # u^3 - c u - m d = 0 has one root above sqrt(c), where it is convex: Newton from the
        # right falls towards it and never past it.
        u = np.sqrt(c) + np.cbrt(multiplier * d)
        for _ in range(60):
            step = (u**3 - c * u - multiplier * d) / np.maximum(3 * u**2 - c, 1e-300)
            u = u - step
            if np.all(np.abs(step) <= 1e-9 * u):
                break
        return u**2

    def outside(multiplier: float) -> bool:
        return float(share @ ((worst(multiplier) - c) ** 2 / d)) > radius**2

    low, high = 0.0, 1.0
    while not outside(high):
        low, high = high, 2.0 * high
    # To a part in a million: far closer than expectations are known.
    while high - low > 1e-6 * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if outside(middle) else (middle, high)
    result[used] = worst(low)
    return result
