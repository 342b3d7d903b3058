"""Several training steps in one call: their batches stacked, and what they said taken apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .._arrays import Nested, RowsAt, flatten, join_arrays, stack_arrays
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Tensor
from ..proposal import Proposal
from ._step_result import StepResult
from ._step_values import SampleValues


def are_alike(proposals: Sequence[Proposal]) -> bool:
    """Whether batches can be stacked: numpy arrays of the same shapes and types.

    Args:
        proposals: what to train on, step by step.
    """
    first = _signature(proposals[0])
    return first is not None and all(_signature(other) == first for other in proposals[1:])


def _signature(proposal: Proposal) -> Any:
    leaves: Sequence[Any] = proposal.rows
    if type(leaves) is RowsAt:
        # Of one kind in all batches, whatever data they are of: that of one training.
        kinds = [(a.shape[1:], a.dtype) for a in flatten(leaves.arrays)]
        return len(leaves.idxs), kinds, proposal.weights.shape, proposal.metric_weights is None
    if not all(type(leaf) is np.ndarray for leaf in leaves):
        leaves = flatten(leaves)
        if not all(type(leaf) is np.ndarray for leaf in leaves):
            return None
    if not all(leaf.dtype.kind in "fiub" for leaf in leaves):
        return None
    shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
    return shapes, proposal.weights.shape, proposal.metric_weights is None


def stack_rows(proposals: Sequence[Proposal], room: int) -> tuple[Nested, ...]:
    """The data of batches that are alike: `(x, y, sample_weight)`, a step in each row.

    Args:
        proposals: what to train on, step by step.
        room: int, rows of the result; what is beyond the steps is of no meaning.
    """
    parts = [(*proposal.rows, None)[:3] for proposal in proposals]
    return join_arrays(lambda arrays: stack_arrays(arrays, room), parts)


def stack_weights(
    proposals: Sequence[Proposal], room: int
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Weights and metric weights of batches that are alike; None if all are uniform ones.

    Args:
        proposals: what to train on, step by step.
        room: int, as for `stack_rows`.
    """
    metric = None
    if proposals[0].metric_weights is not None:
        metric = stack_arrays([p.importance_weights for p in proposals], room)
    elif not any(p.by_score for p in proposals):
        return None
    return stack_arrays([p.weights for p in proposals], room), metric


class ManyResults:
    """What several steps said, fetched together when any of it is read.

    Args:
        logs: of the last step.
        all_logs: of all steps, a row for each.
        values: likewise.
        count: int, how many steps were made.
        without_overflow: makes scores finite, where the model scales its loss.
    """

    def __init__(
        self,
        logs: Mapping[str, Any],
        all_logs: Mapping[str, Tensor],
        values: SampleValues,
        count: int,
        without_overflow: Callable[[np.ndarray], np.ndarray],
    ):
        self._logs = logs
        self._all_logs = all_logs
        self._values = values
        self._count = count
        self._without_overflow = without_overflow

    @cached_property
    def logs(self) -> dict[str, np.ndarray]:
        """The logs of all steps."""
        return {name: tensor_to_numpy(values) for name, values in self._all_logs.items()}

    @cached_property
    def weighted_losses(self) -> np.ndarray:
        """Weight times loss, `(steps, n)`."""
        return tensor_to_numpy(self._values.losses) * tensor_to_numpy(self._values.weights)

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores, `(steps, n)`, in the type that samplers learn in."""
        return tensor_to_numpy(self._values.scores).astype(np.float64)

    def all_scores(self) -> np.ndarray:
        """`scores`, as a method: those of one call are known by it."""
        return self.scores

    def of_each_step(self) -> list[StepResult]:
        """One `StepResult` for each step."""
        return [self._of_step(i) for i in range(self._count)]

    def _of_step(self, i: int) -> StepResult:
        def scores() -> np.ndarray:
            return self._without_overflow(self.scores[i])

        logs = self._logs if i == self._count - 1 else _LogsOfStep(self, i)
        return StepResult(
            logs, lambda: (self.weighted_losses[i], scores()), scores, self.all_scores, i
        )


class _LogsOfStep(Mapping[str, Any]):
    """The logs of one step among others, fetched when they are read."""

    def __init__(self, results: ManyResults, step: int):
        self._results = results
        self._step = step

    def __getitem__(self, name: str) -> Any:
        return self._results.logs[name][self._step]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results.logs)

    def __len__(self) -> int:
        return len(self._results.logs)
