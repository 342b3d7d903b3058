"""Snapshots of a model's weights, and the mean gradient at them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from .._arrays import Nested, count_rows, take_rows
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Tensor
from ..proposal import InvalidScores, Proposal
from ._compiled import CompiledModel
from ._corrected_step import Corrected, CorrectedStep, SnapshotTensors
from ._gradient_sum import checksum_of_rows
from ._passes import GradientBatch, weighted_gradient
from ._valid_steps import MeanValidSteps

# Squared relative distance above which two gradients are taken for those of different functions.
_SAME = 1e-4
_SEED = "seed_generator_state"


@dataclass(frozen=True, eq=False)
class CompiledSnapshots:
    """What is compiled for variance-reduced steps of one model, beside what it is compiled for.

    Attributes:
        compiled: the model's other functions, of which runtime and objective are shared.
        step: the corrected step.
        train_function: the step, compiled.
        gradient_function: the gradient of a part of the data, compiled.
    """

    compiled: CompiledModel
    step: CorrectedStep
    train_function: Callable[..., Corrected]
    gradient_function: Callable[..., list[Tensor]]

    @classmethod
    def of(cls, compiled: CompiledModel, step: CorrectedStep) -> CompiledSnapshots:
        """Compiles the two functions.

        Args:
            compiled: what is compiled for the model.
            step: the corrected step.
        """
        runtime = compiled.runtime
        return cls(
            compiled,
            step,
            runtime.compile_train(runtime.spread(step, CorrectedStep.ROWS, CorrectedStep.JOINING)),
            runtime.compile_pure(runtime.spread(_part_gradient(compiled), slice(3, 6), "sum")),
        )

    @property
    def model(self) -> keras.Model:
        """The compiled model."""
        return self.compiled.objective.loss.model

    def present_weights(self) -> list[Tensor]:
        """Copies of the trainable variables' values; the runtime must have put its state back."""
        return [ops.copy(ops.stop_gradient(v.value)) for v in self.model.trainable_variables]

    def train(
        self,
        proposal: Proposal,
        factor: float,
        snapshot: SnapshotTensors,
        carried: tuple[list[Tensor], ...],
    ) -> Corrected:
        """One optimizer step; returns at once where the device works asynchronously.

        Args:
            proposal: what to train on.
            factor: float, as the rule wants it.
            snapshot: of the weights.
            carried: what the last step left for this one.
        """
        compiled = self.compiled
        x, y, sample_weight = (*proposal.rows, None)[:3]
        data = compiled.to_device(x, y, sample_weight, proposal.weights, proposal.metric_weights)
        number = compiled.runtime.to_device(np.float32(factor))
        return self.train_function(number, snapshot, carried, *data)

    def mean_gradient(
        self, weights: Sequence[Tensor], batches: Iterable[tuple[Any, ...]], check: bool
    ) -> SnapshotTensors:
        """The mean gradient over all batches, in training mode, a batch at a time.

        Regularizers are in it once. Layers that draw at random draw anew for each batch, and layers
        that normalize do so by each batch's statistics, as in the steps that are to be corrected.

        Args:
            weights: where to take it, a tensor for each trainable variable.
            batches: `(x, y)` or `(x, y, sample_weight)`; gone through twice for a masked loss.
            check: bool, whether to try that the same random draws can be made twice.

        Raises:
            ValueError: if there is no batch, or random draws cannot be repeated.
            InvalidScores: if the gradient is not finite.
        """
        masked = self.compiled.objective.loss.has_masked_timesteps
        if masked and iter(batches) is batches:
            batches = list(batches)
        valid_steps = self._valid_steps(batches)
        scale = float(tensor_to_numpy(self.model.optimizer.scale_loss(ops.ones((), "float32"))))
        total: list[Tensor] | None = None
        rows = 0
        for number, batch in enumerate(batches):
            if check and number == 0:
                self._check_draws(weights, batch, valid_steps, scale)
            part, scale = self._part(number, weights, batch, valid_steps, scale)
            n = _rows(batch)
            rows += n
            part = [n * p for p in part]
            total = part if total is None else [t + p for t, p in zip(total, part, strict=True)]
        if total is None:
            raise ValueError("A snapshot needs at least one batch, got none.")
        total = [t / rows for t in total]
        if not all(np.isfinite(tensor_to_numpy(ops.sum(t))) for t in total):
            raise InvalidScores(
                f"The gradient of {rows} examples at the snapshot is NaN or infinite. Check the "
                "data for NaN and infinity, lower the learning rate, or clip the gradients."
            )
        return SnapshotTensors(list(weights), total, valid_steps)

    def _part(
        self,
        number: int,
        weights: Sequence[Tensor],
        batch: tuple[Any, ...],
        valid_steps: Tensor,
        scale: float,
    ) -> tuple[list[Tensor], float]:
        """The gradient of one batch, and the scale of the loss at which it did not overflow."""
        runtime = self.compiled.runtime
        processes = runtime.processes
        share = None if processes is None else processes.share(_rows(batch))
        read = 0
        if share is not None:
            read = checksum_of_rows(batch)
            batch = take_rows(batch, share.rows)
        data = self.compiled.to_device(*(*batch, None)[:3])
        while True:
            numbers = runtime.to_device(np.int32(number)), runtime.to_device(np.float32(scale))
            with runtime.own_draws():
                part = self.gradient_function(*numbers, list(weights), *data, valid_steps)
            if share is not None:
                what = f"a snapshot's gradient of {share.n} rows"
                part = share.processes.sum(part, share.weight, what=what, number=read)
            if scale <= 1.0 or all(np.isfinite(tensor_to_numpy(p)).all() for p in part):
                return part, scale
            scale /= 2.0

    def _valid_steps(self, batches: Iterable[tuple[Any, ...]]) -> Tensor:
        compiled = self.compiled
        if not compiled.objective.loss.has_masked_timesteps:
            return compiled.unknown_valid_steps
        mean = MeanValidSteps()
        for batch in batches:
            counts = compiled.score(*(*batch, None)[:3]).valid_steps
            mean.add(tensor_to_numpy(counts))
        return compiled.valid_steps_to_device(mean.mean)

    def _check_draws(
        self, weights: Sequence[Tensor], batch: tuple[Any, ...], valid_steps: Tensor, scale: float
    ) -> None:
        found = []
        for _ in range(2):
            with self.compiled.runtime.same_draws():
                found.append(self._part(0, weights, batch, valid_steps, scale)[0])
        pairs = [[tensor_to_numpy(g) for g in pair] for pair in zip(*found, strict=True)]
        distance = sum(float(np.square(a - b).sum()) for a, b in pairs)
        if distance > _SAME * sum(float(np.square(a).sum()) for a, _ in pairs):
            raise ValueError(
                f"The model {self.model.name!r} draws at random in a way that cannot be repeated, "
                "so that the two gradients of a variance-reduced step would not be of the same "
                "function. Draw with `keras.random` and a `keras.random.SeedGenerator` that is an "
                "attribute of the layer."
            )


