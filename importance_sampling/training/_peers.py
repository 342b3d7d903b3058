"""Trainings by methods of others that spare examples instead of variance."""

from __future__ import annotations

from typing import Any

import keras

from .._arrays import dataset_length
from ..protocols import Dataset
from ..reweighting import BiasedReweightingPolicy, NoReweightingPolicy
from ..samplers import BaseSampler, InfoBatchSampler, SelectiveBackpropSampler
from ..samplers.infobatch import pruned_epochs
from ._arguments import check_count, check_number
from ._base import BaseTraining


def _check_share(name: str, value: Any, open_end: bool = False) -> float:
    """A number in [0, 1], or in [0, 1) if `open_end`."""
    share = check_number(name, value, 0)
    if share > 1 or (open_end and share == 1):
        raise ValueError(f"`{name}` must be in [0, 1{')' if open_end else ']'}, got {value!r}.")
    return share


class InfoBatchTraining(BaseTraining):
    r"""Leaves out a random part of the easy examples in each epoch, and makes up for it by weights.

    An example whose loss, when it was last trained on, was below the mean of all is left out of
    an epoch with probability r = `ratio`, and weighs $1/(1-r)$ if it is not; the others weigh 1.
    The weighted sum over an epoch is, on average, the sum over the data set. The first epoch and
    the last $(1 - \delta)$ share of the epochs, $\delta$ = `anneal`, go through the whole data set
    ([InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data
    Pruning](https://arxiv.org/abs/2303.04947), Qin et al., ICLR 2024).

    An epoch is one pass over what was kept, so that it has fewer optimizer steps at the same
    batch size, and `fit` fewer in all: a schedule that counts steps has to be made for fewer, see
    `expected_steps`. A `steps_per_epoch` of yours counts the steps of uniform training that an
    epoch stands for. Streams are not supported: they have no examples to come back to.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        ratio: float in [0, 1), the paper's r: the probability with which an example of small
            loss is left out. Defaults to `0.5`.
        anneal: float in [0, 1], the paper's delta: the share of the epochs, rounded down, after
            which nothing is left out any more. Defaults to `0.875`.
        seed: keyword-only; int, makes the draws repeatable.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    ```python
    InfoBatchTraining(model, ratio=0.5).fit(x_train, y_train, batch_size=128, epochs=16)
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        ratio: float = 0.5,
        anneal: float = 0.875,
        *,
        seed: int | None = None,
    ):
        self._ratio = _check_share("ratio", ratio, open_end=True)
        self._anneal = _check_share("anneal", anneal)
        super().__init__(model, BiasedReweightingPolicy(), "loss", None, seed)

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes an `InfoBatchSampler`.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.

        Raises:
            NotImplementedError: for a stream.
            ValueError: for a model that was built for one batch size.
        """
        size = self.model.fixed_batch_size
        if size is not None and size > 1:
            raise ValueError(
                f"The model was built for batches of {size}, and the last batch of an epoch of "
                "InfoBatch is as large as what is kept happens to be. SelectiveBackpropTraining "
                "trains on whole batches only."
            )
        length = dataset_length(dataset)
        covered = None
        if length is not None and steps_per_epoch is not None:
            passes, steps = divmod(steps_per_epoch, -(-length // batch_size))
            covered = passes * length + steps * batch_size
        return InfoBatchSampler(
            dataset,
            self.reweighting,
            ratio=self._ratio,
            anneal=self._anneal,
            epochs=epochs,
            epoch_size=covered,
            **self.sampler_options,
        )

    @staticmethod
    def expected_steps(
        examples: int,
        batch_size: int,
        epochs: int,
        ratio: float = 0.5,
        anneal: float = 0.875,
        below_mean: float = 0.8,
    ) -> int:
        """Optimizer steps to make a learning rate schedule for; needs no model.

        Args:
            examples: int, number of training examples.
            batch_size: int.
            epochs: int.
            ratio: float, as of the training.
            anneal: float, as of the training.
            below_mean: float, share of the examples whose loss will be below the mean: more than
                half, because a few losses are large. Defaults to `0.8`. Only a run tells:
                `report().steps`.

        Returns:
            int; an upper limit for `below_mean=0`, a lower one for `below_mean=1`.
        """
        check_count("examples", examples)
        check_count("batch_size", batch_size)
        check_count("epochs", epochs)
        left_out = _check_share("ratio", ratio, open_end=True)
        left_out *= _check_share("below_mean", below_mean)
        # Nothing is known in the first epoch, so that it leaves nothing out.
        pruned = max(pruned_epochs(epochs, _check_share("anneal", anneal)) - 1, 0)
        kept = max(round((1.0 - left_out) * examples), 1)
        return (epochs - pruned) * -(-examples // batch_size) + pruned * -(-kept // batch_size)


class SelectiveBackpropTraining(BaseTraining):
    r"""Trains on the hard examples alone that forward passes find, without weights.

    Uniform batches are scored by a forward pass. An example of loss l is kept for training with
    probability $\mathrm{CDF}_R(l)^\beta$, CDF the share of the last R = `history` losses that are
    not above it, and whenever there are `batch_size` of them a step is made. All weights are one:
    hard examples count more, on purpose, and what is minimised is not the mean loss
    ([Accelerating Deep Learning by Focusing on the Biggest
    Losers](https://arxiv.org/abs/1910.00762), Jiang et al. 2019). Losses and metrics
    in the logs are weighted, so that they estimate the training set's.

    An epoch scores as many batches as uniform training would train on, and has about a
    $1 / (1 + \beta)$ of the optimizer steps: a schedule that counts steps has to be made for
    fewer, see `expected_steps`. A `steps_per_epoch` of yours counts the batches scored.

    Args:
        model: a compiled `keras.Model`, which is trained itself.
        beta: float >= 0, the paper's exponent: the larger, the fewer and the harder the examples
            that are trained on. Defaults to `1.0`, about half of them.
        history: int, the paper's R: losses that are looked back at. Defaults to `1024`.
        seed: keyword-only; int, makes the draws repeatable.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    ```python
    SelectiveBackpropTraining(model, beta=2.0).fit(x_train, y_train, batch_size=128, epochs=10)
    ```
    """

    def __init__(
        self, model: keras.Model, beta: float = 1.0, history: int = 1024, *, seed: int | None = None
    ):
        self._beta = check_number("beta", beta, 0)
        self._history = check_count("history", history)
        super().__init__(model, NoReweightingPolicy(), "loss", None, seed)

    def make_sampler(
        self, dataset: Dataset, batch_size: int, steps_per_epoch: int | None, epochs: int
    ) -> BaseSampler:
        """Makes a `SelectiveBackpropSampler`.

        Args:
            dataset: the data set to draw from.
            batch_size: int, examples per step.
            steps_per_epoch: int; None if only the first pass can tell.
            epochs: int.

        Returns:
            A `BaseSampler`.
        """
        return SelectiveBackpropSampler(
            dataset,
            self.reweighting,
            self.model,
            beta=self._beta,
            history=self._history,
            steps_per_epoch=steps_per_epoch,
            **self.sampler_options,
        )

    @staticmethod
    def expected_steps(examples: int, batch_size: int, epochs: int, beta: float = 1.0) -> int:
        r"""Optimizer steps to make a learning rate schedule for; needs no model.

        The rank of a loss among the last ones is uniform if they do not change much, and then
        the mean of $\mathrm{CDF}^\beta$ is $1 / (1 + \beta)$.

        Args:
            examples: int, number of training examples.
            batch_size: int.
            epochs: int.
            beta: float, as of the training.

        Returns:
            int.
        """
        scored = check_count("examples", examples) * check_count("epochs", epochs)
        kept = scored / (1.0 + check_number("beta", beta, 0))
        return max(round(kept / check_count("batch_size", batch_size)), epochs)
