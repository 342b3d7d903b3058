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
from typing import TYPE_CHECKING, Any, NamedTuple

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
from ._step_values import DeferredLogs, DeferredValues, SampleValues
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

        def along() -> _Parts | None:
            if share.finish is None:
                return None
            values: SampleValues | DeferredValues = share.finish()
            if isinstance(values, SampleValues):
                values = values.deferred()
            return self._parts(share, before, {}, self._scores(proposal, share, values))

        gradients = _GradientSum(share, _checksum(proposal), self._model, along)
        optimizer = self._model.optimizer
        with contextlib.ExitStack() as block:
            block.enter_context(self._runtime.sharing(share))
            block.enter_context(replaced(optimizer, "apply", gradients.hook(optimizer.apply)))
            if self._keras_logs:
                # They are made when the metrics know of all rows.
                block.enter_context(replaced(self._model, "get_metrics_result", dict))
            block.enter_context(self._runtime.own_draws())
            logs, deferred = step(part)
        # It holds what the step was made of.
        share.finish = None
        logs = _flat(logs)
        if gradients.calls != 1 and self._model.trainable_variables:
            raise ValueError(
                f"The train_step of {self._model.name!r} has called `self.optimizer.apply` "
                f"{gradients.calls} times. With several processes the gradients are averaged "
                "there: call it (or `apply_gradients`) once in every step."
            )
        summed, own = gradients.along, {}
        if summed is None:
            own = {} if self._keras_logs else _numbers(logs)
            # Now, because nobody knows whether all processes will read them at the same time.
            scores = self._scores(proposal, share, deferred)
            summed = self._parts(share, before, own, scores).summed(share)
        logs, scores = self._take_over(share, before, logs, list(own), summed)
        return logs, self._of_batch(share, deferred, scores)

    def _scores(self, proposal: Proposal, share: Share, values: DeferredValues) -> Tensor | None:
        """Scores of this process' rows; None where nobody reads them."""
        if not proposal.reads_scores:
            return None
        with self._runtime.sharing(share):
            return ops.convert_to_tensor(values.scores(), "float32")

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

    def _parts(
        self, share: Share, before: list[Tensor], own: dict[str, Tensor], scores: Tensor | None
    ) -> _Parts:
        """What this process adds to statistics, logs, metrics and scores.

        Args:
            share: its rows.
            before: the state of the metrics before the step.
            own: numbers that a step of the user's own logs.
            scores: `(count,)`, or None where nobody reads them.
        """
        if share.count:
            added = [now - then for now, then in zip(self._metrics, before, strict=True)]
        else:
            # What a row that stands in for none has added counts for nothing.
            added = [ops.zeros_like(then) for then in before]
        if own:
            added.append(self._are_metrics(own, share))
        if scores is not None:
            added.append(share.padded(scores))
        return _Parts([*self._moving, *own.values()], added)

    def _take_over(
        self,
        share: Share,
        before: list[Tensor],
        logs: dict[str, Any],
        own: list[str],
        summed: _Parts,
    ) -> tuple[dict[str, Any], Tensor | None]:
        """Gives the model what all processes have found together.

        Args:
            share: this process' rows.
            before: the state of the metrics before the step.
            logs: what the step returned.
            own: names of numbers that a step of the user's own logs.
            summed: over the processes.

        Returns:
            `(logs, scores)` of the whole batch; None where nobody reads the scores.
        """
        count = len(self._moving)
        added = iter(summed.added)
        metrics = [then + next(added) for then in before]
        new = [*summed.means[:count], *metrics]
        share.processes.assign([*self._moving, *self._metrics], new)
        if self._keras_logs and not self._runtime.reads_logs:
            later: Any = DeferredLogs(self._model.get_metrics_result)
            return later, next(added, None)
        found = self._model.get_metrics_result()
        if own:
            agreed = ops.convert_to_numpy(next(added)) == share.processes.size
            names = [name for name, is_metric in zip(own, agreed, strict=True) if is_metric]
            found = {name: found[name] for name in names}
        logged = dict(zip(own, summed.means[count:], strict=True))
        return {**logs, **logged, **found}, next(added, None)

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


class _Parts(NamedTuple):
    """What processes find out, each of its own rows, or all together.

    Attributes:
        means: tensors that are means over the rows.
        added: tensors that add up.
    """

    means: list[Tensor]
    added: list[Tensor]

    def summed(self, share: Share) -> _Parts:
        """What all processes have found together."""
        found = share.processes.sum(self.means, share.weight, self.added)
        return _Parts(found[: len(self.means)], found[len(self.means) :])


class _GradientSum:
    """Stands in the place of an optimizer's `apply` for one step.

    Args:
        share: this process' rows.
        checksum: int, of what was drawn.
        model: the model.
        along: returns what goes along with the gradients; None where that is not known yet.

    Attributes:
        calls: int, how often the step has called it.
        along: what went along, summed over the processes; None where nothing did.
    """

    def __init__(self, share: Share, checksum: int, model: Any, along: Callable[[], _Parts | None]):
        self._share = share
        self._own_along = along
        self.along: _Parts | None = None
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
        parts = self._own_along()
        means, added = parts or ([], [])
        told = _Parts(
            [*given, *means], [ops.convert_to_tensor(np.array(flags, np.float32)), *added]
        ).summed(share)
        if parts is not None:
            self.along = _Parts(told.means[len(given) :], told.added[1:])
        summed, found = told.means[: len(given)], told.added[0]
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
