"""Averages over the course of training, at a bounded number of points."""

from __future__ import annotations

import numpy as np

# Points of the course of training that are kept; twice as many are merged in pairs.
_POINTS = 256


class Course:
    """Averages of some numbers over the run, at no more than `2 * _POINTS` points.

    Args:
        names: what the numbers are called.
    """

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self._per_point = 1
        # Lists: of few numbers, arrays take several times as long.
        self._rows: list[list[float]] = []
        self._sum = [0.0] * len(names)
        self._count = 0

    def add(self, *values: float) -> None:
        """Averages the numbers of a step in.

        Args:
            *values: a number for each name.
        """
        self._sum = [a + b for a, b in zip(self._sum, values, strict=True)]
        self._count += 1
        if self._count == self._per_point:
            self._rows.append(self._mean())
            self._sum, self._count = [0.0] * len(self.names), 0
            if len(self._rows) == 2 * _POINTS:
                self._rows = [
                    [(a + b) / 2 for a, b in zip(one, other, strict=True)]
                    for one, other in zip(self._rows[::2], self._rows[1::2], strict=True)
                ]
                self._per_point *= 2

    def _mean(self) -> list[float]:
        return [value / self._count for value in self._sum]

    def columns(self) -> dict[str, list[float]]:
        """The averages.

        Returns:
            dict of lists of equal length, with `"step"` for the last step of each point.
        """
        rows = [*self._rows, self._mean()] if self._count else self._rows
        table = np.array(rows).reshape(-1, len(self.names))
        steps = np.minimum(
            self._per_point * np.arange(1, len(table) + 1),
            self._per_point * len(self._rows) + self._count,
        )
        return {
            "step": steps.tolist(),
            **{name: table[:, i].tolist() for i, name in enumerate(self.names)},
        }
