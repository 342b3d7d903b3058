"""Pools: several mini-batches from one, scored ahead, scored in lower precision."""

import keras
import numpy as np
import pytest
from helpers import Scorer, adam_mlp, data, mlp, numbered, oracle

from importance_sampling import ImportanceTraining
from importance_sampling.model_wrappers import OracleWrapper
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import ModelSampler, PoolReuseSampler

pytestmark = [pytest.mark.exact, pytest.mark.two_backends]

N, BATCH = 600, 20
SKEWED = np.random.default_rng(0).exponential(size=N) ** 3 + 1e-3


@pytest.mark.parametrize("resampling", ["multinomial", "systematic"])
def test_a_pool_is_scored_once_for_several_batches(resampling):
    scorer = Scorer(SKEWED)
    inner = ModelSampler(
        numbered(N),
        BiasedReweightingPolicy(),
        scorer,
        large_batch=100,
        rng=0,
        resampling=resampling,
    )
    sampler = PoolReuseSampler(inner, 4)
    pools = []
    for i in range(40):
        idxs, (x, _), w = draw = sampler.sample(BATCH)
        assert scorer.asked == 100 * (i // 4 + 1)
        np.testing.assert_array_equal(x[:, 0], idxs)
        if i % 4 == 0:
            pools.append(draw.pool_scores)
        else:
            assert draw.pool_scores is None
        total = pools[-1].sum()
        np.testing.assert_allclose(w[:, 0], total / (100 * SKEWED[idxs]), rtol=1e-5)
        assert np.isin(SKEWED[idxs], pools[-1]).all()


def test_systematic_reuse_spreads_an_examples_draws_over_the_pools_batches():
    sampler = PoolReuseSampler(
        ModelSampler(
            numbered(N),
            BiasedReweightingPolicy(),
            Scorer(SKEWED),
            large_batch=100,
            rng=0,
            resampling="systematic",
        ),
        4,
    )
    for _ in range(20):
        draws = [sampler.sample(BATCH) for _ in range(4)]
        scores = draws[0].pool_scores
        drawn = np.concatenate([SKEWED[draw[0]] for draw in draws])
        for score in scores:
            expected = 4 * BATCH * score / scores.sum()
            assert np.floor(expected - 1e-9) <= (drawn == score).sum() <= np.ceil(expected + 1e-9)


def test_training_with_reuse_scores_that_much_less():
    x, y = data(240)
    pools = []
    training = ImportanceTraining(
        adam_mlp(), presample=5, tau_th=0.0, reuse=4, resampling="systematic", seed=0
    )
    training.fit(
        x,
        y,
        batch_size=16,
        steps_per_epoch=41,
        verbose=0,
        on_scores=lambda sampler, scores: pools.append(len(scores)),
    )
    # The first step is uniform; then one pool of 80 for every four batches.
    assert pools[0] == 16
    assert pools[1::4] == [80] * 10
    assert set(pools) == {16, 80}


def test_settings_that_cannot_work():
    with pytest.raises(ValueError, match=r"no fewer examples than the pool"):
        ImportanceTraining(mlp(), presample=3.0, reuse=4)
    for wrong, word in (
        ({"presample": "best"}, "auto"),
        ({"tau_th": "fast"}, "measured"),
        ({"resampling": "residual"}, "systematic"),
        ({"score_dtype": "int8"}, "bfloat16"),
        ({"score_dtype": "bfloat16", "score": "full_gnorm"}, "one forward pass"),
        ({"reuse": 0}, "reuse"),
        ({"presample": "auto", "tau_th": 2.0}, "tau_th"),
        ({"presample": "auto", "reuse": 2}, "reuse"),
    ):
        with pytest.raises(ValueError, match=word):
            ImportanceTraining(mlp(), **wrong)


def test_the_next_pool_is_scored_by_the_model_before_the_step(monkeypatch):
    """As on a device that works asynchronously, where nothing else changes."""
    monkeypatch.setattr(OracleWrapper, "asynchronous", True)
    x, y = data(320)
    model = adam_mlp(0.05)
    training = ImportanceTraining(model, tau_th=0.0, seed=0)
    later = training.model.score_later
    handed, before = [], []

    def score_later(*rows, **kwargs):
        read = later(*rows, **kwargs)
        before.append(oracle(model, "gnorm").score(*rows[:2]))
        return lambda: handed.append(read()) or handed[-1]

    training.model.score_later = score_later

    class Looks(keras.callbacks.Callback):
        """Has the state put back into the model at every step, where it is kept elsewhere."""

        def on_train_batch_end(self, batch, logs=None):
            model.get_weights()

    pools = []
    training.fit(
        x,
        y,
        batch_size=16,
        steps_per_epoch=12,
        verbose=0,
        callbacks=[Looks()],
        on_scores=lambda sampler, scores: pools.append(scores),
    )
    # The first two steps had nothing prepared: uniform, and the first by score.
    assert len(handed) == 10 and [len(p) for p in pools] == [16] + 11 * [48]
    for expected, got, pool in zip(before, handed, pools[2:], strict=False):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(got, pool, rtol=1e-6)


@pytest.mark.one_backend
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("separate", [False, True])
def test_scores_in_lower_precision(dtype, separate):
    x, y = data(200)
    model = mlp(optimizer=keras.optimizers.Adam(0.05), separate=separate)
    model.fit(x, y, epochs=30, verbose=0)
    *first, kernel, bias = model.get_weights()
    # As sure of itself as only long training would make it.
    model.set_weights([*first, 2.5 * kernel, 2.5 * bias])
    exact = oracle(model).score(x, y)
    policies = [layer.dtype_policy.name for layer in model.layers]
    wrapper = OracleWrapper(model, BiasedReweightingPolicy(), score="gnorm", score_dtype=dtype)
    low = wrapper.score(x, y)
    # Features are rounded to 8 (11) bits, 2^-9 at most; times weights of up to 10 and eight of
    # them, that moves logits by some hundredths and scores by as much relative to them.
    np.testing.assert_allclose(low, exact, rtol=0.3, atol=1e-4)
    assert (low != exact).any() and low.dtype == np.float32
    # Probabilities next to one are not one, as they would be in lower precision.
    assert exact.min() < 2**-9
    assert (low > 0).all()
    assert [layer.dtype_policy.name for layer in model.layers] == policies
    training = ImportanceTraining(model, tau_th=0.0, score_dtype=dtype, seed=0)
    history = training.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all() and history["importance_sampling"][-1] == 1.0
    assert {v.dtype for v in model.trainable_variables} == {"float32"}


def test_lower_precision_reaches_nested_models_and_keeps_all_outputs():
    inputs = keras.Input((6,))
    inner = keras.Sequential([keras.layers.Dense(8, activation="tanh")])
    hidden = keras.layers.Dropout(0.5)(inner(inputs))
    a = keras.layers.Softmax()(keras.layers.Dense(4)(hidden))
    model = keras.Model(inputs, [a, keras.layers.Dense(2)(hidden)])
    model.compile("sgd", ["sparse_categorical_crossentropy", "mse"])
    x, y = data(64)
    targets = [y, x[:, :2]]
    exact = OracleWrapper(model, BiasedReweightingPolicy(), score="gnorm").score(x, targets)
    low = OracleWrapper(
        model, BiasedReweightingPolicy(), score="gnorm", score_dtype="bfloat16"
    ).score(x, targets)
    np.testing.assert_allclose(low, exact, rtol=0.05)
    assert (low != exact).any()
