"""Per-sample losses and scores, said once for all backends.

The model's own `compute_loss` is the only definition of the loss. With the
default reduction it is the mean over samples of w_i * l_i, so for n samples

    l_i = n * d compute_loss / d w_i           (at w = 1)
    g_i = n * d compute_loss / d output_i

hold for custom losses, several outputs, `loss_weights` and masks alike.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from .. import backend
from ..backend.array_types import tensor_to_numpy
from ..layers import _activations, _masks
from . import _checks, _closed_form
from ._errors import wrong_share
from ._gradient_norms import exact_norms, layer_norms, sum_per_sample
from ._outputs import OutputInfo, is_plain_last, takes_training

SCORES = ("loss", "gnorm", "full_gnorm", "acc")

# Memory for the per-sample gradients that `full_gnorm` holds at one time.
_FULL_GNORM_BYTES = 2**28


def spread(weights: Any, rank: int) -> Any:
    """Reshapes `(n,)` weights to `(n, 1, ...)` of the given rank (at least 1)."""
    return ops.reshape(weights, (-1,) + (1,) * (rank - 1))


def fill(weights: Any, steps: Any) -> Any:
    """Repeats weights over `steps`' axes: Keras multiplies masks into weights in place."""
    while len(weights.shape) > len(steps.shape):
        weights = ops.squeeze(weights, axis=-1)
    return weights * ops.ones_like(steps, dtype="float32")


