"""A wrapper whose steps are corrected by the gradient at a snapshot: SVRG and SCSG."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from .._arrays import Nested
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Tensor
from ..proposal import Proposal
from ..reweighting import UNWEIGHTED, ExternalReweighting, ReweightingPolicy
from . import _build
from ._compiled import CompiledModel, deferred
from ._corrected_step import CorrectedStep, SnapshotTensors
from ._oracle import OracleWrapper
from ._snapshots import CompiledSnapshots, mismatch_error
from ._step_values import DeferredValues
from .introspection import input_shapes, normalizes_batches

# Values of inputs that one part of the data may have, where nothing else says how large parts are.
_VALUES = 2**19
_MOST_ROWS = 1024


class SVRGWrapper(OracleWrapper):
    r"""Trains with the gradient corrected by that at a snapshot of the weights.

    With the snapshot s and its mean gradient $\mu$, a step on a batch takes
    $\nabla l_b(w) - c\,(\nabla l_b(s) - \mu)$ through the model's own optimizer, whichever it is.
    With $\mu$ the gradient of the whole training set this is SVRG (Johnson and Zhang 2013), with
    that of a part of it SCSG (Lei and Jordan 2017, [1609.03261](https://arxiv.org/abs/1609.03261)).
    Whoever draws the batches decides when a snapshot is taken, as `SCSGSampler` does.

    Args:
        model: a compiled `keras.Model`; it is the model that trains, with its own optimizer.
        coefficient: keyword-only; float in [0, 1], the c of above. Below 1 it weakens a correction
            that is stale, as it is in deep networks
            ([2311.05589](https://arxiv.org/abs/2311.05589)). Defaults to `1.0`.
        reweighting: keyword-only; a `ReweightingPolicy` whose weights are known before the step.
            Defaults to `UNWEIGHTED`.

    Raises:
        ValueError: for a policy that makes weights of the scores of the step itself.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        coefficient: float = 1.0,
        reweighting: ReweightingPolicy = UNWEIGHTED,
    ):
        if not isinstance(reweighting.weight_layer(), ExternalReweighting):
            raise ValueError(
                f"The weights of {type(reweighting).__name__} depend on the scores of the step "
                "itself, so that a variance-reduced step cannot give both of its gradients the "
                "same. Use UNWEIGHTED or BiasedReweightingPolicy."
            )
        super().__init__(model, reweighting, score="loss")
        self.coefficient = check_share("coefficient", coefficient)
        self._snapshots: CompiledSnapshots | None = None
        self._snapshot: SnapshotTensors | None = None
        self._carried: tuple[list[Tensor], ...] = ()
        # Whether random draws can be repeated, and what a step of the user's own differentiates,
        # is tried once for what is compiled.
        self._drew_twice = False
        self._compared = False
        # Whether the weights are those of the snapshot, for no step was made since.
        self._at_snapshot = False

    def _make_rule(self, compiled: CompiledModel) -> CorrectedStep:
        """The step that is compiled."""
        return CorrectedStep(compiled)

    def _compile(self, x: Nested, y: Nested, sample_weight: Nested = None) -> CompiledModel:
        compiled = super()._compile(x, y, sample_weight)
        known = self._snapshots
        if known is None or known.compiled is not compiled:
            if self.sums_its_loss:
                raise ValueError(
                    "The compiled loss has reduction='sum', so that the gradient of a batch is "
                    "none of the mean loss, as that of a snapshot is. Use "
                    "reduction='sum_over_batch_size' and a learning rate larger by the batch size."
                )
            self._snapshots = CompiledSnapshots.of(compiled, self._make_rule(compiled))
            self._drew_twice = self._compared = False
            if known is not None and known.compiled.made_for.variables != (
                compiled.made_for.variables
            ):
                self._snapshot, self._carried = None, ()
        return compiled

    # -- snapshots ----------------------------------------------------------------------------

    def snapshot_batch_size(self, batch_size: int) -> int:
        """How many examples a part of the data should have in `take_snapshot`.

        As many as a step's where layers normalize by the statistics of the batch, so that the
        snapshot's gradient is that which steps estimate; more elsewhere, which takes less time.

        Args:
            batch_size: int, examples of a step.
        """
        if normalizes_batches(self.model) or self.fixed_batch_size is not None:
            return batch_size
        shapes = (input_shapes(self.model) or {}).values()
        values = sum(math.prod(size or 1 for size in shape[1:]) for shape in shapes)
        return max(batch_size, min(_MOST_ROWS, _VALUES // max(values, 1)))

    def take_snapshot(self, batches: Iterable[tuple[Any, ...]]) -> None:
        """Keeps the weights as they are, and computes the mean gradient at them.

        Args:
            batches: `(x, y)` or `(x, y, sample_weight)`, the data to take the gradient of, in parts
                that fit into memory; see `snapshot_batch_size`.

        Raises:
            ValueError: if there is no batch, or the model draws at random in a way that cannot be
                repeated.
        """
        if self._snapshots is None:
            batches = list(batches)
            if batches:
                self._compile(*batches[0][:3])
        snapshots = self._compiled_snapshots
        snapshots.compiled.runtime.sync()
        weights = self._next_snapshot(snapshots)
        self._snapshot = snapshots.mean_gradient(weights, batches, check=not self._drew_twice)
        self._drew_twice = True
        self._at_snapshot = True
        self._begin(snapshots)

    @property
    def has_snapshot(self) -> bool:
        """Whether a snapshot was taken, without which no step can be made."""
        return self._snapshot is not None

    @property
    def _compiled_snapshots(self) -> CompiledSnapshots:
        if self._snapshots is None:
            raise RuntimeError("Nothing is compiled yet: call `build(x, y)` with a few rows first.")
        return self._snapshots

    def _next_snapshot(self, snapshots: CompiledSnapshots) -> list[Tensor]:
        """The weights to take a snapshot of."""
        return snapshots.present_weights()

    def _begin(self, snapshots: CompiledSnapshots) -> None:
        """What follows from a new snapshot; here nothing."""

    # -- steps --------------------------------------------------------------------------------

    @property
    def trains_many(self) -> bool:
        """Steps are made one by one: between them a snapshot may be due."""
        return False

    @property
    def gathers_rows(self) -> bool:
        """Rows are read on the host, where snapshots read theirs."""
        return False

    def _factor(self) -> float:
        """What the next step's rule is given."""
        return check_share("coefficient", self.coefficient)

    def _make_step(
        self, compiled: CompiledModel, proposal: Proposal
    ) -> tuple[dict[str, Any], DeferredValues]:
        # What is subtracted is linear, so that the sum of the parts' is that of the batch.
        return compiled.in_parts(proposal, lambda part: self._make_corrected(compiled, part))

    def _make_corrected(
        self, compiled: CompiledModel, proposal: Proposal
    ) -> tuple[dict[str, Any], DeferredValues]:
        snapshot = self._snapshot
        if snapshot is None:
            raise RuntimeError(
                f"{type(self).__name__} has no snapshot to correct the gradient by: draw with a "
                "SCSGSampler, which takes one when it is due, or call `take_snapshot(batches)`."
            )
        snapshots = self._compiled_snapshots
        factor = self._factor()
        if snapshots.step.compares and self._at_snapshot and not self._compared:
            compiled.runtime.sync()
            with _build.restored_on_refusal(self.model):
                result = snapshots.train(proposal, factor, snapshot, self._carried)
                compiled.runtime.sync()
                error = mismatch_error(self.model, float(tensor_to_numpy(result.mismatch)))
                if error is not None:
                    raise error
            self._compared = True
        else:
            result = snapshots.train(proposal, factor, snapshot, self._carried)
        self._carried = result.carried
        self._at_snapshot = False
        return deferred((result.logs, result.values))

    # -- state --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What the wrapper has learnt beside the model's own weights: the snapshot, for one."""
        snapshot = self._snapshot
        kept = None
        if snapshot is not None:
            kept = {
                "weights": _as_arrays(snapshot.weights),
                "gradient": _as_arrays(snapshot.gradient),
                "valid_steps": _as_arrays([snapshot.valid_steps])[0],
                "carried": [_as_arrays(tensors) for tensors in self._carried],
            }
        return super().state_dict() | {"snapshot": kept, "coefficient": self.coefficient}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken.

        Args:
            state: what `state_dict` returned.

        Raises:
            ValueError: if it is of a model with other weights.
        """
        super().load_state_dict(state)
        self.coefficient = state["coefficient"]
        self._at_snapshot = False
        kept = state["snapshot"]
        if kept is None:
            self._snapshot, self._carried = None, ()
            return
        if self.model.built:
            expected = [tuple(v.shape) for v in self.model.trainable_variables]
            found = [tuple(np.shape(array)) for array in kept["weights"]]
            if found != expected:
                raise ValueError(
                    f"The state holds a snapshot of weights of the shapes {found}, and those of "
                    f"{self.model.name!r} are of {expected}."
                )
        self._snapshot = SnapshotTensors(
            _as_tensors(kept["weights"]),
            _as_tensors(kept["gradient"]),
            _as_tensors([kept["valid_steps"]])[0],
        )
        self._carried = tuple(_as_tensors(arrays) for arrays in kept["carried"])


def check_share(name: str, value: Any) -> float:
    """A number in [0, 1], as a float.

    Args:
        name: str, the argument.
        value: what was given.

    Raises:
        ValueError: if it is anything else.
    """
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be in [0, 1], got {value!r}.")
    return float(value)


def _as_arrays(tensors: list[Tensor]) -> list[np.ndarray]:
    arrays = [np.array(tensor_to_numpy(t)) for t in tensors]
    # Types that numpy does not know, as bfloat16, are none of a file's.
    return [a if a.dtype.kind == "f" else a.astype(np.float32) for a in arrays]


def _as_tensors(arrays: list[np.ndarray]) -> list[Tensor]:
    return [ops.convert_to_tensor(array) for array in arrays]
