"""A training step and a scoring pass of which every process does a part.

Each process computes its share of the rows of the batch. The mean gradient of its n_r rows counts
n_r / n, so that the sum over the processes is the gradient of the batch of n, and what regularizers
add to it counts once. It is summed where the model's optimizer is given the gradient, as a
`CorrectedStep` corrects it there. What metrics have added up, the statistics of normalizations and
the scores are sent together when the step is over, and waited for when somebody looks at them or
the next pass needs them: then every process holds the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from .._arrays import Nested, take_rows
from .._pending_rows import read_rows
from ..backend.base import Tensor
from ..backend.processes import Processes, Share
from ..proposal import Proposal
from ._gradient_sum import GradientSum, checksum
from ._hooks import replaced
from ._passes import Scored
from ._step_values import DeferredLogs, DeferredValues, SampleValues
from .introspection import all_layers, overrides

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
        self._sent: _Sent | None = None
        # Otherwise the step makes logs of its own, and may read what it has just logged.
        self._keras_logs = not any(
            overrides(model, name) for name in ("train_step", "compute_metrics")
        )

    def train(
        self,
        proposal: Proposal,
        step: Callable[[Proposal], tuple[Mapping[str, Any], DeferredValues]],
        share: Share,
    ) -> tuple[Mapping[str, Any], DeferredValues]:
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
        if self._moving:
            # They enter this pass.
            self._runtime.sync()
        before = [ops.copy(value) for value in self._metrics]
        gradients = GradientSum(share, checksum(proposal), self._model)
        optimizer = self._model.optimizer
        with contextlib.ExitStack() as block:
            block.enter_context(self._runtime.sharing(share))
            block.enter_context(replaced(optimizer, "apply", gradients.hook(optimizer.apply)))
            if self._keras_logs:
                # They are made when the metrics know of all rows.
                block.enter_context(replaced(self._model, "get_metrics_result", dict))
            block.enter_context(self._runtime.own_draws())
            logs, deferred = step(part)
        if gradients.calls != 1 and self._model.trainable_variables:
            raise ValueError(
                f"The train_step of {self._model.name!r} has called `self.optimizer.apply` "
                f"{gradients.calls} times. With several processes the gradients are averaged "
                "there: call it (or `apply_gradients`) once in every step."
            )
        scores = None
        if proposal.reads_scores:
            # Now, because nobody knows whether all processes will read them at the same time.
            with self._runtime.sharing(share):
                scores = ops.convert_to_tensor(deferred.scores(), "float32")
        own = {} if self._keras_logs else _numbers(logs)
        sent = self._send(share, before, own, scores)
        found = self._of_batch(share, deferred, sent if proposal.reads_scores else None)
        if self._keras_logs and not self._runtime.reads_logs:
            return DeferredLogs(self._results), found
        metrics = self._results()
        if own:
            metrics = {n: metrics[n] for n in sent.logs_of_metrics()}
        return {**logs, **sent.logs(), **metrics}, found

    def score(self, x: Nested, y: Nested, sample_weight: Nested, share: Share) -> Scored:
        """Scores a batch that all processes share; see `CompiledModel.score`.

        Args:
            x: inputs of the whole batch.
            y: its targets.
            sample_weight: the user's own weights, or None.
            share: this process' rows.
        """
        part = read_rows(take_rows((x, y, sample_weight), share.rows))
        if self._moving:
            self._runtime.sync()
        with self._runtime.sharing(share):
            found = self._compiled.score_alone(*part)
        given = [ops.convert_to_tensor(found.scores, "float32")]
        if found.valid_steps is not None:
            given.append(found.valid_steps)
        scores, *valid_steps = share.gather(given)
        return Scored(scores, valid_steps[0] if valid_steps else None)

    def _send(
        self, share: Share, before: list[Tensor], logs: dict[str, Any], scores: Tensor | None
    ) -> _Sent:
        """Sends what the other processes need to know of this one's part, and waits for nobody.

        Args:
            share: this process' rows.
            before: the state of the metrics before the step.
            logs: those of a step of the user's own.
            scores: `(count,)`, or None where nobody reads them.
        """
        # What a row that stands in for none has added counts for nothing.
        adds = float(share.count > 0)
        added = [(now - then) * adds for now, then in zip(self._metrics, before, strict=True)]
        if self._sent is not None:
            # All have answered, for they have made this step since; and nobody has looked.
            before = self._sent.metrics()
        if logs:
            added.append(self._are_metrics(logs, share))
        if scores is not None:
            added.append(share.padded(scores))
        means = [*self._moving, *logs.values()]
        wait = share.processes.begin_sum(means, share.weight, added)
        self._sent = _Sent(share.processes, wait, len(self._moving), list(logs), before)
        self._runtime.unsettled = self._settle
        return self._sent

    def _settle(self) -> None:
        """Puts into the model what all processes together know of the last step."""
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.processes.assign(
                [*self._moving, *self._metrics], [*sent.moving(), *sent.metrics()]
            )

    def _results(self) -> dict[str, Any]:
        """What the metrics say of all rows."""
        self._runtime.sync()
        results: dict[str, Any] = self._model.get_metrics_result()
        return results

    def _are_metrics(self, logged: dict[str, Tensor], share: Share) -> Tensor:
        """For each number that a step of the user's own logs, 1 if it is what a metric says."""
        metrics = self._model.get_metrics_result()
        flags = [
            name in metrics and (share.count == 0 or np.isclose(float(metrics[name]), float(value)))
            for name, value in logged.items()
        ]
        return ops.convert_to_tensor(flags, "float32")

    def _of_batch(
        self, share: Share, deferred: DeferredValues, sent: _Sent | None
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

        return DeferredValues(values, lambda: values().scores if sent is None else sent.scores())


class _Sent:
    """What all processes together know of a step, of which something may be under way.

    Args:
        processes: those that made it.
        wait: returns the sums over them, in the order of the methods here.
        moving: int, how many statistics of normalizations there are.
        logged: names of the numbers that a step of the user's own has logged.
        before: the state of the metrics before the step.
    """

    def __init__(
        self,
        processes: Processes,
        wait: Callable[[], list[Tensor]],
        moving: int,
        logged: list[str],
        before: list[Tensor],
    ):
        self.processes = processes
        self._wait = wait
        self._before, self._logged = before, logged
        self._ends = moving, moving + len(logged), moving + len(logged) + len(before)

    @cached_property
    def _found(self) -> list[Tensor]:
        return self._wait()

    def moving(self) -> list[Tensor]:
        """Statistics of normalizations."""
        return self._found[: self._ends[0]]

    def logs(self) -> dict[str, Tensor]:
        """The numbers that were logged: means over the rows."""
        return dict(zip(self._logged, self._found[self._ends[0] : self._ends[1]], strict=True))

    def metrics(self) -> list[Tensor]:
        """The state of the metrics after the step."""
        added = self._found[self._ends[1] : self._ends[2]]
        return [then + more for then, more in zip(self._before, added, strict=True)]

    def logs_of_metrics(self) -> list[str]:
        """Names of the numbers that were in every process what a metric said."""
        agreed = ops.convert_to_numpy(self._found[self._ends[2]]) == self.processes.size
        return [name for name, is_metric in zip(self._logged, agreed, strict=True) if is_metric]

    def scores(self) -> Tensor:
        """`(n,)`, where they were sent."""
        return self._found[-1]


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


def _numbers(logs: Mapping[str, Any]) -> dict[str, Tensor]:
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
