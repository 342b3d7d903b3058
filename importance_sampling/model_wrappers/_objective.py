"""Losses and scores of single samples, for all backends alike.

The model's own `compute_loss` is the only definition of the loss. With the default reduction it
is the mean over samples of w_i * l_i, so for n samples

    l_i = n * d compute_loss / d w_i           (at w = 1)
    g_i = n * d compute_loss / d output_i

hold for custom losses, several outputs, `loss_weights` and masks alike.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import keras
import numpy as np
from keras import ops, tree

from .. import backend
from .._arrays import Nested, map_arrays
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Runtime, Tensor
from ..layers.activations import preactivation_gradient, safe_output
from ..layers.masks import write_mask
from ._accuracy_score import wrong_share
from ._closed_form import ClosedForm, find_closed_form
from ._gradient_norms import exact_norms, layer_norms, sum_per_sample
from ._norm_plan import NormPlan, plan_norms, tapped_squares
from ._part_factors import factors_of_part
from ._weighted_loss import WeightedLoss

Score: TypeAlias = Literal["loss", "gnorm", "full_gnorm", "acc"]
"""Names of the scores; see `OracleWrapper`."""

SCORES: tuple[Score, ...] = get_args(Score)


@dataclass(frozen=True, eq=False)
class Objective:
    """What a model minimises, sample by sample, and what is taken for a sample's score.

    Attributes:
        loss: the model's loss.
        runtime: the backend's runtime of the model.
        score: name of the score.
        layer: the layer whose pre-activation `"gnorm"` refers to; None for that of the outputs.
        summed: bool, whether the loss is the sum over the batch rather than the mean.
        closed_form: a formula that gives the scores from targets and outputs, or None.
        norm_plan: how exact gradient norms are computed; None where they are not the score.
    """

    loss: WeightedLoss
    runtime: Runtime
    score: Score
    layer: keras.Layer | None = None
    summed: bool = False
    closed_form: ClosedForm | None = None
    norm_plan: NormPlan | None = None

    @property
    def scores_at_outputs(self) -> bool:
        """Whether the score is the gradient norm at the pre-activation of the outputs."""
        return self.score == "gnorm" and self.layer is None

    @property
    def needs_forward(self) -> bool:
        """Whether the score needs more than the outputs of a pass."""
        return self.score == "full_gnorm" or self.layer is not None

    @property
    def chunk_size(self) -> int | None:
        """How many samples can be scored at one time; None for any number."""
        return None if self.norm_plan is None else self.norm_plan.rows

    def measure(
        self,
        x: Nested,
        y: Nested,
        outputs: Nested,
        sample_weight: Nested,
        masks: list[Tensor | None],
    ) -> tuple[Tensor, Tensor]:
        """Losses and scores of the samples of a pass.

        Nothing leaves a trace: metrics that `compute_loss` updates are updated in a scope that is
        thrown away.

        Args:
            x: inputs.
            y: targets.
            outputs: what the model gave for them.
            sample_weight: the user's own weights, or None.
            masks: the masks of the outputs, as `WeightedLoss.masks` reads them.

        Returns:
            `(losses, scores)`, both `(n,)` float32.
        """
        loss = self.loss
        flat = [ops.stop_gradient(o) for o in tree.flatten(outputs)]
        activations = loss.info.activations
        flat = [safe_output(a, o) for a, o in zip(activations, flat, strict=True)]
        n = ops.shape(flat[0])[0]
        scale = 1.0 if self.summed else ops.cast(n, "float32")
        ones = ops.ones((n,), "float32")
        valid = loss.valid(y, masks)
        factors = factors_of_part(self.runtime.share, loss, y, masks)

        def batch_loss(weights: Tensor, *predictions: Tensor) -> Tensor:
            masked = [write_mask(p, m) for p, m in zip(predictions or flat, masks, strict=True)]
            packed = tree.pack_sequence_as(outputs, masked)
            given = weights if factors is None else [weights * f for f in factors]
            with self.runtime.scope():
                return self.value(x, y, packed, loss.weigh(sample_weight, given, valid))

        arguments = [ones, *flat] if self.scores_at_outputs else [ones]
        _, gradients = backend.get().gradient(batch_loss, arguments)
        losses = ops.cast(gradients[0], "float32") * scale
        if self.scores_at_outputs:
            squares = 0.0
            for activation, output, gradient in zip(activations, flat, gradients[1:], strict=True):
                inner = preactivation_gradient(activation, output, gradient)
                squares = squares + sum_per_sample(ops.square(ops.cast(inner, "float32")))
            return losses, ops.sqrt(squares) * scale
        if self.score == "acc":
            return losses, wrong_share(loss.targets(y), flat, masks, activations)
        if self.norm_plan is not None:
            return losses, self._exact_norms(self.norm_plan, x, y, sample_weight, masks)
        if self.layer is not None:
            return losses, self._layer_norms(self.layer, x, y, sample_weight)
        return losses, losses

    def scores(
        self,
        x: Nested,
        y: Nested,
        outputs: Nested,
        sample_weight: Nested,
        masks: list[Tensor | None],
    ) -> Tensor:
        """Scores of the samples of a pass, in closed form where there is one.

        Args:
            x: inputs.
            y: targets.
            outputs: what the model gave for them.
            sample_weight: the user's own weights, or None.
            masks: the masks of the outputs, as `WeightedLoss.masks` reads them.

        Returns:
            `(n,)` float32; a numpy array where a closed form is computed and nothing is traced.
        """
        if self.closed_form is None:
            return self.measure(x, y, outputs, sample_weight, masks)[1]
        weight = None if sample_weight is None else tree.flatten(sample_weight)[0]
        if self.runtime.traces:
            outputs = ops.stop_gradient(outputs)
        else:
            y, outputs = tensor_to_numpy(y), tensor_to_numpy(outputs)
            weight = None if weight is None else tensor_to_numpy(weight)
        scores = self.closed_form(y, outputs)
        if weight is None:
            return scores
        if self.runtime.traces:
            weight = ops.cast(ops.reshape(weight, (-1,)), "float32")
        return scores * abs(weight.reshape(-1) if isinstance(weight, np.ndarray) else weight)

    def value(self, x: Nested, y: Nested, outputs: Nested, weight: Nested) -> Tensor:
        """The model's own loss of the rows at hand, also where they are a replica's.

        Args:
            x: inputs.
            y: targets.
            outputs: what the model gave.
            weight: sample weights in the form that `WeightedLoss.weigh` makes, or None.
        """
        value, divisor = self.loss.value(x, y, outputs, weight), self.runtime.loss_divisor
        return value if divisor == 1 or self.summed else value * divisor

    def _layer_norms(
        self, layer: keras.Layer, x: Nested, y: Nested, sample_weight: Nested
    ) -> Tensor:
        loss = self.loss

        def batch_loss() -> Tensor:
            with self.runtime.scope():
                outputs = loss.forward(x)
                n = ops.shape(tree.flatten(outputs)[0])[0]
                masks = loss.masks(outputs)
                factors = factors_of_part(self.runtime.share, loss, y, masks)
                given = ops.ones((n,), "float32") if factors is None else factors
                weight = loss.weigh(sample_weight, given, loss.valid(y, masks))
                return self.value(x, y, outputs, weight)

        return layer_norms(layer, batch_loss, self.summed)

    def _exact_norms(
        self,
        plan: NormPlan,
        x: Nested,
        y: Nested,
        sample_weight: Nested,
        masks: list[Tensor | None],
    ) -> Tensor:
        loss = self.loss
        # As for the batch's losses: Keras divides by the valid steps of the whole batch.
        mean_counts = None
        if loss.has_masked_timesteps:
            counts, share = loss.count_valid(y, masks), self.runtime.share
            mean_counts = ops.mean(counts, axis=0) if share is None else share.mean(counts)

        def data_loss(x: Nested, y: Nested, sample_weight: Nested, outputs: Nested) -> Tensor:
            own_masks = loss.masks(outputs)
            n = ops.shape(tree.flatten(outputs)[0])[0]
            factors = [ops.ones((n,), "float32")] * len(loss.info.masked)
            if mean_counts is not None:
                counts = loss.count_valid(y, own_masks)
                factors = loss.valid_step_factors(counts, mean_counts)
            valid = loss.valid(y, own_masks)
            # The difference takes regularizers, which belong to no sample, out again.
            full = loss.weigh(sample_weight, factors, valid)
            none = loss.weigh(sample_weight, [0.0 * f for f in factors], valid)
            return self.value(x, y, outputs, full) - self.value(x, y, outputs, none)

        def batch_loss() -> Tensor:
            with self.runtime.scope():
                return data_loss(x, y, sample_weight, loss.forward(x))

        def sample_loss(values: Any, x1: Nested, y1: Nested, w1: Nested) -> Tensor:
            with self.runtime.scope(list(zip(plan.others, values, strict=True))):
                return data_loss(x1, y1, w1, loss.forward(x1))

        total: Any = 0.0
        if plan.tapped:
            total = tapped_squares(plan, batch_loss, self.summed, self.runtime.values)
        if plan.others:
            values = self.runtime.values(plan.others)
            norms = exact_norms(sample_loss, (x, y, sample_weight), values)
            total = total + ops.square(ops.cast(norms, "float32"))
        return ops.sqrt(total)


def with_norm_plan(objective: Objective, x: Nested) -> Objective:
    """The objective with a plan of how its exact gradient norms are computed.

    Args:
        objective: the objective, whose score is `"full_gnorm"`.
        x: inputs, a few rows.
    """

    def forward(rows: int) -> None:
        # The values do not matter, only shapes do.
        repeated = map_arrays(lambda a: ops.concatenate([a[:1]] * rows, axis=0), x)
        with objective.runtime.scope():
            objective.loss.forward(repeated)

    plan = plan_norms(objective.loss.model, forward)
    return dataclasses.replace(objective, norm_plan=plan)


def with_closed_form(objective: Objective, y: Nested) -> Objective:
    """The objective with a closed form of its scores, where one gives what the loss gives.

    Args:
        objective: the objective.
        y: targets, a few rows to compare on.
    """
    loss = objective.loss
    if not objective.scores_at_outputs or objective.summed or not loss.uses_keras_loss:
        return objective
    found, activation = find_closed_form(loss.model, loss.info), loss.info.activations[0]
    if found is None or activation is None:
        return objective
    logits = np.random.default_rng(0).normal(size=loss.info.spec.shape).astype("float32")
    outputs = activation(ops.convert_to_tensor(logits))
    _, general = objective.measure(None, y, outputs, None, [None])
    special = tensor_to_numpy(found(y, outputs))
    if not np.allclose(tensor_to_numpy(general), special, rtol=1e-4, atol=1e-6):
        return objective
    return dataclasses.replace(objective, closed_form=found)
