"""From a model that the user has compiled to everything that is compiled for it here."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial

import keras
from keras import ops

from .. import backend
from .._arrays import Nested
from ..reweighting import ReweightingPolicy
from . import _build, _checks, _dry_run, _labels, _loss_trial
from ._casts import cast_floats
from ._compiled import CompiledFor, CompiledModel
from ._evaluation import make_evaluation
from ._objective import Objective, Score, with_closed_form, with_norm_plan
from ._outputs import describe, is_plain_last
from ._passes import make_gradient, make_scoring
from ._precision import ScoreDtype
from ._replicas import check_batch_size, check_scaling
from ._training_step import TrainingStep
from ._weighted_loss import WeightedLoss
from .introspection import convolves


@dataclass(frozen=True)
class ScoreSpec:
    """What to score by; see `OracleWrapper`.

    Attributes:
        name: name of the score.
        layer: the layer that `"gnorm"` refers to, or None for the last one.
        dtype: the type that scoring passes compute in, or None for the model's own.
    """

    name: Score
    layer: keras.Layer | None
    dtype: ScoreDtype | None


def compile_model(
    model: keras.Model,
    reweighting: ReweightingPolicy,
    score: ScoreSpec,
    data: tuple[Nested, Nested, Nested],
) -> CompiledModel:
    """Builds a model, its loss, metrics and optimizer, and compiles all functions for it.

    Args:
        model: a model that the user has compiled.
        reweighting: the policy whose weights the training step takes.
        score: what to score by.
        data: `(x, y, sample_weight)`, a few rows for shapes and types.

    Raises:
        ValueError: if the model cannot be trained on such rows.
    """
    _checks.check_model(model)
    summed = _checks.sums_its_loss(model)
    x, y, sample_weight = cast_floats(data)
    _dry_run.check_strings(model, x)
    rows = _build.first_rows(x, y, sample_weight)
    runtime = backend.get().Runtime(model)
    if runtime.replicas > 1:
        check_batch_size(model, runtime.replicas)
    with _dry_run.reraise_with_context(model, rows[0], "`x`"), runtime.building():
        info = describe(model, rows[0])
        _build.build_late_weights(model, rows[0])
    if score.name == "full_gnorm" and not model.trainable_variables:
        raise ValueError(
            f"The model {model.name!r} has no trainable weights, so that the norm of the gradient "
            "over them, the score 'full_gnorm', is 0 for every example. Set `trainable = True` on "
            'the layers that are to be trained and compile again, or score by "loss".'
        )
    losses = _checks.losses_by_output(model, info.spec)
    ignored_labels = [getattr(loss, "ignore_class", None) for loss in losses]
    layer = score.layer
    if layer is not None and is_plain_last(info, layer):
        layer = None
    objective = Objective(
        WeightedLoss(model, info, ignored_labels), runtime, score.name, layer, summed
    )
    label_limits = _labels.label_limits(losses, info)
    if objective.scores_at_outputs:
        _build.warn_gradient_fallback(model, info, losses)
    if y is not None:
        _labels.check_targets(model, info, label_limits, y, "y")
    with (
        _dry_run.reraise_loss_with_context(model, info.spec, rows[1], "`y`"),
        runtime.building(),
    ):
        logs = _build.build_state(model, rows, info, runtime)
    if _loss_trial.needs_trial(objective):
        objective = _loss_trial.choose_weight_form(objective, *rows)
    if not runtime.traces and y is not None:
        objective = with_closed_form(objective, rows[1])
    if runtime.replicas > 1 and not objective.loss.uses_keras_loss:
        check_scaling(objective, *rows)
    if score.name == "full_gnorm":
        objective = with_norm_plan(objective, rows[0])
    metric_names = tuple(name for name in logs if name != "loss")
    metrics, unweighable = _checks.weighable_metrics(model)
    if unweighable:
        warnings.warn(
            f"The metrics {unweighable} cannot be weighted: they accept no sample_weight, or "
            'count in integers, which `dtype="float32"` changes. While importance sampling is '
            "on they describe the drawn examples, not the training set.",
            stacklevel=2,
        )
    step = TrainingStep(model, objective, reweighting, metrics)
    unknown_valid_steps = ops.zeros((len(info.masked),), "float32")
    many = None
    # With masks each step would have to know what the one before has counted.
    alone = objective.loss.has_masked_timesteps
    if not alone and not (runtime.loops_slow_convolutions and convolves(model)):
        many = runtime.compile_train_many(partial(step, mean_valid_steps=unknown_valid_steps))
    return CompiledModel(
        # Only now: building may have made variables.
        made_for=CompiledFor.of(model),
        reweighting=reweighting,
        runtime=runtime,
        objective=objective,
        step=step,
        train_function=runtime.compile_train(
            runtime.spread(step, slice(1, 6), joining=("logs", "rows"))
        ),
        train_many_function=many,
        score_function=runtime.compile_pure(
            runtime.spread(make_scoring(objective, score.dtype), slice(3), joining="rows")
        ),
        gradient_function=runtime.compile_pure(
            runtime.spread(make_gradient(objective), slice(4), joining="sum")
        ),
        evaluate_function=runtime.compile_pure(make_evaluation(objective, metric_names)),
        metric_names=metric_names,
        label_limits=label_limits,
        unknown_valid_steps=unknown_valid_steps,
        seen={_dry_run.signature(x, y, sample_weight)},
    )
