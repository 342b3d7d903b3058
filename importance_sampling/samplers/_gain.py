"""How much a draw really reduces the variance, measured on what was drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._conditions import _MovingAverage


def momentum_over(batches: int) -> float:
    """The momentum of an average over an epoch of so many batches, within 50 to 5000 of them.

    The second moment of a weighted gradient is made by few examples, those that were taken for
    easy and are not. In fewer batches there may be none of them, or one too many.

    Args:
        batches: int, batches per epoch; 0 if that is not known.
    """
    return 1.0 - 1.0 / float(np.clip(batches, 50, 5000))


class MeasuredReduction:
    r"""The variance reduction of a draw with probabilities p, from scores seen after the draw.

    With weights $w_i = 1/(N p_i)$ the second moment of a uniformly drawn gradient,
    $\frac1N \sum_i s_i^2$, has the unbiased estimate $\frac1b \sum_B w_i s_i^2$, that of the
    weighted one, $\frac{1}{N^2} \sum_i s_i^2 / p_i$, has $\frac1b \sum_B w_i^2 s_i^2$. The root
    of their ratio is the $\tau$ of 1803.00942 for the draw as it was, staleness included: below
    1 where a draw does harm.

    Args:
        momentum: float in [0, 1), of the moving averages of both. Defaults to `0.98`.
    """

    def __init__(self, momentum: float = 0.98):
        self._uniform = _MovingAverage(momentum)
        self._weighted = _MovingAverage(momentum)

    def set_momentum(self, momentum: float) -> None:
        """Changes how fast the past is forgotten."""
        self._uniform.momentum = self._weighted.momentum = momentum

    def add(
        self, weights: np.ndarray, scores: np.ndarray, would_be: np.ndarray | None = None
    ) -> None:
        """Learns from a batch.

        Args:
            weights: `(b,)` weights 1/(N p) of the draw; ones if it was uniform.
            scores: `(b,)` the scores of the training pass.
            would_be: `(b,)` weights 1/(N p) of another draw, to measure that one on what this
                one drew. Defaults to `weights`.
        """
        squares = weights * np.asarray(scores, np.float64) ** 2
        self._uniform.add(np.mean(squares))
        self._weighted.add(np.mean(squares * (weights if would_be is None else would_be)))

    @property
    def ratio(self) -> float:
        """The ratio of second moments itself, that of the batch sizes of equal noise."""
        return self._uniform.value / self._weighted.value if self._weighted.value > 0 else 1.0

    @property
    def value(self) -> float:
        """The present estimate; 1.0, no reduction, before the first batch."""
        return float(np.sqrt(self.ratio))

    def state_dict(self) -> dict[str, Any]:
        """What changes, as plain numbers."""
        return {
            "uniform": self._uniform.state_dict(),
            "weighted": self._weighted.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self._uniform.load_state_dict(state["uniform"])
        self._weighted.load_state_dict(state["weighted"])


class IdealReduction:
    """The variance reduction that drawing by exact scores would give, on all examples.

    It is the root of E[s^2] / E[s]^2, from batches drawn in any way.

    Args:
        momentum: float in [0, 1), of the moving averages. Defaults to `0.98`.
    """

    def __init__(self, momentum: float = 0.98):
        self._mean = _MovingAverage(momentum)
        self._square = _MovingAverage(momentum)

    def set_momentum(self, momentum: float) -> None:
        """Changes how fast the past is forgotten."""
        self._mean.momentum = self._square.momentum = momentum

    def add(self, weights: np.ndarray, scores: np.ndarray) -> None:
        """Learns from a batch.

        Args:
            weights: `(b,)` weights 1/(N p); ones if it was drawn uniformly.
            scores: `(b,)` its scores.
        """
        weighted = weights * scores
        self._mean.add(np.mean(weighted))
        self._square.add(np.mean(weighted * scores))

    @property
    def value(self) -> float:
        """The present estimate; 1.0, no reduction, before the first batch."""
        if not self._mean.value > 0:
            return 1.0
        return max(1.0, float(np.sqrt(self._square.value) / self._mean.value))

    def state_dict(self) -> dict[str, Any]:
        """What changes, as plain numbers."""
        return {"mean": self._mean.state_dict(), "square": self._square.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self._mean.load_state_dict(state["mean"])
        self._square.load_state_dict(state["square"])
