"""The model's own loss as a function of one weight per sample."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops, tree

from .._arrays import Nested
from ..backend.base import Tensor
from ..layers.masks import count_valid, read_mask
from . import _checks
from ._outputs import OutputInfo
from .introspection import overrides, takes_training


def spread(weights: Tensor, rank: int) -> Tensor:
    """Reshapes `(n,)` weights to `(n, 1, ...)`.

    Args:
        weights: `(n,)`.
        rank: int, the number of axes of the result, at least 1.
    """
    return ops.reshape(weights, (-1,) + (1,) * (rank - 1))


def fill(weights: Tensor, steps: Tensor) -> Tensor:
    """Repeats weights over the axes of steps, where Keras multiplies masks into them in place.

    Args:
        weights: `(n, 1, ...)`, of at least as many axes as `steps`.
        steps: a tensor `(n, ...)`, of which only the shape counts.
    """
    while len(weights.shape) > len(steps.shape):
        weights = ops.squeeze(weights, axis=-1)
    return weights * ops.ones_like(steps, dtype="float32")


class WeightForm(NamedTuple):
    """A form in which a loss takes its weights.

    Attributes:
        shared: bool, whether one array is handed over for all outputs.
        ranks: how many axes the weights of each output have.
    """

    shared: bool
    ranks: list[int]


class WeightedLoss:
    """The loss that a model was compiled with, and importance weights in the form it takes.

    Args:
        model: the compiled, built model.
        info: what is known of its outputs.
        ignored_labels: for each output the label that Keras ignores, None where it has none.
        form: how weights are handed over; the most likely of `weight_forms` where None.

    Attributes:
        uses_keras_loss: bool, whether the loss is computed by Keras' own `compute_loss`.
        has_masked_timesteps: bool, whether Keras divides the loss by a number of valid steps,
            which differs from batch to batch.
    """

    def __init__(
        self,
        model: keras.Model,
        info: OutputInfo,
        ignored_labels: list[int | None],
        form: WeightForm | None = None,
    ):
        self.model = model
        self.info = info
        self.ignored_labels = ignored_labels
        self.uses_keras_loss = not overrides(model, "compute_loss")
        self.has_masked_timesteps = any(info.masked) or any(i is not None for i in ignored_labels)
        self._form = form or self.weight_forms()[0]
        self._is_column = not info.nested and self._form.ranks == [2]
        # Bound before a hook is placed on the instance.
        self._function = model.compute_loss
        self._takes_training = takes_training(model.compute_loss)
        self._call_takes_training = takes_training(model.call)

    def weight_forms(self) -> list[WeightForm]:
        """Forms in which the loss may take its weights, the most likely one first.

        Keras' losses have one value per step, so that weights need an axis for every axis of
        steps; but a loss may also give one value per sample, and a `compute_loss` of the user's
        own multiplies by what Keras hands it, which is `(n,)`.
        """
        flat = self.info.flat
        per_step = WeightForm(False, [max(len(output.shape), 1) for output in flat])
        per_sample = WeightForm(not self.uses_keras_loss, [1] * len(flat))
        return [per_step, per_sample] if self.uses_keras_loss else [per_sample, per_step]

    def with_form(self, form: WeightForm) -> WeightedLoss:
        """The same loss, with weights handed over in another form."""
        return WeightedLoss(self.model, self.info, self.ignored_labels, form)

    # -- passes -------------------------------------------------------------------------------

    def forward(self, x: Nested, training: bool = False) -> Nested:
        """The model's outputs; to be called inside a scope of the runtime.

        Args:
            x: inputs.
            training: bool, whether layers run as in training. Defaults to `False`.
        """
        if self._call_takes_training:
            return self.model(x, training=training)
        return self.model(x)

    def value(
        self, x: Nested, y: Nested, outputs: Nested, weight: Nested, training: bool = False
    ) -> Tensor:
        """The model's own loss, a scalar.

        Args:
            x: inputs.
            y: targets.
            outputs: what the model gave.
            weight: sample weights in the form that `weigh` makes, or None.
            training: bool, what the loss is told. Defaults to `False`.
        """
        arguments = {"training": training} if self._takes_training else {}
        return self._function(x=x, y=y, y_pred=outputs, sample_weight=weight, **arguments)

    def call(
        self, x: Nested, y: Nested, outputs: Nested, weight: Nested, arguments: dict[str, Any]
    ) -> Tensor:
        """The model's `compute_loss`, for a hook in its place that was called.

        Args:
            x: inputs.
            y: targets.
            outputs: what the model gave.
            weight: sample weights in the form that `weigh` makes, or None.
            arguments: what else the hook was called with.
        """
        if not self._takes_training:
            arguments = {k: v for k, v in arguments.items() if k != "training"}
        return self._function(x=x, y=y, y_pred=outputs, sample_weight=weight, **arguments)

    # -- weights ------------------------------------------------------------------------------

    def weigh(
        self,
        sample_weight: Nested,
        weights: Tensor | list[Tensor],
        valid: list[Tensor | None] | None = None,
    ) -> Nested:
        """Multiplies importance weights into the user's sample weights.

        Args:
            sample_weight: what the user gave, or None.
            weights: `(n,)` or `(n, 1)`, or a list with one such tensor per output.
            valid: for each output, booleans whose shape its weights must have in full (Keras
                multiplies masks into weights in place), or None.
        """
        if (
            self._is_column
            and sample_weight is None
            and valid is None
            and not isinstance(weights, list)
        ):
            return weights if len(weights.shape) == 2 else spread(weights, 2)
        if self._form.shared and valid is None and not tree.is_nested(sample_weight):
            # Factors differ from output to output only where valid steps are counted.
            weight = weights[0] if isinstance(weights, list) else weights
            return _multiply(sample_weight, weight, self._form.ranks[0])
        count = len(self.info.masked)
        per_output = weights if isinstance(weights, list) else [weights] * count
        users = _checks.align(self.model, sample_weight, self.info.spec, count)
        combined = []
        for rank, user, weight, steps in zip(
            self._form.ranks, users, per_output, valid or [None] * count, strict=True
        ):
            total = _multiply(user, weight, rank)
            combined.append(total if steps is None else fill(total, steps))
        if not self.info.nested:
            return combined[0]
        return tree.pack_sequence_as(self.info.spec, combined)

    # -- valid steps --------------------------------------------------------------------------

    def masks(self, outputs: Nested) -> list[Tensor | None]:
        """The mask of each output, None where it has none."""
        if not any(self.info.masked):
            return [None] * len(self.info.masked)
        return [
            read_mask(o) if masked else None
            for o, masked in zip(tree.flatten(outputs), self.info.masked, strict=True)
        ]

    def targets(self, y: Nested) -> list[Tensor]:
        """The target of each output, in the order of the outputs."""
        return _checks.align(self.model, y, self.info.spec, len(self.info.masked))

    def valid(self, y: Nested, masks: list[Tensor | None]) -> list[Tensor | None] | None:
        """Which steps count.

        Args:
            y: targets.
            masks: what `masks` gave for the outputs.

        Returns:
            For each output booleans, None where all steps count; None if all do everywhere.
        """
        return self._valid(y, masks) if self.has_masked_timesteps else None

    def _valid(self, y: Nested, masks: list[Tensor | None]) -> list[Tensor | None]:
        found = []
        for target, mask, ignored in zip(self.targets(y), masks, self.ignored_labels, strict=True):
            steps = mask
            if ignored is not None:
                steps = ops.not_equal(target, ops.cast(ignored, target.dtype))
                if mask is not None:
                    if len(steps.shape) > len(mask.shape):
                        steps = ops.squeeze(steps, axis=-1)
                    steps = ops.logical_and(mask, steps)
            found.append(steps)
        return found

    def count_valid(self, y: Nested, masks: list[Tensor | None]) -> Tensor:
        """Valid steps per sample and output, `(n, outputs)`.

        Args:
            y: targets.
            masks: what `masks` gave for the outputs.
        """
        columns = []
        for target, steps in zip(self.targets(y), self._valid(y, masks), strict=True):
            if steps is None:
                columns.append(ops.ones((ops.shape(target)[0],), "float32"))
            else:
                columns.append(count_valid(steps))
        return ops.stack(columns, axis=-1)

    def valid_step_factors(
        self, counts: Tensor, mean_counts: Tensor | None, divisor: Tensor | None = None
    ) -> list[Tensor]:
        """Factors that make Keras divide by the training set's valid steps, not the batch's.

        Keras' masked loss is sum_i w_i t_i / sum_i c_i over the batch, t_i and c_i the
        sample's summed loss and valid steps. A draw with weights w_i = 1/(N p_i) estimates
        sum t / sum c over the set only if the divisor is n * mean(c) of the set.

        Args:
            counts: `(n, outputs)` valid steps of the batch.
            mean_counts: `(outputs,)` their mean over the training set, 0 where not known; or None.
            divisor: `(outputs,)` the mean that values were divided by, where that is not the one
                over these rows.

        Returns:
            For each output `(n,)`.
        """
        ones = ops.ones_like(counts[:, 0])
        if mean_counts is None:
            return [ones] * len(self.info.masked)
        known = mean_counts > 0.0
        divisor = ops.mean(counts, axis=0) if divisor is None else divisor
        ratios = divisor / ops.where(known, mean_counts, 1.0)
        ratios = ops.where(known, ratios, 1.0)
        return [ones * ratios[i] for i in range(len(self.info.masked))]


def _multiply(user: Tensor | None, weight: Tensor, rank: int) -> Tensor:
    weight = ops.reshape(weight, (-1,))
    if user is None:
        return spread(weight, rank)
    user = ops.cast(user, "float32")
    if len(user.shape) <= 1:
        return spread(ops.reshape(user, (-1,)) * weight, rank)
    return user * spread(weight, len(user.shape))
