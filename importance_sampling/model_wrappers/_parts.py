"""A training step and a scoring pass of which every process does a part.

Each process computes its share of the rows of the batch. The mean gradient of its n_r rows counts
n_r / n, so that the sum over the processes is the gradient of the batch of n, and what regularizers
add to it counts once. It is summed where the model's optimizer is given the gradient, as a
`CorrectedStep` corrects it there. What metrics have added up, the statistics of normalizations
and the scores go along in the same exchange; where a step knows them only when it is over, as one
of the user's own, in a second one. Afterwards every process holds the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from .._arrays import Nested, take_rows
from .._pending_rows import read_rows
from ..backend.base import Tensor
from ..backend.processes import Share
from ..proposal import Proposal
from ._gradient_sum import GradientSum, StepParts, checksum
from ._hooks import replaced
from ._passes import Scored
from ._step_values import DeferredLogs, DeferredValues, SampleValues
from .introspection import LOGGING, all_layers, changed

if TYPE_CHECKING:
    from ._compiled import CompiledModel


class PartsOfSteps:
    """Makes steps and scores batches together with other processes.

    Args:
        compiled: what is compiled for the model.
    """

    def __init__(self, compiled: CompiledModel):
        self._compiled = compiled
        self._runtime = compiled.runtime
        model: Any = compiled.step.model
        self._model = model
        self._metrics = [v.value for v in model.metrics_variables]
        self._moving = [*_moving_values(model), *self._runtime.buffers()]
        self._moving = [v for v in self._moving if keras.backend.is_float_dtype(_dtype(v))]
        own = changed(model, LOGGING)
        # Otherwise the step makes logs of its own, and may read what it has just logged.
        self._keras_logs = own <= {"get_metrics_result"}
        self._logs_can_wait = not own

    def train(
        self,
        proposal: Proposal,
        step: Callable[[Proposal], tuple[dict[str, Any], DeferredValues]],
        share: Share,
    ) -> tuple[dict[str, Any], DeferredValues]:
        """One optimizer step on a batch that all processes share; see `CompiledModel.in_parts`.

        Args:
            proposal: the whole batch.
            step: makes the step on this process' rows.
            share: which rows they are.

        Returns:
            `(logs, values)`, of the whole batch.

        Raises:
            RuntimeError: if the processes have drawn different batches, or one of them is gone.
        """
        part = _rows_of(proposal, share.rows)
        before = [ops.copy(value) for value in self._metrics]

        def along() -> StepParts | None:
            if share.finish is None:
                return None
            values: SampleValues | DeferredValues = share.finish()
            if isinstance(values, SampleValues):
                values = values.deferred()
            return self._own_parts(share, before, {}, self._scores(proposal, share, values))

        gradients = GradientSum(share, checksum(proposal), self._model, along)
        optimizer = self._model.optimizer
        with contextlib.ExitStack() as block:
            block.enter_context(self._runtime.sharing(share))
            block.enter_context(replaced(optimizer, "apply", gradients.hook(optimizer.apply)))
            if self._keras_logs:
                # They are made when the metrics know of all rows.
                block.enter_context(replaced(self._model, "get_metrics_result", dict))
            block.enter_context(self._runtime.own_draws())
            logs, deferred = step(part)
        # It holds what the step was made of.
        share.finish = None
        logs = _flat(logs)
        if gradients.calls != 1 and self._model.trainable_variables:
            raise ValueError(
                f"The train_step of {self._model.name!r} has called `self.optimizer.apply` "
                f"{gradients.calls} times. With several processes the gradients are averaged "
                "there: call it (or `apply_gradients`) once in every step."
            )
        summed, own = gradients.collected, {}
        if summed is None:
            own = {} if self._keras_logs else _numbers(logs)
            # Now, because nobody knows whether all processes will read them at the same time.
            scores = self._scores(proposal, share, deferred)
            summed = self._own_parts(share, before, own, scores).summed(share, "what a step logs")
        logs = self._take_over(share, before, logs, list(own), summed)
        return logs, self._of_batch(share, deferred, summed.scores)

    def _scores(self, proposal: Proposal, share: Share, values: DeferredValues) -> Tensor | None:
        """Scores of this process' rows; None where nobody reads them."""
        if not proposal.reads_scores:
            return None
        with self._runtime.sharing(share):
            return ops.convert_to_tensor(values.scores(), "float32")

    def score(self, x: Nested, y: Nested, sample_weight: Nested, share: Share) -> Scored:
        """Scores a batch that all processes share; see `CompiledModel.score`.

        Args:
            x: inputs of the whole batch.
            y: its targets.
            sample_weight: the user's own weights, or None.
            share: this process' rows.
        """
        part = read_rows(take_rows((x, y, sample_weight), share.rows))
        with self._runtime.sharing(share):
            found = self._compiled.score_alone(*part)
        given = [ops.convert_to_tensor(found.scores, "float32")]
        if found.valid_steps is not None:
            given.append(found.valid_steps)
        scores, *valid_steps = share.gather(given, "the scores")
        return Scored(scores, valid_steps[0] if valid_steps else None)

    def _own_parts(
        self, share: Share, before: list[Tensor], own: dict[str, Tensor], scores: Tensor | None
    ) -> StepParts:
        """What this process adds to statistics, logs, metrics and scores.

        Args:
            share: its rows.
            before: the state of the metrics before the step.
            own: numbers that a step of the user's own logs.
            scores: `(count,)`, or None where nobody reads them.
        """
        if share.count:
            added = [now - then for now, then in zip(self._metrics, before, strict=True)]
        else:
            # What a row that stands in for none has added counts for nothing.
            added = [ops.zeros_like(then) for then in before]
        if own:
            added.append(self._are_metrics(own, share))
        return StepParts([*self._moving, *own.values()], added, scores)

    def _take_over(
        self,
        share: Share,
        before: list[Tensor],
        logs: dict[str, Any],
        own: list[str],
        summed: StepParts,
    ) -> dict[str, Any]:
        """Gives the model what all processes have found together.

        Args:
            share: this process' rows.
            before: the state of the metrics before the step.
            logs: what the step returned.
            own: names of numbers that a step of the user's own logs.
            summed: over the processes.

        Returns:
            Logs of the whole batch.
        """
        count = len(self._moving)
        added = iter(summed.added)
        metrics = [then + next(added) for then in before]
        new = [*summed.means[:count], *metrics]
        share.processes.assign([*self._moving, *self._metrics], new)
        if self._logs_can_wait and not self._runtime.reads_logs:
            later: Any = DeferredLogs(self._model.get_metrics_result)
            return later
        found = self._model.get_metrics_result()
        if own:
            agreed = ops.convert_to_numpy(next(added)) == share.processes.size
            names = [name for name, is_metric in zip(own, agreed, strict=True) if is_metric]
            found = {name: found[name] for name in names}
        logged = dict(zip(own, summed.means[count:], strict=True))
        return {**logs, **logged, **found}

    def _are_metrics(self, logged: dict[str, Tensor], share: Share) -> Tensor:
        """For each number that a step of the user's own logs, 1 if it is what a metric says."""
        metrics = self._model.get_metrics_result()
        flags = [
            name in metrics and (share.count == 0 or np.isclose(float(metrics[name]), float(value)))
            for name, value in logged.items()
        ]
        return ops.convert_to_tensor(flags, "float32")

    def _of_batch(
        self, share: Share, deferred: DeferredValues, scores: Tensor | None
    ) -> DeferredValues:
        """What the step tells of the rows of the whole batch."""
        known: list[SampleValues] = []

        def values() -> SampleValues:
            if not known:
                with self._runtime.sharing(share):
                    local = deferred.values()
                given = [each for each in local if each is not None]
                known.append(SampleValues(*share.gather(given)))
            return known[0]

        return DeferredValues(values, lambda: values().scores if scores is None else scores)


