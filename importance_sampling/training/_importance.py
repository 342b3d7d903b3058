"""Importance sampling with a switch: by score while it pays, uniformly while it does not."""

from __future__ import annotations

from typing import Any

import keras

from .._arrays import dataset_length
from ..model_wrappers import Score, ScoreDtype
from ..protocols import Dataset
from ..reweighting import BiasedReweightingPolicy
from ..samplers import (
    AutoSampler,
    BaseSampler,
    ConditionalStartSampler,
    Constant,
    MeasuredReductionCondition,
    ModelSampler,
    PoolReuseSampler,
    Resampling,
    VarianceReductionCondition,
)
from ..samplers.batch_size import check_constant
from ..samplers.drawing import check_resampling
from ._arguments import check_count, check_number, check_optional_count
from ._base import BaseTraining, with_smoothing
from ._constant import check_smallest, choose_constant

# Above this, a `presample` is surely meant as a number of samples.
_LARGEST_FACTOR = 100


def _check_presample(presample: Any) -> float:
    """The pool in batches; 0.0 for "auto"."""
    if isinstance(presample, str):
        if presample != "auto":
            raise ValueError(
                f'`presample` must be a number of at least 1 or "auto", got {presample!r}.'
            )
        return 0.0
    presample = check_number("presample", presample, 1)
    if presample > _LARGEST_FACTOR:
        raise ValueError(
            f"`presample`={presample:g} is the pool in units of the batch size, so the pool "
            f"would hold {presample:g} batches. For a pool of {presample:g} samples pass "
            f"presample={presample:g} / batch_size, or use BiasedImportanceTraining, whose "
            "`presample` counts samples."
        )
    return presample


def _check_tau_th(tau_th: Any) -> float | None:
    """The threshold; None for the default and for "measured"."""
    if isinstance(tau_th, str):
        if tau_th != "measured":
            raise ValueError(f'`tau_th` must be a number, "measured" or None, got {tau_th!r}.')
        return None
    return None if tau_th is None else check_number("tau_th", tau_th)


