"""The training loop: propose, train, observe; it speaks Keras to the outside."""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from .._arrays import steps_per_pass
from .._state import Stateful
from ..backend.base import Runtime
from ..datasets import StreamEnded
from ..model_wrappers import ModelWrapper
from ..proposal import InvalidScores, Proposal, StepRecord, at_step
from ..samplers import BaseSampler
from ._announce import announced
from ._arguments import Callbacks, Verbose
from ._callbacks import callback_list, first_epoch, looks_at_batches
from ._report import TrainingReport
from ._step_logs import StepLogs
from ._validation import Validation

OnSample = Callable[[BaseSampler, np.ndarray, np.ndarray, np.ndarray], Any]
OnScores = Callable[[BaseSampler, np.ndarray], Any]


class Loop(Stateful):
    """One run of training.

    A step is `sampler.propose(batch_size)`, `wrapper.train(proposal)`, `sampler.observe(record)`.
    A sampler that `overlaps` observes a step when the next one is under way, so that the host's
    work overlaps with the device's; others are told before they are asked again.

    Args:
        wrapper: the wrapped model.
        sampler: draws the batches.
        model: the user's model, which callbacks see.
        batch_size: int, examples per uniform step.
        on_sample: called as `on_sample(sampler, idxs, w, predicted_scores)` after each draw.
        on_scores: called as `on_scores(sampler, scores)` once a step's scores are known: those
            of the scored pool if there was one, those of the trained batch otherwise.
        wait: bool, whether a step is observed before its callbacks are told, so that all state is
            at the same step there, at the price of the overlap.
    """

    _state: tuple[str, ...] = ("step", "logs")

    def __init__(
        self,
        wrapper: ModelWrapper,
        sampler: BaseSampler,
        model: keras.Model,
        batch_size: int,
        on_sample: OnSample | None = None,
        on_scores: OnScores | None = None,
        wait: bool = False,
    ):
        self.wait = wait
        self.wrapper = wrapper
        self.sampler = sampler
        self.model = model
        self.batch_size = batch_size
        self.on_sample = on_sample
        self.on_scores = on_scores
        self.step = 0
        self.logs = StepLogs(sampler, batch_size)
        self.report = TrainingReport.of(sampler, batch_size)
        self._pending: StepRecord | None = None
        self._last_logs: dict[str, Any] = {}

    def run(
        self,
        *,
        epochs: int,
        steps_per_epoch: int | None,
        callbacks: Callbacks,
        verbose: Verbose,
        validation: Validation | None,
        initial_epoch: int = 0,
    ) -> keras.callbacks.History:
        """Trains from `initial_epoch` to `epochs`.

        An epoch has `steps_per_epoch` steps; where that is None, as many as the data turns out to
        have batches; fewer, but one at least, where the sampler has an `epoch_over` of its own.

        Args:
            epochs: int, the epoch to end before.
            steps_per_epoch: int or None.
            callbacks: list of `keras.callbacks.Callback`, or a `CallbackList`.
            verbose: as in Keras.
            validation: what to evaluate on, or None.
            initial_epoch: int, the epoch to begin with.
        """
        model = self.model
        steps = steps_per_epoch if self.sampler.epoch_over is None else None
        hooks = callback_list(model, callbacks, verbose, epochs, steps)
        # Callbacks of the user's may hold the model itself, past `Callback.model`.
        exposed = any(looks_at_batches(c) for c in hooks.callbacks)
        model.stop_training = False
        logs: dict[str, Any] = {}
        with self.wrapper.attached() as runtime:
            hooks.on_train_begin()
            for epoch in range(first_epoch(model, hooks, initial_epoch), epochs):
                model.reset_metrics()
                hooks.on_epoch_begin(epoch)
                self.logs.begin_epoch()
                self.sampler.begin_epoch(epoch)
                runtime.begin_epoch()
                ended = self._epoch(steps_per_epoch, hooks, exposed, runtime)
                runtime.end_epoch()
                runtime.sync()
                if ended and not self.logs.steps:
                    # No step, so no loss that callbacks could read.
                    break
                logs = dict(self._last_logs)
                if validation is not None and validation.due(epoch):
                    logs |= announced(self.wrapper, validation, validation.run(model, hooks))
                hooks.on_epoch_end(epoch, logs)
                if ended or model.stop_training:
                    break
        hooks.on_train_end(logs)
        return model.history

    def _epoch(
        self,
        steps: int | None,
        callbacks: keras.callbacks.CallbackList,
        exposed: bool,
        runtime: Runtime,
    ) -> bool:
        """Runs one epoch; True if the data ended with it."""
        self._last_logs = {}
        dataset = self.sampler.dataset
        for step in itertools.count():
            # Of data that nobody knows the length of, the first pass that was read tells.
            end = steps_per_pass(dataset, self.batch_size) if steps is None else steps
            if (end is not None and step >= end) or (step and self.sampler.epoch_over):
                break
            if exposed:
                runtime.sync()
            if not self.sampler.overlaps:
                self._observe_pending()
            began = time.perf_counter()
            # Drawn before the callbacks hear of the step, which a stream may not have any more.
            try:
                proposal = self._propose()
            except StreamEnded:
                if self.step == 0:
                    raise
                of = "" if steps is None else f" of {steps}"
                warnings.warn(
                    f"The training data ended after {step}{of} steps of this epoch; training "
                    "stops here.",
                    stacklevel=5,
                )
                self._finish_epoch()
                return True
            except InvalidScores:
                # The pool of a model that has become NaN: whoever ends at a NaN loss ends here.
                callbacks.on_train_batch_begin(step)
                self._last_logs = {**self._last_logs, "loss": float("nan")}
                callbacks.on_train_batch_end(step, self._last_logs)
                if not self.model.stop_training:
                    raise
                break
            drawing = time.perf_counter() - began
            callbacks.on_train_batch_begin(step)
            if self.on_sample is not None:
                self.on_sample(
                    self.sampler, proposal.idxs, proposal.weights, proposal.predicted_scores
                )
            self._train(proposal, drawing, at_once=step == 0 or self.wait)
            if exposed:
                runtime.sync()
            callbacks.on_train_batch_end(step, self._last_logs)
            if self.model.stop_training:
                break
        self._finish_epoch()
        return False

    def _propose(self) -> Proposal:
        try:
            return self.sampler.propose(self.batch_size)
        except InvalidScores as error:
            raise at_step(self.step + 1, error) from error

    def _train(self, proposal: Proposal, drawing: float, at_once: bool) -> None:
        """Makes the step; the one before is observed meanwhile, this one too if `at_once`."""
        began = time.perf_counter()
        if self.sampler.overlaps and not self.wait and self.wrapper.asynchronous:
            self.sampler.prepare(self.batch_size)
        result = self.wrapper.train(proposal)
        self._observe_pending()
        self.step += 1
        self.logs.count(proposal)
        record = StepRecord(proposal, result, self.step)
        if at_once:
            # The first logs want a score; one that is not finite is told after the callbacks.
            with contextlib.suppress(InvalidScores):
                self._wait_for_scores(record)
        seconds = drawing + time.perf_counter() - began
        self._pending = record.with_seconds(seconds)
        if at_once:
            with contextlib.suppress(InvalidScores):
                self._observe_pending()
        self._last_logs = self.logs.of_step(result, proposal)
        self.report.add(proposal, seconds, drawing, self._last_logs["variance_reduction"])

    def _wait_for_scores(self, record: StepRecord) -> bool:
        """Whether logs or a hook want a step's scores; those of its own pass are fetched then."""
        proposal = record.proposal
        wanted = proposal.reads_scores or self.on_scores is not None
        if wanted and proposal.pool_scores is None:
            # Read here, they are checked before the sampler begins to learn from them.
            return len(record.scores) > 0
        return wanted

    def _observe_pending(self) -> None:
        """Tells the sampler of the last step, and the logs of its scores."""
        record = self._pending
        if record is None:
            return
        wanted = self._wait_for_scores(record)
        self._pending = None
        self.sampler.observe(record)
        if wanted:
            scores = self.logs.add_scores(record)
            if self.on_scores is not None:
                self.on_scores(self.sampler, scores)

    def _finish_epoch(self) -> None:
        try:
            self._observe_pending()
        except InvalidScores:
            # Somebody has seen it, as `TerminateOnNaN` does, and wants to stop in good order.
            if not self.model.stop_training:
                raise
            self._pending = None
        self._last_logs |= self.logs.of_epoch()