def _rows(batch: tuple[Any, ...]) -> int:
    return count_rows(batch[1] if batch[1] is not None else batch[0])


def _part_gradient(compiled: CompiledModel) -> Callable[..., list[Tensor]]:
    """The gradient of a part of the data in training mode, to be compiled."""
    objective, runtime = compiled.objective, compiled.runtime
    model = objective.loss.model

    def gradient(
        number: Tensor,
        scale: Tensor,
        weights: list[Tensor],
        x: Nested,
        y: Nested,
        sample_weight: Nested,
        valid_steps: Tensor,
    ) -> list[Tensor]:
        seeds = [v for v in model.non_trainable_variables if v.path.endswith(_SEED)]
        # Each part with seeds of its own, which the next step's are none of.
        moved = [
            ops.add(value, _shift(number, v.dtype))
            for v, value in zip(seeds, runtime.values(seeds), strict=True)
        ]
        gradients = weighted_gradient(
            objective,
            GradientBatch(x, y, sample_weight, None, valid_steps),
            training=True,
            at=weights,
            seen=list(zip(seeds, moved, strict=True)),
            scaled=lambda value: value * ops.cast(scale, value.dtype),
        )
        return [g / ops.cast(scale, g.dtype) for g in gradients]

    return gradient


def _shift(number: Tensor, dtype: str) -> Tensor:
    return ops.cast(number + 1, dtype) * ops.convert_to_tensor(np.array([1_000_003, 0]), dtype)


def mismatch_error(model: keras.Model, mismatch: float) -> ValueError | None:
    """What is wrong with a step of the user's own that differentiates something else.

    Args:
        model: the model.
        mismatch: float, squared relative distance of the two gradients at the snapshot.
    """
    if mismatch <= _SAME:
        return None
    return ValueError(
        f"The train_step of {model.name!r} differentiates something else than `compute_loss` of "
        "the model's outputs: at the snapshot its gradient differs from that of the same batch by "
        f"{100 * mismatch**0.5:.3g} %. Variance-reduced steps take the gradient at the snapshot "
        "by `compute_loss` alone."
    )
