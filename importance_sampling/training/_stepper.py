"""Making the steps of a training: propose, train, observe."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from .. import _interrupts
from .._state import Stateful
from ..backend.base import Runtime
from ..backend.processes import Processes
from ..model_wrappers import ModelWrapper
from ..model_wrappers._step_result import scores_together
from ..proposal import InvalidScores, Proposal, StepRecord, are_valid, at_step
from ..samplers import BaseSampler
from ..samplers.ahead import batches_ahead, observe_together, settled_ahead
from ._own_code import runs_own_code
from ._pending_steps import restored_step, saved_step
from ._report import TrainingReport
from ._step_logs import StepLogs
from ._steps_per_call import StepsPerCall

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


class Stepper(Stateful):
    """Makes the steps of one run of training.

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
        processes: those that make each step together; None where this one is alone.
        calls: how many steps go to the device together. Defaults to as many as the model was
            compiled for.

    Attributes:
        step: int, steps made.
        epoch: int, the epoch that the next step is of.
        steps_of_epoch: int, steps of that epoch that were made.
        between_steps: bool, whether no step is under way, so that the state can be taken.
    """

    _state: tuple[str, ...] = ("step", "logs", "epoch", "steps_of_epoch")

    def __init__(
        self,
        wrapper: ModelWrapper,
        sampler: BaseSampler,
        model: keras.Model,
        batch_size: int,
        on_sample: OnSample | None = None,
        on_scores: OnScores | None = None,
        wait: bool = False,
        processes: Processes | None = None,
        calls: StepsPerCall | None = None,
    ):
        self.wait = wait
        self.processes = processes
        self.wrapper = wrapper
        self.sampler = sampler
        self.model = model
        self.batch_size = batch_size
        self.on_sample = on_sample
        self.on_scores = on_scores
        self.step = 0
        self.epoch = 0
        self.steps_of_epoch = 0
        self.between_steps = True
        self.logs = StepLogs(sampler, batch_size)
        self.report = TrainingReport.of(sampler, batch_size)
        # Steps that were made and not yet observed, first to last.
        self._pending: list[StepRecord] = []
        self.calls = calls or StepsPerCall(model)
        self._last_logs: dict[str, Any] = {}
        # Those of the last step, until somebody wants to see them.
        self._unread_logs: Mapping[str, Any] | None = None
        self._own_callbacks: Sequence[keras.callbacks.Callback] = ()
        self._hooks: keras.callbacks.CallbackList | None = None
        self._was_restored = False
        self._runtime: Runtime | None = None
        # Whether anybody looks at single steps.
        self._watched = False
        self._runs_own_code = runs_own_code(wrapper, sampler)
        # Whether somebody waits until the device has made the last call.
        self._awaited = True
        # The last step that is waited for though nobody wants its scores.
        self._waits_for = 0

    def _show_model(self, hook: bool = False) -> None:
        """Brings the model up to date, where code of the user's is called next.

        Args:
            hook: bool, whether that is a function given to `fit`; otherwise it is the sampler.
        """
        if self._runtime is not None and (hook or self._runs_own_code):
            self._runtime.sync()

    def state_dict(self) -> dict[str, Any]:
        """The place in the training, with steps not yet observed; see `Stateful.state_dict`."""
        dataset, hooked = self.sampler.dataset, self.on_scores is not None
        pending = [
            saved_step(record, dataset, hooked or record.proposal.reads_scores)
            for record in self._pending
        ]
        logs = keras.tree.map_structure(
            lambda value: np.array(keras.ops.convert_to_numpy(value)), self._logs_of_step()
        )
        return {
            **super().state_dict(),
            "pending": pending,
            "last_logs": logs,
            "calls": self.calls.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken.

        Args:
            state: what `state_dict` returned, of a loop over equal data.
        """
        super().load_state_dict(state)
        self._pending = [restored_step(step, self.sampler.dataset) for step in state["pending"]]
        self._was_restored = True
        self.calls.load_state_dict(state.get("calls", {"most": 1, "singles": 0}))
        self._last_logs = keras.tree.map_structure(lambda value: value[()], state["last_logs"])
        self._unread_logs = None

    def _draw(self, most: int) -> _Drawn:
        """The batches of the next call, `most` at most.

        A sampler that overlaps has then observed all steps but the last, which is what it is
        told when it draws one by one, too: draws do not depend on how many go into a call. Batches
        that it calls settled need no more than the steps before the last call, so that the next
        call is there when the device has made that one.
        """
        self.between_steps = False
        if not self.sampler.overlaps:
            self._observe_pending()
        most = min(most, self.calls.most)
        settled = self._settled(most)
        waiting = time.perf_counter()
        if settled <= 1:
            self._observe_pending(keep=1)
        began = time.perf_counter()
        self._show_model()
        try:
            if settled > 1:
                most = settled
            elif most > 1:
                most = min(most, batches_ahead(self.sampler, self.batch_size))
            proposals = self.sampler.propose_many(self.batch_size, most)
        except InvalidScores as error:
            raise at_step(self.step + 1, error) from error
        return _Drawn(proposals, time.perf_counter() - began, began - waiting)

    def _settled(self, most: int) -> int:
        """How many batches, of `most`, may be drawn while the device makes the last call.

        None where somebody looks at single steps, who may want to stop at what that call says.
        """
        if most == 1 or self._watched or not self.wrapper.asynchronous or not self.sampler.overlaps:
            return 0
        return min(most, settled_ahead(self.sampler, self.batch_size))

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
            self._show_model(hook=True)
            for p in proposals:
                self.on_sample(self.sampler, p.idxs, p.weights, p.predicted_scores)
        began = time.perf_counter()
        if self.sampler.overlaps and not self.wait and self.wrapper.asynchronous:
            self._show_model()
            self.sampler.prepare(self.batch_size)
        with _interrupts.section():
            if self.calls.alone(count, self.step):
                results = [self.wrapper.train(proposals[0])]
            else:
                results = self.wrapper.train_many(proposals, self.calls.room(count))
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
        # What the device did of the call before is in the time of this one.
        before, self._awaited = self._awaited, self._is_awaited(proposals)
        timed = before and self._awaited
        drawing /= count
        seconds = drawing + (waiting + time.perf_counter() - began) / count
        if self.processes is not None and self.sampler.uses_step_times:
            # Decisions on them must be the same everywhere.
            seconds, drawing = self.processes.first([seconds, drawing], "a step's time")
        self._pending = [record.with_seconds(seconds, timed) for record in records]
        if at_once:
            with contextlib.suppress(InvalidScores):
                self._observe_pending(keep=count - 1)
        self._unread_logs = results[-1].logs
        self.report.add_call(proposals, seconds, drawing, self.logs.estimate, timed)
        return count

    def _is_awaited(self, proposals: Sequence[Proposal]) -> bool:
        """Whether somebody waits until the device has made a call: whoever reads its scores.

        Those of a step that is going to be compared are read here for its time alone, when and
        where others' are, so that both kinds overlap alike with the host's work.

        Args:
            proposals: what was trained on.
        """
        if not self.wrapper.asynchronous or any(p.reads_scores for p in proposals):
            return True
        if self.sampler.times_step:
            self._waits_for = self.step
        return self.sampler.times_step

    def _logs_of_step(self) -> dict[str, Any]:
        """The logs of the last step; before the next one, or they are of that."""
        if self._unread_logs is not None:
            self._last_logs = self.logs.of_step(self._unread_logs)
            self._unread_logs = None
        return self._last_logs

    def _wait_for_scores(self, record: StepRecord) -> bool:
        """Whether logs or a hook want a step's scores; those of its own pass are fetched then."""
        proposal = record.proposal
        wanted = proposal.reads_scores or self.on_scores is not None
        if wanted and proposal.pool_scores is None:
            # Read here, they are checked before the sampler begins to learn from them.
            return len(record.scores) > 0
        if record.step == self._waits_for:
            # Not checked: nobody learns from them.
            len(record.outcome.scores)
        return wanted

    def _have_valid_scores(self, records: list[StepRecord]) -> bool:
        """Whether scores of steps of one call, all of them read, are valid; they are then kept."""
        if not all(r.proposal.reads_scores and r.proposal.pool_scores is None for r in records):
            return False
        scores = scores_together([record.outcome for record in records])
        if scores is None or not are_valid(scores):
            return False
        for record, row in zip(records, scores, strict=True):
            record.keep_scores(row)
        return True

    def _observe_together(self, records: list[StepRecord]) -> None:
        """Tells the sampler of steps of one call, and the logs of each before the next is told.

        Args:
            records: the first of those pending, whose scores are valid.
        """
        told: list[StepRecord] = []

        def before(record: StepRecord) -> None:
            if told:
                self.logs.add_scores(told[-1])
            told.append(record)
            del self._pending[0]
            self.logs.count_reduction(record.proposal)
            self._show_model()

        observe_together(self.sampler, records, before)
        self.logs.add_scores(records[-1])

    def _observe_pending(self, keep: int = 0) -> None:
        """Tells the sampler of steps in order, but for the last few, and the logs of their scores.

        Args:
            keep: int, how many steps it is told of later.
        """
        records = self._pending[: len(self._pending) - keep]
        if len(records) > 1 and self.on_scores is None and self._have_valid_scores(records):
            self._observe_together(records)
            return
        while len(self._pending) > keep:
            record = self._pending[0]
            wanted = self._wait_for_scores(record)
            del self._pending[0]
            self.logs.count_reduction(record.proposal)
            self._show_model()
            self.sampler.observe(record)
            if wanted:
                scores = self.logs.add_scores(record)
                if self.on_scores is not None:
                    self._show_model(hook=True)
                    self.on_scores(self.sampler, scores)
