"""The wrapper that asks the trained network itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from .._arrays import count_rows, take_rows
from ..backend.array_types import tensor_to_numpy
from ..reweighting import ReweightingPolicy
from . import _checks
from ._base import ModelWrapper, StepResult, _send, is_heard
from ._engine import Engine
from ._examples import Examples
from ._metric_names import log_names
from ._objective import SCORES
from ._outputs import input_shapes
from ._precision import LOW_PRECISIONS


class OracleWrapper(ModelWrapper):
    r"""Trains a compiled model and scores examples with it.

    The scores are, for a sample's loss $l_i$ (times its own sample weight):

    * `"loss"`: $l_i$ itself ([1706.00043](https://arxiv.org/abs/1706.00043));
    * `"gnorm"`: $\|\nabla_{z_i} l_i\|_2$ with $z_i$ the pre-activation outputs of the last
      layer, up to a constant an upper bound of the gradient norm
      ([1803.00942](https://arxiv.org/abs/1803.00942), eq. 20), from one forward pass;
    * `"full_gnorm"`: $\|\nabla_\theta l_i\|_2$ over all trainable weights, exact and slow;
    * `"acc"`: 1 where the prediction is wrong and 0 where it is right. Use it with smoothing:
      what has score 0 is never drawn.

    Args:
        model: a compiled `keras.Model`; it is the model that trains, with its own optimizer.
        reweighting: a `ReweightingPolicy`.
        score: one of `"loss"`, `"gnorm"`, `"full_gnorm"`, `"acc"`. Defaults to `"loss"`.
        layer: None, an index into `model.layers` or a layer: where `"gnorm"` takes the
            gradient. Defaults to None, the last layer; any other costs a backward pass
            through the layers above it.
        score_dtype: None, `"bfloat16"` or `"float16"`: the type that forward passes which only
            score compute in. The layers that make the outputs, and the scores, stay in float32,
            so that no small score becomes zero. Defaults to None, the model's own.
    """

    # Positions in what the signal `is.evaluate_batch` carries.
    AVG_LOSS, LOSS, WEIGHTED_LOSS, SCORE, METRIC0 = range(5)

    def __init__(
        self,
        model: Any,
        reweighting: ReweightingPolicy,
        score: str = "loss",
        layer: Any = None,
        score_dtype: str | None = None,
    ):
        _checks.check_model(model)
        if score not in SCORES:
            raise ValueError(f"`score` must be one of {list(SCORES)}, got {score!r}.")
        self.model = model
        self.reweighting = reweighting
        if score_dtype not in (None, *LOW_PRECISIONS):
            raise ValueError(
                f"`score_dtype` must be None or one of {list(LOW_PRECISIONS)}, got {score_dtype!r}."
            )
        if score_dtype is not None and (score == "full_gnorm" or layer is not None):
            raise ValueError(
                f"`score_dtype`={score_dtype!r} is for scores that one forward pass gives: use "
                'score="gnorm" without `layer`, "loss" or "acc".'
            )
        self.engine = Engine(model, reweighting, score, layer, score_dtype)
        # Mean number of valid steps per sample, as far as seen, for masked losses.
        self._tokens: np.ndarray | None = None
        self._tokens_seen = 0.0
        self._examples: Examples | None = None

    def build(self, x: Any, y: Any, sample_weight: Any = None) -> None:
        """Builds and compiles what is not yet; a few rows of the data are enough."""
        self.engine.build(x, y, sample_weight)

    def rehearse(self, where: str, x: Any, y: Any, sample_weight: Any = None) -> None:
        """Tries rows that come from the argument `where`; raises if they cannot work."""
        names = (f"the inputs of `{where}`", f"the targets of `{where}`")
        self.engine.rehearse(*names, x, y, sample_weight)

    def check_targets(self, y: Any, where: str) -> None:
        """Raises if integer labels are outside the classes of the model's outputs."""
        self.engine.check_targets(y, where)

    def _batches(self, x: Any, y: Any, batch_size: int, extra: Any = None) -> Iterator[Any]:
        size = self.fixed_batch_size
        if size is None:
            yield from super()._batches(x, y, batch_size, extra)
            return
        for start in range(0, count_rows(x), size):
            yield take_rows((x, y, extra), slice(start, start + size))

    def check_padding(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        """Warns if a row's score depends on whether it is padded; see `Engine.check_padding`."""
        self.engine.check_padding(before, after)

    @property
    def knows_its_targets(self) -> bool:
        """Whether the model has a loss or step of its own, which may need no targets."""
        kind = type(self.model)
        return not (
            kind.compute_loss.__module__.startswith("keras.")
            and kind.train_step.__module__.startswith("keras.")
        )

    @property
    def metrics_names(self) -> list[str]:
        """`["loss", *metrics, "score"]`, the compiled metrics by the names of their logs."""
        engine = self.engine
        names = engine.metric_names if engine.is_built else log_names(self.model)
        return ["loss", *names, "score"]

    @property
    def fixed_batch_size(self) -> int | None:
        """The one size of batches that the model takes, as stateful recurrent layers want it."""
        fixed = {shape[0] for shape in (input_shapes(self.model) or {}).values()} - {None}
        return fixed.pop() if fixed else None

    @property
    def sums_its_loss(self) -> bool:
        """Whether the compiled loss is summed over the batch instead of averaged."""
        return _checks.sums_its_loss(self.model)

    @property
    def optimizer(self) -> Any:
        """The optimizer of the model."""
        return self.model.optimizer

    @property
    def layer(self) -> Any:
        """The layer whose pre-activation `"gnorm"` refers to: the last one with weights."""
        if self.engine.layer is not None:
            return self.engine.layer
        last = self.model.layers[-1]
        single = len(self.model.layers) == 1
        return last if single or last.trainable_weights else self.model.layers[-2]

    def _count(self, counts: Any, weights: np.ndarray | None = None) -> None:
        counts = tensor_to_numpy(counts).astype(np.float64)
        weights = np.ones(len(counts)) if weights is None else weights
        seen = self._tokens_seen + weights.sum()
        old = 0.0 if self._tokens is None else self._tokens * self._tokens_seen
        self._tokens = (old + weights @ counts) / seen
        self._tokens_seen = seen

    def score_batch(self, x: Any, y: Any, sample_weight: Any = None) -> np.ndarray:
        """Scores one batch: float32 array `(n,)`."""
        self.build(x, y, sample_weight)
        n = count_rows(y if y is not None else x)
        if self.engine.objective.score == "full_gnorm":
            chunk = self.engine.objective.full_gnorm_chunk()
            if n > chunk:
                parts = self._batches(x, y, chunk, sample_weight)
                return np.concatenate([self.score_batch(*part) for part in parts])
        return self._read(self.engine.score(x, y, sample_weight))

    def _read(self, result: dict[str, Any]) -> np.ndarray:
        if "counts" in result:
            self._count(result["counts"])
        return self._without_overflow(tensor_to_numpy(result["scores"]))

    def _without_overflow(self, scores: np.ndarray) -> np.ndarray:
        """Scores that are not finite as the largest of the others, where loss scaling is in use.

        An overflow is nothing unusual then: the optimizer skips the step and lowers its scale.
        """
        if not isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer):
            return scores
        finite = np.isfinite(scores)
        if finite.all():
            return scores
        return np.where(finite, scores, scores[finite].max() if finite.any() else 1.0)

    @property
    def asynchronous(self) -> bool:
        """See `ModelWrapper.asynchronous`."""
        runtime = getattr(self.engine, "runtime", None)
        return runtime is not None and runtime.asynchronous

    def score_later(
        self, x: Any, y: Any, batch_size: int = 128, *, sample_weight: Any = None
    ) -> Callable[[], np.ndarray]:
        """See `ModelWrapper.score_later`."""
        self.build(x, y, sample_weight)
        own = self._has_own("score_batch") or self._has_own("score")
        if own or self.engine.objective.score == "full_gnorm":
            return super().score_later(x, y, batch_size, sample_weight=sample_weight)
        batches = self._batches(x, y, batch_size, sample_weight)
        results = [self.engine.score(*part) for part in batches]

        def read() -> np.ndarray:
            scores = np.concatenate([self._read(result).reshape(-1) for result in results])
            _send("is.score", scores)
            return scores

        return read

    def evaluate_batch(self, x: Any, y: Any) -> np.ndarray:
        """Losses and metrics of a batch, example by example, in the order of `metrics_names`.

        Their means over the examples are what `model.test_on_batch` gives: the losses hold what
        regularizers add. A metric that is no mean over examples, as the area under a curve, is
        the batch's value in every row.

        Args:
            x: inputs of the batch.
            y: targets of the batch.

        Returns:
            float array `(n, 1 + metrics)`.
        """
        found = self._by_example(x, y)
        losses, scores, metrics = found["losses"], found["scores"], found["metrics"]
        columns = [metrics[:, i : i + 1] for i in range(metrics.shape[1])]
        # The weighted losses are those of weights that are all one.
        _send("is.evaluate_batch", [losses.mean(), losses, losses, scores, *columns])
        return np.hstack([losses, metrics])

    def _by_example(self, x: Any, y: Any) -> dict[str, np.ndarray]:
        self.build(x, y)
        if self._examples is None or self._examples.objective is not self.engine.objective:
            self._examples = Examples(self.engine)
        objective = self.engine.objective
        chunk = objective.full_gnorm_chunk() if objective.score == "full_gnorm" else None
        if chunk is None or count_rows(x) <= chunk:
            return self._examples(x, y)
        parts = [self._examples(xi, yi) for xi, yi, _ in self._batches(x, y, chunk)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def evaluate(self, x: Any, y: Any, batch_size: int = 128) -> np.ndarray:
        """Mean loss and metrics over the examples, as `model.evaluate` computes them.

        They are the means of what `evaluate_batch` returns, which is called where a subclass has
        its own, or where somebody listens to the signal `is.evaluate_batch`.

        Args:
            x: inputs, arrays with n rows.
            y: targets, arrays with n rows.
            batch_size: int, examples per forward pass. Defaults to `128`.

        Returns:
            float array `(1 + metrics,)`.
        """
        if self.evaluates_itself:
            return super().evaluate(x, y, batch_size)
        if is_heard("is.evaluate_batch"):
            for xi, yi, _ in self._batches(x, y, batch_size):
                self.evaluate_batch(xi, yi)
        x, y = self.engine.prepare((x, y))
        self.build(x, y)
        self.engine.runtime.sync()
        logs = self.model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
        result = np.asarray([logs[name] for name in self.metrics_names[:-1]])
        _send("is.evaluation", result)
        return result

    @property
    def evaluates_itself(self) -> bool:
        """Whether a subclass has an `evaluate_batch` of its own, which Keras knows nothing of."""
        return self._has_own("evaluate_batch")

    def _has_own(self, method: str) -> bool:
        return getattr(type(self), method) is not getattr(OracleWrapper, method)

    def train_batch(
        self, x: Any, y: Any, w: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One optimizer step.

        Args:
            x: inputs of the batch.
            y: targets of the batch.
            w: `(n, weight_size)` from the sampler; also `(n,)` where that is one.

        Returns:
            `(weighted losses (n, 1), metrics (n, m), scores (n, 1))`: losses and scores of the
            very pass that trains, metrics of the model before the step.
        """
        w = np.asarray(w)
        if w.ndim == 1 and self.reweighting.weight_size == 1:
            w = w[:, None]
        metrics = self._by_example(x, y)["metrics"]
        result = self._train(x, y, w, np.ones(len(w)), None, True, metrics)
        return result.weighted_losses[:, None], metrics, result.scores[:, None]

    def train(self, draw: Any) -> StepResult:
        """One optimizer step on a sampler's proposal; see `ModelWrapper.train`."""
        if self._has_own("train_batch"):
            return super().train(draw)
        _, xy, w = draw
        metric_weights = draw.metric_weights
        if metric_weights is None:
            metric_weights = np.asarray(w)[:, 0]
        sample_weight = xy[2] if len(xy) > 2 else None
        importance = draw.by_score
        return self._train(xy[0], xy[1], w, metric_weights, sample_weight, importance)

    def _train(
        self,
        x: Any,
        y: Any,
        w: np.ndarray,
        metric_weights: np.ndarray,
        sample_weight: Any,
        importance: bool,
        metrics: np.ndarray | None = None,
    ) -> StepResult:
        self.build(x, y, sample_weight)
        heard = is_heard("is.training")
        if heard and metrics is None:
            metrics = self._by_example(x, y)["metrics"]
        if w.shape != (len(metric_weights), self.reweighting.weight_size):
            raise ValueError(
                f"Expected weights of shape ({len(metric_weights)}, "
                f"{self.reweighting.weight_size}) for {type(self.reweighting).__name__}, got "
                f"{w.shape}."
            )
        tokens = self._tokens if importance else None
        logs, details = self.engine.train(
            x, y, w, metric_weights, sample_weight, tokens, uniform=not importance
        )

        if not self.engine.training:
            # Called by hand: the model must be as it seems when this returns.
            self.engine.runtime.sync()

        def fetch() -> tuple[np.ndarray, np.ndarray]:
            found = details["compute"]() if "compute" in details else details
            losses = tensor_to_numpy(found["losses"] * found["weights"])
            return losses, self._without_overflow(tensor_to_numpy(found["scores"]))

        def fetch_scores() -> np.ndarray:
            if "compute_scores" in details:
                scores = details["compute_scores"]()
            else:
                scores = details["scores"]
            return self._without_overflow(tensor_to_numpy(scores))

        if self.engine.objective.counts_tokens:
            found = details["compute"]() if "compute" in details else details
            self._count(found["counts"], metric_weights)
        result = StepResult(logs, fetch, fetch_scores)
        if heard:
            columns = [metrics[:, i : i + 1] for i in range(metrics.shape[1])]
            message = result.weighted_losses[:, None], columns, result.scores[:, None]
            _send("is.training", message)
        return result

    def gradient(
        self, x: Any, y: Any, w: np.ndarray | None = None, sample_weight: Any = None
    ) -> list[np.ndarray]:
        """Gradient of the mean weighted loss, in inference mode.

        Args:
            x: inputs of the batch.
            y: targets of the batch.
            w: `(n,)` or `(n, 1)` importance weights; None for ones.
            sample_weight: the user's own weights.

        Returns:
            One array per trainable variable of the model.
        """
        self.build(x, y, sample_weight)
        if w is None:
            return self.engine.gradient(x, y, None, sample_weight)
        return self.engine.gradient(x, y, np.reshape(w, -1), sample_weight, self._tokens)

    def state_dict(self) -> dict[str, Any]:
        """What the wrapper has learnt beside the model's own weights."""
        return {"tokens": self._tokens, "tokens_seen": self._tokens_seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self._tokens, self._tokens_seen = state["tokens"], state["tokens_seen"]
