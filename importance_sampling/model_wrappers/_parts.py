"""A training step and a scoring pass of which every process does a part.

Each process computes its share of the rows of the batch. The mean gradient of its n_r rows counts
n_r / n, so that the sum over the processes is the gradient of the batch of n, and what regularizers
add to it counts once. It is summed where the model's optimizer is given the gradient, as a
`CorrectedStep` corrects it there. What metrics have added up, the statistics of normalizations and
the scores follow in one exchange when the step is over, so that then every process holds the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from .._arrays import Nested, flatten, take_rows
from .._pending_rows import PendingRows, read_rows
from ..backend.base import Tensor
from ..backend.processes import Share
from ..proposal import Proposal
from ._hooks import replaced
from ._passes import Scored
from ._step_values import DeferredValues, SampleValues
from .introspection import all_layers, overrides

if TYPE_CHECKING:
    from ._compiled import CompiledModel

# A checksum is summed in pieces so small that the sums of their squares are exact in float32.
_BITS, _PIECES = 6, 6
# Numbers of each row that go into it.
_SAMPLED = 8


class PartsOfSteps:
    """Makes steps and scores batches together with other processes.

    Args:
        compiled: what is compiled for the model.
    """

    def __init__(self, compiled: CompiledModel):
        self._compiled = compiled
        self._runtime = compiled.runtime
        model: Any = compiled.step.model
        self._model = model
        self._metrics = [v.value for v in model.metrics_variables]
        self._moving = [*_moving_values(model), *self._runtime.buffers()]
        self._moving = [v for v in self._moving if keras.backend.is_float_dtype(_dtype(v))]
        # Otherwise the step makes logs of its own, and may read what it has just logged.
        self._keras_logs = not any(
            overrides(model, name) for name in ("train_step", "compute_metrics")
        )

    def train(
        self,
        proposal: Proposal,
        step: Callable[[Proposal], tuple[dict[str, Any], DeferredValues]],
        share: Share,
    ) -> tuple[dict[str, Any], DeferredValues]:
        """One optimizer step on a batch that all processes share; see `CompiledModel.in_parts`.

        Args:
            proposal: the whole batch.
            step: makes the step on this process' rows.
            share: which rows they are.

        Returns:
            `(logs, values)`, of the whole batch.

        Raises:
            RuntimeError: if the processes have drawn different batches, or one of them is gone.
        """
        part = _rows_of(proposal, share.rows)
        before = [ops.copy(value) for value in self._metrics]
        gradients = _GradientSum(share, _checksum(proposal), self._model)
        optimizer = self._model.optimizer
        with contextlib.ExitStack() as block:
            block.enter_context(self._runtime.sharing(share))
            block.enter_context(replaced(optimizer, "apply", gradients.hook(optimizer.apply)))
            if self._keras_logs:
                # They are made when the metrics know of all rows.
                block.enter_context(replaced(self._model, "get_metrics_result", dict))
            block.enter_context(self._runtime.own_draws())
            logs, deferred = step(part)
        logs = _flat(logs)
        if gradients.calls != 1 and self._model.trainable_variables:
            raise ValueError(
                f"The train_step of {self._model.name!r} has called `self.optimizer.apply` "
                f"{gradients.calls} times. With several processes the gradients are averaged "
                "there: call it (or `apply_gradients`) once in every step."
            )
        scores = None
        if proposal.reads_scores:
            # Now, because nobody knows whether all processes will read them at the same time.
            with self._runtime.sharing(share):
                scores = ops.convert_to_tensor(deferred.scores(), "float32")
        logs, scores = self._exchange(share, before, logs, scores)
        return logs, self._of_batch(share, deferred, scores)

    def score(self, x: Nested, y: Nested, sample_weight: Nested, share: Share) -> Scored:
        """Scores a batch that all processes share; see `CompiledModel.score`.

        Args:
            x: inputs of the whole batch.
            y: its targets.
            sample_weight: the user's own weights, or None.
            share: this process' rows.
        """
        part = read_rows(take_rows((x, y, sample_weight), share.rows))
        with self._runtime.sharing(share):
            found = self._compiled.score_alone(*part)
        given = [ops.convert_to_tensor(found.scores, "float32")]
        if found.valid_steps is not None:
            given.append(found.valid_steps)
        scores, *valid_steps = share.gather(given)
        return Scored(scores, valid_steps[0] if valid_steps else None)

    def _exchange(
        self, share: Share, before: list[Tensor], logs: dict[str, Any], scores: Tensor | None
    ) -> tuple[dict[str, Any], Tensor | None]:
        """Brings metrics, statistics, logs and scores of the parts together.

        Args:
            share: this process' rows.
            before: the state of the metrics before the step.
            logs: what the step returned.
            scores: `(count,)`, or None where nobody reads them.
        """
        own = {} if self._keras_logs else _numbers(logs)
        means = [*self._moving, *own.values()]
        # What a row that stands in for none has added counts for nothing.
        adds = float(share.count > 0)
        added = [(now - then) * adds for now, then in zip(self._metrics, before, strict=True)]
        if own:
            added.append(self._are_metrics(own, share))
        if scores is not None:
            added.append(share.padded(scores))
        found = iter(share.processes.sum(means, share.weight, added))
        new = [next(found) for _ in self._moving]
        own = {name: next(found) for name in own}
        new += [then + next(found) for then in before]
        share.processes.assign([*self._moving, *self._metrics], new)
        metrics = self._model.get_metrics_result()
        if own:
            agreed = ops.convert_to_numpy(next(found)) == share.processes.size
            names = [name for name, is_metric in zip(own, agreed, strict=True) if is_metric]
            metrics = {name: metrics[name] for name in names}
        return {**logs, **own, **metrics}, next(found, None)

    def _are_metrics(self, logged: dict[str, Tensor], share: Share) -> Tensor:
        """For each number that a step of the user's own logs, 1 if it is what a metric says."""
        metrics = self._model.get_metrics_result()
        flags = [
            name in metrics and (share.count == 0 or np.isclose(float(metrics[name]), float(value)))
            for name, value in logged.items()
        ]
        return ops.convert_to_tensor(flags, "float32")

    def _of_batch(
        self, share: Share, deferred: DeferredValues, scores: Tensor | None
    ) -> DeferredValues:
        """What the step tells of the rows of the whole batch."""
        known: list[SampleValues] = []

        def values() -> SampleValues:
            if not known:
                with self._runtime.sharing(share):
                    local = deferred.values()
                given = [each for each in local if each is not None]
                known.append(SampleValues(*share.gather(given)))
            return known[0]

        return DeferredValues(values, lambda: values().scores if scores is None else scores)


