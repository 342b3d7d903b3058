"""The training loop: propose, train, observe; it speaks Keras to the outside."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras

from .. import _interrupts
from .._arrays import dataset_length, steps_per_pass
from ..backend.base import Runtime
from ..datasets import StreamEnded
from ..model_wrappers._step_values import DeferredLogs
from ..model_wrappers.introspection import LOGGING, changed
from ..model_wrappers.model_state import load_model_state, model_state
from ..model_wrappers.signals import is_heard
from ..proposal import InvalidScores
from ._announce import announced
from ._arguments import Callbacks, Verbose
from ._callbacks import (
    anybody_hears_batches,
    callback_list,
    counting,
    first_epoch,
    looks_at_batches,
    may_change_data,
    only_bars,
    watches_batches,
)
from ._stepper import Stepper
from ._together import agree_to_stop, begin_as_first, callbacks_here, logs_of_first, surely
from ._validation import Validation


class Loop(Stepper):
    """One run of training, as Keras' `fit` makes it: epochs, callbacks, validation.

    See `Stepper` for its arguments and its attributes.
    """

    def run(
        self,
        *,
        epochs: int,
        steps_per_epoch: int | None,
        callbacks: Callbacks,
        verbose: Verbose,
        validation: Validation | None,
        initial_epoch: int = 0,
        own_callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> keras.callbacks.History:
        """Trains from `initial_epoch` to `epochs`, or from where a callback brings it back to.

        An epoch has `steps_per_epoch` steps; where that is None, as many as the data turns out to
        have batches; fewer, but one at least, where the sampler has an `epoch_over` of its own.

        Args:
            epochs: int, the epoch to end before.
            steps_per_epoch: int or None.
            callbacks: list of `keras.callbacks.Callback`, or a `CallbackList`.
            verbose: as in Keras.
            validation: what to evaluate on, or None.
            initial_epoch: int, the epoch to begin with.
            own_callbacks: called after all others.
        """
        model = self.model
        steps = steps_per_epoch if self.sampler.epoch_over is None else None
        callbacks, verbose = callbacks_here(self.processes, callbacks, verbose)
        hooks = callback_list(model, callbacks, verbose, epochs, steps)
        # Callbacks of the user's may hold the model itself, past `Callback.model`.
        exposed = any(looks_at_batches(c) for c in hooks.callbacks)
        watched = self._is_watched(hooks)
        unsure = True
        if self.processes is not None:
            # One of them may stop after any batch, in any of the processes, or draw as it likes.
            own = exposed or watched or self._runs_own_code or bool(changed(model, LOGGING))
            unsure = own or dataset_length(self.sampler.dataset) is None
            flags = [float(exposed), float(watched), float(unsure)]
            told = self.processes.sum(
                [keras.ops.convert_to_tensor(flags)], what="the beginning of `fit`"
            )
            exposed, watched, unsure = (keras.ops.convert_to_numpy(told[0]) > 0).tolist()
        self._watched = watched
        self.calls.allow(self.wrapper.trains_many and not self.wait, not watched)
        model.stop_training = False
        logs: dict[str, Any] = {}
        # Told by the loop itself: in the list they would be called in a thread where no other
        # callback looks at batches.
        self._own_callbacks, self._hooks = own_callbacks, hooks
        for callback in own_callbacks:
            callback.set_model(model)
        self.epoch, self.steps_of_epoch = initial_epoch, 0
        with self.wrapper.attached() as runtime, surely(self.processes, not unsure):
            self._runtime = runtime
            self._begin(hooks, initial_epoch)
            self.epoch = begin_as_first(runtime, self.epoch)
            runtime.restored = self._was_restored
            for epoch in range(self.epoch, epochs):
                self._begin_epoch(epoch, hooks)
                runtime.begin_epoch()
                ended = self._epoch(steps_per_epoch, hooks, exposed, runtime)
                runtime.end_epoch()
                runtime.sync()
                if ended and not self.logs.steps:
                    # No step, so no loss that callbacks could read.
                    break
                logs = dict(self._last_logs)
                if validation is not None and validation.due(epoch):
                    with runtime.protected(validation.rows_of_batches):
                        found = validation.run(model, hooks, runtime.replicas)
                        found = logs_of_first(self.processes, found)
                    logs |= announced(self.wrapper, validation, found)
                self.epoch, self.steps_of_epoch = epoch + 1, 0
                hooks.on_epoch_end(epoch, logs)
                self._tell_own("on_epoch_end", epoch)
                agree_to_stop(self.processes, model, "the end of an epoch")
                if ended or model.stop_training:
                    break
        hooks.on_train_end(logs)
        self._tell_own("on_train_end")
        return model.history

    def _is_watched(self, hooks: keras.callbacks.CallbackList) -> bool:
        """Whether anybody looks at single steps."""
        return (
            self.on_sample is not None
            or self.on_scores is not None
            or is_heard("is.sample")
            or watches_batches(hooks)
        )

    def counting_callbacks(self) -> list[keras.callbacks.Callback]:
        """Keras' callbacks whose counts decide how training goes on."""
        return [] if self._hooks is None else counting(self._hooks.callbacks)

    def _tell_own(self, hook: str, *position: int) -> None:
        for callback in self._own_callbacks:
            getattr(callback, hook)(*position)

    def _begin(self, hooks: keras.callbacks.CallbackList, initial_epoch: int) -> None:
        """Tells the callbacks, which may bring the model or the whole training back."""
        self._was_restored = False
        hooks.on_train_begin()
        self._tell_own("on_train_begin")
        if not self._was_restored:
            self.epoch = first_epoch(self.model, hooks, initial_epoch)

    def _begin_epoch(self, epoch: int, hooks: keras.callbacks.CallbackList) -> None:
        if self.steps_of_epoch:
            # In its middle, where it was begun already: what callbacks change then, they did.
            state = model_state(self.model)
            hooks.on_epoch_begin(epoch)
            _interrupts.renew()
            load_model_state(self.model, state)
            self._renew_data(hooks)
            return
        self.epoch = epoch
        self.model.reset_metrics()
        hooks.on_epoch_begin(epoch)
        # Callbacks may have placed handlers of their own.
        _interrupts.renew()
        self.logs.begin_epoch()
        self.sampler.begin_epoch(epoch)
        self._last_logs, self._unread_logs = {}, None
        self._renew_data(hooks)

    def _renew_data(self, hooks: keras.callbacks.CallbackList) -> None:
        """Puts data that stays on the device there anew, if somebody may have changed it."""
        own = self.on_sample is not None or self.on_scores is not None
        if self.wrapper.gathers_rows and (own or may_change_data(hooks)):
            self.wrapper.renew_data()

    def _epoch(
        self,
        steps: int | None,
        callbacks: keras.callbacks.CallbackList,
        exposed: bool,
        runtime: Runtime,
    ) -> bool:
        """Runs one epoch; True if the data ended with it."""
        # A bar may read the logs when it draws, unless it would wait for the device then: Keras
        # tells it in a thread of its own.
        bars = [] if runtime.asynchronous else only_bars(callbacks)
        heard = not bars and anybody_hears_batches(callbacks)
        # Code of the user's may evaluate the model, which resets the metrics, before anybody reads
        # them.
        listened = any(map(is_heard, ("is.training", "is.score")))
        own = self._runs_own_code or self._is_watched(callbacks) or listened
        runtime.reads_logs = heard or own
        while not self._is_over(self.steps_of_epoch, steps):
            step = self.steps_of_epoch
            if exposed:
                runtime.sync()
            told, left = self.calls.told, None if steps is None else steps - step
            most = max(told, self.calls.most)
            if left is not None:
                most, told = min(most, left), min(told, left)
            # Drawn before the callbacks hear of the step, which a stream may not have any more.
            try:
                drawn = self._draw(most)
            except StreamEnded:
                self.between_steps = True
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
                self._last_logs = {**self._logs_of_step(), "loss": float("nan")}
                callbacks.on_train_batch_end(step, self._last_logs)
                if not self.model.stop_training:
                    raise
                break
            if heard:
                callbacks.on_train_batch_begin(step)
            begun = step
            step += self._train(drawn, first=step == 0)
            while step - begun < told and not self._is_over(step, steps):
                # More steps that the user wants to be told of together.
                try:
                    drawn = self._draw(begun + told - step)
                except (StreamEnded, InvalidScores):
                    # The next draw says so again, once the callbacks have heard of these.
                    break
                step += self._train(drawn)
            if exposed:
                runtime.sync()
            self.steps_of_epoch = step
            self.between_steps = True
            if heard:
                callbacks.on_train_batch_end(step - 1, self._logs_of_step())
            for bar in bars:
                bar.on_train_batch_end(step - 1, DeferredLogs(self._logs_of_step))
            self._tell_own("on_train_batch_end", step - 1)
            if exposed:
                agree_to_stop(self.processes, self.model, "the end of a step")
            # Of several processes, all stop: at the end of the epoch where nobody looks at steps.
            if self.model.stop_training and (exposed or self.processes is None):
                break
        self._finish_epoch()
        return False

    def _is_over(self, step: int, steps: int | None) -> bool:
        """Whether an epoch of so many steps, or of a pass, is over before a step."""
        if steps is None:
            # Of data that nobody knows the length of, the first pass that was read tells.
            steps = steps_per_pass(self.sampler.dataset, self.batch_size)
        return (steps is not None and step >= steps) or bool(step and self.sampler.epoch_over)

    def _finish_epoch(self) -> None:
        try:
            self._observe_pending()
        except InvalidScores:
            # Somebody has seen it, as `TerminateOnNaN` does, and wants to stop in good order.
            if not self.model.stop_training:
                raise
            self._pending = []
        self._last_logs = self._logs_of_step() | self.logs.of_epoch()
