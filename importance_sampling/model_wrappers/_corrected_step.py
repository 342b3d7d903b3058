"""A training step whose gradient is corrected by the gradient at a snapshot of the weights.

For a batch of b examples, the weights w, the snapshot s and the snapshot's own gradient mu,

    g = grad l_b(w) - c (grad l_b(s) - mu)

is what the model's own optimizer is given. With c = 1 that is SVRG (Johnson and Zhang 2013): both
gradients of the batch are of the same examples, weights and random draws, so that they cancel at
the snapshot, and what is subtracted has mean zero over batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from .._arrays import Nested
from ..backend.base import Joining, Runtime, Tensor
from ._compiled import CompiledModel
from ._hooks import present, replaced
from ._passes import GradientBatch, weighted_gradient
from ._step_values import DeferredValues, SampleValues
from .introspection import overrides


class SnapshotTensors(NamedTuple):
    """What a corrected step needs of a snapshot, on the device.

    Attributes:
        weights: a tensor for each trainable variable.
        gradient: the mean gradient at these weights, likewise.
        valid_steps: `(outputs,)` mean of valid steps per example, 0 where it is not known.
    """

    weights: list[Tensor]
    gradient: list[Tensor]
    valid_steps: Tensor


class Corrected(NamedTuple):
    """What a corrected step says.

    Attributes:
        logs: metrics.
        values: what is known of the samples.
        carried: what the rule carries from step to step; lists of tensors like the weights.
        mismatch: squared distance of the step's gradient to that of the same batch at the
            snapshot, in units of the latter's square; None where the step is Keras' own, whose
            gradient is known.
    """

    logs: dict[str, Any]
    values: SampleValues | DeferredValues
    carried: tuple[list[Tensor], ...]
    mismatch: Tensor | None


class CorrectedStep:
    """The model's training step, with a hook where its optimizer is given the gradient.

    The gradient at the snapshot is taken before the model's own step, in a scope that discards
    what it changes: seeds of dropout and statistics of normalizations are for the step as they
    were, so that both gradients see the same masks.

    Args:
        compiled: what is compiled for the model.

    Attributes:
        ROWS: which of the step's arguments have a row for each example.
        JOINING: how results of several replicas make one; see `Runtime.spread`.
    """

    ROWS = slice(4, 9)
    JOINING: Joining = ("logs", "rows", "first", "first")

    def __init__(self, compiled: CompiledModel):
        self._step = compiled.step
        self._objective = compiled.objective
        self._runtime = compiled.runtime
        self._model: keras.Model = compiled.objective.loss.model
        # Keras' own step is known to differentiate the compiled loss.
        self._compares = overrides(self._model, "train_step")

    def __call__(
        self,
        run_train_step: Callable[[Any], dict[str, Any]],
        factor: Tensor,
        snapshot: SnapshotTensors,
        carried: tuple[list[Tensor], ...],
        x: Nested,
        y: Nested,
        sample_weight: Nested,
        weights: Tensor,
        metric_weights: Tensor | None,
    ) -> Corrected:
        """Runs one step on tensors.

        Args:
            run_train_step: runs the model's own `train_step`.
            factor: a scalar; what it means is up to the rule. It comes first, so that a runtime
                that goes by the rows of the first tensor takes all shapes as they are.
            snapshot: of the weights.
            carried: what the last step left for this one.
            x: inputs of the batch.
            y: targets of the batch.
            sample_weight: the user's own weights, or None.
            weights: `(n, 1)`.
            metric_weights: `(n,)`, or None where they are the column of `weights`.
        """
        optimizer = self._model.optimizer
        batch = GradientBatch(x, y, sample_weight, weights[:, 0], snapshot.valid_steps)
        with self._runtime.same_draws():
            there = weighted_gradient(
                self._objective,
                batch,
                training=True,
                at=snapshot.weights,
                scaled=optimizer.scale_loss,
            )
        with self._runtime.scope():
            scale = optimizer.scale_loss(ops.ones((), "float32"))
        if self._runtime.replica_share is not None:
            # The optimizer adds up what the replicas give it.
            scale = scale / self._runtime.replicas
        hook = _OptimizerHook(self, scale, there, factor, snapshot, carried)
        with hook.placed(optimizer, self._runtime):
            logs, values = self._step(
                run_train_step,
                x,
                y,
                sample_weight,
                weights,
                metric_weights,
                snapshot.valid_steps if self._objective.loss.has_masked_timesteps else None,
            )
        if hook.calls != 1:
            raise ValueError(
                f"The train_step of {self._model.name!r} has called `self.optimizer.apply` "
                f"{hook.calls} times. Variance-reduced steps correct the gradient there: call it "
                "(or `apply_gradients`) once in every step, with the gradients of all trainable "
                "variables."
            )
        return Corrected(logs, values, hook.carried, hook.mismatch)

    @property
    def compares(self) -> bool:
        """Whether the step's gradient is compared with one that is taken beside it."""
        return self._compares

    @property
    def variables(self) -> list[Any]:
        """The model's trainable variables."""
        return self._model.trainable_variables

    def coefficient(self, factor: Tensor) -> Tensor | float:
        """How much of the correction is applied.

        Args:
            factor: as the step was given.
        """
        return factor

    def couple(
        self,
        factor: Tensor,
        snapshot: SnapshotTensors,
        carried: tuple[list[Tensor], ...],
        before: list[Tensor],
        after: list[Tensor],
    ) -> tuple[list[Tensor], tuple[list[Tensor], ...]] | None:
        """Where the weights go from where the optimizer has put them; None to leave them there.

        Args:
            factor: as the step was given.
            snapshot: of the weights.
            carried: what the last step left for this one.
            before: the weights before the optimizer's step.
            after: the weights after it.

        Returns:
            `(weights, carried)`, or None.
        """
        return None