class _GradientSum:
    """Stands in the place of an optimizer's `apply` for one step.

    Args:
        share: this process' rows.
        checksum: int, of what was drawn.
        model: the model.
    """

    def __init__(self, share: Share, checksum: int, model: Any):
        self._share = share
        self._check = [checksum >> (_BITS * i) & (2**_BITS - 1) for i in range(_PIECES)]
        self._model = model
        self.calls = 0

    def hook(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What is called in the place of `apply`.

        Args:
            original: the optimizer's own.
        """

        def apply(grads: Sequence[Any], trainable_variables: Any = None) -> Any:
            self.calls += 1
            variables = trainable_variables
            if variables is None:
                variables = self._model.trainable_variables
            return original(self._summed(list(grads), list(variables)), trainable_variables)

        return apply

    def _summed(self, grads: list[Any], variables: list[Any]) -> list[Any]:
        """The gradients of the whole batch; None where it has none of a variable in any process."""
        share = self._share
        given = [
            ops.zeros_like(v.value) if g is None else g
            for g, v in zip(grads, variables, strict=True)
        ]
        flags = [0.0 if g is None else 1.0 for g in grads]
        flags += [float(piece) for piece in self._check]
        flags += [float(piece) ** 2 for piece in self._check]
        *summed, found = share.processes.sum(
            given, share.weight, [ops.convert_to_tensor(np.array(flags, np.float32))]
        )
        numbers = ops.convert_to_numpy(found).tolist()
        pieces = numbers[len(grads) : len(grads) + _PIECES]
        squares = numbers[len(grads) + _PIECES :]
        # Equal everywhere, or the mean of the squares is above the square of the mean.
        if any(p * p != share.processes.size * s for p, s in zip(pieces, squares, strict=True)):
            raise RuntimeError(
                "The processes have drawn different batches, so that their parts do not make one. "
                "Draws come from one generator, which is the same in every process: a sampler of "
                "your own must draw from `self.rng` alone, and data in batches must come in the "
                "same order everywhere (give what shuffles it a seed). Nothing was changed by "
                "this step."
            )
        return [
            None if has == 0.0 else gradient
            for gradient, has in zip(summed, numbers[: len(grads)], strict=True)
        ]


def _rows_of(proposal: Proposal, rows: slice) -> Proposal:
    """A part of a batch; what concerns the pool is left out."""

    def part(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else array[rows]

    return dataclasses.replace(
        proposal,
        idxs=proposal.idxs[rows],
        rows=read_rows(take_rows(proposal.rows, rows)),
        weights=proposal.weights[rows],
        scores=part(proposal.scores),
        metric_weights=part(proposal.metric_weights),
        pool_scores=None,
    )


def _checksum(proposal: Proposal) -> int:
    """A checksum of a batch: which examples, their weights, and a few numbers of each row."""
    found = zlib.crc32(proposal.idxs.tobytes())
    found = zlib.crc32(proposal.weights.astype(np.float32).tobytes(), found)
    for array in flatten(proposal.rows):
        # The indices of a stream only count its rows; what is read by index follows from them.
        if not isinstance(array, PendingRows) and getattr(array.dtype, "kind", "") in "biufc":
            row = array.reshape(len(array), -1)
            few = row[:, :: max(1, row.shape[1] // _SAMPLED)]
            found = zlib.crc32(few.tobytes(), found)
    return found


def _flat(logs: Mapping[str, Any]) -> dict[str, Any]:
    """As Keras tells them: metrics in a dictionary of their own stand beside the others."""
    found: dict[str, Any] = {}
    for name, value in logs.items():
        found |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return found


def _numbers(logs: dict[str, Any]) -> dict[str, Tensor]:
    """What is logged as one number, on the device."""
    scalars = {name: value for name, value in logs.items() if np.ndim(value) == 0}
    return {name: ops.convert_to_tensor(value, "float32") for name, value in scalars.items()}


def _moving_values(model: Any) -> Iterator[Tensor]:
    """What layers change without the optimizer; that of frozen ones stays as it is."""
    frozen = {id(v) for layer in all_layers(model) if not layer.trainable for v in layer.variables}
    for variable in model.non_trainable_variables:
        if id(variable) not in frozen:
            yield variable.value


def _dtype(value: Any) -> str:
    return keras.backend.standardize_dtype(value.dtype)
