"""Normalizations that suit small or reweighted batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..backend.base import Tensor


def _channels(layer: keras.Layer, shape: Sequence[int | None], axis: int = -1) -> int:
    size = shape[axis]
    if size is None:
        raise ValueError(
            f"{type(layer).__name__} needs to know the size of axis {axis}, got the input shape "
            f"{tuple(shape)}."
        )
    return int(size)


def _check_epsilon(epsilon: float) -> float:
    if not epsilon > 0:
        raise ValueError(f"`epsilon` must be above 0, got {epsilon!r}.")
    return float(epsilon)


class _MovingStatistics(keras.layers.Layer):
    """Scale, offset and moving statistics per channel of the last axis."""

    def __init__(self, momentum: float, epsilon: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1), got {momentum!r}.")
        self.momentum = float(momentum)
        self.epsilon = _check_epsilon(epsilon)

    def _add_channels(self, shape: Sequence[int | None], spread: str) -> None:
        size = (_channels(self, shape),)
        self.gamma = self.add_weight(shape=size, name="gamma", initializer="ones")
        self.beta = self.add_weight(shape=size, name="beta", initializer="zeros")
        self.moving_mean = self.add_weight(
            shape=size, name="moving_mean", initializer="zeros", trainable=False
        )
        self.moving_spread = self.add_weight(
            shape=size, name=spread, initializer="ones", trainable=False
        )

    def _moments(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return ops.moments(inputs, axes=list(range(len(inputs.shape) - 1)))

    def _follow(self, moving: keras.Variable, value: Tensor) -> None:
        value = ops.cast(ops.stop_gradient(value), moving.dtype)
        moving.assign(moving * self.momentum + value * (1.0 - self.momentum))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"momentum": self.momentum, "epsilon": self.epsilon}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("importance_sampling")
class BatchRenormalization(_MovingStatistics):
    r"""Batch normalization corrected towards the moving statistics.

    With $\mu_B, \sigma_B$ of the batch and $\mu, \sigma$ the moving statistics
    ([Batch Renormalization](https://arxiv.org/abs/1702.03275), algorithm 1),

    $$\hat x = \frac{x - \mu_B}{\sigma_B} r + d, \quad
      r = \mathrm{clip}(\sigma_B / \sigma, 1/r_{max}, r_{max}), \quad
      d = \mathrm{clip}((\mu_B - \mu) / \sigma, -d_{max}, d_{max})$$

    where no gradient flows through r and d. In inference the moving statistics alone count.

    Args:
        momentum: float in [0, 1), of the moving statistics. Defaults to `0.99`.
        epsilon: float, added to the variance. Defaults to `1e-3`.
        rmax_0: float, the bound on r at the beginning. Defaults to `1.0`.
        rmax_inf: float, the bound on r at the end. Defaults to `3.0`.
        dmax_0: float, the bound on d at the beginning. Defaults to `0.0`.
        dmax_inf: float, the bound on d at the end. Defaults to `5.0`.
        rmax_duration: int, training steps from `rmax_0` to `rmax_inf`. Defaults to `40000`.
        dmax_duration: int, training steps from `dmax_0` to `dmax_inf`. Defaults to `25000`.
    """

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        rmax_0: float = 1.0,
        rmax_inf: float = 3.0,
        dmax_0: float = 0.0,
        dmax_inf: float = 5.0,
        rmax_duration: int = 40000,
        dmax_duration: int = 25000,
        **kwargs: Any,
    ):
        super().__init__(momentum, epsilon, **kwargs)
        if not 1 <= rmax_0 <= rmax_inf or not 0 <= dmax_0 <= dmax_inf:
            raise ValueError(
                "Expected 1 <= rmax_0 <= rmax_inf and 0 <= dmax_0 <= dmax_inf, got "
                f"{rmax_0!r}, {rmax_inf!r}, {dmax_0!r} and {dmax_inf!r}."
            )
        self.rmax_0, self.rmax_inf, self.rmax_duration = rmax_0, rmax_inf, rmax_duration
        self.dmax_0, self.dmax_inf, self.dmax_duration = dmax_0, dmax_inf, dmax_duration

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates scale, offset, moving statistics and the step counter."""
        self._add_channels(input_shape, "moving_sigma")
        self.steps = self.add_weight(
            shape=(), name="steps", initializer="zeros", trainable=False, dtype="float32"
        )

    @property
    def moving_sigma(self) -> keras.Variable:
        """The moving standard deviation."""
        return self.moving_spread

    def _bounds(self) -> tuple[Tensor, Tensor]:
        steps = ops.convert_to_tensor(self.steps)
        r = ops.minimum(1.0, steps / self.rmax_duration)
        d = ops.minimum(1.0, steps / self.dmax_duration)
        return (
            self.rmax_0 + r * (self.rmax_inf - self.rmax_0),
            self.dmax_0 + d * (self.dmax_inf - self.dmax_0),
        )

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Normalizes; moves the statistics in training.

        Args:
            inputs: `(n, ..., channels)`.
            training: bool, whether the batch's own statistics count. Defaults to `False`.
        """
        if not training:
            normal = (inputs - ops.cast(self.moving_mean, inputs.dtype)) / ops.cast(
                self.moving_spread, inputs.dtype
            )
            return self.gamma * normal + self.beta
        mean, variance = self._moments(inputs)
        sigma = ops.sqrt(variance + self.epsilon)
        rmax, dmax = self._bounds()
        r = ops.clip(sigma / self.moving_spread, 1.0 / rmax, rmax)
        d = ops.clip((mean - self.moving_mean) / self.moving_spread, -dmax, dmax)
        normal = (inputs - mean) / sigma * ops.stop_gradient(r) + ops.stop_gradient(d)
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_spread, sigma)
        self.steps.assign(self.steps + 1.0)
        return self.gamma * normal + self.beta

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("rmax_0", "rmax_inf", "dmax_0", "dmax_inf", "rmax_duration", "dmax_duration")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("importance_sampling")
class StatsBatchNorm(_MovingStatistics):
    """Batch normalization by its accumulated statistics, in training too.

    A sample's output then does not depend on its batch, as importance sampling by gradient
    norms assumes; it is for networks whose statistics are known, from pretraining say.

    Args:
        momentum: float in [0, 1), of the moving statistics. Defaults to `0.99`.
        epsilon: float, added to the variance. Defaults to `1e-3`.
        update_stats: bool, whether training steps move the statistics. Defaults to `False`.
    """

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        update_stats: bool = False,
        **kwargs: Any,
    ):
        super().__init__(momentum, epsilon, **kwargs)
        self.update_stats = bool(update_stats)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates scale, offset and moving statistics."""
        self._add_channels(input_shape, "moving_variance")

    @property
    def moving_variance(self) -> keras.Variable:
        """The moving variance."""
        return self.moving_spread

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Normalizes by the moving statistics.

        Args:
            inputs: `(n, ..., channels)`.
            training: bool; with `update_stats`, training moves them then. Defaults to `False`.
        """
        # Copies, because PyTorch would miss the values that are moved below in the backward pass.
        center = ops.stop_gradient(ops.copy(self.moving_mean))
        sigma = ops.stop_gradient(ops.sqrt(self.moving_spread + self.epsilon))
        scale = ops.cast(self.gamma / sigma, inputs.dtype)
        offset = ops.cast(self.beta - center * self.gamma / sigma, inputs.dtype)
        outputs = inputs * scale + offset
        if training and self.update_stats:
            mean, variance = self._moments(inputs)
            self._follow(self.moving_mean, mean)
            self._follow(self.moving_spread, variance)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "update_stats": self.update_stats}


@keras.saving.register_keras_serializable("importance_sampling")
class LayerNormalization(keras.layers.Layer):
    """Normalizes each sample by its own statistics ([1607.06450](https://arxiv.org/abs/1607.06450)).

    Args:
        axes: list of axes that are not aggregated over, and have a scale each. Defaults to
            none: one mean and deviation per sample, one scale for all.
        bias_axes: list of axes that have an offset each. Defaults to the last one.
        epsilon: float, added to the variance. Defaults to `1e-3`.
    """

    def __init__(
        self,
        axes: Sequence[int] | None = None,
        bias_axes: Sequence[int] = (-1,),
        epsilon: float = 1e-3,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axes = list(axes or [])
        self.bias_axes = list(bias_axes or [-1])
        self.epsilon = _check_epsilon(epsilon)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates scale and offset."""
        rank = len(input_shape)
        kept = {axis % rank for axis in self.axes}
        self._reduced = [axis for axis in range(1, rank) if axis not in kept]

        def shape(axes: Sequence[int]) -> tuple[int, ...]:
            known = {axis % rank: _channels(self, input_shape, axis) for axis in axes}
            return tuple(known.get(axis, 1) for axis in range(rank))

        self.gamma = self.add_weight(shape=shape(self.axes), name="gamma", initializer="ones")
        self.beta = self.add_weight(shape=shape(self.bias_axes), name="beta", initializer="zeros")

    def call(self, inputs: Tensor) -> Tensor:
        """Normalizes each sample by its own mean and deviation."""
        mean, variance = ops.moments(inputs, axes=self._reduced, keepdims=True)
        return self.gamma * (inputs - mean) / ops.sqrt(variance + self.epsilon) + self.beta

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Sequence[int | None]:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"axes": self.axes, "bias_axes": self.bias_axes, "epsilon": self.epsilon}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("importance_sampling")
class GroupNormalization(keras.layers.GroupNormalization):
    """Normalizes groups of channels of each sample ([1803.08494](https://arxiv.org/abs/1803.08494)).

    Keras' own layer under the original's arguments; the channel axis is the one that Keras'
    `image_data_format` says.

    Args:
        G: int, number of groups. Defaults to `32`.
        epsilon: float, added to the variance. Defaults to `1e-3`.
    """

    def __init__(self, G: int = 32, epsilon: float = 1e-3, **kwargs: Any):
        first = keras.config.image_data_format() == "channels_first"
        kwargs.setdefault("axis", 1 if first else -1)
        super().__init__(groups=G, epsilon=_check_epsilon(epsilon), **kwargs)
        self.G = G

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        config.pop("groups")
        return {**config, "G": self.G}
