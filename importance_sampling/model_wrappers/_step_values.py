"""What goes into a training step and what it tells of its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._arrays import Nested
from ..backend.base import Tensor


class DeferredLogs(Mapping[str, Any]):
    """The metrics' results, computed when they are first looked at.

    That must be before the next step: metrics have no memory of the one before.

    Args:
        read: returns the results.
    """

    def __init__(self, read: Callable[[], Mapping[str, Any]]):
        self._read = read
        self._found: Mapping[str, Any] | None = None

    @property
    def _logs(self) -> Mapping[str, Any]:
        if self._found is None:
            self._found = self._read()
        return self._found

    def __getitem__(self, name: str) -> Any:
        return self._logs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._logs)

    def __len__(self) -> int:
        return len(self._logs)


class SampleValues(NamedTuple):
    """What a training step tells of its samples.

    Attributes:
        losses: `(n,)`.
        scores: `(n,)`.
        weights: `(n,)`, those that the losses were multiplied by.
        valid_steps: `(n, outputs)`, or None where the loss has no masks.
    """

    losses: Tensor
    scores: Tensor
    weights: Tensor
    valid_steps: Tensor | None = None

    def deferred(self) -> DeferredValues:
        """The same as functions, for those who cannot know that it is computed already."""
        return DeferredValues(lambda: self, lambda: self.scores)


class DeferredValues(NamedTuple):
    """The same, computed when it is called for.

    Attributes:
        values: returns `SampleValues`.
        scores: returns the scores alone, where that is cheaper.
    """

    values: Callable[[], SampleValues]
    scores: Callable[[], Tensor]


@dataclass
class StepBatch:
    """What the hooks of one training step need and find; tensors, or tracers of them.

    Attributes:
        y: targets of the batch.
        sample_weight: the user's own weights.
        weights: `(n, weight_size)`; None while all importance weights are one.
        metric_weights: `(n,)`, the weights 1/(N p); None with `weights`.
        weights_differ: bool, whether these are not the column of `weights`.
        mean_valid_steps: `(outputs,)`; see `WeightedLoss.valid_step_factors`.
        loss_called: bool, whether the step has called `compute_loss`.
        outputs: `(y, y_pred)` that it was called with.
        metrics_known: bool, whether metrics were updated before Keras does it.
        loss_update: `(value, count)` held back from the tracker of the loss.
        values: what the step tells of its samples.
    """

    y: Nested
    sample_weight: Nested
    weights: Tensor
    metric_weights: Tensor
    weights_differ: bool
    mean_valid_steps: Tensor | None
    loss_called: bool = False
    outputs: tuple[Nested, Nested] | None = None
    metrics_known: bool = False
    loss_update: tuple[Tensor, Any] | None = None
    values: SampleValues | DeferredValues | None = None
