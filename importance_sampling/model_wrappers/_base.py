"""What a network must answer to be trained with importance sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from blinker import signal

from .._arrays import count_rows, take_rows


def is_heard(name: str) -> bool:
    """Whether anybody listens to a signal."""
    return bool(signal(name).receivers)


def _send(name: str, message: Any) -> None:
    """Tells whoever listens; costs nothing when nobody does."""
    if is_heard(name):
        signal(name).send(message)


class StepResult:
    """What one training step said; arrays are computed and fetched when they are read.

    Args:
        logs: the metrics, running averages over the epoch.
        fetch: returns `(weighted losses, scores)`, numpy arrays `(n,)`.
        fetch_scores: returns the scores alone, where that is cheaper.
    """

    def __init__(
        self,
        logs: dict[str, Any],
        fetch: Callable[[], tuple[np.ndarray, np.ndarray]],
        fetch_scores: Callable[[], np.ndarray] | None = None,
    ):
        self.logs = logs
        self._fetch = fetch
        self._fetch_scores = fetch_scores or (lambda: fetch()[1])
        self._losses: np.ndarray | None = None
        self._scores: np.ndarray | None = None

    @property
    def weighted_losses(self) -> np.ndarray:
        """Weight times loss of each example, `(n,)`."""
        if self._losses is None:
            self._losses, self._scores = self._fetch()
        return self._losses

    @property
    def scores(self) -> np.ndarray:
        """Score of each example in this very pass, `(n,)`."""
        if self._scores is None:
            self._scores = self._fetch_scores()
        return self._scores


class ModelWrapper:
    """Scores, trains and evaluates a network.

    Subclasses implement `score_batch`, `evaluate_batch` and `train_batch`.
    """

    model: Any
    knows_its_targets = False
    """Whether it may need no targets."""

    def build(self, x: Any, y: Any, sample_weight: Any = None) -> None:
        """Builds what is not yet, from a few rows; by default there is nothing to build."""

    def rehearse(self, where: str, x: Any, y: Any, sample_weight: Any = None) -> None:
        """Raises if rows that come from the argument `where` cannot work; by default they can."""

    def check_targets(self, y: Any, where: str) -> None:
        """Raises if targets cannot work; by default they can."""

    def check_padding(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        """Hears of a row before and after it was padded; by default it is all the same."""

    def _batches(self, x: Any, y: Any, batch_size: int, extra: Any = None) -> Iterator[Any]:
        """Batches of nearly equal size, so that a compiled function sees at most two shapes."""
        n = count_rows(y if y is not None else x)
        parts = max(1, -(-n // max(1, batch_size)))
        size = -(-n // parts)
        for start in range(0, n, size):
            yield take_rows((x, y, extra), slice(start, start + size))

    def score(
        self, x: Any, y: Any, batch_size: int = 128, *, sample_weight: Any = None
    ) -> np.ndarray:
        """Scores examples by forward passes, in inference mode, changing nothing.

        Args:
            x: inputs, arrays with n rows.
            y: targets, arrays with n rows.
            batch_size: int, examples per forward pass. Defaults to `128`.
            sample_weight: keyword-only; the user's own weights, taken into the scores.

        Returns:
            float array `(n,)`.
        """
        parts = []
        for part in self._batches(x, y, batch_size, sample_weight):
            arguments = part if part[2] is not None else part[:2]
            parts.append(np.asarray(self.score_batch(*arguments)).reshape(-1))
        scores = parts[0] if len(parts) == 1 else np.concatenate(parts)
        _send("is.score", scores)
        return scores

    def score_later(
        self, x: Any, y: Any, batch_size: int = 128, *, sample_weight: Any = None
    ) -> Callable[[], np.ndarray]:
        """As `score`, but returns a function that returns the scores.

        Where the device works asynchronously it begins at once, with the model as it is.
        """
        scores = self.score(x, y, batch_size, sample_weight=sample_weight)
        return lambda: scores

    @property
    def asynchronous(self) -> bool:
        """Whether calls return before the device is done."""
        return False

    def evaluate(self, x: Any, y: Any, batch_size: int = 128) -> np.ndarray:
        """Mean loss and metrics over the examples, in the order of `metrics_names`.

        Args:
            x: inputs, arrays with n rows.
            y: targets, arrays with n rows.
            batch_size: int, examples per forward pass. Defaults to `128`.

        Returns:
            float array `(1 + metrics,)`.
        """
        result = self.evaluate_batches((xi, yi) for xi, yi, _ in self._batches(x, y, batch_size))
        _send("is.evaluation", result)
        return result

    def evaluate_batches(self, batches: Iterable[tuple[Any, ...]]) -> np.ndarray:
        """Averages what `evaluate_batch` returns over the examples of all batches.

        Args:
            batches: tuples that begin with the inputs and the targets.

        Returns:
            float array `(1 + metrics,)`.
        """
        total, count = np.zeros(()), 0
        for x, y, *_ in batches:
            n = count_rows(y if y is not None else x)
            rows = np.asarray(self.evaluate_batch(x, y), dtype=np.float64)
            # One row per example, or the batch's means.
            total = total + n * (rows.mean(axis=0) if rows.ndim > 1 else rows)
            count += n
        return total / count

    @property
    def evaluates_itself(self) -> bool:
        """Whether an `evaluate_batch` of its own may say something else than the model does."""
        return type(self).evaluate_batch is not ModelWrapper.evaluate_batch

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate of the model's optimizer.

        Args:
            lr: float, the new learning rate.
        """
        optimizer = getattr(self, "optimizer", None)
        if optimizer is None:
            optimizer = getattr(getattr(self, "model", None), "optimizer", None)
        if optimizer is None:
            raise NotImplementedError(
                f"{type(self).__name__} must implement set_lr(lr), or have an `optimizer` or a "
                "`model` with one."
            )
        optimizer.learning_rate = lr

    def score_batch(self, x: Any, y: Any) -> np.ndarray:
        """Scores one batch: float array `(n,)`."""
        raise NotImplementedError(f"{type(self).__name__} must implement score_batch(x, y)")

    def evaluate_batch(self, x: Any, y: Any) -> np.ndarray:
        """Loss and metrics of one batch.

        Args:
            x: inputs of the batch.
            y: targets of the batch.

        Returns:
            float array `(n, 1 + metrics)` with one row per example, or `(1 + metrics,)`, means.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement evaluate_batch(x, y)")

    def train_batch(self, x: Any, y: Any, w: np.ndarray) -> tuple[Any, Any, np.ndarray]:
        """One optimizer step.

        Args:
            x: inputs of the batch.
            y: targets of the batch.
            w: `(n, weight_size)`, from the sampler.

        Returns:
            `(weighted losses (n, 1), metrics (n, m), scores (n, 1))`; the metrics may also be
            a list of such columns or a dict of numbers, losses and scores `(n,)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement train_batch(x, y, w)")

    def train(self, draw: Any) -> StepResult:
        """One optimizer step on a sampler's draw, without waiting for the device.

        Args:
            draw: the triple `(idxs, (x, y), w)`.

        Returns:
            A `StepResult`.
        """
        _, xy, w = draw
        losses, metrics, scores = self.train_batch(xy[0], xy[1], w)
        losses, scores = np.asarray(losses).reshape(-1), np.asarray(scores).reshape(-1)
        if not isinstance(metrics, dict):
            columns = metrics.T if isinstance(metrics, np.ndarray) else metrics
            names = getattr(self, "metrics_names", ())[1:-1]
            metrics = {n: float(np.mean(c)) for n, c in zip(names, columns, strict=False)}
        logs = {"loss": float(np.mean(losses)), **metrics}
        return StepResult(logs, lambda: (losses, scores))


_MADE_OF = {
    "train_batch": ("train",),
    "score": ("score_later",),
    "score_batch": ("score", "score_later"),
    "evaluate_batch": ("evaluates_itself", "evaluate_batches"),
}


class ModelWrapperDecorator(ModelWrapper):
    """Passes every attribute on to another wrapper, but for the named ones.

    Args:
        model_wrapper: the wrapper to decorate.
        implemented_attributes: names that the decorator itself provides.
    """

    def __init__(
        self,
        model_wrapper: ModelWrapper,
        implemented_attributes: set[str] | frozenset = frozenset(),
    ):
        self.model_wrapper = model_wrapper
        self.implemented_attributes = set(implemented_attributes) | {"model_wrapper"}

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__
        if name.startswith("__") or name == "implemented_attributes":
            return own(self, name)
        if name in vars(self).get("implemented_attributes", {name}):
            return own(self, name)
        for method, callers in _MADE_OF.items():
            # What the loop calls goes through the method that the decorator implements.
            if name in callers and method in own(self, "implemented_attributes"):
                return own(self, name)
        return getattr(own(self, "model_wrapper"), name)