class Objective:
    """The per-sample view of what a compiled model minimises.

    Args:
        model: the compiled, built model.
        runtime: the backend's runtime for it.
        info: what is known of its outputs.
        score: one of `SCORES`.
        layer: the layer whose pre-activation `gnorm` refers to, or None for the last one.
        summed: whether the loss is reduced by "sum" rather than by the mean.
    """

    def __init__(
        self,
        model: keras.Model,
        runtime: Any,
        info: OutputInfo,
        score: str,
        layer: Any = None,
        summed: bool = False,
        ignored: list[int | None] | None = None,
    ):
        self.model = model
        self.runtime = runtime
        self.info = info
        self.score = score
        self.layer = None if layer is None or is_plain_last(info, layer) else layer
        self.summed = summed
        self.own_loss = not type(model).compute_loss.__module__.startswith("keras.")
        """Whether the model's class has a `compute_loss` of its own."""
        self._ignored = ignored or [None] * len(info.masked)
        self.use_weights(self.weight_forms()[0])
        # Bound before any hook is placed on the instance.
        self._loss_function = model.compute_loss
        self._loss_takes_training = takes_training(model.compute_loss)
        self._call_takes_training = takes_training(model.call)
        self._closed_form: _closed_form.ClosedForm | None = None

    def weight_forms(self) -> list[tuple[bool, list[int]]]:
        """Forms in which the loss may want its weights, the most likely one first.

        Each is `(one, ranks)`: whether to hand over one array for all outputs, and how many axes
        the weights of each output have. Keras' losses have one value per step, so that weights
        need an axis for every axis of steps; but a loss may also give one value per sample, and a
        `compute_loss` of the user's own multiplies by what Keras hands it, which is `(n,)`.
        """
        per_step = False, [max(len(output.shape), 1) for output in self.info.flat]
        per_sample = self.own_loss, [1] * len(self.info.flat)
        return [per_sample, per_step] if self.own_loss else [per_step, per_sample]

    def use_weights(self, form: tuple[bool, list[int]]) -> None:
        """Hands weights to the loss in one of `weight_forms`."""
        self._one_weight, self._weight_ranks = form
        self._plain_weights = not self.info.nested and self._weight_ranks == [2]

    def use_closed_form(self, y: Any) -> None:
        """Switches to the closed form of the gradient norm if it gives what the loss gives.

        Args:
            y: a few targets to compare on.
        """
        found = _closed_form.find(self.model, self.info)
        if found is None or self.score != "gnorm" or self.layer is not None or self.summed:
            return
        logits = np.random.default_rng(0).normal(size=self.info.spec.shape).astype("float32")
        outputs = self.info.ending[0](ops.convert_to_tensor(logits))
        _, general = self.measure(None, y, outputs, None, [None])
        special = tensor_to_numpy(found(y, outputs))
        if np.allclose(tensor_to_numpy(general), special, rtol=1e-4, atol=1e-6):
            self._closed_form = found

    @property
    def needs_forward(self) -> bool:
        """Whether the score needs more than the outputs of a pass."""
        return self.score == "full_gnorm" or self.layer is not None

    @property
    def counts_tokens(self) -> bool:
        """Whether Keras normalises the loss by a count that changes from batch to batch."""
        return any(self.info.masked) or any(i is not None for i in self._ignored)

    def forward(self, x: Any, training: bool = False) -> Any:
        """The model's outputs; to be called inside a scope."""
        if self._call_takes_training:
            return self.model(x, training=training)
        return self.model(x)

    def loss(self, x: Any, y: Any, outputs: Any, weight: Any, training: bool = False) -> Any:
        """The model's own scalar loss."""
        arguments = {"x": x, "y": y, "y_pred": outputs, "sample_weight": weight}
        if self._loss_takes_training:
            arguments["training"] = training
        return self._loss_function(**arguments)

    def plain_loss(
        self, x: Any, y: Any, outputs: Any, weight: Any, arguments: dict[str, Any]
    ) -> Any:
        """The model's `compute_loss`, called as a hook on it was called."""
        if not self._loss_takes_training:
            arguments = {k: v for k, v in arguments.items() if k != "training"}
        return self._loss_function(x=x, y=y, y_pred=outputs, sample_weight=weight, **arguments)

    def weigh(self, sample_weight: Any, weights: Any, valid: list[Any] | None = None) -> Any:
        """Multiplies importance weights into the user's sample weights.

        Args:
            sample_weight: what the user gave, or None.
            weights: `(n,)` or `(n, 1)`, or a list with one such tensor per output.
            valid: for each output, booleans whose shape its weights must have in full (Keras
                multiplies masks into weights in place), or None.
        """
        plain = self._plain_weights and sample_weight is None and valid is None
        if plain and not isinstance(weights, list):
            return weights if len(weights.shape) == 2 else spread(weights, 2)
        if self._one_weight and valid is None and not tree.is_nested(sample_weight):
            # Factors differ from output to output where tokens are counted, and only there.
            weight = weights[0] if isinstance(weights, list) else weights
            return self._weigh_one(sample_weight, weight, self._weight_ranks[0])
        count = len(self.info.masked)
        per_output = weights if isinstance(weights, list) else [weights] * count
        users = _checks.align(self.model, sample_weight, self.info.spec, count)
        combined = []
        for rank, user, weight, steps in zip(
            self._weight_ranks, users, per_output, valid or [None] * count, strict=True
        ):
            total = self._weigh_one(user, weight, rank)
            combined.append(total if steps is None else fill(total, steps))
        if not self.info.nested:
            return combined[0]
        return tree.pack_sequence_as(self.info.spec, combined)

    @staticmethod
    def _weigh_one(user: Any, weight: Any, rank: int) -> Any:
        weight = ops.reshape(weight, (-1,))
        if user is None:
            return spread(weight, rank)
        user = ops.cast(user, "float32")
        if len(user.shape) <= 1:
            return spread(ops.reshape(user, (-1,)) * weight, rank)
        return user * spread(weight, len(user.shape))

    def masks(self, outputs: Any) -> list[Any]:
        """The mask of each output, None where it has none."""
        if not any(self.info.masked):
            return [None] * len(self.info.masked)
        return [
            _masks.read_mask(o) if masked else None
            for o, masked in zip(tree.flatten(outputs), self.info.masked, strict=True)
        ]

    def targets(self, y: Any) -> list[Any]:
        """The target of each output, in the order of the outputs."""
        return _checks.align(self.model, y, self.info.spec, len(self.info.masked))

    def valid(self, y: Any, masks: list[Any]) -> list[Any] | None:
        """For each output, which steps count (None: all); None if all do everywhere."""
        if not self.counts_tokens:
            return None
        found = []
        for target, mask, ignored in zip(self.targets(y), masks, self._ignored, strict=True):
            steps = mask
            if ignored is not None:
                steps = ops.not_equal(target, ops.cast(ignored, target.dtype))
                if mask is not None:
                    if len(steps.shape) > len(mask.shape):
                        steps = ops.squeeze(steps, axis=-1)
                    steps = ops.logical_and(mask, steps)
            found.append(steps)
        return found

    def counts(self, y: Any, masks: list[Any]) -> Any:
        """Valid steps per sample and output, `(n, outputs)`."""
        columns = []
        for target, steps in zip(self.targets(y), self.valid(y, masks), strict=True):
            if steps is None:
                columns.append(ops.ones((ops.shape(target)[0],), "float32"))
            else:
                columns.append(_masks.count_valid(steps))
        return ops.stack(columns, axis=-1)

    def token_factors(self, counts: Any, tokens: Any) -> list[Any]:
        """Undoes Keras' division by the valid steps of this batch, in favour of the whole set's.

        Keras' masked loss is sum_i w_i t_i / sum_i c_i over the batch, t_i and c_i the
        sample's summed loss and valid steps. A draw with weights w_i = 1/(N p_i) estimates
        sum t / sum c over the set only if the divisor is n * mean(c) of the set.

        Args:
            counts: `(n, outputs)` valid steps of the batch.
            tokens: `(outputs,)` their mean over the set, 0 where not known; or None.
        """
        ones = ops.ones_like(counts[:, 0])
        if tokens is None:
            return [ones] * len(self.info.masked)
        known = tokens > 0.0
        ratios = ops.mean(counts, axis=0) / ops.where(known, tokens, 1.0)
        ratios = ops.where(known, ratios, 1.0)
        return [ones * ratios[i] for i in range(len(self.info.masked))]

    def measure(
        self,
        x: Any,
        y: Any,
        outputs: Any,
        sample_weight: Any,
        masks: list[Any],
        with_losses: bool = True,
    ) -> tuple[Any, Any]:
        """Per-sample losses and scores `(n,)`, both float32, from the outputs of a pass.

        Without `with_losses` the losses may be None. Nothing leaves a trace: metrics that
        `compute_loss` updates are updated in a scope that is thrown away.
        """
        if self._closed_form is not None and not with_losses:
            return None, self._closed_scores(y, outputs, sample_weight)
        flat = [ops.stop_gradient(o) for o in tree.flatten(outputs)]
        endings = self.info.ending
        flat = [_activations.safe_output(e, o) for e, o in zip(endings, flat, strict=True)]
        n = ops.shape(flat[0])[0]
        scale = 1.0 if self.summed else ops.cast(n, "float32")
        ones = ops.ones((n,), "float32")
        at_outputs = self.score == "gnorm" and self.layer is None
        valid = self.valid(y, masks)

        def total(weights: Any, *predictions: Any) -> Any:
            predictions = [
                _masks.write_mask(p, m) for p, m in zip(predictions or flat, masks, strict=True)
            ]
            packed = tree.pack_sequence_as(outputs, predictions)
            with self.runtime.scope():
                return self.loss(x, y, packed, self.weigh(sample_weight, weights, valid))

        arguments = [ones, *flat] if at_outputs else [ones]
        _, gradients = backend.get().gradient(total, arguments)
        losses = ops.cast(gradients[0], "float32") * scale
        if at_outputs:
            squares = 0.0
            for ending, output, gradient in zip(endings, flat, gradients[1:], strict=True):
                inner = _activations.preactivation_gradient(ending, output, gradient)
                squares = squares + sum_per_sample(ops.square(ops.cast(inner, "float32")))
            return losses, ops.sqrt(squares) * scale
        if self.score == "acc":
            return losses, wrong_share(self.targets(y), flat, masks, endings)
        if self.needs_forward:
            norms = exact_norms if self.score == "full_gnorm" else layer_norms
            return losses, norms(self, x, y, sample_weight)
        return losses, losses

    def _closed_scores(self, y: Any, outputs: Any, sample_weight: Any) -> Any:
        """Gradient norms in closed form; a numpy array where nothing is traced."""
        outputs = ops.stop_gradient(outputs)
        weight = None if sample_weight is None else tree.flatten(sample_weight)[0]
        if not self.runtime.traces:
            y, outputs = tensor_to_numpy(y), tensor_to_numpy(outputs)
            weight = None if weight is None else tensor_to_numpy(weight)
        scores = self._closed_form(y, outputs)
        if weight is None:
            return scores
        if self.runtime.traces:
            weight = ops.cast(ops.reshape(weight, (-1,)), "float32")
        return scores * abs(weight.reshape(-1) if isinstance(weight, np.ndarray) else weight)

    def full_gnorm_chunk(self) -> int:
        """How many samples' exact gradients fit into memory at one time."""
        size = sum(4 * _size(v.shape) for v in self.model.trainable_variables)
        return max(1, min(1024, _FULL_GNORM_BYTES // max(size, 1)))


def _size(shape: Any) -> int:
    size = 1
    for dimension in shape:
        size *= int(dimension)
    return size
