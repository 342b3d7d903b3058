"""Training with variance-reduced gradients: SVRG and SCSG."""

from __future__ import annotations

from typing import Any

import keras

from ..model_wrappers import SVRGWrapper
from ..protocols import Dataset
from ..reweighting import UNWEIGHTED
from ..samplers import BaseSampler, SCSGSampler
from ._arguments import check_count, check_number
from ._base import BaseTraining


class SVRG(BaseTraining):
    r"""Draws uniformly, and takes variance out of the gradient by that at a snapshot.

    Every `B_over_b` steps the weights are kept as a snapshot s and the gradient $\mu$ of a large
    batch is computed at them. A step on a batch goes along
    $\nabla l_b(w) - c\,(\nabla l_b(s) - \mu)$ through the model's own optimizer, which costs a
    second gradient of the batch. With `B=0` the large batch is the whole training set, which is
    SVRG ([Johnson and Zhang 2013](https://papers.nips.cc/paper/4937)), otherwise SCSG ([Lei and
    Jordan 2017](https://arxiv.org/abs/1609.03261)).

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        B: float, examples of the large batch in units of the batch size; 0 for the whole training
            set. Defaults to `10.`.
        B_rate: float > 0, what `B` is multiplied by after each snapshot. Defaults to `1.0`.
        B_over_b: int, steps from one snapshot to the next. Defaults to `128`.
        coefficient: keyword-only; float in [0, 1], the c of above: below 1 it weakens a correction
            that is stale, as it is in deep networks ([2311.05589](https://arxiv.org/abs/2311.05589)).
            Defaults to `1.0`.
        seed: keyword-only; int, makes the draws repeatable.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    ```python
    SVRG(model, B=0, B_over_b=2 * len(x_train) // 32).fit(x_train, y_train, epochs=10)
    ```
    """

    model: SVRGWrapper

    def __init__(
        self,
        model: keras.Model,
        B: float = 10.0,
        B_rate: float = 1.0,
        B_over_b: int = 128,
        *,
        coefficient: float = 1.0,
        seed: int | None = None,
    ):
        self._B = check_number("B", B, 0)
        self._B_rate = check_number("B_rate", B_rate, 0, open_end=True)
        self._B_over_b = check_count("B_over_b", B_over_b)
        self._coefficient = coefficient
        super().__init__(model, UNWEIGHTED, "loss", None, seed)

    def _wrap(self, model: keras.Model, *rest: Any) -> SVRGWrapper:
        return SVRGWrapper(model, coefficient=self._coefficient, reweighting=self.reweighting)

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes a `SCSGSampler`.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.

        Raises:
            ValueError: for a stream, if `B` is 0.
        """
        return SCSGSampler(
            dataset,
            self.reweighting,
            self.model,
            B=max(1, round(self._B * batch_size)) if self._B else 0,
            B_over_b=self._B_over_b,
            B_rate=self._B_rate,
            **self.sampler_options,
        )
