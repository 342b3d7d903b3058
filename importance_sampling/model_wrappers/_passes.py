"""Passes that change nothing: scores by a forward pass, the gradient of the weighted loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops, tree

from .. import backend
from .._arrays import Nested
from ..backend.base import Tensor
from ._objective import Objective
from ._part_factors import mean_valid_steps
from ._precision import ScoreDtype, lower_precision


class Scored(NamedTuple):
    """What a forward pass tells of its samples.

    Attributes:
        scores: `(n,)`.
        valid_steps: `(n, outputs)`, or None where the loss has no masks.
    """

    scores: Tensor
    valid_steps: Tensor | None


def make_scoring(objective: Objective, dtype: ScoreDtype | None) -> Callable[..., Scored]:
    """The function that scores a batch by one forward pass, to be compiled.

    Args:
        objective: what the model minimises, and the score.
        dtype: the type that the forward pass computes in; None for the model's own.

    Returns:
        A function of inputs, targets and the user's own weights.
    """
    loss = objective.loss

    def score(x: Nested, y: Nested, sample_weight: Nested) -> Scored:
        with objective.runtime.scope(), lower_precision(loss.model, loss.info, dtype):
            outputs = loss.forward(x)
        masks = loss.masks(outputs)
        scores = objective.scores(x, y, outputs, sample_weight, masks)
        return Scored(scores, loss.count_valid(y, masks) if loss.has_masked_timesteps else None)

    return score


def make_gradient(objective: Objective) -> Callable[..., list[Tensor]]:
    """The function that differentiates the weighted loss in inference mode, to be compiled.

    Args:
        objective: what the model minimises.

    Returns:
        A function of inputs, targets, the user's own weights, importance weights `(n,)` and the
        training set's mean of valid steps, that gives a tensor for each trainable variable.
    """

    def gradient(*batch: Any) -> list[Tensor]:
        return weighted_gradient(objective, GradientBatch(*batch))

    return gradient


class GradientBatch(NamedTuple):
    """What the weighted loss of a batch is made of.

    Attributes:
        x: inputs.
        y: targets.
        sample_weight: the user's own weights, or None.
        weights: `(n,)` importance weights; None for ones.
        mean_valid_steps: `(outputs,)`; see `WeightedLoss.valid_step_factors`.
    """

    x: Nested
    y: Nested
    sample_weight: Nested
    weights: Tensor | None
    mean_valid_steps: Tensor


def weighted_gradient(
    objective: Objective,
    batch: GradientBatch,
    *,
    training: bool = False,
    at: Sequence[Tensor] | None = None,
    seen: Sequence[tuple[Any, Tensor]] = (),
    scaled: Callable[[Tensor], Tensor] | None = None,
) -> list[Tensor]:
    """Differentiates the weighted loss of a batch; nothing of the model is changed.

    Args:
        objective: what the model minimises.
        batch: the batch.
        training: bool, whether layers run as in training. Defaults to `False`.
        at: values of the trainable variables to take the gradient at; None for the present ones.
        seen: pairs of another variable and the value that the model sees in its place.
        scaled: what the loss is passed through before it is differentiated.

    Returns:
        A tensor for each trainable variable.
    """
    loss, runtime = objective.loss, objective.runtime
    variables = loss.model.trainable_variables
    x, y, sample_weight, weights, known_valid_steps = batch

    def batch_loss(*values: Tensor) -> Tensor:
        with runtime.scope([*seen, *zip(variables, values, strict=True)]):
            outputs = loss.forward(x, training)
            given = weights
            if given is None:
                given = ops.ones((ops.shape(tree.flatten(outputs)[0])[0],), "float32")
            masks = loss.masks(outputs)
            if runtime.replica_share is not None:
                # Their sum is the gradient of the whole batch: Keras divides by the replicas.
                given = given * runtime.replica_share.scale(objective.summed)
            factors: Tensor | list[Tensor] = given
            if loss.has_masked_timesteps:
                counts = loss.count_valid(y, masks)
                mean = mean_valid_steps(runtime.share, counts, known_valid_steps)
                ratios = loss.valid_step_factors(counts, mean)
                factors = [ratio * given for ratio in ratios]
            weight = loss.weigh(sample_weight, factors, loss.valid(y, masks))
            value = loss.value(x, y, outputs, weight, training)
            return value if scaled is None else scaled(value)

    values = runtime.values(variables) if at is None else at
    return backend.get().gradient(batch_loss, values)[1]
