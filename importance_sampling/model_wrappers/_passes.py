"""Passes that change nothing: scores by a forward pass, the gradient of the weighted loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .. import backend
from .._arrays import Nested
from ..backend.base import Tensor
from ._objective import Objective
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
    loss, runtime = objective.loss, objective.runtime

    def gradient(
        x: Nested, y: Nested, sample_weight: Nested, weights: Tensor, mean_valid_steps: Tensor
    ) -> list[Tensor]:
        variables = loss.model.trainable_variables

        def batch_loss(*values: Tensor) -> Tensor:
            with runtime.scope(list(zip(variables, values, strict=True))):
                outputs = loss.forward(x)
                factors: Tensor | list[Tensor] = weights
                masks = loss.masks(outputs)
                if loss.has_masked_timesteps:
                    counts = loss.count_valid(y, masks)
                    ratios = loss.valid_step_factors(counts, mean_valid_steps)
                    factors = [ratio * weights for ratio in ratios]
                weight = loss.weigh(sample_weight, factors, loss.valid(y, masks))
                return loss.value(x, y, outputs, weight)

        return backend.get().gradient(batch_loss, runtime.values(variables))[1]

    return gradient