class _OptimizerHook:
    """Stands in the place of one optimizer's `apply` for one step."""

    def __init__(
        self,
        step: CorrectedStep,
        scale: Tensor,
        there: list[Tensor],
        factor: Tensor,
        snapshot: SnapshotTensors,
        carried: tuple[list[Tensor], ...],
    ):
        self.step = step
        self.scale, self.there, self.factor = scale, there, factor
        self.snapshot = snapshot
        self.carried = carried
        self.calls = 0
        self.mismatch: Tensor | None = None

    @contextlib.contextmanager
    def placed(self, optimizer: keras.Optimizer, runtime: Runtime) -> Any:
        """Watches the method by which gradients reach the optimizer."""
        functional, by_thread = runtime.functional_gradients, runtime.replicas > 1
        name = "stateless_apply" if functional else "apply"
        # Looked up before it is replaced.
        original = present(optimizer, name)

        def apply(grads: Sequence[Any], trainable_variables: Any = None) -> Any:
            variables = self.step.variables
            if trainable_variables is not None:
                variables = list(trainable_variables)
            return self._apply(original, list(grads), variables)

        def stateless_apply(state: Any, grads: Sequence[Any], weights: Sequence[Any]) -> Any:
            corrected = self._corrected(list(grads), self.step.variables)
            after, state = original(state, corrected, weights)
            return self._coupled(list(weights), list(after)) or after, state

        hook = stateless_apply if functional else apply
        with replaced(optimizer, name, hook, by_thread):
            yield

    def _apply(self, original: Callable[..., Any], grads: list[Any], variables: list[Any]) -> Any:
        corrected = self._corrected(grads, variables)
        mine = self.step.variables
        before = [ops.copy(ops.stop_gradient(v.value)) for v in mine]
        result = original(corrected, variables)
        after = [ops.copy(ops.stop_gradient(v.value)) for v in mine]
        for variable, value in zip(mine, self._coupled(before, after) or [], strict=False):
            variable.assign(value)
        return result

    def _coupled(self, before: list[Tensor], after: list[Tensor]) -> list[Tensor] | None:
        found = self.step.couple(self.factor, self.snapshot, self.carried, before, after)
        if found is None:
            return None
        weights, self.carried = found
        return weights

    def _corrected(self, grads: list[Any], variables: list[Any]) -> list[Any]:
        """The gradients as the optimizer is to have them, scaled as those of the step are."""
        self.calls += 1
        places = {id(v): i for i, v in enumerate(self.step.variables)}
        if {id(v) for v in variables} != set(places):
            raise ValueError(
                "The step gives its optimizer the gradients of other variables than the model's "
                "trainable ones. Variance-reduced steps need all of these and nothing else."
            )
        corrected: list[Any] = []
        distance: Any = 0.0
        square: Any = 0.0
        for gradient, variable in zip(grads, variables, strict=True):
            i = places[id(variable)]
            there = ops.cast(self.there[i], variable.dtype)
            mean = ops.cast(self.snapshot.gradient[i], variable.dtype)
            mean = mean * ops.cast(self.scale, variable.dtype)
            if self.step.compares:
                here = ops.zeros_like(there) if gradient is None else gradient
                distance = distance + ops.sum(ops.square(ops.subtract(here, there)))
                square = square + ops.sum(ops.square(there))
            if gradient is None:
                # The loss does not depend on it, nor did it at the snapshot.
                corrected.append(None)
                continue
            factor = ops.cast(self.step.coefficient(self.factor), variable.dtype)
            # Of an embedding the gradient may be sparse, which only `ops.add` knows to add to.
            corrected.append(ops.add(gradient, factor * (mean - there)))
        if self.step.compares:
            self.mismatch = ops.divide_no_nan(distance, square)
        return corrected
