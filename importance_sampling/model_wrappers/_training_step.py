"""The model's own training step, with weights put in and scores taken out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from .._arrays import Nested
from ..backend.base import Tensor
from ..backend.processes import Share
from ..reweighting import ExternalReweighting, ReweightingPolicy
from . import _checks
from ._hooks import present, replaced
from ._metric_weights import MetricWeigher
from ._objective import Objective
from ._part_factors import loss_of_batch, mean_valid_steps
from ._step_values import DeferredLogs, DeferredValues, SampleValues, StepBatch
from .introspection import LOGGING, changed, overrides


class TrainingStep:
    """The training step: the model's own `train_step`, with three of its methods watched.

    `compute_loss`, where weights that depend on the scores of the pass are put in, and where
    several processes learn what the metrics will be given;
    `compute_metrics`, where per-sample losses and scores are taken from the outputs; and the
    `update_state` of the metrics, which are given the weights that make them estimates of the
    whole training set's values.

    Args:
        model: the compiled, built model.
        objective: what it minimises, sample by sample.
        reweighting: the policy whose weights come in.
        metrics: the metrics to weigh.

    Attributes:
        verified: bool, whether the step is known to use the weights: Keras' own, or one that was
            run before.
        weights_enter_as_data: bool, whether importance weights are handed over as sample weights
            and nothing else needs to be known of them.
    """

    def __init__(
        self,
        model: keras.Model,
        objective: Objective,
        reweighting: ReweightingPolicy,
        metrics: list[Any],
    ):
        self.model = model
        self.objective = objective
        self._loss = objective.loss
        self._runtime = objective.runtime
        self._metrics = metrics
        self._weigher = MetricWeigher(self._loss.has_masked_timesteps)
        layer = reweighting.weight_layer()
        self._weight_layer: Any = None if isinstance(layer, ExternalReweighting) else layer
        self.weights_enter_as_data = (
            self._weight_layer is None and not self._loss.has_masked_timesteps
        )
        self._users_step = overrides(model, "train_step")
        self.verified = not self._users_step
        # Where it is Keras that reads the metrics' results, and each operation costs.
        self._logs_can_wait = (
            not self._runtime.traces
            and not self._runtime.functional_gradients
            and not model.jit_compile
            and not changed(model, LOGGING)
        )
        # Keras updates them after the weights, though they depend on the outputs alone. Scores that
        # take one more pass, or a loss of the user's, may depend on the weights.
        self._metrics_can_be_first = not objective.needs_forward and not changed(
            model, ("train_step", "compute_metrics", "compute_loss")
        )
        trackers = (m for m in model.metrics if m.name == "loss" and not self._users_step)
        self._loss_tracker: Any = next(trackers, None)

    def __call__(
        self,
        run_train_step: Callable[[Any], dict[str, Any]],
        x: Nested,
        y: Nested,
        sample_weight: Nested,
        weights: Tensor | None,
        metric_weights: Tensor | None,
        mean_valid_steps: Tensor | None,
    ) -> tuple[dict[str, Any], SampleValues | DeferredValues]:
        """Runs one step on tensors.

        Args:
            run_train_step: runs the model's own `train_step` on `(x, y, sample_weight)`.
            x: inputs of the batch.
            y: targets of the batch.
            sample_weight: the user's own weights, or None.
            weights: `(n, weight_size)`; None for a uniform batch, whose weights are all one.
            metric_weights: `(n,)`, or None where they are the column of `weights`.
            mean_valid_steps: `(outputs,)`; see `WeightedLoss.valid_step_factors`.

        Returns:
            `(logs, values)`: metrics as tensors, and what is known of the samples: `SampleValues`
            where the step is traced, or needs them itself; `DeferredValues` otherwise.
        """
        given = metric_weights is not None
        if not given and weights is not None:
            metric_weights = weights[:, 0]
        batch = StepBatch(y, sample_weight, weights, metric_weights, given, mean_valid_steps)
        data = (x, y, None)
        if self._users_step:
            # As Keras hands it over: many a step knows two parts only.
            data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        elif weights is not None:
            external = weights[:, :1]
            if self._weight_layer is not None:
                external = ops.ones_like(external)
            data = (x, y, self._loss.weigh(sample_weight, self._scaled(external)))
        with contextlib.ExitStack() as hooks:
            self._place_hooks(hooks, batch)
            logs = run_train_step(data)
        if self._users_step and not batch.loss_called:
            raise ValueError(_checks.no_compute_loss(self.model))
        # Taken out: deferred values hold the batch, and a circle would keep its tensors.
        values, batch.values = batch.values, None
        if values is None:
            values = self._values_of(batch, x, *(batch.outputs or (y, self._forward(x))))
        self.verified = True
        return logs, values

    # -- hooks --------------------------------------------------------------------------------

    def _place_hooks(self, hooks: contextlib.ExitStack, batch: StepBatch) -> None:
        model, tracker = self.model, self._loss_tracker
        # Looked up before it is replaced, so that the hook calls the original.
        compute_metrics = present(model, "compute_metrics")

        def metrics_hook(x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            if batch.metrics_known:
                return {}
            self._before_metrics(batch, x, y, y_pred)
            with contextlib.ExitStack() as inner_hooks:
                if batch.weights is not None and not self._users_step:
                    self._weigh_metrics(inner_hooks, batch)
                if self._logs_can_wait and not self._runtime.reads_logs:
                    later = DeferredLogs(model.get_metrics_result)
                    result = self._replaced(model, "get_metrics_result", lambda: later)
                    inner_hooks.enter_context(result)
                return compute_metrics(x, y, y_pred, sample_weight)

        def loss_hook(
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            **kwargs: Any,
        ) -> Any:
            return self._weighted_loss(batch, x, y, y_pred, sample_weight, kwargs)

        def tracker_hook(value: Any, sample_weight: Any = None) -> None:
            batch.loss_update = (value, sample_weight)

        share = self._runtime.process_share
        shared_sum = share is not None and self.objective.summed
        if self._users_step or not self.weights_enter_as_data or shared_sum:
            hooks.enter_context(self._replaced(model, "compute_loss", loss_hook))
        if self._users_step and batch.weights is not None:
            # It may update metrics anywhere.
            self._weigh_metrics(hooks, batch)
        hooks.enter_context(self._replaced(model, "compute_metrics", metrics_hook))
        if share is not None and self._metrics_can_be_first:
            self._finish_early(hooks, batch, share, metrics_hook)
        if tracker is not None and (batch.weights_differ or self._runtime.replica_share):
            hooks.enter_context(self._replaced(tracker, "update_state", tracker_hook))

    def _finish_early(
        self,
        hooks: contextlib.ExitStack,
        batch: StepBatch,
        share: Share,
        update_metrics: Callable[..., Any],
    ) -> None:
        """Lets metrics and values be known as soon as the gradient is; see `Share.finish`."""
        compute_loss = present(self.model, "compute_loss")
        given: list[Nested] = []

        def noting_hook(
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            **kwargs: Any,
        ) -> Any:
            given[:] = x, y, y_pred, sample_weight
            return compute_loss(x, y, y_pred, sample_weight, **kwargs)

        def finish() -> Any:
            update_metrics(*given)
            batch.metrics_known = True
            return batch.values

        hooks.enter_context(self._replaced(self.model, "compute_loss", noting_hook))
        share.finish = finish

    def _replaced(
        self, target: object, name: str, function: Callable[..., Any]
    ) -> contextlib.AbstractContextManager[None]:
        return replaced(target, name, function, by_thread=self._runtime.replicas > 1)

    def _scaled(self, value: Tensor) -> Tensor:
        """Where replicas share a batch: scaled so that their losses add up to that of the batch."""
        share = self._runtime.replica_share
        return value if share is None else value * share.scale(self.objective.summed)

    def _weighted_loss(
        self,
        batch: StepBatch,
        x: Nested,
        y: Nested,
        y_pred: Nested,
        sample_weight: Nested,
        arguments: dict[str, Any],
    ) -> Tensor:
        """`compute_loss` with the weights that its caller does not know.

        A `train_step` of the user's own knows nothing of importance weights, and weights that
        depend on the scores of this pass nobody knows before it.
        """
        loss = self._loss
        batch.loss_called = True
        if self._users_step and not self._runtime.functional_gradients and batch.outputs is None:
            batch.outputs = (batch.y if y is None else y), y_pred
        if batch.weights is None:
            value = loss.call(x, y, y_pred, sample_weight, arguments)
            return self._of_batch(value)
        self._check_rows(batch.weights, y_pred)
        masks = loss.masks(y_pred)
        ones = ops.ones_like(batch.metric_weights)
        factors = [ones] * len(loss.info.masked)
        if loss.has_masked_timesteps:
            counts = loss.count_valid(y, masks)
            mean = mean_valid_steps(self._runtime.share, counts, batch.mean_valid_steps)
            factors = loss.valid_step_factors(counts, mean)
        if self._weight_layer is not None:
            _, scores = self.objective.measure(x, y, y_pred, batch.sample_weight, masks)
            graph = self._graph_weights(scores, batch.weights)
            factors = [f * graph for f in factors]
        elif self._users_step:
            factors = [f * self._scaled(batch.weights[:, 0]) for f in factors]
        weight = loss.weigh(sample_weight, factors, loss.valid(y, masks))
        value = loss.call(x, y, y_pred, weight, arguments)
        return self._of_batch(value)

    def _of_batch(self, value: Tensor) -> Tensor:
        share = self._runtime.process_share if self.objective.summed else None
        return value if share is None else loss_of_batch(share, value, self.model.losses)

    def _check_rows(self, weights: Tensor, y_pred: Nested) -> None:
        """Raises if a step of the user's own computes its loss of other rows than the batch's."""
        n = weights.shape[0]
        rows = {output.shape[0] for output in tree.flatten(y_pred)} - {None}
        if n is not None and rows and rows != {n}:
            raise ValueError(
                f"The train_step of {self.model.name!r} calls `self.compute_loss` on "
                f"{sorted(rows)} rows for a batch of {n}, so that nobody can tell which weight "
                "belongs to which row. Call it on the rows of the batch."
            )

    def _graph_weights(self, scores: Tensor, weights: Tensor) -> Tensor:
        """Weights `(n,)` that the policy's layer makes of the scores of this pass."""
        column, share = ops.expand_dims(ops.stop_gradient(scores), -1), self._runtime.share
        if share is not None:
            # They may depend on the scores of the whole batch.
            column, weights = share.gather([column, weights])
        made = ops.stop_gradient(self._weight_layer([column, weights])[:, 0])
        return made if share is None else made[share.rows]

    def _before_metrics(self, batch: StepBatch, x: Nested, y: Nested, y_pred: Nested) -> None:
        """Takes losses and scores from the outputs; gives the tracker the loss held back."""
        values = batch.values = self._values_of(batch, x, y, y_pred)
        if batch.loss_update is None:
            return
        value, count = batch.loss_update
        share = self._runtime.replica_share
        if share is not None:
            # Each adds its share of the batch's loss, whatever the sizes of the parts.
            count = ops.cast(share.n, "float32") / self._runtime.replicas
        if batch.weights_differ and isinstance(values, SampleValues):
            change = self._loss_change(batch, values)
            value = value + ops.cast(change, value.dtype)
        type(self._loss_tracker).update_state(self._loss_tracker, value, count)

    def _loss_change(self, batch: StepBatch, values: SampleValues) -> Tensor:
        """What turns the loss that biased weights minimise into that of the training set."""
        change = (batch.metric_weights - values.weights) * values.losses
        share, counts = self._runtime.share, values.valid_steps
        if counts is not None:
            divisor = None if share is None else share.mean(counts)
            mean = batch.mean_valid_steps
            change = change * self._loss.valid_step_factors(counts, mean, divisor)[0]
        if not self.objective.summed:
            return self._scaled(ops.mean(change))
        total = self._scaled(ops.sum(change))
        if self._runtime.replica_share is not None:
            # The tracker is told of losses that Keras has multiplied by the number of replicas.
            return total * self._runtime.replicas
        process = self._runtime.process_share
        return total if process is None else total * process.rows_per_own

    def _weigh_metrics(self, hooks: contextlib.ExitStack, batch: StepBatch) -> None:
        share, weights = self._runtime.replica_share, batch.metric_weights
        without = self._users_step or self._weight_layer is not None
        factor: Callable[[], Tensor] | None = None
        if share is not None:
            weights = weights * share.scale(summed=True)
            if self._users_step:
                factor = lambda: weights  # noqa: E731
            else:
                # Scales that are in the data for the loss alone do not count here.
                entered = self._scaled(ops.ones_like(weights) if without else batch.weights[:, 0])
                factor = lambda: ops.divide_no_nan(weights, entered)  # noqa: E731
        elif without:
            # Importance weights never entered the data: what metrics get is the user's alone.
            factor = lambda: weights  # noqa: E731
        elif batch.weights_differ:
            factor = lambda: ops.divide_no_nan(weights, batch.weights[:, 0])  # noqa: E731
        for metric in self._metrics:
            update_state = self._weigher.weighed(metric, weights, factor)
            hooks.enter_context(self._replaced(metric, "update_state", update_state))

    # -- what is known of the samples ---------------------------------------------------------

    def _forward(self, x: Nested) -> Nested:
        with self._runtime.scope():
            return self._loss.forward(x)

    def _values_of(
        self, batch: StepBatch, x: Nested, y: Nested, y_pred: Nested
    ) -> SampleValues | DeferredValues:
        objective = self.objective
        masks = self._masks_in_training(x, y_pred)

        def values() -> SampleValues:
            return self._compute_values(batch, x, y, y_pred, masks)

        def scores() -> Tensor:
            return objective.scores(x, y, y_pred, batch.sample_weight, masks)

        if self._runtime.traces or batch.loss_update is not None or objective.needs_forward:
            return values()
        return DeferredValues(values, scores)

    def _compute_values(
        self, batch: StepBatch, x: Nested, y: Nested, y_pred: Nested, masks: list[Tensor | None]
    ) -> SampleValues:
        losses, scores = self.objective.measure(x, y, y_pred, batch.sample_weight, masks)
        weights = ops.ones_like(losses) if batch.weights is None else batch.weights[:, 0]
        if self._weight_layer is not None:
            weights = self._graph_weights(scores, batch.weights)
        counts = None
        if self._loss.has_masked_timesteps:
            counts = self._loss.count_valid(y, masks)
        return SampleValues(losses, scores, weights, counts)

    def _masks_in_training(self, x: Nested, y_pred: Nested) -> list[Tensor | None]:
        masks = self._loss.masks(y_pred)
        wanted = self._loss.info.masked
        if any(m is None and w for m, w in zip(masks, wanted, strict=True)):
            # JAX hands the outputs out of its gradient function as new arrays, without
            # their masks. They depend on x alone; the compiler drops the rest of the pass.
            masks = self._loss.masks(self._forward(x))
        return masks
