"""The model's own training step, with weights put in and scores taken out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from ..layers import _masks
from ..reweighting import ExternalReweighting, ReweightingPolicy
from . import _checks
from ._metric_weights import shape_weights
from ._objective import Objective, spread


@contextlib.contextmanager
def replaced(target: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Places a method on one instance, and leaves no trace of it."""
    attributes = vars(target)
    before = attributes.get(name)
    attributes[name] = function
    try:
        yield
    finally:
        if before is None:
            attributes.pop(name, None)
        else:
            attributes[name] = before


@dataclass
class _Batch:
    """What the hooks of one training step need and find; tensors, or tracers of them."""

    weights: Any = None
    metric_weights: Any = None
    tokens: Any = None
    sample_weight: Any = None
    y: Any = None
    loss_called: bool = False
    outputs: tuple[Any, Any] | None = None
    loss_update: tuple[Any, Any] | None = None
    details: dict[str, Any] | None = None


class TrainingStep:
    """The training step: the model's own `train_step`, with three of its methods watched.

    `compute_loss`, where weights that depend on the scores of the pass are put in;
    `compute_metrics`, where per-sample losses and scores are taken from the outputs; and the
    `update_state` of the metrics, which are given the weights that make them estimates of the
    whole training set's values.

    Args:
        model: the compiled, built model.
        objective: its per-sample view.
        reweighting: the policy whose weights come in.
        metrics: the metrics to weigh.
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
        self.runtime = objective.runtime
        self.reweighting = reweighting
        self._metrics = metrics
        self._batch = _Batch()
        self._unweighed: set[str] = set()
        layer = reweighting.weight_layer()
        self._weight_layer = None if isinstance(layer, ExternalReweighting) else layer
        self.plain_weights = self._weight_layer is None and not objective.counts_tokens
        self._own_step = not type(model).train_step.__module__.startswith("keras.")
        self.proven = not self._own_step
        """Whether the step is known to do what it must: Keras' own, or one that was run."""
        trackers = (m for m in model.metrics if m.name == "loss" and not self._own_step)
        self._loss_tracker = next(trackers, None)

    def __call__(
        self,
        run_train_step: Callable[[Any], dict[str, Any]],
        x: Any,
        y: Any,
        sample_weight: Any,
        weights: Any,
        metric_weights: Any,
        tokens: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Runs one step; see `Engine.train` for the arguments, all tensors or None here.

        Args:
            run_train_step: runs the model's own `train_step` on `(x, y, sample_weight)`.
            x: inputs of the batch.
            y: targets of the batch.
            sample_weight: the user's own weights.
            weights: `(n, weight_size)`.
            metric_weights: `(n,)`, or None where they are the weights.
            tokens: `(outputs,)`.

        Returns:
            `(logs, details)`: `details` holds `losses`, `scores` and `weights`, each `(n,)`;
            or, where nothing is traced, the functions `compute` and `compute_scores` that give
            them.
        """
        objective = self.objective
        if metric_weights is None and weights is not None:
            metric_weights = weights[:, 0]
        batch = self._batch = _Batch(weights, metric_weights, tokens, sample_weight, y)
        data = (x, y, None)
        if self._own_step:
            # As Keras hands it over: many a step knows two parts only.
            data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        elif weights is not None:
            external = weights[:, :1]
            if self._weight_layer is not None:
                external = ops.ones_like(external)
            data = (x, y, objective.weigh(sample_weight, external))
        # Looked up before they are replaced, so that hooks call the originals.
        self._inner_metrics = self.model.compute_metrics
        with contextlib.ExitStack() as hooks:
            if self._own_step or not self.plain_weights:
                hooks.enter_context(replaced(self.model, "compute_loss", self._loss_hook))
            if self._own_step and weights is not None:
                # It may update metrics anywhere.
                self._weigh_metrics(hooks)
            hooks.enter_context(replaced(self.model, "compute_metrics", self._metrics_hook))
            if self._loss_tracker is not None and not self.reweighting.unbiased:
                tracker = self._loss_tracker
                hooks.enter_context(replaced(tracker, "update_state", self._tracker_hook))
            logs = self._run_own(run_train_step, data) if self._own_step else run_train_step(data)
        if batch.details is None:
            self._note_outputs(x, *(batch.outputs or (y, self._outputs(x))))
        self._batch = _Batch()
        self.proven = True
        return logs, batch.details

    def _run_own(self, run_train_step: Callable[[Any], dict[str, Any]], data: Any) -> Any:
        """Runs a `train_step` of the user's own, and says so if weights cannot enter it."""
        logs = run_train_step(data)
        if not self._batch.loss_called:
            raise ValueError(_checks.no_compute_loss(self.model))
        return logs

    def _loss_hook(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """`compute_loss` with the weights that its caller does not know.

        A `train_step` of the user's own knows nothing of importance weights, and weights that
        depend on the scores of this pass nobody knows before it.
        """
        objective, batch = self.objective, self._batch
        batch.loss_called = True
        if self._own_step and not self.runtime.functional_gradients and batch.outputs is None:
            batch.outputs = (batch.y if y is None else y), y_pred
        if batch.weights is None:
            return objective.plain_loss(x, y, y_pred, sample_weight, kwargs)
        self._check_rows(y_pred)
        masks = objective.masks(y_pred)
        ones = ops.ones_like(batch.metric_weights)
        factors = [ones] * len(objective.info.masked)
        if objective.counts_tokens:
            factors = objective.token_factors(objective.counts(y, masks), batch.tokens)
        if self._weight_layer is not None:
            _, scores = objective.measure(x, y, y_pred, batch.sample_weight, masks)
            graph = self._graph_weights(scores, batch.weights)
            factors = [f * graph for f in factors]
        elif self._own_step:
            factors = [f * batch.weights[:, 0] for f in factors]
        sample_weight = objective.weigh(sample_weight, factors, objective.valid(y, masks))
        return objective.plain_loss(x, y, y_pred, sample_weight, kwargs)

    def _check_rows(self, y_pred: Any) -> None:
        """Raises if a step of the user's own computes its loss of other rows than the batch's."""
        n = self._batch.weights.shape[0]
        rows = {output.shape[0] for output in tree.flatten(y_pred)} - {None}
        if n is not None and rows and rows != {n}:
            raise ValueError(
                f"The train_step of {self.model.name!r} calls `self.compute_loss` on "
                f"{sorted(rows)} rows for a batch of {n}, so that nobody can tell which weight "
                "belongs to which row. Call it on the rows of the batch."
            )

    def _graph_weights(self, scores: Any, weights: Any) -> Any:
        column = ops.expand_dims(ops.stop_gradient(scores), -1)
        return ops.stop_gradient(self._weight_layer([column, weights])[:, 0])

    def _metrics_hook(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """`compute_metrics` with importance-weighted metrics; also takes losses and scores."""
        batch = self._batch
        self._note_outputs(x, y, y_pred)
        if batch.weights is None:
            if batch.loss_update is not None:
                value, count = batch.loss_update
                type(self._loss_tracker).update_state(self._loss_tracker, value, count)
            return self._inner_metrics(x, y, y_pred, sample_weight)
        if batch.loss_update is not None:
            self._update_loss(batch.details)
        with contextlib.ExitStack() as hooks:
            if not self._own_step:
                self._weigh_metrics(hooks)
            return self._inner_metrics(x, y, y_pred, sample_weight)

    def _outputs(self, x: Any) -> Any:
        with self.runtime.scope():
            return self.objective.forward(x)

    def _note_outputs(self, x: Any, y: Any, y_pred: Any) -> None:
        """Makes losses, scores and weights of the outputs of a pass."""
        objective, batch = self.objective, self._batch
        masks = self._train_masks(x, y_pred)

        def details() -> dict[str, Any]:
            return self._details(x, y, y_pred, masks, batch)

        def scores() -> Any:
            return objective.measure(x, y, y_pred, batch.sample_weight, masks, False)[1]

        if self.runtime.traces or batch.loss_update is not None or objective.needs_forward:
            batch.details = details()
        else:
            # Computed when somebody asks: much of the time, nobody does.
            batch.details = {"compute": details, "compute_scores": scores}

    def _details(
        self, x: Any, y: Any, y_pred: Any, masks: list[Any], batch: _Batch | None = None
    ) -> dict[str, Any]:
        """Losses, scores and weights of the samples of a pass."""
        batch = batch or self._batch
        losses, scores = self.objective.measure(x, y, y_pred, batch.sample_weight, masks)
        weights = ops.ones_like(losses) if batch.weights is None else batch.weights[:, 0]
        if self._weight_layer is not None:
            weights = self._graph_weights(scores, batch.weights)
        found = {"losses": losses, "scores": scores, "weights": weights}
        if self.objective.counts_tokens:
            found["counts"] = self.objective.counts(y, masks)
        return found

    def _weigh_metrics(self, hooks: contextlib.ExitStack) -> None:
        for metric in self._metrics:
            hooks.enter_context(replaced(metric, "update_state", self._weighed(metric)))

    def _say_unweighed(self, name: str) -> None:
        if name in self._unweighed:
            return
        self._unweighed.add(name)
        warnings.warn(
            f"The metric {name!r} gives one value per batch and takes no weights: while importance "
            "sampling is on it describes the drawn examples, not the training set.",
            stacklevel=2,
        )

    def _train_masks(self, x: Any, y_pred: Any) -> list[Any]:
        masks = self.objective.masks(y_pred)
        wanted = self.objective.info.masked
        if any(m is None and w for m, w in zip(masks, wanted, strict=True)):
            # JAX hands the outputs out of its gradient function as new arrays, without
            # their masks. They depend on x alone; the compiler drops the rest of the pass.
            masks = self.objective.masks(self._outputs(x))
        return masks

    def _tracker_hook(self, value: Any, sample_weight: Any = None) -> None:
        self._batch.loss_update = (value, sample_weight)

    def _update_loss(self, details: dict[str, Any]) -> None:
        """Reports the training set's loss, not the one that biased weights minimise."""
        batch = self._batch
        value, count = batch.loss_update
        change = (batch.metric_weights - details["weights"]) * details["losses"]
        if "counts" in details:
            change = change * self.objective.token_factors(details["counts"], batch.tokens)[0]
        change = ops.sum(change) if self.objective.summed else ops.mean(change)
        tracker = self._loss_tracker
        type(tracker).update_state(tracker, value + ops.cast(change, value.dtype), count)

    def _weighed(self, metric: Any) -> Callable[..., Any]:
        """A metric's `update_state` with weights; the user's come multiplied into the batch's."""
        batch = self._batch
        original = metric.update_state

        def update_state(y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            if sample_weight is None:
                sample_weight = batch.metric_weights
            elif self._own_step or self._weight_layer is not None:
                # Importance weights never entered the data: these are the user's alone.
                factor = spread(batch.metric_weights, len(sample_weight.shape))
                sample_weight = sample_weight * factor
            elif not self.reweighting.unbiased:
                ratio = ops.divide_no_nan(batch.metric_weights, batch.weights[:, 0])
                sample_weight = sample_weight * spread(ratio, len(sample_weight.shape))
            mask = _masks.read_mask(y_pred) if self.objective.counts_tokens else None
            sample_weight = shape_weights(metric, sample_weight, y_true, y_pred, mask)
            try:
                return original(y_true, y_pred, sample_weight=sample_weight)
            except Exception:  # noqa: BLE001 - each backend has an error of its own for shapes
                # A metric of one value per batch has nothing to weigh. If it is something else
                # that is wrong, it is so without weights, too.
                result = original(y_true, y_pred)
            self._say_unweighed(metric.name)
            return result

        return update_state