class ImportanceTraining(BaseTraining):
    r"""Trains uniformly until importance sampling pays, then by importance.

    While it is on, `presample * batch_size` examples are drawn uniformly and scored by one
    forward pass, `batch_size` of them are drawn by score and weighted so that the gradient
    stays unbiased ([Not All Samples Are Created Equal](https://arxiv.org/abs/1803.00942),
    algorithm 1). It goes on while the estimated variance reduction $\tau$ is above `tau_th`,

    $$\tau = \left(1 - \frac{\sum_i (g_i - 1/B)^2}{\sum_i g_i^2}\right)^{-1/2}
      > \frac{B + 3mb}{3mb}$$

    with $g$ the normalised scores, $B$ the pool, $b$ the batch and $m$ the mini-batches drawn
    from each pool (`reuse`). While draws are uniform, it is looked at once for up to 32 batches, at
    most an eighth of an epoch, so that their steps can be made together (at each batch where
    `tau_th` is at most 1, which any scores exceed).

    With `presample="auto"` it is measured, while training, which way to draw gives the largest
    variance reduction per second: uniformly, by the scores of earlier training passes (as
    `HistoryImportanceTraining` does), or from scored pools, of what size and for how many
    mini-batches. `report()` says what was chosen and what it gained. `tau_th`, `reuse` and the
    smoothing have no meaning then.

    Where the device works asynchronously (JAX, GPUs), the next pool is scored while the step
    runs, by the model before that step. The weights are made of the probabilities drawn with,
    so that the gradient stays unbiased.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        presample: float of at least 1, the pool in units of the batch size (not a number of
            samples), or `"auto"`. Defaults to `3.0`.
        tau_th: float, the variance reduction above which to draw by score, or `"measured"`: the
            measured time of a step by score in units of a uniform one. Defaults to the
            right-hand side above.
        forward_batch_size: int, most examples to score in one call. Defaults to the whole pool.
        score: `"gnorm"`, `"loss"`, `"full_gnorm"` or `"acc"`; see `OracleWrapper`.
        layer: None, an index or a layer: where `"gnorm"` takes the gradient.
        k: keyword-only; float in (-inf, 1], the bias exponent; 1.0 is unbiased.
        smooth: keyword-only; float >= 0, added to every score before drawing.
        adaptive_smoothing: keyword-only; bool, whether `smooth` is a share of the mean score.
        reuse: keyword-only; int, mini-batches drawn from each scored pool. Defaults to `1`.
        resampling: keyword-only; `"multinomial"`, independent draws, or `"systematic"`, which
            takes variance away.
        score_dtype: keyword-only; None, `"bfloat16"` or `"float16"`, what forward passes for
            scores compute in; see `OracleWrapper`.
        constant: keyword-only; with `presample="auto"`, what draws by the history keep of uniform
            ones: `"variance"`, for less time, or `"batch_size"`, for less noise; see
            `HistoryImportanceTraining`. Defaults to `"variance"`, where the model can be trained
            on batches of several sizes.
        min_batch_size: keyword-only; int, the smallest batch at constant variance.
        seed: keyword-only; int, makes the draws repeatable (but for decisions on measured
            times).

    Example:

    ```python
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    ImportanceTraining(model).fit(x_train, y_train, batch_size=128, epochs=10)
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        presample: float | str = 3.0,
        tau_th: float | str | None = None,
        forward_batch_size: int | None = None,
        score: Score = "gnorm",
        layer: int | keras.Layer | None = None,
        *,
        k: float = 1.0,
        smooth: float = 0.0,
        adaptive_smoothing: bool = False,
        reuse: int = 1,
        resampling: Resampling = "multinomial",
        score_dtype: ScoreDtype | None = None,
        constant: Constant | None = None,
        min_batch_size: int | None = None,
        seed: int | None = None,
    ):
        self._presample = _check_presample(presample)
        self._chooses_itself = self._presample == 0.0
        self._tau_th = _check_tau_th(tau_th)
        self._measures_tau_th = tau_th == "measured"
        self._forward_batch_size = check_optional_count("forward_batch_size", forward_batch_size)
        self._smooth = check_number("smooth", smooth, 0)
        self._adaptive_smoothing = bool(adaptive_smoothing)
        self._reuse = check_count("reuse", reuse)
        self._resampling = check_resampling(resampling)
        self._constant = None if constant is None else check_constant(constant)
        self._min_batch_size = check_optional_count("min_batch_size", min_batch_size)
        if not self._chooses_itself:
            named = [n for n in ("constant", "min_batch_size") if vars(self)[f"_{n}"] is not None]
            if named:
                raise ValueError(
                    f'{named} go with presample="auto", got presample={presample!r}. '
                    "HistoryImportanceTraining takes them, too."
                )
        check_smallest(self._min_batch_size, self._constant or "variance")
        if self._reuse > 1 and not self._chooses_itself and self._presample <= self._reuse:
            raise ValueError(
                f"`reuse`={self._reuse} mini-batches are no fewer examples than the pool of "
                f"`presample`={self._presample:g} batches they are drawn from. Give `presample` "
                "a larger number, for example twice `reuse`."
            )
        if self._chooses_itself:
            given = {"tau_th": tau_th is not None, "reuse": self._reuse > 1}
            given["smooth"] = self._smooth > 0
            named = [name for name, is_given in given.items() if is_given]
            if named:
                raise ValueError(
                    f'presample="auto" chooses by measurement, which leaves {named} without a '
                    "meaning; leave them out, or give `presample` a number."
                )
        super().__init__(model, BiasedReweightingPolicy(k), score, layer, seed, score_dtype)

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes an `AutoSampler`, or a `ModelSampler` with a condition around it.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.

        Raises:
            ValueError: if `constant="variance"` cannot be had of this model or data.
        """
        if self._chooses_itself:
            if self._constant == "variance" and dataset_length(dataset) is None:
                raise ValueError(
                    'constant="variance" draws small batches by the history of scores, and a '
                    "stream has no examples to come back to. Leave it out, or use a data set with "
                    "a length."
                )
            constant, smallest = choose_constant(
                self.model, batch_size, self._constant, self._min_batch_size
            )
            return AutoSampler(
                dataset,
                self.reweighting,
                self.model,
                steps=None if steps_per_epoch is None else steps_per_epoch * epochs,
                forward_batch_size=self._forward_batch_size,
                resampling=self._resampling,
                constant=constant,
                min_batch_size=smallest,
                **self.sampler_options,
            )
        pool = max(int(self._presample * batch_size), batch_size)
        sampler = ModelSampler(
            dataset,
            self.reweighting,
            self.model,
            large_batch=pool,
            forward_batch_size=self._forward_batch_size or pool,
            resampling=self._resampling,
            **self.sampler_options,
        )
        # The condition sees raw scores, smoothing only what is drawn by.
        condition = self._condition(pool, batch_size)
        # What any scores reach holds from the second step on, and should.
        in_blocks = not self._measures_tau_th and condition.threshold > 1
        conditional = ConditionalStartSampler(sampler, condition, in_blocks=in_blocks)
        stack = with_smoothing(conditional, self._smooth, self._adaptive_smoothing)
        return stack if self._reuse == 1 else PoolReuseSampler(stack, self._reuse)

    def _condition(self, pool: int, batch_size: int) -> VarianceReductionCondition:
        trained = 3 * self._reuse * batch_size
        by_count = (pool + trained) / trained
        if self._measures_tau_th:
            return MeasuredReductionCondition(by_count, self._reuse, sample_size=batch_size)
        threshold = by_count if self._tau_th is None else self._tau_th
        return VarianceReductionCondition(threshold, sample_size=batch_size)