def _rows_of(proposal: Proposal, rows: slice) -> Proposal:
    """A part of a batch; what concerns the pool is left out."""

    def part(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else array[rows]

    return dataclasses.replace(
        proposal,
        idxs=proposal.idxs[rows],
        rows=read_rows(take_rows(proposal.rows, rows)),
        weights=proposal.weights[rows],
        scores=part(proposal.scores),
        metric_weights=part(proposal.metric_weights),
        pool_scores=None,
    )


def _flat(logs: Mapping[str, Any]) -> dict[str, Any]:
    """As Keras tells them: metrics in a dictionary of their own stand beside the others."""
    found: dict[str, Any] = {}
    for name, value in logs.items():
        found |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return found


def _numbers(logs: dict[str, Any]) -> dict[str, Tensor]:
    """What is logged as one number, on the device."""
    scalars = {name: value for name, value in logs.items() if np.ndim(value) == 0}
    return {name: ops.convert_to_tensor(value, "float32") for name, value in scalars.items()}


def _moving_values(model: Any) -> Iterator[Tensor]:
    """What layers change without the optimizer; that of frozen ones stays as it is."""
    frozen = {id(v) for layer in all_layers(model) if not layer.trainable for v in layer.variables}
    for variable in model.non_trainable_variables:
        if id(variable) not in frozen:
            yield variable.value


def _dtype(value: Any) -> str:
    return keras.backend.standardize_dtype(value.dtype)
