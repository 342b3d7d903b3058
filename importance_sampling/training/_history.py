"""Training by the scores that training produces anyway."""

from __future__ import annotations

import keras

from .._files import AnyPath
from .._storage import MappedArrays
from ..model_wrappers import Score
from ..protocols import Dataset
from ..reweighting import BiasedReweightingPolicy
from ..samplers import BaseSampler, Constant, HistoryMixtureSampler, Resampling
from ..samplers.batch_size import check_constant
from ..samplers.drawing import check_resampling
from ._arguments import check_number
from ._base import BaseTraining
from ._constant import check_smallest, smallest_batch


class HistoryImportanceTraining(BaseTraining):
    r"""Draws from the whole data set by the scores of training's own passes.

    Every training pass says what score its examples have. Kept for all of them, they tell
    whom to draw next without a single forward pass of their own, so that a step costs what a
    uniform one does. After a first epoch that visits every example once, example i is drawn
    with probability

    $$p_i = (1 - \text{mix}) \frac{\hat s_i}{\sum_j \hat s_j} + \frac{\text{mix}}{N}, \qquad
      \hat s_i = \sqrt{E[s_i^2 \mid \text{score seen last, its age}]}$$

    and weighted by $(1/(N p_i))^k$, rescaled for k below 1 as in
    [1706.00043](https://arxiv.org/abs/1706.00043). With k = 1 the mean step is that of uniform
    training, however stale the scores. What to expect of a score of a given size and age is
    learnt from training itself. Streams are not supported: they have no examples to come back
    to.

    With `constant="variance"` a step takes $b' = b\, M_w / M_u$ of the b examples of a uniform
    batch, $M_u = \frac1N \sum_i s_i^2$ and $M_w = \frac{1}{N^2} \sum_i s_i^2 / p_i$ being the
    second moments of a uniformly drawn and of a weighted gradient, both measured while
    training: so many have the noise of the whole uniform batch. Steps of the two next of at most
    six sizes take turns. `batch_size` and `epochs` keep their meaning: an epoch has as many steps
    as uniform training, so that schedules and callbacks see the same ones.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        k: float in (-inf, 1], the bias exponent; 1.0 is unbiased, smaller values lower the
            training loss faster by stressing hard examples. Defaults to `1.0`.
        mix: float in (0, 1), share of the draws that are uniform; no weight is above 1/mix.
            Defaults to `0.3`.
        score: `"gnorm"`, `"loss"`, `"full_gnorm"` or `"acc"`; see `OracleWrapper`.
        layer: None, an index or a layer: where `"gnorm"` takes the gradient.
        refresh: keyword-only; float >= 0, examples scored by a forward pass for each example
            trained on, those not seen for longest first. Defaults to `0.0`.
        resampling: keyword-only; `"systematic"` (less variance) or `"multinomial"`.
        constant: keyword-only; what batches drawn by score keep of uniform ones. With
            `"batch_size"` they have less noise in the gradient, with `"variance"` fewer examples
            for the same noise: as many steps on the same schedule, each of them faster. Defaults
            to `"batch_size"`.
        min_batch_size: keyword-only; int, the smallest batch at constant variance. Defaults to an
            eighth of the batch size; to a half of it in models with batch normalization, whose
            statistics want large batches.
        memory_map: keyword-only; a folder for what is kept of each example, 9 bytes, where memory
            does not suffice: it lies in files without a name, which are gone when the program
            ends; `save_state` and `BackupState` save it as they save what is in memory. Not
            with `refresh`. Defaults to None.
        seed: keyword-only; int, makes the draws repeatable.

    Example:

    ```python
    HistoryImportanceTraining(model, k=0.5).fit(x_train, y_train, batch_size=128, epochs=10)
    ```
    """

    _radius = 0.0

    def __init__(
        self,
        model: keras.Model,
        k: float = 1.0,
        mix: float = 0.3,
        score: Score = "gnorm",
        layer: int | keras.Layer | None = None,
        *,
        refresh: float = 0.0,
        resampling: Resampling = "systematic",
        constant: Constant = "batch_size",
        min_batch_size: int | None = None,
        memory_map: AnyPath | None = None,
        seed: int | None = None,
    ):
        self._constant = check_constant(constant)
        self._min_batch_size = check_smallest(min_batch_size, self._constant)
        self._mix = check_number("mix", mix, 0, open_end=True)
        if self._mix >= 1:
            raise ValueError(f"`mix` must be in (0, 1), got {mix!r}: 1 is uniform training.")
        self._refresh = check_number("refresh", refresh, 0)
        self._resampling = check_resampling(resampling)
        self._memory_map = memory_map
        if memory_map is not None:
            if self._refresh:
                raise ValueError(
                    "`refresh` looks for the oldest of all scores in memory, which `memory_map` "
                    "is to spare: give one of them."
                )
            self._allocate = MappedArrays(memory_map)
        super().__init__(model, BiasedReweightingPolicy(k), score, layer, seed)

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes a `HistoryMixtureSampler`.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.

        Raises:
            NotImplementedError: for a stream.
            ValueError: if the model cannot be trained on batches of several sizes, which
                `constant="variance"` asks for.
        """
        smallest = self._min_batch_size
        if self._constant == "variance":
            smallest = smallest_batch(self.model, batch_size, smallest)
        return HistoryMixtureSampler(
            dataset,
            self.reweighting,
            mix=self._mix,
            robust=self._radius,
            refresh=self._refresh,
            model=self.model,
            resampling=self._resampling,
            constant=self._constant,
            min_batch_size=smallest,
            memory_map=self._memory_map,
            **self.sampler_options,
        )


class RobustImportanceTraining(HistoryImportanceTraining):
    r"""As `HistoryImportanceTraining`, by the worst scores that what is known allows.

    RAIS ([Johnson & Guestrin, NeurIPS 2018](https://papers.nips.cc/paper/7957)): probabilities
    solve $\min_p \max_{v \in U} \frac{1}{N^2} \sum_i v_i / p_i$ over an ellipsoid around the
    expected squared scores,

    $$U = \left\{ v \ge 0 : \frac1N \sum_i \frac{(v_i - E[s_i^2])^2}{\mathrm{Var}[s_i^2]}
      \le \text{radius}^2 \right\}$$

    so that examples whose score is uncertain are drawn more often. Expectation and variance,
    given the score seen last and its age, are learnt from training itself; the problem is solved
    exactly (see `robust_second_moments`).

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        k: float in (-inf, 1], the bias exponent. Defaults to `1.0`, unbiased.
        mix: float in (0, 1), share of the draws that are uniform. Defaults to `0.1`.
        radius: float >= 0, how far the truth may be from what is expected, in standard
            deviations; 0 trusts the expectations. Defaults to `1.0`.
        score: `"gnorm"`, `"loss"`, `"full_gnorm"` or `"acc"`; see `OracleWrapper`.
        layer: None, an index or a layer: where `"gnorm"` takes the gradient.
        refresh: keyword-only; float >= 0, as for `HistoryImportanceTraining`.
        resampling: keyword-only; `"systematic"` or `"multinomial"`.
        constant: keyword-only; `"batch_size"` or `"variance"`, as for `HistoryImportanceTraining`.
        min_batch_size: keyword-only; int, as for `HistoryImportanceTraining`.
        memory_map: keyword-only; a folder, as for `HistoryImportanceTraining`.
        seed: keyword-only; int, makes the draws repeatable.

    Example:

    ```python
    RobustImportanceTraining(model).fit(x_train, y_train, batch_size=128, epochs=10)
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        k: float = 1.0,
        mix: float = 0.1,
        radius: float = 1.0,
        score: Score = "gnorm",
        layer: int | keras.Layer | None = None,
        *,
        refresh: float = 0.0,
        resampling: Resampling = "systematic",
        constant: Constant = "batch_size",
        min_batch_size: int | None = None,
        memory_map: AnyPath | None = None,
        seed: int | None = None,
    ):
        self._radius = check_number("radius", radius, 0)
        super().__init__(
            model,
            k,
            mix,
            score,
            layer,
            refresh=refresh,
            resampling=resampling,
            constant=constant,
            min_batch_size=min_batch_size,
            memory_map=memory_map,
            seed=seed,
        )
