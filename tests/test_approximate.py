"""Predicted losses: the LSTM really predicts, and trains a model without scoring it."""

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data, mlp
from keras import layers

from importance_sampling import ApproximateImportanceTraining

pytestmark = pytest.mark.any_backend


def rank_correlation(a, b):
    """Spearman's: the correlation of the ranks (no ties to speak of among losses)."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return np.corrcoef(*ranks)[0, 1]


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize("log", [False, True])
def test_predictions_follow_the_true_losses_on_mnist(mnist, log):
    """After training on real data, predicted and true losses rank alike: Spearman >= 0.5."""
    from importance_sampling.reweighting import BiasedReweightingPolicy
    from importance_sampling.samplers import LSTMSampler

    x, y = mnist[0][:800], mnist[1][:800]
    model = keras.Sequential(
        [
            layers.Input((784,)),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy")

    class Training(ApproximateImportanceTraining):
        def sampler(self, dataset, batch_size, steps_per_epoch, epochs):
            self.used = LSTMSampler(
                dataset,
                BiasedReweightingPolicy(0.5),
                presample=200,
                log=log,
                **self.sampler_options,
            )
            return self.used

    training = Training(model, seed=0)
    history = training.fit(x, y, batch_size=100, epochs=14, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["importance_sampling"] == [1.0] * 14
    true = training.model.score(x, y)
    seen = training.used.cnts > 2
    assert seen.sum() > 300
    predicted = training.used.predict(np.flatnonzero(seen), y[seen])
    assert rank_correlation(predicted, true[seen]) >= 0.5


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.parametrize("arguments", [{}, {"smooth": 0.5, "adaptive_smoothing": True}])
def test_trains_without_scoring(arguments):
    x, y = data(128, noise=0.0)
    model = adam_mlp(0.05)
    training = ApproximateImportanceTraining(model, presample=64, seed=0, **arguments)
    training.model.score_batch = None
    history = training.fit(x, y, batch_size=32, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["importance_sampling"][-1] == 1


@pytest.mark.exact
def test_streams_and_other_targets_are_refused():
    x, y = data(64)

    def endless():
        while True:
            yield x, y

    with pytest.raises(NotImplementedError, match="LSTMSampler keeps something for every example"):
        ApproximateImportanceTraining(adam_mlp()).fit_generator(endless(), 4, verbose=0)
    net = mlp(activation=None, units=1, loss="mse")
    before = net.get_weights()
    with pytest.raises(ValueError, match="This sampler needs classes"):
        ApproximateImportanceTraining(net).fit(x, x[:, :1], verbose=0)
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
