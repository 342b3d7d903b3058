"""A small recurrent network that predicts each example's loss from its past losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from blinker import signal

from ..proposal import Proposal
from ..protocols import Dataset
from ._decorators import SamplerDecorator
from ._model_scores import score_rows
from ._pool import ModelSampler
from ._stored_base import length_or_refuse
from .classes import ClassPoolSampler, class_ids

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy

_UNITS = 32
# Marks steps of a history that are yet to come; no loss and no logarithm of one is so small.
_PADDING = -1e4
# As for stored scores: what is predicted to be next to nothing is looked at now and then.
_LEAST_SHARE = 0.01


def build_network(history: int, classes: int, seed: int, bias: float) -> Any:
    """Two LSTM layers over the past losses, beside an embedding of the class.

    It predicts about `bias` for every example until it has learnt better, so that the first
    draws are about uniform.

    Args:
        history: int, past losses per example.
        classes: int, how many classes there are.
        seed: int, of the initial weights.
        bias: float, the first prediction.
    """
    import keras
    from keras import layers

    def start(offset: int) -> Any:
        return keras.initializers.GlorotUniform(seed=seed + offset)

    losses = keras.Input((history, 1))
    label = keras.Input((1,), dtype="int32")
    seen = layers.Masking(mask_value=_PADDING)(losses)
    for i, sequences in enumerate((True, False)):
        seen = layers.LSTM(
            _UNITS,
            return_sequences=sequences,
            kernel_initializer=start(2 * i),
            recurrent_initializer=keras.initializers.Orthogonal(seed=seed + 2 * i + 1),
        )(seen)
    embedded = layers.Embedding(classes, _UNITS, embeddings_initializer=start(4))(label)
    both = layers.Concatenate()([seen, layers.Flatten()(embedded)])
    last = layers.Dense(
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01, seed=seed + 5),
        bias_initializer=keras.initializers.Constant(bias),
    )
    network = keras.Model([losses, label], last(both))
    network.compile(keras.optimizers.Adam(), "mse")
    return network


class LSTMSampler(ClassPoolSampler):
    """Draws from a pool by the loss that an LSTM predicts from each example's past losses.

    The network is a Keras model on the backend that runs; each update trains it on the losses
    that came out ([Biased Importance Sampling for Deep Neural Network
    Training](https://arxiv.org/abs/1706.00043), section 3.3). Nothing is scored but what was
    trained on.

    Args:
        dataset: a `BaseDataset` with a length, whose targets are classes.
        reweighting: a `ReweightingPolicy`.
        presample: int, the size of the pool. Defaults to `2048`.
        history: int, how many past losses to keep of each example. Defaults to `10`.
        log: bool, whether to predict the logarithm of the loss. Defaults to `False`.
    """

    _state: tuple[str, ...] = (*ClassPoolSampler._state, "history", "cnts")

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        presample: int = 2048,
        history: int = 10,
        log: bool = False,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, presample, **kwargs)
        if history < 1:
            raise ValueError(f"`history` must be at least 1, got {history!r}.")
        self.log = bool(log)
        n = length_or_refuse(self, dataset)
        self.history = np.full((n, history), _PADDING, np.float32)
        first = 0.0 if self.log else 1.0
        self.history[:, 0] = first
        self.cnts = np.ones(n, np.int32)
        seed = int(self.rng.integers(2**31))
        self.network = build_network(history, self.classes, seed, first)

    @property
    def model(self) -> Any:
        """The network that predicts."""
        return self.network

    def predict(self, idxs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Predicted losses `(n,)`, all positive.

        Args:
            idxs: `(n,)` indices of examples.
            labels: `(n,)` their classes.
        """
        inputs = [self.history[idxs][..., None], labels[:, None].astype(np.int32)]
        found = np.asarray(self.network.predict_on_batch(inputs), np.float64).reshape(-1)
        if self.log:
            found = np.exp(np.clip(found, -50.0, 50.0))
        found = np.maximum(found, 1e-6)
        return np.maximum(found, _LEAST_SHARE * found.mean())

    def _predict(self, idxs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return self.predict(idxs, labels)

    def _learn(self, idxs: np.ndarray, labels: np.ndarray, results: np.ndarray) -> None:
        targets = results
        if self.log:
            targets = np.log(np.maximum(results, 1e-6))
        inputs = [self.history[idxs][..., None], labels[:, None].astype(np.int32)]
        self.network.train_on_batch(inputs, targets[:, None].astype(np.float32))
        # An example that was drawn twice has one loss, not two.
        drawn, first = np.unique(idxs, return_index=True)
        length = self.history.shape[1]
        full = drawn[self.cnts[drawn] == length]
        self.history[full] = np.roll(self.history[full], -1, axis=1)
        self.cnts[full] -= 1
        self.history[drawn, self.cnts[drawn]] = targets[first]
        self.cnts[drawn] += 1

    def _variables(self) -> list[Any]:
        return [*self.network.variables, *self.network.optimizer.variables]

    def state_dict(self) -> dict[str, Any]:
        """All that changes, the network's variables among it; see `Stateful.state_dict`."""
        self._build_optimizer()
        network = [np.array(v.numpy()) for v in self._variables()]
        return {**super().state_dict(), "network": network}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken, the network as well.

        Args:
            state: what `state_dict` returned.
        """
        super().load_state_dict(state)
        self._build_optimizer()
        for variable, value in zip(self._variables(), state["network"], strict=True):
            variable.assign(value)

    def _build_optimizer(self) -> None:
        if not self.network.optimizer.built:
            self.network.optimizer.build(self.network.trainable_variables)


class LSTMComparisonSampler(SamplerDecorator):
    """Draws as an LSTM sampler does, and tells how well it predicts.

    Before every draw the signal `is.lstm_comparison_sampler.scores` is sent with pairs of
    actual and predicted scores of the same fixed examples.

    Args:
        dataset: the `BaseDataset` both samplers draw from.
        lstm: an `LSTMSampler`.
        model: a `ModelSampler`, whose model scores.
        subset: int, number of examples to compare on. Defaults to `1024`.
    """

    _state: tuple[str, ...] = (*SamplerDecorator._state, "_idxs")

    def __init__(
        self, dataset: Dataset, lstm: LSTMSampler, model: ModelSampler, subset: int = 1024
    ):
        super().__init__(lstm)
        self.dataset = dataset
        self.lstm = lstm
        self._model_sampler = model
        n = length_or_refuse(self, dataset)
        self._idxs = np.sort(self.rng.choice(n, min(subset, n), replace=False))

    @property
    def model(self) -> ModelSampler:
        """The `ModelSampler` whose model scores."""
        return self._model_sampler

    def propose(self, batch_size: int) -> Proposal:
        """Draws the next mini-batch as the LSTM sampler does; compares first.

        Args:
            batch_size: int, number of examples.
        """
        channel = signal("is.lstm_comparison_sampler.scores")
        if channel.receivers:
            rows = self.dataset.train_data[self._idxs]
            actual = score_rows(self.model.model, rows, self.model.forward_batch_size)
            labels = class_ids(rows[1], self.lstm.classes)
            predicted = self.lstm.predict(self._idxs, labels)
            channel.send(list(zip(actual.tolist(), predicted.tolist(), strict=True)))
        return self.lstm.propose(batch_size)
