"""The training loop: sample, train, update; it speaks Keras to the outside."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from ..datasets import StreamEnded
from ..model_wrappers import ModelWrapper, StepResult
from ..samplers import BaseSampler, Draw, VarianceReductionCondition
from ..samplers._draw import check_scores
from ._data import Validation

OnSample = Callable[[BaseSampler, np.ndarray, np.ndarray, np.ndarray], Any]
OnScores = Callable[[BaseSampler, np.ndarray], Any]

_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


class Loop:
    """One run of training.

    A step's scores are read only when the next step is under way, so that the host's work
    overlaps with the device's; samplers that cannot wait so long are told at once.

    Args:
        wrapper: the wrapped model.
        sampler: draws the batches.
        model: the user's model, which callbacks see.
        batch_size: examples per step.
        on_sample: called as `on_sample(sampler, idxs, w, predicted_scores)` after each draw.
        on_scores: called as `on_scores(sampler, scores)` once a step's scores are known: those
            of the scored pool if there was one, those of the trained batch otherwise.
    """

    def __init__(
        self,
        wrapper: ModelWrapper,
        sampler: BaseSampler,
        model: keras.Model,
        batch_size: int,
        on_sample: OnSample | None = None,
        on_scores: OnScores | None = None,
    ):
        self.wrapper = wrapper
        self.sampler = sampler
        self.model = model
        self.batch_size = batch_size
        self.on_sample = on_sample
        self.on_scores = on_scores
        self.step = 0
        self._pending: tuple[Draw, StepResult] | None = None
        self._own_estimate = VarianceReductionCondition(sample_size=batch_size)
        self._reset()

    def _reset(self) -> None:
        self._score_sum = 0.0
        self._settled = self._steps = self._steps_on = 0

    def run(
        self,
        *,
        epochs: int,
        steps_per_epoch: int,
        callbacks: Any,
        verbose: Any,
        validation: Validation | None,
        initial_epoch: int = 0,
    ) -> keras.callbacks.History:
        """Trains for `epochs - initial_epoch` epochs of `steps_per_epoch` steps."""
        model = self.model
        callback_list = _callback_list(model, callbacks, verbose, epochs, steps_per_epoch)
        # Callbacks of the user's may hold the model itself, past `Callback.model`.
        exposed = any(_looks_at_batches(c) for c in callback_list.callbacks)
        model.stop_training = False
        with _attached(self.wrapper) as runtime:
            callback_list.on_train_begin()
            logs: dict[str, Any] = {}
            for epoch in range(initial_epoch, epochs):
                model.reset_metrics()
                callback_list.on_epoch_begin(epoch)
                self._reset()
                runtime.begin_epoch()
                ended = self._epoch(steps_per_epoch, callback_list, exposed, runtime)
                runtime.end_epoch()
                runtime.sync()
                logs = dict(self._last_logs)
                if validation is not None and validation.due(epoch):
                    logs |= validation.run(model, callback_list)
                callback_list.on_epoch_end(epoch, logs)
                if ended or model.stop_training:
                    break
            runtime.sync()
            if epochs > initial_epoch:
                model.optimizer.finalize_variable_values(model.trainable_variables)
            callback_list.on_train_end(logs)
        return model.history

    def _epoch(self, steps: int, callbacks: Any, exposed: bool, runtime: Any) -> bool:
        """Runs one epoch; True if the data ended with it."""
        self._last_logs: dict[str, Any] = {}
        late = self.sampler.tolerates_delay
        for step in range(steps):
            if exposed:
                runtime.sync()
            callbacks.on_train_batch_begin(step)
            if not late:
                self._settle()
            try:
                draw = self._as_draw(self.sampler.sample(self.batch_size))
            except StreamEnded:
                warnings.warn(
                    f"The training data ended after {step} of {steps} steps of this epoch; "
                    "training stops here.",
                    stacklevel=5,
                )
                self._finish_epoch()
                return True
            if self.on_sample is not None:
                idxs, _, w = draw
                self.on_sample(self.sampler, idxs, w, draw.predicted_scores)
            result = self.wrapper.train_draw(draw)
            self._settle()
            self._pending = (draw, result)
            self.step += 1
            self._steps += 1
            self._steps_on += draw.importance
            if step == 0:
                self._settle()
            self._last_logs = self._logs(result, draw)
            if exposed:
                runtime.sync()
            callbacks.on_train_batch_end(step, self._last_logs)
            if self.model.stop_training:
                break
        self._finish_epoch()
        return False

    def _as_draw(self, drawn: Any) -> Draw:
        """Also takes the bare triple that a sampler with a `sample` of its own may return."""
        if isinstance(drawn, Draw):
            return drawn
        idxs, xy, w = drawn
        weights = w[:, 0] if self.sampler.reweighting.unbiased else None
        return Draw(idxs, xy, w, np.ones(len(idxs)), weights)

    def _finish_epoch(self) -> None:
        self._settle()
        self._last_logs |= self._own_logs()

    def _settle(self) -> None:
        """Reads the last step's scores and lets the sampler learn from them."""
        if self._pending is None:
            return
        (draw, result), self._pending = self._pending, None
        known = draw.pool_scores
        mean = None if known is None else float(known.mean())
        if known is None or self.sampler.learns_from(draw):
            scores = check_scores(result.scores, self.step)
            self.sampler.update_from(draw, scores)
            if known is None:
                # Where nothing was scored but the batch, its weights make up for the draw.
                mean = float(draw.metric_weights @ scores) / len(scores)
                known = scores
        self._score_sum += mean
        self._settled += 1
        if self.sampler.variance_reduction is None and (
            draw.pool_scores is not None or not draw.importance
        ):
            self._own_estimate.update(known)
        if self.on_scores is not None:
            self.on_scores(self.sampler, known)

    def _own_logs(self) -> dict[str, float]:
        estimate = self.sampler.variance_reduction
        return {
            "score": self._score_sum / self._settled if self._settled else 0.0,
            "variance_reduction": (
                self._own_estimate.variance_reduction if estimate is None else estimate
            ),
            "importance_sampling": self._steps_on / self._steps if self._steps else 0.0,
        }

    def _logs(self, result: StepResult, draw: Draw) -> dict[str, Any]:
        """A step's logs; those of an epoch hold the share of steps by score instead of 0 or 1."""
        logs = {"loss": result.logs["loss"]} if "loss" in result.logs else {}
        own = {**self._own_logs(), "importance_sampling": float(draw.importance)}
        return {**logs, **result.logs, **own}


