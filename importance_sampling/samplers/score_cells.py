"""What a score seen some time ago says about the score now, learnt from pairs of both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._files import Allocate
from .._state import Stateful

# Score bins are half octaves from 2^-16 to 2^16, age bins octaves around one epoch.
_SCORE_BINS = 64
_AGE_BINS = 8
# Observations that a coarser estimate counts for where a cell has few of its own.
_PRIOR = 4.0
# Examples whose expected scores are worked out together.
_PIECE = 1 << 18
LEAST_SHARE = 0.01
"""A stored score below this share of the mean counts as that share: an example whose score was
zero once would otherwise never be looked at again, and the mean step would not be the full one."""
_SECOND_MOMENTS = 2.0 ** (np.arange(_SCORE_BINS) - _SCORE_BINS // 2 + 0.5)
"""The squared score in the middle of each score bin."""


def score_bin(scores: np.ndarray) -> np.ndarray:
    """The bin of each score, uint8: one byte is all that is kept of it.

    Args:
        scores: `(n,)` scores.
    """
    with np.errstate(divide="ignore"):
        halves = np.floor(2.0 * np.log2(scores)) + _SCORE_BINS // 2
    return np.clip(halves, 0, _SCORE_BINS - 1).astype(np.uint8)


class ScoreCells(Stateful):
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

    _state: tuple[str, ...] = ("epoch", "_count", "_sum", "_squares", "_weight")

    def __init__(self, epoch: int):
        self.epoch = max(1, epoch)
        self._count = np.zeros((_SCORE_BINS, _AGE_BINS))
        self._sum = np.zeros_like(self._count)
        self._squares = np.zeros_like(self._count)
        # Decays as a growing weight of what is new, so that a step touches only its own cells.
        self._weight = 1.0

    def age_bin(self, age: np.ndarray) -> np.ndarray:
        """The bin of each age.

        Args:
            age: `(n,)` ages in steps.
        """
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
        self._weight /= (0.5 ** (1.0 / self.epoch)) ** steps
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


def expected_scores(
    cells: ScoreCells,
    bins: np.ndarray,
    ages: Callable[[slice], np.ndarray],
    robust: float,
    allocate: Allocate = np.empty,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What to expect of every example's score, worked out cell by cell; O(N).

    Args:
        cells: what was learnt.
        bins: `(n,)` bins of the scores seen last.
        ages: gives the ages of a slice of the examples in steps, negative where not seen yet.
        robust: float, the radius of `robust_second_moments`; 0 for the expectations themselves.
        allocate: makes the array of cells. Defaults to one in memory.

    Returns:
        `(scores, cell, fresh)`: the expected score in each cell, the last one that of examples
        not seen yet; `(n,)` the cell of each example; the expected score right after a score of
        each bin was seen.
    """
    mean, variance = cells.moments()
    cell = allocate(bins.shape, np.int16)
    size = np.zeros(mean.size + 1, np.int64)
    # Piece by piece: what is worked with takes several times the memory of what is kept.
    for start in range(0, len(cell), _PIECE):
        piece = slice(start, start + _PIECE)
        age = ages(piece)
        found = bins[piece].astype(np.int64) * mean.shape[1] + cells.age_bin(age)
        found[age < 0] = mean.size
        cell[piece] = found
        size += np.bincount(found, minlength=len(size))
    size = size[:-1]
    moments = mean.reshape(-1)
    if robust:
        moments = robust_second_moments(moments, variance.reshape(-1), size, robust)
    values = np.sqrt(moments)
    average = float(values @ size) / max(size.sum(), 1)
    # An example whose expectation was zero would never be looked at again by a uniform share
    # alone where a decorator takes that away.
    values = np.maximum(values, LEAST_SHARE * average or 1.0)
    fresh = values.reshape(mean.shape)[:, 0]
    return np.append(values, average or 1.0), cell, fresh


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
