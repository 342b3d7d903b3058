"""The training loop: propose, train, observe; it speaks Keras to the outside."""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from .._state import Stateful
from ..datasets import StreamEnded
from ..model_wrappers import ModelWrapper, StepResult
from ..proposal import InvalidScores, Proposal, StepRecord, at_step
from ..samplers import BaseSampler, VarianceReductionCondition
from ._announce import announced
from ._callbacks import callback_list, first_epoch, looks_at_batches
from ._report import TrainingReport
from ._validation import Validation

OnSample = Callable[[BaseSampler, np.ndarray, np.ndarray, np.ndarray], Any]
OnScores = Callable[[BaseSampler, np.ndarray], Any]


class Loop(Stateful):
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
        wait: whether to read a step's scores before its callbacks are told, so that all state is
            at the same step there, at the price of the overlap.
    """

    _state = ("step", "_own_estimate")

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
        self.mean_score = 0.0
        self.report = TrainingReport.of(sampler, batch_size)
        self._pending: StepRecord | None = None
        self._own_estimate = VarianceReductionCondition(sample_size=batch_size)
        self._varies_batch_size = len(sampler.batch_sizes(batch_size)) > 1
        self._reset()

    def _reset(self) -> None:
        self._score_sum = 0.0
        self._examples = 0
        self._scored_examples = self._steps = self._steps_on = 0

    def run(
        self,
        *,
        epochs: int,
        steps_per_epoch: int | None,
        callbacks: Any,
        verbose: Any,
        validation: Validation | None,
        initial_epoch: int = 0,
    ) -> keras.callbacks.History:
        """Trains from `initial_epoch` to `epochs`.

        An epoch has `steps_per_epoch` steps; where that is None, as many as the data turns out to
        have batches; fewer, but one at least, where the sampler has an `epoch_over` of its own.
        """
        model = self.model
        steps = steps_per_epoch if self.sampler.epoch_over is None else None
        hooks = callback_list(model, callbacks, verbose, epochs, steps)
        # Callbacks of the user's may hold the model itself, past `Callback.model`.
        exposed = any(looks_at_batches(c) for c in hooks.callbacks)
        model.stop_training = False
        with _attached(self.wrapper) as runtime:
            hooks.on_train_begin()
            initial_epoch = first_epoch(model, hooks, initial_epoch)
            logs: dict[str, Any] = {}
            for epoch in range(initial_epoch, epochs):
                model.reset_metrics()
                hooks.on_epoch_begin(epoch)
                self._reset()
                self.sampler.begin_epoch(epoch)
                runtime.begin_epoch()
                ended = self._epoch(steps_per_epoch, hooks, exposed, runtime)
                runtime.end_epoch()
                runtime.sync()
                if ended and not self._steps:
                    # No step, so no loss that callbacks could read.
                    break
                logs = dict(self._last_logs)
                if validation is not None and validation.due(epoch):
                    logs |= announced(self.wrapper, validation, validation.run(model, hooks))
                hooks.on_epoch_end(epoch, logs)
                if ended or model.stop_training:
                    break
            runtime.sync()
            if epochs > initial_epoch:
                model.optimizer.finalize_variable_values(model.trainable_variables)
            hooks.on_train_end(logs)
        return model.history

    def _epoch(self, steps: int | None, callbacks: Any, exposed: bool, runtime: Any) -> bool:
        """Runs one epoch; True if the data ended with it."""
        self._last_logs: dict[str, Any] = {}
        overlaps = self.sampler.overlaps
        dataset = self.sampler.dataset
        for step in itertools.count():
            # Of data that nobody knows the length of, the first pass that was read tells.
            end = dataset.steps_per_pass(self.batch_size) if steps is None else steps
            if (end is not None and step >= end) or (step and self.sampler.epoch_over):
                break
            if exposed:
                runtime.sync()
            if not overlaps:
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
            resumed = time.perf_counter()
            if overlaps and not self.wait and getattr(self.wrapper, "asynchronous", False):
                self.sampler.prepare(self.batch_size)
            result = self.wrapper.train(proposal)
            self._observe_pending()
            self._count(proposal)
            record = StepRecord(proposal, result, self.step)
            at_once = step == 0 or self.wait
            if at_once:
                # The first logs want a score; one that is not finite is told after the callbacks.
                with contextlib.suppress(InvalidScores):
                    self._wait_for_scores(record)
            seconds = drawing + time.perf_counter() - resumed
            self._pending = record.with_seconds(seconds)
            if at_once:
                with contextlib.suppress(InvalidScores):
                    self._observe_pending()
            self._last_logs = self._logs(result, proposal)
            self.report.add(proposal, seconds, drawing, self._last_logs["variance_reduction"])
            if exposed:
                runtime.sync()
            callbacks.on_train_batch_end(step, self._last_logs)
            if self.model.stop_training:
                break
        self._finish_epoch()
        return False

    def _count(self, proposal: Proposal) -> None:
        self.step += 1
        self._steps += 1
        self._steps_on += proposal.by_score
        self._examples += len(proposal.idxs)

    def _propose(self) -> Proposal:
        try:
            return self.sampler.propose(self.batch_size)
        except InvalidScores as error:
            raise at_step(self.step + 1, error) from error

    def _finish_epoch(self) -> None:
        try:
            self._observe_pending()
        except InvalidScores:
            # Somebody has seen it, as `TerminateOnNaN` does, and wants to stop in good order.
            if not self.model.stop_training:
                raise
            self._pending = None
        self._last_logs |= self._own_logs()

    def _wait_for_scores(self, record: StepRecord) -> bool:
        """Whether the logs or a hook want the scores of a step's own pass; fetches them then."""
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
            self._note_scores(record)

    def _note_scores(self, record: StepRecord) -> None:
        proposal = record.proposal
        known, size = proposal.pool_scores, len(proposal.idxs)
        if known is None:
            # Where nothing was scored but the batch, its weights make up for the draw.
            known = record.scores
            self.mean_score = float(proposal.importance_weights @ known) / size
        else:
            self.mean_score = float(known.mean())
        self._score_sum += self.mean_score * size
        self._scored_examples += size
        if self.sampler.variance_reduction is None and (
            proposal.pool_scores is not None or not proposal.by_score
        ):
            self._own_estimate.update(known)
        if self.on_scores is not None:
            self.on_scores(self.sampler, known)

    def _own_logs(self) -> dict[str, float]:
        estimate = self.sampler.variance_reduction
        logs = {
            "score": self._score_sum / self._scored_examples
            if self._scored_examples
            else self.mean_score,
            "variance_reduction": (
                self._own_estimate.variance_reduction if estimate is None else estimate
            ),
            "importance_sampling": self._steps_on / self._steps if self._steps else 0.0,
        }
        if self._varies_batch_size:
            logs["batch_size"] = self._examples / self._steps if self._steps else 0.0
        return logs

    def _logs(self, result: StepResult, proposal: Proposal) -> dict[str, Any]:
        """A step's logs; those of an epoch hold the share of steps by score instead of 0 or 1."""
        logs = {"loss": result.logs["loss"]} if "loss" in result.logs else {}
        own = {**self._own_logs(), "importance_sampling": float(proposal.by_score)}
        if self._varies_batch_size:
            own["batch_size"] = len(proposal.idxs)
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
