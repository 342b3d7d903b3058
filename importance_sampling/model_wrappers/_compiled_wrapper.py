"""A wrapper of one compiled Keras model: builds it, checks data against it, describes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from .._arrays import Nested
from ..backend.base import Runtime
from ..proposal import Proposal
from ..reweighting import ReweightingPolicy
from . import _checks
from ._base import ModelWrapper
from ._compile import ScoreSpec, compile_model
from ._compiled import CompiledFor, CompiledModel
from ._dry_run import warn_if_padding_scores
from ._metric_names import log_names
from ._objective import SCORES, Score
from ._precision import LOW_PRECISIONS, ScoreDtype
from ._valid_steps import MeanValidSteps
from .introspection import input_shapes, overrides


class CompiledWrapper(ModelWrapper):
    """Holds what is compiled for a model, from one call of `model.compile` to the next.

    Args:
        model: a compiled `keras.Model`.
        reweighting: a `ReweightingPolicy`.
        score: name of the score; see `OracleWrapper`.
        layer: where `"gnorm"` takes the gradient; see `OracleWrapper`.
        score_dtype: the type that scoring passes compute in; see `OracleWrapper`.
    """

    def __init__(
        self,
        model: keras.Model,
        reweighting: ReweightingPolicy,
        score: Score = "loss",
        layer: int | keras.Layer | None = None,
        score_dtype: ScoreDtype | None = None,
    ):
        _checks.check_model(model)
        if score not in SCORES:
            raise ValueError(f"`score` must be one of {list(SCORES)}, got {score!r}.")
        if score_dtype not in (None, *LOW_PRECISIONS):
            raise ValueError(
                f"`score_dtype` must be None or one of {list(LOW_PRECISIONS)}, got {score_dtype!r}."
            )
        if score_dtype is not None and (score == "full_gnorm" or layer is not None):
            raise ValueError(
                f"`score_dtype`={score_dtype!r} is for scores that one forward pass gives: use "
                'score="gnorm" without `layer`, "loss" or "acc".'
            )
        self.model = model
        self.reweighting = reweighting
        self._score = ScoreSpec(score, _checks.find_layer(model, layer), score_dtype)
        self._compiled: CompiledModel | None = None
        self._in_loop = False
        self._valid_steps = MeanValidSteps()

    # -- building and checking ----------------------------------------------------------------

    def _compile(self, x: Nested, y: Nested, sample_weight: Nested = None) -> CompiledModel:
        """What is compiled for the model; anew if the user called `model.compile` again."""
        compiled = self._compiled
        if compiled is not None:
            if self._in_loop:
                return compiled
            if compiled.made_for.matches(CompiledFor.of(self.model)):
                compiled.dry_run("`x`", "`y`", (x, y, sample_weight))
                return compiled
        data = (x, y, sample_weight)
        compiled = compile_model(self.model, self.reweighting, self._score, data)
        self._compiled = compiled
        return compiled

    def _compiled_for(self, proposal: Proposal) -> CompiledModel:
        """What is compiled to train on a batch, whose rows are not read while a loop runs."""
        if self._in_loop and self._compiled is not None:
            return self._compiled
        return self._compile(*proposal.rows[:3])

    @property
    def compiled(self) -> CompiledModel:
        """What was compiled for the model by the last call of `build`.

        Raises:
            RuntimeError: if nothing was built yet.
        """
        if self._compiled is None:
            raise RuntimeError("Nothing is compiled yet: call `build(x, y)` with a few rows first.")
        return self._compiled

    def build(self, x: Nested, y: Nested, sample_weight: Nested = None) -> None:
        """Builds and compiles what is not yet; a few rows of the data are enough.

        Args:
            x: inputs, for shapes and types.
            y: targets, likewise.
            sample_weight: the user's own weights, likewise.

        Raises:
            ValueError: if the model cannot be trained on such rows.
        """
        self._compile(x, y, sample_weight)

    def dry_run(self, where: str, x: Nested, y: Nested, sample_weight: Nested = None) -> None:
        """Tries rows on the built model, without changing anything.

        Args:
            where: the argument that they come from, for the error.
            x: inputs, a few rows.
            y: targets, likewise.
            sample_weight: the user's own weights, likewise.

        Raises:
            ValueError: if the model, its loss or its metrics cannot take them.
        """
        names = (f"the inputs of `{where}`", f"the targets of `{where}`")
        self.compiled.dry_run(*names, (x, y, sample_weight))

    def check_targets(self, y: Nested, where: str) -> None:
        """Raises if integer labels are outside the classes of the model's outputs.

        Args:
            y: targets.
            where: the argument that they come from, for the error.
        """
        self.compiled.check_targets(y, where)

    def check_padding(self, before: tuple[Nested, ...], after: tuple[Nested, ...]) -> None:
        """Warns if padding with zeros changes the score of a row, as it does without masks.

        Args:
            before: `(x, y)` or `(x, y, sample_weight)`, one row as it came.
            after: the same row, padded to the length of the longest in its pool.
        """
        rows = [before, after]
        scores = [self.compiled.score(*row).scores for row in rows]
        warn_if_padding_scores(self.model, rows, scores)

    # -- what is known of the model -----------------------------------------------------------

    @property
    def knows_its_targets(self) -> bool:
        """Whether the model has a loss or step of its own, which may need no targets."""
        return overrides(self.model, "compute_loss") or overrides(self.model, "train_step")

    @property
    def metrics_names(self) -> list[str]:
        """`["loss", *metrics, "score"]`, the compiled metrics by the names of their logs."""
        compiled = self._compiled
        if compiled is not None and compiled.made_for.matches(CompiledFor.of(self.model)):
            return ["loss", *compiled.metric_names, "score"]
        return ["loss", *log_names(self.model), "score"]

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
    def score_name(self) -> Score:
        """The score that examples are drawn by."""
        return self._score.name

    @property
    def optimizer(self) -> keras.Optimizer:
        """The optimizer of the model."""
        return self.model.optimizer

    @property
    def layer(self) -> keras.Layer:
        """The layer whose pre-activation `"gnorm"` refers to: the last one with weights."""
        if self._score.layer is not None:
            return self._score.layer
        last = self.model.layers[-1]
        single = len(self.model.layers) == 1
        return last if single or last.trainable_weights else self.model.layers[-2]

    @property
    def asynchronous(self) -> bool:
        """Whether calls return before the device is done."""
        return self._compiled is not None and self._compiled.runtime.asynchronous

    # -- data on the device -------------------------------------------------------------------

    def place_data(self, arrays: tuple[Nested, ...]) -> None:
        """Puts a training set on the device, in the place of any that is there.

        Steps on `RowsAt` of these very arrays then gather their rows there.

        Args:
            arrays: `(x, y)` or `(x, y, sample_weight)`, numpy arrays in memory.
        """
        compiled = self.compiled
        compiled.device_data.place(compiled.runtime, arrays)

    def renew_data(self) -> None:
        """Puts the training set on the device anew, where it is there: it may have changed."""
        if self._compiled is not None:
            self._compiled.device_data.renew(self._compiled.runtime)

    def free_data(self) -> None:
        """Takes the training set off the device."""
        if self._compiled is not None:
            self._compiled.device_data.free()

    # -- a training loop ----------------------------------------------------------------------

    @contextlib.contextmanager
    def attached(self) -> Iterator[Runtime]:
        """Holds the built model while a training loop runs; see `ModelWrapper.attached`.

        Nothing is compiled anew meanwhile.

        Yields:
            The runtime of the model.
        """
        self._in_loop = True
        try:
            with super().attached() as runtime:
                yield runtime
        finally:
            self._in_loop = False

    def _runtime(self) -> Runtime:
        return self.compiled.runtime

    def state_dict(self) -> dict[str, Any]:
        """What the wrapper has learnt beside the model's own weights."""
        return self._valid_steps.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self._valid_steps.load_state_dict(state)
