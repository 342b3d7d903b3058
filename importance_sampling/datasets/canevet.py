"""An artificial two-dimensional problem in which few examples matter."""

from __future__ import annotations

from typing import Any

import numpy as np

from .memory import InMemoryDataset


def boundary(x: np.ndarray) -> np.ndarray:
    """The curve between the two classes: sin(4 (x + 0.5)^5) / 3 + 0.5."""
    return np.sin(4.0 * (x + 0.5) ** 5) / 3.0 + 0.5


class canevet_icml2016_nn:
    """What `CanevetICML2016` is made of, for `from_loadable`.

    Args:
        N: int, points along each axis; memory grows with its square. Defaults to `8192`.
        test_split: float in [0, 1), the share of points to test on. Defaults to `0.33`.
        smooth: float, how sharply the classes are divided. Defaults to `40`.
        seed: keyword-only; int, for labels and split. Defaults to `0`.
    """

    def __init__(
        self, N: int = 8192, test_split: float = 0.33, smooth: float = 40, *, seed: int = 0
    ):
        if N < 2 or not 0 <= test_split < 1:
            raise ValueError(
                f"Expected N >= 2 and 0 <= test_split < 1, got N={N!r}, test_split={test_split!r}."
            )
        self.N, self.test_split, self.smooth, self.seed = N, test_split, smooth, seed

    def load_data(self) -> Any:
        """Draws the labels: `(x_train, y_train), (x_test, y_test)`, labels 0 and 1."""
        N = self.N
        rng = np.random.default_rng(self.seed)
        axis = np.linspace(0, 1, N, dtype=np.float32)
        points = np.empty((N, N, 2), dtype=np.float32)
        points[..., 0] = axis[:, None]
        points[..., 1] = axis
        curve = boundary(axis.astype(np.float64))
        labels = np.empty((N, N), dtype=np.int8)
        for row in range(N):
            # A row at a time: probabilities of the whole grid would take 8 N^2 bytes.
            exponent = np.clip(self.smooth * (axis - curve[row]), -500, 500)
            labels[row] = rng.random(N) < 1.0 / (1.0 + np.exp(exponent))
        x, y = points.reshape(-1, 2), labels.reshape(-1)
        order = rng.permutation(len(x))
        test = int(len(x) * self.test_split)
        train_rows, test_rows = order[test:], order[:test]
        return (x[train_rows], y[train_rows]), (x[test_rows], y[test_rows])


class CanevetICML2016(InMemoryDataset):
    r"""Two classes on either side of a curve that oscillates ever faster.

    The points are a regular grid of $N^2$ in the unit square. A point belongs to class 1 with
    probability $1 / (1 + \exp(\text{smooth}\,(x_2 - f(x_1))))$, $f$ as in `boundary`. Modelled
    on section 4.2 of Canevet, Jose and Fleuret, "Importance Sampling Tree for Large-scale
    Empirical Expectation", ICML 2016.

    Args:
        N: int, points along each axis; memory grows with its square. Defaults to `8192`.
        test_split: float in [0, 1), the share of points to test on. Defaults to `0.33`.
        smooth: float, how sharply the classes are divided. Defaults to `40`.
        seed: keyword-only; int, for labels and split. Defaults to `0`.
    """

    def __init__(
        self, N: int = 8192, test_split: float = 0.33, smooth: float = 40, *, seed: int = 0
    ):
        loadable = canevet_icml2016_nn(N, test_split, smooth, seed=seed)
        (x, y), (x_test, y_test) = loadable.load_data()
        super().__init__(x, y, x_test, y_test)
