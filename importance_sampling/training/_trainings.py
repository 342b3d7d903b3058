"""Trainings that put a sampler, a score and a reweighting together."""

from __future__ import annotations

import keras

from ..model_wrappers import Score
from ..protocols import Dataset
from ..reweighting import BiasedReweightingPolicy
from ..samplers import (
    BaseSampler,
    ConstantTimeSampler,
    ConstantVarianceSampler,
    LSTMSampler,
    ModelSampler,
)
from ._arguments import check_count, check_number
from ._base import BaseTraining, with_smoothing


class BiasedImportanceTraining(BaseTraining):
    r"""Draws by loss and under-corrects on purpose, which focuses on the hard examples.

    With $p_i \propto l_i + \text{smooth}$ and $w_i = 1/(N p_i)$ the weights are $w_i^k$,
    rescaled ([Biased Importance Sampling for Deep Neural Network
    Training](https://arxiv.org/abs/1706.00043)). `k=1` is unbiased, smaller values approach
    minimising the largest loss.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        k: float in (-inf, 1], the bias exponent. Defaults to `0.5`.
        smooth: float >= 0, added to every loss before drawing. Defaults to `0.0`.
        adaptive_smoothing: bool, whether `smooth` is a share of the mean loss. Defaults to
            `False`.
        presample: int, number of samples in the pool. Defaults to `256`.
        forward_batch_size: int, most examples to score in one call. Defaults to `128`.
        seed: keyword-only; int, makes the draws repeatable.

    Example:

    ```python
    BiasedImportanceTraining(model, k=0.5).fit(x_train, y_train, batch_size=64, epochs=10)
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        k: float = 0.5,
        smooth: float = 0.0,
        adaptive_smoothing: bool = False,
        presample: int = 256,
        forward_batch_size: int = 128,
        *,
        seed: int | None = None,
    ):
        self._smooth = check_number("smooth", smooth, 0)
        self._adaptive_smoothing = bool(adaptive_smoothing)
        self._presample = check_count("presample", presample)
        self._forward_batch_size = check_count("forward_batch_size", forward_batch_size)
        super().__init__(model, BiasedReweightingPolicy(k), "loss", None, seed)

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes a `ModelSampler`, smoothed where that was asked for.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.
        """
        sampler = ModelSampler(
            dataset,
            self.reweighting,
            self.model,
            large_batch=self._presample,
            forward_batch_size=self._forward_batch_size,
            **self.sampler_options,
        )
        return with_smoothing(sampler, self._smooth, self._adaptive_smoothing)


class ApproximateImportanceTraining(BaseTraining):
    r"""Draws by the loss that a small LSTM predicts, so that nothing is scored before training.

    The LSTM sees each example's past losses and its class, and learns from the losses of the
    training passes ([Biased Importance Sampling for Deep Neural Network
    Training](https://arxiv.org/abs/1706.00043), section 3.3). Streams are not supported: they
    have no examples to come back to.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        k: float in (-inf, 1], the bias exponent. Defaults to `0.5`.
        smooth: float >= 0, added to every predicted loss before drawing. Defaults to `0.0`.
        adaptive_smoothing: bool, whether `smooth` is a share of the mean prediction. Defaults to
            `False`.
        presample: int, number of samples to predict for in each step. Defaults to `2048`.
        seed: keyword-only; int, makes the draws repeatable.

    Example:

    ```python
    ApproximateImportanceTraining(model, k=0.5).fit(x_train, y_train, epochs=10)
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        k: float = 0.5,
        smooth: float = 0.0,
        adaptive_smoothing: bool = False,
        presample: int = 2048,
        *,
        seed: int | None = None,
    ):
        self._smooth = check_number("smooth", smooth, 0)
        self._adaptive_smoothing = bool(adaptive_smoothing)
        self._presample = check_count("presample", presample)
        super().__init__(model, BiasedReweightingPolicy(k), "loss", None, seed)

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes an `LSTMSampler`, smoothed where that was asked for.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.

        Raises:
            NotImplementedError: for a stream.
        """
        sampler = LSTMSampler(
            dataset, self.reweighting, presample=self._presample, **self.sampler_options
        )
        return with_smoothing(sampler, self._smooth, self._adaptive_smoothing)


class ConstantVarianceImportanceTraining(BaseTraining):
    """Trains on fewer examples per step at the variance of the full batch.

    See `ConstantVarianceSampler` for the rule.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        backward_time: float, time of a backward pass in units of a forward pass. Defaults
            to `2.0`.
        extra_samples: float, share of the batch to draw beyond what the estimate asks for.
            Defaults to `0.2`.
        score: `"gnorm"`, `"loss"`, `"full_gnorm"` or `"acc"`; see `OracleWrapper`.
        layer: None, an index or a layer: where `"gnorm"` takes the gradient.
        seed: keyword-only; int, makes the draws repeatable.

    Example:

    ```python
    ConstantVarianceImportanceTraining(model).fit(x_train, y_train, batch_size=128)
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        backward_time: float = 2.0,
        extra_samples: float = 0.2,
        score: Score = "gnorm",
        layer: int | keras.Layer | None = None,
        *,
        seed: int | None = None,
    ):
        self._backward_time = check_number("backward_time", backward_time, 0, open_end=True)
        self._extra_samples = check_number("extra_samples", extra_samples, 0)
        super().__init__(model, BiasedReweightingPolicy(1.0), score, layer, seed)

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes a `ConstantVarianceSampler`.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.
        """
        return ConstantVarianceSampler(
            dataset,
            self.reweighting,
            self.model,
            backward_time=self._backward_time,
            extra_samples=self._extra_samples,
            **self.sampler_options,
        )


class ConstantTimeImportanceTraining(BaseTraining):
    """Gets a better gradient out of the time of one uniform step.

    See `ConstantTimeSampler` for the rule.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        backward_time: float, time of a backward pass in units of a forward pass. Defaults
            to `2.0`.
        score: `"gnorm"`, `"loss"`, `"full_gnorm"` or `"acc"`; see `OracleWrapper`.
        layer: None, an index or a layer: where `"gnorm"` takes the gradient.
        seed: keyword-only; int, makes the draws repeatable.

    Example:

    ```python
    ConstantTimeImportanceTraining(model).fit(x_train, y_train, batch_size=128)
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        backward_time: float = 2.0,
        score: Score = "gnorm",
        layer: int | keras.Layer | None = None,
        *,
        seed: int | None = None,
    ):
        self._backward_time = check_number("backward_time", backward_time, 0, open_end=True)
        super().__init__(model, BiasedReweightingPolicy(1.0), score, layer, seed)

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes a `ConstantTimeSampler`.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.
        """
        return ConstantTimeSampler(
            dataset,
            self.reweighting,
            self.model,
            backward_time=self._backward_time,
            **self.sampler_options,
        )
