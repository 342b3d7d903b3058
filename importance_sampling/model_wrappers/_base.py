"""What a network must answer to be trained with importance sampling."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import _interrupts
from .._arrays import Nested, count_rows, take_rows
from .._state import Stateful
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Runtime
from ..proposal import Proposal
from ._step_result import StepResult
from .signals import send


class ModelWrapper(Stateful):
    """Scores, trains and evaluates a network.

    Subclasses implement `score_batch`, `evaluate_batch` and `train_batch`. They may have a `model`,
    whose optimizer is then told when training ends, and `metrics_names`: "loss", the names of the
    metrics in the order in which `train_batch` returns them, "score".
    """

    model: Any

    @property
    def score_name(self) -> str:
        """The score that examples are drawn by, where it has a name."""
        return ""

    @property
    def knows_its_targets(self) -> bool:
        """Whether the model may need no targets, because it makes its loss by itself."""
        return False

    def build(self, x: Nested, y: Nested, sample_weight: Nested = None) -> None:
        """Builds and compiles what is not yet; by default there is nothing to build.

        Args:
            x: inputs, a few rows, for shapes and types.
            y: targets, likewise.
            sample_weight: the user's own weights, likewise.
        """

    def dry_run(self, where: str, x: Nested, y: Nested, sample_weight: Nested = None) -> None:
        """Raises if rows cannot be trained or evaluated on; by default all can.

        Args:
            where: the argument that they come from, for the error.
            x: inputs, a few rows.
            y: targets, likewise.
            sample_weight: the user's own weights, likewise.
        """

    def check_targets(self, y: Nested, where: str) -> None:
        """Raises if targets cannot work; by default all can.

        Args:
            y: targets.
            where: the argument that they come from, for the error.
        """

    def check_padding(self, before: tuple[Nested, ...], after: tuple[Nested, ...]) -> None:
        """Warns if padding with zeros changes a score; by default nothing is checked.

        Args:
            before: `(x, y)` or `(x, y, sample_weight)`, one row as it came.
            after: the same row, padded to the length of the longest in its pool.
        """

    # -- a training loop ----------------------------------------------------------------------

    @contextlib.contextmanager
    def attached(self) -> Iterator[Runtime]:
        """Holds the model while a training loop runs.

        At the end, also after an error, the state is back in the model's variables. Where a step
        was made, the optimizer then finalizes them, as one that averages weights does.

        Yields:
            The runtime, which the loop tells when epochs begin and end and when code of the user's
            is about to look at the model.
        """
        optimizer: Any = getattr(getattr(self, "model", None), "optimizer", None)
        steps = _count_steps(optimizer)
        runtime = self._runtime()
        runtime.attach()
        try:
            yield runtime
        finally:
            with _interrupts.section():
                runtime.detach()
                runtime.reads_logs = True
                if runtime.restored or _count_steps(optimizer) != steps:
                    optimizer.finalize_variable_values(self.model.trainable_variables)

    def _runtime(self) -> Runtime:
        # For state that stays where Keras looks for it.
        return Runtime(getattr(self, "model", None))

    def train(self, proposal: Proposal) -> StepResult:
        """One optimizer step, without waiting for the device.

        Args:
            proposal: the mini-batch that a sampler proposes, with its weights.

        Returns:
            A `StepResult`.
        """
        x, y = proposal.rows[:2]
        losses, metrics, scores = self.train_batch(x, y, proposal.weights)
        losses, scores = np.asarray(losses).reshape(-1), np.asarray(scores).reshape(-1)
        if not isinstance(metrics, dict):
            metrics = _named(metrics, getattr(self, "metrics_names", ()), len(losses))
        logs = {"loss": float(np.mean(losses)), **metrics}
        return StepResult(logs, lambda: (losses, scores))

    def train_many(self, proposals: Sequence[Proposal], room: int = 0) -> list[StepResult]:
        """Several optimizer steps, one after the other; in one call where `trains_many`.

        Args:
            proposals: the mini-batches, with their weights.
            room: int, the most steps that any call will make, so that one compiled function
                serves all. Defaults to as many as these.

        Returns:
            A `StepResult` for each.
        """
        return [self.train(proposal) for proposal in proposals]

    @property
    def gathers_rows(self) -> bool:
        """Whether a training set can stay on the device, where steps gather their rows."""
        return False

    def renew_data(self) -> None:
        """Puts the training set on the device anew, where it is there: it may have changed."""

    @property
    def trains_many(self) -> bool:
        """Whether `train_many` makes its steps in one call of the device."""
        return False

    # -- scores, evaluation -------------------------------------------------------------------

    def _batches(
        self, x: Nested, y: Nested, batch_size: int, extra: Nested = None
    ) -> Iterator[tuple[Nested, Nested, Nested]]:
        """Batches of nearly equal size, so that a compiled function sees at most two shapes."""
        n = count_rows(y if y is not None else x)
        parts = max(1, -(-n // max(1, batch_size)))
        size = -(-n // parts)
        for start in range(0, n, size):
            yield take_rows((x, y, extra), slice(start, start + size))

    def score(
        self, x: Nested, y: Nested, batch_size: int = 128, *, sample_weight: Nested = None
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
        send("is.score", scores)
        return scores

    def score_later(
        self, x: Nested, y: Nested, batch_size: int = 128, *, sample_weight: Nested = None
    ) -> Callable[[], np.ndarray]:
        """As `score`, but without waiting for the device.

        Where it works asynchronously it begins at once, with the model as it is.

        Args:
            x: inputs, arrays with n rows.
            y: targets, arrays with n rows.
            batch_size: int, examples per forward pass. Defaults to `128`.
            sample_weight: keyword-only; the user's own weights, taken into the scores.

        Returns:
            A function that waits for the scores and returns them, float array `(n,)`.
        """
        # One of 0.10 knows no sample weights.
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        scores = self.score(x, y, batch_size, **weights)
        return lambda: scores

    @property
    def asynchronous(self) -> bool:
        """Whether calls return before the device is done."""
        return False

    def evaluate(self, x: Nested, y: Nested, batch_size: int = 128) -> np.ndarray:
        """Mean loss and metrics over the examples, in the order of `metrics_names`.

        Args:
            x: inputs, arrays with n rows.
            y: targets, arrays with n rows.
            batch_size: int, examples per forward pass. Defaults to `128`.

        Returns:
            float array `(1 + metrics,)`.
        """
        result = self.evaluate_batches((xi, yi) for xi, yi, _ in self._batches(x, y, batch_size))
        send("is.evaluation", result)
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
        """Whether `evaluate_batch` is to be asked, because `model.evaluate` may say otherwise."""
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

    def score_batch(self, x: Nested, y: Nested) -> np.ndarray:
        """Scores one batch.

        Args:
            x: inputs of the batch.
            y: targets of the batch.

        Returns:
            float array `(n,)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement score_batch(x, y)")

    def evaluate_batch(self, x: Nested, y: Nested) -> np.ndarray:
        """Loss and metrics of one batch.

        Args:
            x: inputs of the batch.
            y: targets of the batch.

        Returns:
            float array `(n, 1 + metrics)` with one row per example, or `(1 + metrics,)`, means.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement evaluate_batch(x, y)")

    def train_batch(self, x: Nested, y: Nested, w: np.ndarray) -> tuple[Any, Any, np.ndarray]:
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


def _named(metrics: Any, metrics_names: Sequence[str], n: int) -> dict[str, float]:
    """Means over n examples of metrics without names; "metric_0", ... where a name is missing."""
    if metrics is None:
        return {}
    if isinstance(metrics, np.ndarray):
        metrics = [metrics] if metrics.shape == (n,) else metrics.T
    names = [*metrics_names][1:-1]
    names += [f"metric_{i}" for i in range(len(names), len(metrics))]
    return {name: float(np.mean(c)) for name, c in zip(names, metrics, strict=False)}


def _count_steps(optimizer: Any) -> int:
    """How many steps an optimizer has made; 0 where it does not say."""
    iterations = getattr(optimizer, "iterations", None)
    if iterations is None:
        return 0
    # A variable, or a tensor where gradients are accumulated.
    return int(tensor_to_numpy(getattr(iterations, "value", iterations)))