class _NoRuntime:
    """For wrappers of the user's own, which keep their state where Keras looks for it."""

    def begin_epoch(self) -> None:
        """Nothing to do."""

    end_epoch = sync = begin_epoch


@contextlib.contextmanager
def _attached(wrapper: ModelWrapper) -> Iterator[Any]:
    engine = getattr(wrapper, "engine", None)
    if engine is None:
        yield _NoRuntime()
    else:
        with engine.attached() as runtime:
            yield runtime


def _callback_list(
    model: keras.Model, callbacks: Any, verbose: Any, epochs: int, steps: int
) -> keras.callbacks.CallbackList:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    verbose = 1 if verbose == "auto" else int(verbose)
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
        model=model,
    )


def _looks_at_batches(callback: Any) -> bool:
    """Whether a callback of the user's own is called at batches, and may hold the model itself.

    On JAX the model's variables are then brought up to date around every batch. A callback that
    reaches the model only through `Callback.model`, which does so by itself, can save that time
    with an attribute `reaches_model_by_property = True`.
    """
    kind = type(callback)
    if getattr(callback, "reaches_model_by_property", False):
        return False
    if kind.__module__.startswith("keras.") and kind is not keras.callbacks.LambdaCallback:
        return False
    base = keras.callbacks.Callback
    return any(
        name in vars(callback) or getattr(kind, name, None) is not getattr(base, name)
        for name in _BATCH_HOOKS
    )
