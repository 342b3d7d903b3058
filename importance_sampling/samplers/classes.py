"""Scores from the losses of an example's class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._pending_rows import read_rows
from ..proposal import Pool, StepRecord
from ..protocols import Dataset
from ._stored_base import length_or_refuse
from .base import BaseSampler
from .variance import MovingAverage, variance_reduction

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


def class_ids(y: object, classes: int) -> np.ndarray:
    """Labels `(n,)` from integer labels `(n,)` or `(n, 1)`, or the argmax of rows `(n, k)`.

    Args:
        y: the targets.
        classes: int, how many classes there are.

    Raises:
        ValueError: for targets that are no classes.
    """
    y = read_rows(y)
    if not isinstance(y, np.ndarray):
        raise ValueError(
            f"Expected the targets of one output, got a {type(y).__name__} of arrays. This sampler "
            "predicts by class: use it with models that have one output."
        )
    if y.ndim == 2 and 1 < y.shape[1] <= classes:
        return y.argmax(axis=1)
    labels = y.reshape(len(y), -1)
    if labels.shape[1] != 1 or (labels != np.floor(labels)).any():
        raise ValueError(
            "Expected one label per example, as integers or rows `(n, classes)`, got targets of "
            f"shape {y.shape} and type {y.dtype}. This sampler needs classes."
        )
    labels = labels[:, 0].astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"Expected labels from 0 to {classes - 1} (the data set's output_size is {classes}), "
            f"got {labels.min()} to {labels.max()}."
        )
    return labels


def _count_classes(dataset: Dataset) -> int:
    """The data set's `output_size`, or the length of its rows of targets if that is more."""
    targets = dataset.train_data[np.arange(1)][1]
    rows = isinstance(targets, np.ndarray) and targets.ndim == 2
    if not hasattr(dataset, "output_size"):
        raise AttributeError("This sampler needs classes, and the data set has no `output_size`.")
    return max(int(dataset.output_size), targets.shape[1] if rows else 0)


class ClassPoolSampler(BaseSampler):
    """Base of the samplers that draw from a pool by predictions made from class and index.

    Subclasses implement `_predict(idxs, labels)` and `_learn(idxs, labels, results)`.

    Args:
        dataset: a `BaseDataset` with a length, whose targets are classes.
        reweighting: a `ReweightingPolicy`.
        presample: int, the size of the pool.
    """

    _state: tuple[str, ...] = (*BaseSampler._state, "_average")

    overlaps = True
    uses_stale_scores = True

    def __init__(
        self, dataset: Dataset, reweighting: ReweightingPolicy, presample: int, **kwargs: Any
    ):
        super().__init__(dataset, reweighting, **kwargs)
        self._average = MovingAverage(0.9)
        self.presample = min(int(presample), length_or_refuse(self, dataset))
        self.classes = _count_classes(dataset)
        if self.classes < 1:
            raise ValueError(
                f"This sampler needs classes, but the data set's output_size is {self.classes}."
            )

    def _predict(self, idxs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must implement _predict(idxs, labels)")

    def _learn(self, idxs: np.ndarray, labels: np.ndarray, results: np.ndarray) -> None:
        raise NotImplementedError(f"{type(self).__name__} must implement _learn(...)")

    def candidates(self, batch_size: int) -> Pool:
        """A pool of `presample` examples and the scores predicted for them.

        Args:
            batch_size: int, how many will be drawn.
        """
        idxs, rows = self._rows.next_pool(self.presample)
        scores = self._predict(idxs, class_ids(rows[1], self.classes))
        self._average.add(float(variance_reduction(scores)))
        return Pool(idxs, scores, rows)

    @property
    def variance_reduction(self) -> float:
        """By the predicted scores, as a moving average over the draws."""
        return self._average.value if self._average.known else 1.0

    def observe(self, step: StepRecord) -> None:
        """Learns from the scores of the drawn examples.

        Args:
            step: the step made.
        """
        idxs, rows, _ = step.proposal
        targets = rows[1] if rows else self.dataset.train_data[idxs][1]
        self._learn(idxs, class_ids(targets, self.classes), step.scores)


class PerClassGaussian(ClassPoolSampler):
    r"""Fits a Gaussian to the losses of each class; an example's score is mean + deviation.

    Mean and second moment (the attributes `mu` and `variance`) are exponential moving averages
    over the examples of the class, $\mu \leftarrow \alpha \mu + (1 - \alpha) l$.

    Args:
        dataset: a `BaseDataset` with a length, whose targets are classes.
        reweighting: a `ReweightingPolicy`.
        alpha: float in [0, 1), momentum of the averages. Defaults to `0.9`.
        presample: int, the size of the pool. Defaults to `2048`.
    """

    _state: tuple[str, ...] = (*ClassPoolSampler._state, "mu", "variance")

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        alpha: float = 0.9,
        presample: int = 2048,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, presample, **kwargs)
        if not 0 <= alpha < 1:
            raise ValueError(f"`alpha` must be in [0, 1), got {alpha!r}.")
        self.alpha = alpha
        # The cross-entropy of a guess that knows nothing.
        self.mu = np.full(self.classes, max(np.log(self.classes), 1e-3))
        # The mean of the squares, under its name of 0.10.
        self.variance = self.mu**2

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each class's losses."""
        return np.sqrt(np.maximum(self.variance - self.mu**2, 0.0))

    def _predict(self, idxs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return (self.mu + self.deviation)[labels]

    def _learn(self, idxs: np.ndarray, labels: np.ndarray, results: np.ndarray) -> None:
        # One after the other would give sum_j alpha^(later ones of the class) (1 - alpha) l_j.
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels, minlength=self.classes)
        ends = np.cumsum(counts)[labels[order]]
        later = np.empty(len(labels), np.int64)
        later[order] = ends - 1 - np.arange(len(labels))
        share = (1.0 - self.alpha) * self.alpha**later
        kept = self.alpha**counts
        for moment, values in ((self.mu, results), (self.variance, results**2)):
            moment *= kept
            moment += np.bincount(labels, share * values, self.classes)
