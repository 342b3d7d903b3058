"""The wrapper that asks the trained network itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from .. import _interrupts
from .._arrays import Nested, count_rows, take_rows
from ..backend.array_types import tensor_to_numpy
from ..backend.processes import current
from ..proposal import Proposal
from ..reweighting import ReweightingPolicy
from ._casts import cast_floats
from ._compiled import CompiledModel
from ._compiled_wrapper import CompiledWrapper
from ._evaluation import ExampleColumns, join_columns
from ._many_steps import ManyResults, are_alike
from ._passes import Scored
from ._step_result import StepResult
from ._step_values import DeferredValues
from .signals import is_heard, send


class OracleWrapper(CompiledWrapper):
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

    def _overrides(self, method: str) -> bool:
        """Whether a subclass has a method of its own, which must be asked."""
        return getattr(type(self), method) is not getattr(OracleWrapper, method)

    # -- scores -------------------------------------------------------------------------------

    def _batches(
        self, x: Nested, y: Nested, batch_size: int, extra: Nested = None
    ) -> Iterator[tuple[Nested, Nested, Nested]]:
        size = self.fixed_batch_size
        if size is None:
            yield from super()._batches(x, y, batch_size, extra)
            return
        for start in range(0, count_rows(x), size):
            yield take_rows((x, y, extra), slice(start, start + size))

    def score_batch(self, x: Nested, y: Nested, sample_weight: Nested = None) -> np.ndarray:
        """Scores one batch.

        Args:
            x: inputs of the batch.
            y: targets of the batch.
            sample_weight: the user's own weights, taken into the scores.

        Returns:
            float32 array `(n,)`.
        """
        compiled = self._compile(x, y, sample_weight)
        chunk = compiled.objective.chunk_size
        if chunk is not None and count_rows(y if y is not None else x) > chunk:
            parts = self._batches(x, y, chunk, sample_weight)
            return np.concatenate([self.score_batch(*part) for part in parts])
        return self._fetch(compiled.score(x, y, sample_weight))

    def score_later(
        self, x: Nested, y: Nested, batch_size: int = 128, *, sample_weight: Nested = None
    ) -> Callable[[], np.ndarray]:
        """As `score`, but without waiting for the device; see `ModelWrapper.score_later`.

        Args:
            x: inputs, arrays with n rows.
            y: targets, arrays with n rows.
            batch_size: int, examples per forward pass. Defaults to `128`.
            sample_weight: keyword-only; the user's own weights, taken into the scores.

        Returns:
            A function that waits for the scores and returns them, float32 array `(n,)`.
        """
        compiled = self._compile(x, y, sample_weight)
        own = self._overrides("score_batch") or self._overrides("score")
        if own or compiled.objective.chunk_size is not None:
            return super().score_later(x, y, batch_size, sample_weight=sample_weight)
        batches = self._batches(x, y, batch_size, sample_weight)
        results = [compiled.score(*part) for part in batches]

        def read() -> np.ndarray:
            scores = np.concatenate([self._fetch(result).reshape(-1) for result in results])
            send("is.score", scores)
            return scores

        return read

    def _fetch(self, scored: Scored) -> np.ndarray:
        if scored.valid_steps is not None:
            self._valid_steps.add(tensor_to_numpy(scored.valid_steps))
        return self._without_overflow(tensor_to_numpy(scored.scores))

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

    # -- evaluation ---------------------------------------------------------------------------

    def evaluate_batch(self, x: Nested, y: Nested) -> np.ndarray:
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
        losses = found.losses
        # The weighted losses are those of weights that are all one.
        message = [losses.mean(), losses, losses, found.scores, *found.metric_columns()]
        send("is.evaluate_batch", message)
        return np.hstack([losses, found.metrics])

    def _by_example(self, x: Nested, y: Nested) -> ExampleColumns:
        compiled = self._compile(x, y)
        chunk = compiled.objective.chunk_size
        if chunk is None or count_rows(x) <= chunk:
            return compiled.evaluate(x, y)
        parts = self._batches(x, y, chunk)
        return join_columns([compiled.evaluate(xi, yi) for xi, yi, _ in parts])

    def evaluate(self, x: Nested, y: Nested, batch_size: int = 128) -> np.ndarray:
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
        x, y = cast_floats((x, y))
        runtime = self._compile(x, y).runtime
        runtime.sync()
        with runtime.protected():
            logs = self.model.evaluate(x, y, batch_size=batch_size, verbose=0, return_dict=True)
        result = np.asarray([logs[name] for name in self.metrics_names[:-1]])
        send("is.evaluation", result)
        return result

    @property
    def evaluates_itself(self) -> bool:
        """Whether a subclass has an `evaluate_batch` of its own, which Keras knows nothing of."""
        return self._overrides("evaluate_batch")

    # -- training -----------------------------------------------------------------------------

    def train_batch(
        self, x: Nested, y: Nested, w: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One optimizer step.

        A single column of weights is taken for importance weights 1/(N p) by the model's metrics,
        too; of others nobody can tell here, and metrics are those of the batch as it is.

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
        ones = np.ones(len(w))
        metric_weights = None if w.shape[1:] == (1,) else ones
        # With scores: that the draw was uniform is not known.
        proposal = Proposal(np.arange(len(w)), (x, y), w, ones, metric_weights)
        evaluated = self._by_example(x, y)
        result = self._train(proposal, evaluated)
        return result.weighted_losses[:, None], evaluated.metrics, result.scores[:, None]

    def train(self, proposal: Proposal) -> StepResult:
        """One optimizer step, without waiting for the device.

        Args:
            proposal: the mini-batch that a sampler proposes, with its weights.

        Returns:
            A `StepResult`.
        """
        if self._overrides("train_batch"):
            return super().train(proposal)
        return self._train(proposal)

    def train_many(self, proposals: Sequence[Proposal], room: int = 0) -> list[StepResult]:
        """Several optimizer steps in one call; see `ModelWrapper.train_many`.

        Batches that differ in shape or type are trained on one by one.

        Args:
            proposals: the mini-batches, with their weights.
            room: int, the most steps that any call will make.

        Returns:
            A `StepResult` for each.
        """
        if not self.trains_many or not are_alike(proposals):
            return super().train_many(proposals)
        compiled = self._compiled_for(proposals[0])
        for proposal in proposals:
            _check_weights(proposal, self.reweighting)
        with _interrupts.section():
            found = compiled.train_many(proposals, max(room, len(proposals)))
            if not self._in_loop:
                compiled.runtime.sync()
        return ManyResults(*found, len(proposals), self._without_overflow).of_each_step()

    @property
    def trains_many(self) -> bool:
        """Whether nothing needs the host between one step and the next.

        Not for a subclass with a `train` or `train_batch` of its own, listeners to the signal
        `is.training`, or a model whose steps count masked time steps for each other.
        """
        own = self._overrides("train") or self._overrides("train_batch")
        return (
            self._compiled is not None
            and self._compiled.train_many_function is not None
            and not own
            and not is_heard("is.training")
        )

    @property
    def gathers_rows(self) -> bool:
        """Whether a training set can stay on the device, where steps gather their rows."""
        if self._compiled is None or self._overrides("train") or self._overrides("train_batch"):
            return False
        runtime = self._compiled.runtime
        return not runtime.spreads_rows and current() is None

    def _train(self, proposal: Proposal, evaluated: ExampleColumns | None = None) -> StepResult:
        compiled = self._compiled_for(proposal)
        heard = is_heard("is.training")
        if heard and evaluated is None:
            evaluated = self._by_example(*proposal.rows[:2])
        _check_weights(proposal, self.reweighting)
        with _interrupts.section():
            logs, deferred = self._make_step(compiled, proposal)
            if not self._in_loop:
                # Called by hand: the model must be as it seems when this returns.
                compiled.runtime.sync()

        def fetch() -> tuple[np.ndarray, np.ndarray]:
            found = deferred.values()
            losses = tensor_to_numpy(found.losses * found.weights)
            return losses, self._without_overflow(tensor_to_numpy(found.scores))

        def fetch_scores() -> np.ndarray:
            return self._without_overflow(tensor_to_numpy(deferred.scores()))

        if compiled.objective.loss.has_masked_timesteps:
            counts = tensor_to_numpy(deferred.values().valid_steps)
            self._valid_steps.add(counts, proposal.importance_weights)
        result = StepResult(logs, fetch, fetch_scores)
        if heard and evaluated is not None:
            columns = result.weighted_losses[:, None], result.scores[:, None]
            send("is.training", (columns[0], evaluated.metric_columns(), columns[1]))
        return result

    def _make_step(
        self, compiled: CompiledModel, proposal: Proposal
    ) -> tuple[dict[str, Any], DeferredValues]:
        """One optimizer step: logs, and what it tells of its samples."""
        return compiled.train(proposal, self._valid_steps.mean)

    def gradient(
        self, x: Nested, y: Nested, w: np.ndarray | None = None, sample_weight: Nested = None
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
        compiled = self._compile(x, y, sample_weight)
        if w is None:
            return compiled.gradient(x, y, sample_weight, np.ones(count_rows(x), "float32"), None)
        mean = self._valid_steps.mean
        return compiled.gradient(x, y, sample_weight, np.reshape(w, -1), mean)


def _check_weights(proposal: Proposal, reweighting: ReweightingPolicy) -> None:
    shape, expected = proposal.weights.shape, (len(proposal.idxs), reweighting.weight_size)
    if shape != expected:
        raise ValueError(
            f"Expected weights of shape {expected} for {type(reweighting).__name__}, got {shape}."
        )
    if proposal.metric_weights is None and expected[1] != 1:
        raise ValueError(
            f"The weights of {type(reweighting).__name__} are no importance weights: a proposal "
            "with them must have `metric_weights`."
        )
