"""Katyusha: SVRG's gradient, and a momentum that the snapshot holds back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..backend.array_types import tensor_to_numpy
from ..backend.base import Tensor
from ..reweighting import UNWEIGHTED, ReweightingPolicy
from ._compiled import CompiledModel
from ._corrected_step import CorrectedStep, SnapshotTensors
from ._snapshots import CompiledSnapshots
from ._svrg import SVRGWrapper, check_share


class KatyushaStep(CorrectedStep):
    r"""Katyusha's coupling (Allen-Zhu 2017, [1603.05953](https://arxiv.org/abs/1603.05953)).

    With x the weights, at which the gradient g is taken, and $\eta$ the learning rate,

    $y_{k+1} = x_{k+1} - \eta g$, $z_{k+1} = z_k + (y_{k+1} - x_{k+1}) / \tau_1$,
    $x_{k+2} = \tau_1 z_{k+1} + \tau_2 s + (1 - \tau_1 - \tau_2) y_{k+1}$,

    which are lines 8 to 11 of algorithm 1, option II, for $\eta = \tau_1 \alpha = 1/(3L)$.
    The snapshot s is the mean of the y since the last one (line 13).

    Args:
        compiled: what is compiled for the model.
        t1: float, the paper's $\tau_1$.
        t2: float, the paper's $\tau_2$.
    """

    def __init__(self, compiled: CompiledModel, t1: float, t2: float):
        super().__init__(compiled)
        self._t1, self._t2 = t1, t2

    def coefficient(self, factor: Tensor) -> float:
        """All of the correction.

        Args:
            factor: the share of this step in the mean of the y.
        """
        return 1.0

    def couple(
        self,
        factor: Tensor,
        snapshot: SnapshotTensors,
        carried: tuple[list[Tensor], ...],
        before: list[Tensor],
        after: list[Tensor],
    ) -> tuple[list[Tensor], tuple[list[Tensor], ...]]:
        """The next x; see the class.

        Args:
            factor: the share of this step in the mean of the y.
            snapshot: of the weights.
            carried: `(z, y, mean of the y)`.
            before: x.
            after: the new y.
        """
        z, _, means = carried
        new_z = [zi + (y - x) / self._t1 for zi, x, y in zip(z, before, after, strict=True)]
        new_means = [
            mean + ops.cast(factor, mean.dtype) * (y - mean)
            for mean, y in zip(means, after, strict=True)
        ]
        return self.point(new_z, snapshot.weights, after), (new_z, after, new_means)

    def point(
        self, z: Sequence[Tensor], snapshot: Sequence[Tensor], y: Sequence[Tensor]
    ) -> list[Tensor]:
        """Where the gradient is taken next (line 8).

        Args:
            z: the momentum's end.
            snapshot: weights of the snapshot.
            y: where the last gradient step has led.
        """
        rest = 1.0 - self._t1 - self._t2
        return [
            self._t1 * zi + self._t2 * si + rest * yi
            for zi, si, yi in zip(z, snapshot, y, strict=True)
        ]


class KatyushaWrapper(SVRGWrapper):
    r"""Trains by Katyusha: SVRG's gradient, with a momentum that the snapshot holds back.

    $x_{k+1} = \tau_1 z_k + \tau_2 s + (1 - \tau_1 - \tau_2) y_k$ is where the gradient g is taken,
    corrected as by `SVRGWrapper`; the learning rate $\eta$ leads to $y_{k+1} = x_{k+1} - \eta g$
    and $z_{k+1} = z_k - \eta g / \tau_1$. The next snapshot is the mean of the y since the last
    ([Katyusha: The First Direct Acceleration of Stochastic Gradient
    Methods](https://arxiv.org/abs/1603.05953), Allen-Zhu 2017, algorithm 1 with option II;
    $\eta = 1/(3L)$ and $\alpha = \eta/\tau_1$ there). The model's weights are x.

    y is where the model's own optimizer leads, so that its learning rate, schedule and clipping are
    in force; it has to be SGD without momentum, as the rule has its own.

    Args:
        model: a compiled `keras.Model` with `keras.optimizers.SGD`.
        t1: float in (0, 1], the paper's $\tau_1$. Defaults to `0.5`.
        t2: float in [0, 1 - t1], the paper's $\tau_2$. Defaults to `0.5`.
        strong_convexity: keyword-only; float, the paper's $\sigma$: later y count more in the next
            snapshot, by $1 + \alpha\sigma$ from step to step (line 13). Defaults to `0.0`.
        reweighting: keyword-only; see `SVRGWrapper`.

    Raises:
        ValueError: if an argument is out of its range, or the model's optimizer is another.
    """

    def __init__(
        self,
        model: keras.Model,
        t1: float = 0.5,
        t2: float = 0.5,
        *,
        strong_convexity: float = 0.0,
        reweighting: ReweightingPolicy = UNWEIGHTED,
    ):
        super().__init__(model, reweighting=reweighting)
        self.t1, self.t2 = check_share("t1", t1), check_share("t2", t2)
        # With room for rounding, as of 0.9 and 0.1.
        if self.t1 == 0.0 or self.t1 + self.t2 > 1.0 + 1e-12:
            raise ValueError(
                f"Expected 0 < t1 and t1 + t2 <= 1, got t1={self.t1:g} and t2={self.t2:g}."
            )
        if not math.isfinite(strong_convexity) or strong_convexity < 0:
            raise ValueError(
                f"`strong_convexity` must be a number of at least 0, got {strong_convexity!r}."
            )
        self.strong_convexity = float(strong_convexity)
        # The sum of the weights of the y, in units of the last one's, and its growth in a step.
        self._total = 0.0
        self._growth = 1.0
        _check_katyusha(model)

    def _make_rule(self, compiled: CompiledModel) -> CorrectedStep:
        _check_katyusha(self.model)
        return KatyushaStep(compiled, self.t1, self.t2)

    def _next_snapshot(self, snapshots: CompiledSnapshots) -> list[Tensor]:
        weights = snapshots.present_weights()
        if not self._carried:
            self._carried = (weights, weights, weights)
            return weights
        # The mean of the y; where no step was made since, the snapshot stays where it is.
        means = self._carried[2]
        return list(means)

    def _begin(self, snapshots: CompiledSnapshots) -> None:
        snapshot = self._snapshot
        step = snapshots.step
        if snapshot is None or not isinstance(step, KatyushaStep):
            return
        z, y, _ = self._carried
        # Later ones are not where x is.
        self._at_snapshot = z is y
        self._carried = (z, y, list(snapshot.weights))
        for variable, value in zip(step.variables, step.point(z, snapshot.weights, y), strict=True):
            variable.assign(value)
        rate = float(tensor_to_numpy(ops.convert_to_tensor(self.optimizer.learning_rate)))
        self._total = 0.0
        self._growth = 1.0 + rate / self.t1 * self.strong_convexity

    def _factor(self) -> float:
        # The first y takes the place of the mean altogether.
        self._total = 1.0 + self._total / self._growth
        return 1.0 / self._total

    def state_dict(self) -> dict[str, Any]:
        """What the wrapper has learnt beside the model's own weights: the snapshot, z and y."""
        return super().state_dict() | {"total": self._total, "growth": self._growth}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken.

        Args:
            state: what `state_dict` returned.
        """
        super().load_state_dict(state)
        self._total, self._growth = state["total"], state["growth"]


def _check_katyusha(model: keras.Model) -> None:
    """Raises unless the model's optimizer makes plain gradient steps."""
    optimizer = model.optimizer
    why = ""
    if not isinstance(optimizer, keras.optimizers.SGD):
        why = f"is {type(optimizer).__name__}"
    elif optimizer.momentum:
        why = f"has momentum={optimizer.momentum:g}"
    elif optimizer.use_ema:
        why = "averages the weights (use_ema=True)"
    elif optimizer.gradient_accumulation_steps:
        why = f"has gradient_accumulation_steps={optimizer.gradient_accumulation_steps}"
    if why:
        raise ValueError(
            f"Katyusha has an update rule of its own, whose gradient steps are those of plain SGD, "
            f"and the optimizer of {model.name!r} {why}. Compile the model with "
            "keras.optimizers.SGD(learning_rate), or use SVRGWrapper, which takes any optimizer."
        )
    constrained = [v.path for v in model.trainable_variables if v.constraint is not None]
    if constrained:
        raise ValueError(
            f"Katyusha moves the weights beyond what an optimizer constrains them to, and "
            f"{constrained} have a constraint. Use SVRGWrapper, or leave the constraints out."
        )
