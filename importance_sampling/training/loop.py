"""The training loop: propose, train, observe; it speaks Keras to the outside."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from .. import _interrupts
from .._arrays import steps_per_pass
from .._state import Stateful
from ..backend.base import Runtime
from ..datasets import StreamEnded
from ..model_wrappers import ModelWrapper
from ..proposal import InvalidScores, Proposal, StepRecord, at_step
from ..samplers import BaseSampler
from ..samplers.ahead import batches_ahead
from ._announce import announced
from ._arguments import Callbacks, Verbose
from ._callbacks import callback_list, first_epoch, looks_at_batches
from ._report import TrainingReport
from ._step_logs import StepLogs
from ._steps_per_call import StepsPerCall
from ._validation import Validation

OnSample = Callable[[BaseSampler, np.ndarray, np.ndarray, np.ndarray], Any]
OnScores = Callable[[BaseSampler, np.ndarray], Any]


class _Drawn(NamedTuple):
    """The batches of one call.

    Attributes:
        proposals: what to train on, step by step.
        seconds: float, how long it took to draw them.
        waiting: float, seconds spent on the steps before, by whose scores they are drawn.
    """

    proposals: list[Proposal]
    seconds: float
    waiting: float


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
        # Steps that were made and not yet observed, first to last.
        self._pending: list[StepRecord] = []
        self._calls = StepsPerCall(model)
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
        self._calls.allow(self.wrapper.trains_many and not self.wait)
        model.stop_training = False
        logs: dict[str, Any] = {}
        with _interrupts.listening(), self.wrapper.attached() as runtime:
            hooks.on_train_begin()
            for epoch in range(first_epoch(model, hooks, initial_epoch), epochs):
                model.reset_metrics()
                hooks.on_epoch_begin(epoch)
                # Callbacks may have placed handlers of their own.
                _interrupts.renew()
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
                    with runtime.protected():
                        found = validation.run(model, hooks)
                    logs |= announced(self.wrapper, validation, found)
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
        step = 0
        while not self._is_over(step, steps):
            if exposed:
                runtime.sync()
            most = self._calls.told
            if steps is not None:
                most = min(most, steps - step)
            # Drawn before the callbacks hear of the step, which a stream may not have any more.
            try:
                drawn = self._draw(most)
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
            callbacks.on_train_batch_begin(step)
            begun = step
            step += self._train(drawn, first=step == 0)
            while step - begun < most and not self._is_over(step, steps):
                # More steps that the user wants to be told of together.
                try:
                    drawn = self._draw(begun + most - step)
                except (StreamEnded, InvalidScores):
                    # The next draw says so again, once the callbacks have heard of these.
                    break
                step += self._train(drawn)
            if exposed:
                runtime.sync()
            callbacks.on_train_batch_end(step - 1, self._last_logs)
            if self.model.stop_training:
                break
        self._finish_epoch()
        return False

    def _is_over(self, step: int, steps: int | None) -> bool:
        """Whether an epoch of so many steps, or of a pass, is over before a step."""
        if steps is None:
            # Of data that nobody knows the length of, the first pass that was read tells.
            steps = steps_per_pass(self.sampler.dataset, self.batch_size)
        return (steps is not None and step >= steps) or bool(step and self.sampler.epoch_over)

    def _draw(self, most: int) -> _Drawn:
        """The batches of the next call, `most` at most.

        A sampler that overlaps has then observed all steps but the last, which is what it is
        told when it draws one by one, too: draws do not depend on how many go into a call.
        """
        if not self.sampler.overlaps:
            self._observe_pending()
        most = min(most, self._calls.most)
        waiting = time.perf_counter()
        self._observe_pending(keep=1)
        began = time.perf_counter()
        try:
            if most > 1:
                most = min(most, batches_ahead(self.sampler, self.batch_size))
            proposals = self.sampler.propose_many(self.batch_size, most)
        except InvalidScores as error:
            raise at_step(self.step + 1, error) from error
        return _Drawn(proposals, time.perf_counter() - began, began - waiting)

    def _train(self, drawn: _Drawn, first: bool = False) -> int:
        """Makes the steps of a call; those before are observed meanwhile, these too if `wait`.

        Args:
            drawn: what `_draw` returned.
            first: bool, whether they are the first of an epoch, whose logs want a score.

        Returns:
            How many steps were made.
        """
        proposals, drawing, waiting = drawn
        count = len(proposals)
        if self.on_sample is not None:
            for p in proposals:
                self.on_sample(self.sampler, p.idxs, p.weights, p.predicted_scores)
        began = time.perf_counter()
        if self.sampler.overlaps and not self.wait and self.wrapper.asynchronous:
            self.sampler.prepare(self.batch_size)
        with _interrupts.section():
            if count == 1:
                results = [self.wrapper.train(proposals[0])]
            else:
                results = self.wrapper.train_many(proposals, self._calls.room(count))
        self._observe_pending()
        records = []
        for proposal, result in zip(proposals, results, strict=True):
            self.step += 1
            self.logs.count(proposal)
            records.append(StepRecord(proposal, result, self.step, steps_in_call=count))
        at_once = first or self.wait
        if at_once:
            # The first logs want a score; one that is not finite is told after the callbacks.
            with contextlib.suppress(InvalidScores):
                self._wait_for_scores(records[0])
        drawing /= count
        seconds = drawing + (waiting + time.perf_counter() - began) / count
        self._pending = [record.with_seconds(seconds) for record in records]
        if at_once:
            with contextlib.suppress(InvalidScores):
                self._observe_pending(keep=count - 1)
        self._last_logs = self.logs.of_step(results[-1], proposals[-1])
        for proposal in proposals:
            self.report.add(proposal, seconds, drawing, self._last_logs["variance_reduction"])
        return count

    def _wait_for_scores(self, record: StepRecord) -> bool:
        """Whether logs or a hook want a step's scores; those of its own pass are fetched then."""
        proposal = record.proposal
        wanted = proposal.reads_scores or self.on_scores is not None
        if wanted and proposal.pool_scores is None:
            # Read here, they are checked before the sampler begins to learn from them.
            return len(record.scores) > 0
        return wanted

    def _observe_pending(self, keep: int = 0) -> None:
        """Tells the sampler of steps in order, but for the last few, and the logs of their scores.

        Args:
            keep: int, how many steps it is told of later.
        """
        while len(self._pending) > keep:
            record = self._pending[0]
            wanted = self._wait_for_scores(record)
            del self._pending[0]
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
            self._pending = []
        self._last_logs |= self.logs.of_epoch()
