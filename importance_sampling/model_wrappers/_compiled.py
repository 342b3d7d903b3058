"""Everything that is compiled for one model, made at one time and replaced as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops

from .. import _interrupts
from .._arrays import Nested, count_rows, map_arrays
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Runtime, Tensor
from ..proposal import Proposal
from ..reweighting import ReweightingPolicy
from . import _build, _dry_run, _labels
from ._casts import cast_array, cast_floats
from ._device_data import DeviceData
from ._evaluation import ExampleColumns, ExampleValues, as_columns
from ._many_steps import stack_rows, stack_weights
from ._objective import Objective
from ._parts import PartsOfSteps
from ._passes import Scored
from ._step_values import DeferredValues, SampleValues
from ._training_step import TrainingStep
from .introspection import LOGGING


@dataclass(frozen=True, eq=False)
class CompiledFor:
    """What a compiled step depends on: the model as it was compiled by the user.

    Attributes:
        objects: compared by identity.
        variables: identities of the trainable variables.
    """

    objects: tuple[Any, ...]
    variables: list[int]

    @classmethod
    def of(cls, model: keras.Model) -> CompiledFor:
        """What a step that is compiled now would depend on."""
        jit_compile, eagerly = model.jit_compile, model.run_eagerly
        on_model = [vars(model).get(name) for name in (*LOGGING, "compute_loss")]
        compiled = (model.optimizer, model.loss, eagerly, jit_compile)
        objects = (*compiled, *on_model, *model.metrics[:1])
        return cls(objects, [id(v) for v in model.trainable_variables])

    def matches(self, other: CompiledFor) -> bool:
        """Whether what was compiled for one serves the other, too."""
        pairs = zip(self.objects, other.objects, strict=False)
        return (
            len(self.objects) == len(other.objects)
            and all(_same(mine, its) for mine, its in pairs)
            and self.variables == other.variables
        )


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    # A list of losses, which Keras may hand out as a new list each time.
    return (
        isinstance(one, list)
        and isinstance(other, list)
        and len(one) == len(other)
        and all(a is b or a == b for a, b in zip(one, other, strict=True))
    )


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """The compiled functions of one model, and what they were made of.

    Attributes:
        made_for: the model as it was compiled by the user.
        reweighting: the policy whose weights the training step takes.
        runtime: the backend's runtime of the model.
        objective: what the model minimises, and the score.
        step: the training step.
        train_function: `(x, y, sample_weight, weights, metric_weights, mean_valid_steps)`, the
            step compiled; see `TrainingStep`.
        train_many_function: the same for several steps, `(steps, None, x, y, sample_weight,
            weights, metric_weights)`, or `(steps, data, indices, weights, metric_weights)`; see
            `Runtime.compile_train_many`. None where nothing is gained.
        score_function: `(x, y, sample_weight)`; see `make_scoring`.
        gradient_function: `(x, y, sample_weight, weights, mean_valid_steps)`; see `make_gradient`.
        evaluate_function: `(x, y)`; see `make_evaluation`.
        metric_names: the metrics' names in the logs.
        label_limits: for each output what its labels may be.
        unknown_valid_steps: `(outputs,)` zeros, which say that their mean is not known.
        seen: signatures of rows that the model was tried on.
        uniform_weights: weights of uniform batches on the device, by their number, 0 for one
            that is not stacked, and the size of the batch.
        device_data: the training set, where it stays on the device.
    """

    made_for: CompiledFor
    reweighting: ReweightingPolicy
    runtime: Runtime
    objective: Objective
    step: TrainingStep
    train_function: Callable[..., tuple[dict[str, Any], SampleValues | DeferredValues]]
    train_many_function: Callable[..., Any] | None
    score_function: Callable[..., Scored]
    gradient_function: Callable[..., list[Tensor]]
    evaluate_function: Callable[..., ExampleValues]
    metric_names: tuple[str, ...]
    label_limits: list[_labels.LabelLimit | None]
    unknown_valid_steps: Tensor
    seen: set[Any]
    uniform_weights: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    device_data: DeviceData = field(default_factory=DeviceData)

    @cached_property
    def _parts(self) -> PartsOfSteps:
        """What makes steps together with other processes."""
        return PartsOfSteps(self)

    def train(
        self, proposal: Proposal, mean_valid_steps: np.ndarray | None
    ) -> tuple[dict[str, Any], DeferredValues]:
        """One optimizer step; returns at once where the device works asynchronously.

        Args:
            proposal: what to train on.
            mean_valid_steps: `(outputs,)` mean number of valid steps per sample of the training
                set, as far as it is known.

        Returns:
            `(logs, values)`: metrics as tensors, and what the step tells of its samples.
        """
        return self.in_parts(proposal, lambda part: self._train(part, mean_valid_steps))

    def in_parts(
        self, proposal: Proposal, step: Callable[[Proposal], tuple[dict[str, Any], DeferredValues]]
    ) -> tuple[dict[str, Any], DeferredValues]:
        """Makes a step, of which other processes that train with this one do their parts.

        Args:
            proposal: the whole batch.
            step: makes the step on this process' rows.
        """
        processes = self.runtime.processes
        if processes is None:
            return step(proposal)
        return self._parts.train(proposal, step, processes.share(len(proposal.idxs)))

    def _train(
        self, proposal: Proposal, mean_valid_steps: np.ndarray | None
    ) -> tuple[dict[str, Any], DeferredValues]:
        held = self.device_data.rows_of(proposal.rows)
        if held is None:
            x, y, sample_weight = self.to_device(*(*proposal.rows, None)[:3])
        else:
            x, y, sample_weight = self.runtime.gather(*held)
        by_score, step = proposal.by_score, self.step
        if (
            not by_score
            and not self.runtime.traces
            and step.weights_enter_as_data
            and step.verified
            and sample_weight is None
        ):
            # Eagerly, even a multiplication by one costs; compiled, a second trace would.
            return deferred(self.train_function(x, y, None, None, None, None))
        data: tuple[Any, ...] = (x, y, sample_weight)
        if by_score or proposal.metric_weights is not None:
            data += self.to_device(proposal.weights, proposal.metric_weights)
        else:
            data += (self._uniform_weights(len(proposal.weights)), None)
        data += (self.valid_steps_to_device(mean_valid_steps if by_score else None),)
        if step.verified or self.runtime.traces:
            return deferred(self.train_function(*data))
        with _build.restored_on_refusal(self.step.model):
            return deferred(self.train_function(*data))

    def train_many(
        self, proposals: Sequence[Proposal], room: int
    ) -> tuple[dict[str, Any], dict[str, Tensor], SampleValues]:
        """Several optimizer steps in one call, where there is a `train_many_function`.

        Args:
            proposals: what to train on, step by step; all alike.
            room: int, steps that what is compiled has room for.

        Returns:
            `(logs, all_logs, values)` as of `Runtime.compile_train_many`.
        """
        if self.train_many_function is None:
            raise RuntimeError("This model trains step by step.")
        held = self.device_data.stacked(proposals, room)
        data: tuple[Any, ...]
        if held is None:
            data = (None, *self.to_device(*stack_rows(proposals, room)))
        else:
            data = (held[0], *self.to_device(held[1]))
        weights = stack_weights(proposals, room)
        if weights is None:
            data += (self._uniform_weights(len(proposals[0].weights), room), None)
        else:
            data += self.to_device(*weights)
        return self.train_many_function(len(proposals), *data)

    def score(self, x: Nested, y: Nested, sample_weight: Nested = None) -> Scored:
        """Scores a batch by one forward pass; tensors, still being computed.

        Args:
            x: inputs.
            y: targets.
            sample_weight: the user's own weights, or None.
        """
        processes = self.runtime.processes
        if processes is None:
            return self.score_alone(x, y, sample_weight)
        share = processes.share(count_rows(x))
        return self._parts.score(x, y, sample_weight, share)

    def score_alone(self, x: Nested, y: Nested, sample_weight: Nested = None) -> Scored:
        """As `score`, of rows that no other process has a part in.

        Args:
            x: inputs.
            y: targets.
            sample_weight: the user's own weights, or None.
        """
        data = self.to_device(x, y, sample_weight)
        # Left in the middle, Keras' scope for reading the model would stay for good.
        with _interrupts.section():
            return self.score_function(*data)

    def gradient(
        self,
        x: Nested,
        y: Nested,
        sample_weight: Nested,
        weights: np.ndarray,
        mean_valid_steps: np.ndarray | None,
    ) -> list[np.ndarray]:
        """Gradient of the weighted loss, in inference mode, for every trainable variable.

        Args:
            x: inputs of the batch.
            y: targets of the batch.
            sample_weight: the user's own weights, or None.
            weights: `(n,)` importance weights.
            mean_valid_steps: as for `train`.
        """
        data = self.to_device(x, y, sample_weight, weights)
        mean = self.valid_steps_to_device(mean_valid_steps)
        with _interrupts.section():
            gradients = self.gradient_function(*data, mean)
        return [tensor_to_numpy(g) for g in gradients]

    def evaluate(self, x: Nested, y: Nested) -> ExampleColumns:
        """Losses, scores and metrics of a batch, example by example.

        Args:
            x: inputs of the batch.
            y: targets of the batch.
        """
        data = self.to_device(x, y)
        with _interrupts.section():
            found = self.evaluate_function(*data)
        return as_columns(found, count_rows(x))

    def to_device(self, *data: Nested) -> tuple[Nested, ...]:
        """Arrays in the form in which the compiled functions take them; None stays None."""
        return tuple([self._put(part) for part in data])

    def _put(self, part: Nested) -> Nested:
        if type(part) is np.ndarray:
            return self.runtime.to_device(cast_array(part))
        return map_arrays(lambda array: self.runtime.to_device(cast_array(array)), part)

    def _uniform_weights(self, n: int, steps: int = 0) -> Tensor:
        """Weights of uniform batches, which stay on the device: batches come in few sizes."""
        known = self.uniform_weights.get((steps, n))
        if known is None:
            weights = cast_floats(self.reweighting.uniform_weights(n))
            if steps:
                weights = np.repeat(weights[None], steps, axis=0)
            known = self.uniform_weights[steps, n] = ops.convert_to_tensor(weights)
        return known

    def valid_steps_to_device(self, mean_valid_steps: np.ndarray | None) -> Tensor:
        """The training set's mean of valid steps; zeros where it is not known or not needed."""
        if mean_valid_steps is None or not self.objective.loss.has_masked_timesteps:
            return self.unknown_valid_steps
        return self._put(mean_valid_steps)

    def dry_run(self, x_name: str, y_name: str, data: tuple[Nested, ...]) -> None:
        """Tries rows of shapes that the model has not seen yet, without changing anything.

        Args:
            x_name: what to call the inputs in errors.
            y_name: what to call the targets in errors.
            data: `(x, y, sample_weight)`, a few rows.

        Raises:
            ValueError: if the model, its loss or its metrics cannot take them.
        """
        data = cast_floats(data)
        signature = _dry_run.signature(*data)
        if signature in self.seen:
            return
        _dry_run.dry_run(self.objective, x_name, y_name, _build.first_rows(*data))
        self.seen.add(signature)

    def check_targets(self, y: Nested, where: str) -> None:
        """Raises if integer labels are outside the classes of the model's outputs.

        Args:
            y: targets.
            where: what to call them in errors.
        """
        loss = self.objective.loss
        _labels.check_targets(loss.model, loss.info, self.label_limits, y, where)


def deferred(
    result: tuple[dict[str, Any], SampleValues | DeferredValues],
) -> tuple[dict[str, Any], DeferredValues]:
    """What a training step returned, in the form of one that computes values when read."""
    logs, values = result
    return logs, values if isinstance(values, DeferredValues) else values.deferred()
