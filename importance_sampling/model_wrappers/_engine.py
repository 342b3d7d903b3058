"""One model, its training step with scores, its scoring pass and its gradient, compiled."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from .. import backend
from .._arrays import flatten, map_arrays
from ..backend.array_types import tensor_to_numpy
from ..reweighting import ReweightingPolicy
from . import _build, _checks, _rehearsal
from ._objective import Objective
from ._outputs import describe, symbolic_outputs
from ._precision import lower_precision
from ._step import TrainingStep


def _as_keras_casts(array: Any) -> Any:
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype.kind == "f":
        return array.astype(keras.config.floatx(), copy=False)
    if array.dtype.kind in "US" and keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Got an array of strings ({array.dtype}), of which only TensorFlow makes "
            "tensors. Encode them as integers first, or set KERAS_BACKEND=tensorflow."
        )
    return array


class Engine:
    """The compiled functions over one model: training step, scores, gradient.

    Args:
        model: a compiled model.
        reweighting: the policy whose weights the training step takes.
        score: the score's name.
        layer: the layer that `"gnorm"` refers to, or None for the last one.
        score_dtype: the type that scoring passes compute in, or None for the model's own.
    """

    def __init__(
        self,
        model: keras.Model,
        reweighting: ReweightingPolicy,
        score: str = "gnorm",
        layer: Any = None,
        score_dtype: str | None = None,
    ):
        self.model = model
        self.score_dtype = score_dtype
        self.reweighting = reweighting
        self.score_name = score
        self.layer = _checks.find_layer(model, layer)
        self.training = False
        """Whether a training loop is under way, in which nothing is compiled anew."""
        self._key: tuple[Any, ...] | None = None
        self._known: set[Any] = set()
        self._label_limits: list[Any] = []
        self._weights_of_size: dict[int, Any] = {}

    # -- building ---------------------------------------------------------------------------

    @property
    def is_built(self) -> bool:
        """Whether the compiled functions are those of the model as it is compiled now."""
        return self._key is not None and _build.same(_build.key_of(self.model), self._key)

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
        if self.is_built:
            self.rehearse("`x`", "`y`", x, y, sample_weight)
            return
        _checks.check_model(model)
        summed = _checks.sums_its_loss(model)
        x, y, sample_weight = self.prepare((x, y, sample_weight))
        _rehearsal.check_strings(model, x)
        rows = _build.first_rows(x, y, sample_weight)
        with _rehearsal.explained(model, rows[0], "`x`"):
            info = describe(model, rows[0])
        self.runtime = backend.get().Runtime(model)
        losses = _checks.losses_by_output(model, info.spec)
        self.objective = Objective(
            model,
            self.runtime,
            info,
            self.score_name,
            self.layer,
            summed,
            [getattr(loss, "ignore_class", None) for loss in losses],
        )
        self._label_limits = _rehearsal.label_limits(model, losses, info.flat)
        if self.objective.score == "gnorm" and self.objective.layer is None:
            _build.warn_gradient_fallback(model, info, losses)
        if y is not None:
            self.check_targets(y, "y")
        with _rehearsal.explained_loss(model, info.spec, rows[1], "`y`"):
            logs = _build.build_state(model, rows, info)
        if _rehearsal.is_custom(model, self.objective.own_loss):
            _rehearsal.settle_weights(self.objective, *rows)
        if not self.runtime.traces and y is not None:
            self.objective.use_closed_form(rows[1])
        self.metric_names = tuple(name for name in logs if name != "loss")
        metrics, unweighable = _checks.weighable_metrics(model)
        if unweighable:
            warnings.warn(
                f"The metrics {unweighable} cannot be weighted: they accept no sample_weight, or "
                'count in integers, which `dtype="float32"` changes. While importance sampling is '
                "on they describe the drawn examples, not the training set.",
                stacklevel=2,
            )
        self.step = TrainingStep(model, self.objective, self.reweighting, metrics)
        self._no_tokens = ops.zeros((len(info.masked),), "float32")
        self._train = self.runtime.compile_train(self.step)
        self._score = self.runtime.compile_pure(self._score_step)
        self._gradient = self.runtime.compile_pure(self._gradient_step)
        # Building may have made variables.
        self._key = _build.key_of(model)
        self._known = {_rehearsal.signature(x, y, sample_weight)}

    def rehearse(self, x_name: str, y_name: str, x: Any, y: Any, sample_weight: Any = None) -> None:
        """Tries rows of shapes that the model has not seen yet, without changing anything.

        Args:
            x_name: what to call the inputs in errors.
            y_name: what to call the targets in errors.
            x: inputs, a few rows.
            y: targets, likewise.
            sample_weight: the user's own weights, likewise.

        Raises:
            ValueError: if the model, its loss or its metrics cannot take them.
        """
        x, y, sample_weight = self.prepare((x, y, sample_weight))
        known = _rehearsal.signature(x, y, sample_weight)
        if known in self._known:
            return
        model, objective = self.model, self.objective
        x, y, sample_weight = _build.first_rows(x, y, sample_weight)
        with _rehearsal.explained(model, x, x_name):
            spec = symbolic_outputs(model, x)
        zeros = tree.map_structure(lambda s: ops.zeros(s.shape, s.dtype), spec)
        with _rehearsal.explained_loss(model, spec, y, y_name), self.runtime.scope():
            objective.loss(x, y, zeros, sample_weight)
        self._known.add(known)

    def check_targets(self, y: Any, where: str) -> None:
        """Raises if integer labels are outside the classes of their output."""
        if not any(self._label_limits):
            return
        info = self.objective.info
        if not info.nested and isinstance(y, np.ndarray):
            _rehearsal.check_labels(y, self._label_limits[0], where)
            return
        targets = _checks.align(self.model, y, info.spec, len(info.flat))
        for labels, limit in zip(targets, self._label_limits, strict=True):
            _rehearsal.check_labels(labels, limit, where)

    def check_padding(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        """Warns if padding with zeros changes the score of a row, as it does without masks.

        Args:
            before: `(x, y)` or `(x, y, sample_weight)`, one row as it came.
            after: the same row, padded to the length of the longest in its pool.
        """
        plain, padded = (tensor_to_numpy(self.score(*row)["scores"]) for row in (before, after))
        tolerance = 1e-3 if self.model.compute_dtype == "float32" else 2e-2
        if np.allclose(plain, padded, rtol=tolerance, atol=1e-6):
            return
        shapes = [[array.shape[1:] for array in flatten(row[0])] for row in (before, after)]
        warnings.warn(
            f"The batches of the training data differ in length, so that rows of shape {shapes[0]} "
            f"were padded with zeros to {shapes[1]}, to draw from several batches by score. The "
            f"model does not mask the padding: the score of a row was {float(plain[0]):.4g} and is "
            f"{float(padded[0]):.4g} when padded. Mask it (`Embedding(..., mask_zero=True)`, a "
            "`Masking` layer), or pad all batches to one length.",
            stacklevel=2,
        )

    def prepare(self, data: Any) -> Any:
        """Casts floating point arrays to Keras' float type, as Keras' own `fit` does."""
        return map_arrays(_as_keras_casts, data)

    def _to_device(self, *data: Any) -> tuple[Any, ...]:
        return tuple([self._put(part) for part in data])

    def _put(self, part: Any) -> Any:
        if type(part) is np.ndarray:
            return self.runtime.to_device(_as_keras_casts(part))
        return map_arrays(lambda array: self.runtime.to_device(_as_keras_casts(array)), part)

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
    ) -> tuple[dict[str, Any], dict[str, Any]]:
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
            `(logs, details)`: metrics as tensors; see `TrainingStep` for the details.
        """
        if (
            uniform
            and not self.runtime.traces
            and self.step.plain_weights
            and self.step.proven
            and sample_weight is None
        ):
            # Eagerly, even a multiplication by one costs; compiled, a second trace would.
            return self._train(*self._to_device(x, y), None, None, None, None)
        metric_weights = None if self.reweighting.unbiased else metric_weights
        data = self._to_device(x, y, sample_weight)
        if uniform and metric_weights is None:
            data = (*data, self._uniform_weights(len(weights)), None)
        else:
            data = (*data, *self._to_device(weights, metric_weights))
        if self.step.proven or self.runtime.traces:
            return self._train(*data, self._tokens(tokens))
        with _build.restored_on_refusal(self.model):
            return self._train(*data, self._tokens(tokens))

    def _uniform_weights(self, n: int) -> Any:
        """The weights of a uniform batch, which stay on the device: batches come in few sizes."""
        known = self._weights_of_size.get(n)
        if known is None:
            weights = self.prepare(self.reweighting.uniform_weights(n))
            known = self._weights_of_size[n] = ops.convert_to_tensor(weights)
        return known

    def _tokens(self, tokens: np.ndarray | None) -> Any:
        if tokens is None or not self.objective.counts_tokens:
            return self._no_tokens
        return self._to_device(np.asarray(tokens))[0]

    # -- scoring, gradients -----------------------------------------------------------------

    def score(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Scores by one forward pass; tensors `scores` `(n,)`, `counts` if masked."""
        return self._score(*self._to_device(x, y, sample_weight))

    def _score_step(self, x: Any, y: Any, sample_weight: Any) -> dict[str, Any]:
        objective = self.objective
        with self.runtime.scope(), lower_precision(self.model, objective.info, self.score_dtype):
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
            weights = np.ones(len(tree.flatten(x)[0]), "float32")
        data = self._to_device(x, y, sample_weight, weights)
        return [tensor_to_numpy(g) for g in self._gradient(*data, self._tokens(tokens))]

    def _gradient_step(self, x: Any, y: Any, sample_weight: Any, weights: Any, tokens: Any) -> Any:
        objective = self.objective
        variables = self.model.trainable_variables

        def total(*values: Any) -> Any:
            with self.runtime.scope(list(zip(variables, values, strict=True))):
                outputs = objective.forward(x)
                factors: Any = weights
                masks = objective.masks(outputs)
                if objective.counts_tokens:
                    counts = objective.counts(y, masks)
                    factors = [f * weights for f in objective.token_factors(counts, tokens)]
                weight = objective.weigh(sample_weight, factors, objective.valid(y, masks))
                return objective.loss(x, y, outputs, weight)

        return backend.get().gradient(total, self.runtime.values(variables))[1]
