"""How good the gradient of a drawn mini-batch is: distance and cosine to that of all examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .._arrays import Nested, take_rows
from .._weights import unbiased_weights
from ..model_wrappers import OracleWrapper

_RESAMPLES = 2000


class Interval(NamedTuple):
    """A mean over mini-batches, with the limits of its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The mean of some values; the interval by resampling them, repeatably.

        Args:
            values: one for each mini-batch.
        """
        found = np.asarray(values, np.float64)
        rng = np.random.default_rng(0)
        means = found[rng.integers(0, len(found), (_RESAMPLES, len(found)))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        return cls(float(found.mean()), float(low), float(high))


@dataclass(frozen=True)
class Quality:
    """What mini-batches say of the gradient when they are drawn in one way.

    Attributes:
        draw: str, by what they are drawn.
        distance: to the gradient of all examples, in units of that gradient's norm.
        cosine: of the angle between the two.
        variances: of the distances and of the cosines over the mini-batches.
        expected_distance: the root mean square of such distances over all draws, from the exact
            norms.
        second_moment: of an example's weighted gradient in units of the uniform one's, exactly; the
            least is that of full_gnorm.
        correlation: of what is drawn by with the exact norms; None for uniform draws.
        rank_correlation: likewise, of the ranks.
    """

    draw: str
    distance: Interval
    cosine: Interval
    variances: tuple[float, float]
    expected_distance: float
    second_moment: float
    correlation: float | None
    rank_correlation: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "draw": self.draw,
            "distance": self.distance._asdict() | {"variance": self.variances[0]},
            "cosine": self.cosine._asdict() | {"variance": self.variances[1]},
            "expected_distance": self.expected_distance,
            "second_moment": self.second_moment,
            "correlation": self.correlation,
            "rank_correlation": self.rank_correlation,
        }


class GradientSample:
    """Examples whose mean gradient is to be estimated.

    Args:
        wrapper: of the model.
        rows: `(x, y)`.
        norms: `(n,)` exact norms of the examples' gradients.
        inner: int, examples in one gradient computation.
    """

    def __init__(self, wrapper: OracleWrapper, rows: Nested, norms: np.ndarray, inner: int):
        self._wrapper, self._rows, self._inner = wrapper, rows, inner
        self.norms = np.asarray(norms, np.float64)
        n = len(self.norms)
        self.gradient = self._of(rows, np.ones(n))
        # Without regularizers, whose gradient no draw changes.
        self._mean = self.gradient - self._of(take_rows(rows, slice(0, 1)), np.zeros(1))

    def _of(self, rows: Nested, weights: np.ndarray) -> np.ndarray:
        """Gradient of the mean weighted loss as one vector, some rows at a time."""
        total: Any = 0.0
        for start in range(0, len(weights), self._inner):
            part = slice(start, start + self._inner)
            x, y = take_rows(rows, part)
            found = self._wrapper.gradient(x, y, weights[part])
            flat = np.concatenate([np.asarray(g, np.float64).reshape(-1) for g in found])
            total = total + len(weights[part]) * flat
        return total / len(weights)

    def measure(
        self,
        draw: str,
        scores: np.ndarray,
        batch_size: int,
        samples: int,
        rng: np.random.Generator,
        each: Callable[[], object] = lambda: None,
    ) -> Quality:
        """Draws mini-batches by score and compares their weighted gradients.

        Args:
            draw: str, what the scores are called.
            scores: `(n,)`.
            batch_size: int, examples in a mini-batch.
            samples: int, mini-batches.
            rng: the generator.
            each: called after each mini-batch.
        """
        n = len(scores)
        norm = float(np.linalg.norm(self.gradient))
        probabilities = scores / scores.sum()
        distances, cosines = [], []
        for _ in range(samples):
            rows = rng.choice(n, batch_size, p=probabilities)
            weights = unbiased_weights(scores[rows], float(scores.sum()), n)
            part = self._of(take_rows(self._rows, rows), weights)
            distances.append(float(np.linalg.norm(part - self.gradient)) / norm)
            cosines.append(float(part @ self.gradient) / (norm * float(np.linalg.norm(part))))
            each()
        moment = self._second_moment(probabilities)
        excess = moment - float(self._mean @ self._mean)
        differ = np.ptp(scores) > 0 and np.ptp(self.norms) > 0
        return Quality(
            draw,
            Interval.of(distances),
            Interval.of(cosines),
            (float(np.var(distances)), float(np.var(cosines))),
            float(np.sqrt(max(excess, 0.0) / batch_size)) / norm,
            moment / float(np.square(self.norms).mean()),
            _correlation(scores, self.norms) if differ else None,
            _correlation(_ranks(scores), _ranks(self.norms)) if differ else None,
        )

    def _second_moment(self, probabilities: np.ndarray) -> float:
        """Mean square of a weighted gradient's norm; infinite where one is never drawn."""
        squares = np.square(self.norms)
        drawn = np.full(len(squares), np.inf)
        np.divide(squares, probabilities, out=drawn, where=probabilities > 0)
        drawn[squares == 0] = 0.0
        return float(drawn.sum()) / len(squares) ** 2


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 on; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]
