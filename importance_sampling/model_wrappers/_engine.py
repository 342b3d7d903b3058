"""One model, its training step with scores, its scoring pass and its gradient, compiled."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from .. import backend
from .._arrays import map_arrays
from ..layers import _masks
from ..reweighting import ExternalReweighting, ReweightingPolicy
from . import _checks
from ._objective import Objective, fill, spread, takes_training
from ._outputs import describe


@contextlib.contextmanager
def _replaced(target: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
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
    loss_update: tuple[Any, Any] | None = None
    details: dict[str, Any] | None = None


class Engine:
    """The compiled functions over one model.

    The training step is the model's own `train_step`. It is run with three of
    its methods watched: `compute_loss`, where weights that depend on the
    scores of the pass are put in; `compute_metrics`, where per-sample losses
    and scores are taken from the outputs; and the `update_state` of the
    metrics, which are given the weights that make them estimates of the whole
    training set's values.
    """

    def __init__(
        self,
        model: keras.Model,
        reweighting: ReweightingPolicy,
        score: str = "gnorm",
        layer: Any = None,
    ):
        self.model = model
        self.reweighting = reweighting
        self.score_name = score
        self.layer = _checks.find_layer(model, layer)
        self.training = False
        """Whether a training loop is under way, in which nothing is compiled anew."""
        self._key: tuple[Any, ...] | None = None
        self._batch = _Batch()
        weight_layer = reweighting.weight_layer()
        self._weight_layer = None if isinstance(weight_layer, ExternalReweighting) else weight_layer

    # -- building ---------------------------------------------------------------------------

    def build(self, x: Any, y: Any, sample_weight: Any = None) -> None:
        """Builds the model, its loss, metrics and optimizer, and compiles, once per `compile`.

        Args:
            x: inputs, a few rows, for shapes and types.
            y: targets, likewise.
            sample_weight: the user's own weights, likewise.
        """
        if self.training:
            return
        model = self.model
        key = (model.optimizer, model.loss, model.run_eagerly, model.jit_compile, model.metrics[:1])
        key = (*key, [id(v) for v in model.trainable_variables])
        if self._key is not None and _same(key, self._key):
            return
        _checks.check_model(model)
        summed = _checks.sums_its_loss(model)
        x, y, sample_weight = self.prepare((x, y, sample_weight))
        rows = tree.map_structure(
            lambda a: None if a is None else ops.convert_to_tensor(a[:2]), (x, y, sample_weight)
        )
        info = describe(model, rows[0])
        self.runtime = backend.get().Runtime(model)
        self.objective = Objective(
            model,
            self.runtime,
            info,
            self.score_name,
            self.layer,
            summed,
            _checks.ignored_classes(model, len(info.flat)),
        )
        if self.objective.score == "gnorm" and self.objective.layer is None:
            self._say_fallback(info.ending)
        self._plain_weights = self._weight_layer is None and not self.objective.counts_tokens
        logs = self._build_state(rows, info)
        self.objective.use_closed_form(rows[1])
        self.metric_names = tuple(name for name in logs if name != "loss")
        self._metrics, unweighable = _checks.weighable_metrics(model)
        if unweighable:
            warnings.warn(
                f"The metrics {unweighable} accept no sample_weight: while importance sampling is "
                "on they describe the drawn examples, not the training set.",
                stacklevel=2,
            )
        own_step = type(model).train_step.__module__.startswith("keras.")
        self._loss_tracker = next((m for m in model.metrics if own_step and m.name == "loss"), None)
        self._train = self.runtime.compile_train(self._train_step)
        self._score = self.runtime.compile_pure(self._score_step)
        self._gradient = self.runtime.compile_pure(self._gradient_step)
        self._key = (*key[:-1], [id(v) for v in model.trainable_variables])

    def _build_state(self, rows: Any, info: Any) -> dict[str, Any]:
        """Creates the variables of loss, metrics and optimizer outside any compiled function."""
        model = self.model
        x, y, sample_weight = rows
        before = [(v, ops.convert_to_numpy(v.value)) for v in model.metrics_variables]
        zeros = tree.map_structure(lambda s: ops.zeros(s.shape, s.dtype), info.spec)
        arguments = {"training": False} if takes_training(model.compute_loss) else {}
        model.compute_loss(x=x, y=y, y_pred=zeros, sample_weight=sample_weight, **arguments)
        logs = model.compute_metrics(x, y, zeros, sample_weight)
        model.reset_metrics()
        for variable, value in before:
            variable.assign(value)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        return logs

    def _say_fallback(self, endings: list[Any]) -> None:
        unknown = (
            [n for n, e in zip(self.model.output_names, endings, strict=False) if e is None]
            if getattr(self.model, "output_names", None)
            else [e for e in endings if e is None]
        )
        if unknown:
            warnings.warn(
                "score='gnorm': the last activation of "
                f"{unknown if unknown[0] else 'the model'} has no closed form here, so the "
                "gradient with respect to the outputs themselves is used. Pass `layer=` to choose "
                "the layer whose pre-activation counts.",
                stacklevel=4,
            )

    def prepare(self, data: Any) -> Any:
        """Casts floating point arrays to Keras' float type, as Keras' own `fit` does."""
        floatx = keras.config.floatx()

        def cast(array: Any) -> Any:
            if isinstance(array, np.ndarray) and array.dtype.kind == "f":
                return array.astype(floatx, copy=False)
            return array

        return map_arrays(cast, data)

    def _to_device(self, *data: Any) -> Any:
        return map_arrays(self.runtime.to_device, self.prepare(data))

    @contextlib.contextmanager
    def attached(self) -> Iterator[Any]:
        """Holds the model for a training loop; afterwards it is as if we had never been there."""
        self.runtime.attach()
        self.training = True
        try:
            yield self.runtime
        finally:
            self.training = False
            self.runtime.detach()

    # -- the training step ------------------------------------------------------------------

    def train(
        self,
        x: Any,
        y: Any,
        weights: np.ndarray,
        metric_weights: np.ndarray,
        sample_weight: Any = None,
        tokens: np.ndarray | None = None,
        uniform: bool = False,
    ) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
        """One optimizer step; returns at once where the device works asynchronously.

        Args:
            x: inputs of the batch.
            y: targets of the batch.
            weights: `(n, weight_size)` from the reweighting policy.
            metric_weights: `(n,)`, the weights 1/(N p) that make metrics unbiased.
            sample_weight: the user's own weights.
            tokens: `(outputs,)` mean number of valid steps per sample in the training set,
                or None while batches are drawn uniformly.
            uniform: whether all importance weights are one.

        Returns:
            `(logs, details)`: metrics as tensors; a function that gives per-sample `losses`,
            `scores` and `weights` as tensors of shape `(n,)`.
        """
        if uniform and not self.runtime.traces and self._plain_weights and sample_weight is None:
            # Eagerly, even a multiplication by one costs; compiled, a second trace would.
            return self._train(*self._to_device(x, y), None, None, None, None)
        if tokens is None:
            tokens = np.zeros((len(self.objective.info.masked),), "float32")
        metric_weights = None if self.reweighting.unbiased else metric_weights
        return self._train(
            *self._to_device(x, y, sample_weight, weights, metric_weights, np.asarray(tokens))
        )

    def _train_step(
        self,
        run_train_step: Callable[[Any], dict[str, Any]],
        x: Any,
        y: Any,
        sample_weight: Any,
        weights: Any,
        metric_weights: Any,
        tokens: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        objective = self.objective
        if metric_weights is None and weights is not None:
            metric_weights = weights[:, 0]
        batch = self._batch = _Batch(weights, metric_weights, tokens, sample_weight)
        data = (x, y, None)
        if weights is not None:
            external = weights[:, :1]
            if self._weight_layer is not None:
                external = ops.ones_like(external)
            data = (x, y, objective.weigh(sample_weight, external))
        # Looked up before they are replaced, so that hooks call the originals.
        self._inner_metrics = self.model.compute_metrics
        with contextlib.ExitStack() as hooks:
            if not self._plain_weights:
                hooks.enter_context(_replaced(self.model, "compute_loss", self._loss_hook))
            hooks.enter_context(_replaced(self.model, "compute_metrics", self._metrics_hook))
            if self._loss_tracker is not None and not self.reweighting.unbiased:
                tracker = self._loss_tracker
                hooks.enter_context(_replaced(tracker, "update_state", self._tracker_hook))
            logs = run_train_step(data)
        if batch.details is None:
            raise ValueError(
                "The model's train_step never calls compute_metrics(x, y, y_pred, sample_weight), "
                "so the scores of the trained batch cannot be taken. Call it at the end of your "
                "train_step, as Keras' own does."
            )
        self._batch = _Batch()
        return logs, batch.details

    def _loss_hook(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """`compute_loss` with the weights that only the outputs of this pass can tell."""
        objective, batch = self.objective, self._batch
        masks = objective.masks(y_pred)
        ones = ops.ones_like(batch.metric_weights)
        factors = [ones] * len(objective.info.masked)
        if objective.counts_tokens:
            factors = self._token_factors(objective.counts(y, masks))
        if self._weight_layer is not None:
            _, scores = objective.measure(x, y, y_pred, batch.sample_weight, masks)
            graph = self._graph_weights(scores, batch.weights)
            factors = [f * graph for f in factors]
        sample_weight = objective.weigh(sample_weight, factors, objective.valid(y, masks))
        if "training" in kwargs and not takes_training(objective._loss_function):
            kwargs.pop("training")
        return objective._loss_function(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **kwargs
        )

    def _token_factors(self, counts: Any) -> list[Any]:
        """Undoes Keras' division by the valid steps of this batch, in favour of the whole set's.

        Keras' masked loss is sum_i w_i t_i / sum_i c_i over the batch, t_i and c_i the
        sample's summed loss and valid steps. A draw with weights w_i = 1/(N p_i) estimates
        sum t / sum c over the set only if the divisor is n * mean(c) of the set.
        """
        batch = self._batch
        if batch.tokens is None:
            return [ops.ones_like(counts[:, 0])] * len(self.objective.info.masked)
        mean = ops.mean(counts, axis=0)
        known = batch.tokens > 0.0
        ratios = ops.where(known, mean / ops.where(known, batch.tokens, 1.0), 1.0)
        ones = ops.ones_like(batch.metric_weights)
        return [ones * ratios[i] for i in range(len(self.objective.info.masked))]

    def _graph_weights(self, scores: Any, weights: Any) -> Any:
        column = ops.expand_dims(ops.stop_gradient(scores), -1)
        return ops.stop_gradient(self._weight_layer([column, weights])[:, 0])

    def _metrics_hook(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """`compute_metrics` with importance-weighted metrics; also takes losses and scores."""
        objective, batch = self.objective, self._batch
        outputs = tree.map_structure(ops.stop_gradient, y_pred)
        masks = self._train_masks(x, y_pred)

        def details() -> dict[str, Any]:
            losses, scores = objective.measure(x, y, outputs, batch.sample_weight, masks)
            weights = ops.ones_like(losses) if batch.weights is None else batch.weights[:, 0]
            if self._weight_layer is not None:
                weights = self._graph_weights(scores, batch.weights)
            found = {"losses": losses, "scores": scores, "weights": weights}
            if objective.counts_tokens:
                found["counts"] = objective.counts(y, masks)
            return found

        def scores() -> Any:
            return objective.measure(x, y, outputs, batch.sample_weight, masks, False)[1]

        if self.runtime.traces or batch.loss_update is not None or objective.needs_forward:
            batch.details = details()
        else:
            # Computed when somebody asks: much of the time, nobody does.
            batch.details = {"compute": details, "compute_scores": scores}
        if batch.weights is None:
            if batch.loss_update is not None:
                value, count = batch.loss_update
                type(self._loss_tracker).update_state(self._loss_tracker, value, count)
            return self._inner_metrics(x, y, y_pred, sample_weight)
        if batch.loss_update is not None:
            self._update_loss(batch.details)
        final = batch.details.get("weights") if self._weight_layer is not None else None
        with contextlib.ExitStack() as hooks:
            for metric in self._metrics:
                hooks.enter_context(_replaced(metric, "update_state", self._weighed(metric, final)))
            return self._inner_metrics(x, y, y_pred, sample_weight)

    def _train_masks(self, x: Any, y_pred: Any) -> list[Any]:
        masks = self.objective.masks(y_pred)
        wanted = self.objective.info.masked
        if any(m is None and w for m, w in zip(masks, wanted, strict=True)):
            # JAX hands the outputs out of its gradient function as new arrays, without
            # their masks. They depend on x alone; the compiler drops the rest of the pass.
            with self.runtime.scope():
                masks = self.objective.masks(self.objective.forward(x))
        return masks

    def _tracker_hook(self, value: Any, sample_weight: Any = None) -> None:
        self._batch.loss_update = (value, sample_weight)

    def _update_loss(self, details: dict[str, Any]) -> None:
        """Reports the training set's loss, not the one that biased weights minimise."""
        batch = self._batch
        value, count = batch.loss_update
        change = (batch.metric_weights - details["weights"]) * details["losses"]
        if "counts" in details:
            change = change * self._token_factors(details["counts"])[0]
        change = ops.sum(change) if self.objective.summed else ops.mean(change)
        tracker = self._loss_tracker
        type(tracker).update_state(tracker, value + ops.cast(change, value.dtype), count)

    def _weighed(self, metric: Any, graph_weights: Any) -> Callable[..., Any]:
        """A metric's `update_state` with weights; the user's come multiplied into the batch's."""
        batch = self._batch
        original = metric.update_state

        def update_state(y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            if sample_weight is None:
                rank = max(len(y_pred.shape), 1)
                known = rank == 2 and self.reweighting.unbiased
                sample_weight = batch.weights if known else spread(batch.metric_weights, rank)
            elif graph_weights is not None:
                # Weights of the graph never entered the data: these are the user's alone.
                factor = spread(batch.metric_weights, len(sample_weight.shape))
                sample_weight = sample_weight * factor
            elif not self.reweighting.unbiased:
                ratio = ops.divide_no_nan(batch.metric_weights, batch.weights[:, 0])
                sample_weight = sample_weight * spread(ratio, len(sample_weight.shape))
            mask = _masks.read_mask(y_pred) if self.objective.counts_tokens else None
            if mask is not None:
                sample_weight = fill(sample_weight, mask)
            return original(y_true, y_pred, sample_weight=sample_weight)

        return update_state

    # -- scoring, gradients -----------------------------------------------------------------

    def score(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Scores by one forward pass; tensors `scores` `(n,)`, `counts` if masked."""
        return self._score(*self._to_device(x, y, sample_weight))

    def _score_step(self, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        objective = self.objective
        with self.runtime.scope():
            outputs = objective.forward(x)
        masks = objective.masks(outputs)
        _, scores = objective.measure(x, y, outputs, sample_weight, masks, False)
        result = {"scores": scores}
        if objective.counts_tokens:
            result["counts"] = objective.counts(y, masks)
        return result

    def gradient(
        self,
        x: Any,
        y: Any,
        weights: np.ndarray | None = None,
        sample_weight: Any = None,
        tokens: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Gradient of the weighted loss, in inference mode, for every trainable variable.

        Args:
            x: inputs of the batch.
            y: targets of the batch.
            weights: `(n,)` importance weights; ones where None.
            sample_weight: the user's own weights.
            tokens: as for `train`.
        """
        if weights is None:
            weights = np.ones(len(tree.flatten(y)[0]), "float32")
        if tokens is None:
            tokens = np.zeros((len(self.objective.info.masked),), "float32")
        data = self._to_device(x, y, sample_weight, weights, np.asarray(tokens))
        return [ops.convert_to_numpy(g) for g in self._gradient(*data)]

    def _gradient_step(self, x: Any, y: Any, sample_weight: Any, weights: Any, tokens: Any) -> Any:
        objective = self.objective
        variables = self.model.trainable_variables
        self._batch = _Batch(weights[:, None], weights, tokens, sample_weight)

        def total(*values: Any) -> Any:
            with self.runtime.scope(list(zip(variables, values, strict=True))):
                outputs = objective.forward(x)
                factors: Any = weights
                masks = objective.masks(outputs)
                if objective.counts_tokens:
                    counts = objective.counts(y, masks)
                    factors = [f * weights for f in self._token_factors(counts)]
                weight = objective.weigh(sample_weight, factors, objective.valid(y, masks))
                return objective.loss(x, y, outputs, weight)

        return backend.get().gradient(total, self.runtime.values(variables))[1]


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Equality by identity for objects and by value for lists of identities."""
    return len(a) == len(b) and all(
        x is y or (isinstance(x, list) and _same_list(x, y)) for x, y in zip(a, b, strict=True)
    )


def _same_list(a: list[Any], b: Any) -> bool:
    return (
        isinstance(b, list)
        and len(a) == len(b)
        and all(x is y or x == y for x, y in zip(a, b, strict=True))
    )
