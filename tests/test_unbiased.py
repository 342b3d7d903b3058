"""The weighted mini-batch gradient, as the training step really takes it, against the full one."""

from statistics import NormalDist

import keras
import numpy as np
import pytest
from helpers import CLASSES, FEATURES, data, mlp, observe, one_hot
from keras import layers
from test_scores import sequences

from importance_sampling.datasets import InMemoryDataset
from importance_sampling.model_wrappers import OracleWrapper
from importance_sampling.reweighting import (
    AdjustedBiasedReweightingPolicy,
    BiasedReweightingPolicy,
    CorrectingReweightingPolicy,
)
from importance_sampling.samplers import (
    AdaptiveAdditiveSmoothingSampler,
    AdditiveSmoothingSampler,
    BaseSampler,
    ConditionalStartSampler,
    ConstantTimeSampler,
    ConstantVarianceSampler,
    HistoryMixtureSampler,
    ModelSampler,
    PoolReuseSampler,
    PowerSmoothingSampler,
    UniformSampler,
    WarmupCondition,
)

pytestmark = pytest.mark.statistical

N, BATCH, DRAWS = 96, 16, 250


class Fixed(BaseSampler):
    """Scores of the whole set that do not change: stale scores, in other words."""

    scores = np.random.default_rng(1).exponential(size=N) + 0.05

    def _get_samples_with_scores(self, batch_size):
        return np.arange(N), self.scores, None


def _started(sampler):
    sampler.condition.update(np.eye(64)[0])
    return sampler


def _pool(d, p, m, **kwargs):
    return ModelSampler(d, p, m, large_batch=48, rng=5, **kwargs)


SAMPLERS = {
    "uniform": lambda d, p, m: UniformSampler(d, p, rng=5),
    "pool": _pool,
    "whole": lambda d, p, m: ModelSampler(d, p, m, large_batch=N, rng=5),
    "smoothed": lambda d, p, m: AdditiveSmoothingSampler(_pool(d, p, m), 0.2),
    "adaptive": lambda d, p, m: AdaptiveAdditiveSmoothingSampler(_pool(d, p, m), 0.5),
    "power": lambda d, p, m: PowerSmoothingSampler(_pool(d, p, m), 0.5),
    "conditional": lambda d, p, m: ConditionalStartSampler(_pool(d, p, m), WarmupCondition(20)),
    "stale": lambda d, p, m: Fixed(d, p, rng=5),
    "variance": lambda d, p, m: _started(ConstantVarianceSampler(d, p, m, rng=5)),
    "time": lambda d, p, m: _started(ConstantTimeSampler(d, p, m, rng=5)),
    "systematic": lambda d, p, m: _pool(d, p, m, resampling="systematic"),
    "reused": lambda d, p, m: PoolReuseSampler(_pool(d, p, m), 2),
    "reused, systematic": lambda d, p, m: PoolReuseSampler(
        _pool(d, p, m, resampling="systematic"), 2
    ),
    "history": lambda d, p, m: HistoryMixtureSampler(d, p, rng=5),
    "constant variance": lambda d, p, m: HistoryMixtureSampler(
        d, p, rng=5, constant="variance", min_batch_size=4
    ),
    "robust history": lambda d, p, m: HistoryMixtureSampler(d, p, mix=0.1, robust=1.0, rng=5),
}
UNBIASED = [(name, BiasedReweightingPolicy(1.0), "gnorm") for name in SAMPLERS]
UNBIASED += [
    ("pool", BiasedReweightingPolicy(1.0), "loss"),
    ("pool", BiasedReweightingPolicy(1.0), "full_gnorm"),
    # with right predictions the graph's weights are the sampler's
    ("pool", AdjustedBiasedReweightingPolicy(1.0), "gnorm"),
    ("pool", CorrectingReweightingPolicy(1.0), "gnorm"),
]


def trained_mlp():
    x, y = data(N)
    model = mlp(optimizer=keras.optimizers.Adam(0.05))
    model.fit(x, y, epochs=15, verbose=0)
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    return model, x, y


def step_gradients(model, sampler, wrapper, draws):
    """Steps of SGD with rate 1 from the same weights; a step's change is minus its gradient."""
    start = model.get_weights()
    gradients = []
    for _ in range(draws):
        draw = sampler.sample(BATCH)
        result = wrapper.train(draw)
        if not isinstance(sampler, ConstantVarianceSampler | ConstantTimeSampler):
            observe(sampler, draw, result.scores)
        end = model.get_weights()
        gradients.append(np.concatenate([(a - b).ravel() for a, b in zip(start, end, strict=True)]))
        model.set_weights(start)
    return np.asarray(gradients, "float64")


def flat(gradient):
    return np.concatenate([g.ravel() for g in gradient])


def worst_z(gradients, full):
    """Largest deviation of the mean in standard errors, and the bound for p = 1e-6 over all."""
    error = gradients.std(0, ddof=1) / np.sqrt(len(gradients))
    z = np.abs(gradients.mean(0) - full) / np.maximum(error, 1e-7)
    return z.max(), NormalDist().inv_cdf(1 - 1e-6 / (2 * len(full)))


# Everywhere what the backend has most to do with: scores of a pool, and those of its own passes.
EVERYWHERE = ("pool", "history", "constant variance")


def _case(name, policy, score):
    marks = [] if name in EVERYWHERE else [pytest.mark.one_backend]
    return pytest.param(
        name, policy, score, id=f"{name}-{type(policy).__name__}-{score}", marks=marks
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "policy", "score"), [_case(*c) for c in UNBIASED])
def test_mean_gradient_is_the_full_gradient(name, policy, score):
    model, x, y = trained_mlp()
    dataset = InMemoryDataset(x, y, x[:2], y[:2], categorical=False)
    wrapper = OracleWrapper(model, policy, score=score)
    full = flat(wrapper.gradient(x, y))
    sampler = SAMPLERS[name](dataset, policy, wrapper)
    gradients = step_gradients(model, sampler, wrapper, DRAWS)
    assert gradients.std(0).max() > 0
    z, bound = worst_z(gradients, full)
    assert z < bound


def test_the_test_can_fail():
    """Drawn by score and not weighted, the mean gradient is far from the full one."""
    model, x, y = trained_mlp()
    policy = BiasedReweightingPolicy(0.0)
    dataset = InMemoryDataset(x, y, x[:2], y[:2], categorical=False)
    wrapper = OracleWrapper(model, policy, score="loss")
    full = flat(wrapper.gradient(x, y))
    gradients = step_gradients(model, _pool(dataset, policy, wrapper), wrapper, DRAWS)
    z, bound = worst_z(gradients, full)
    assert z > 2 * bound


@pytest.mark.slow
def test_bias_has_the_sign_and_order_of_the_paper():
    """With weights w^k, the mean gradient is that of sum l^(2-k), scaled (1706.00043, eq. 11).

    For the exact loss as score and a fixed pool, p_i ~ l_i and w_i^k p_i ~ l_i^(1-k), so the
    mean step follows sum_i l_i^(1-k) grad l_i: the smaller k, the more the hard examples count.
    """
    model, x, y = trained_mlp()
    dataset = InMemoryDataset(x, y, x[:2], y[:2], categorical=False)
    losses = OracleWrapper(model, BiasedReweightingPolicy(1.0)).score(x, y).astype("float64")

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    on_hard = []
    for k in (1.0, 0.5, -0.5):
        policy = BiasedReweightingPolicy(k)
        wrapper = OracleWrapper(model, policy, score="loss")
        expected = flat(wrapper.gradient(x, y, losses ** (1 - k) / np.mean(losses ** (1 - k))))
        sampler = ModelSampler(dataset, policy, wrapper, large_batch=N, rng=5)
        gradients = step_gradients(model, sampler, wrapper, DRAWS)
        mean = gradients.mean(0)
        # What is left beside the expected direction is the error of the mean, whose squared
        # norm is trace / DRAWS on average, and the rescaling's correlation with its batch.
        left = mean - expected * (mean @ expected) / (expected @ expected)
        error = np.sqrt(gradients.var(0, ddof=1).sum() / DRAWS)
        assert mean @ expected > 0
        assert np.linalg.norm(left) < 2 * error + 0.05 * np.linalg.norm(mean)
        hard = flat(wrapper.gradient(x, y, np.float32(losses == losses.max())))
        on_hard.append(cosine(mean, hard))
    assert on_hard[0] < on_hard[1] < on_hard[2]


@pytest.mark.slow
def test_variance_is_below_uniforms_and_full_gnorms_the_least():
    """Traces of covariance; their ratios have a relative error of sqrt(2/DRAWS) or so each."""
    model, x, y = trained_mlp()
    dataset = InMemoryDataset(x, y, x[:2], y[:2], categorical=False)
    policy = BiasedReweightingPolicy(1.0)
    traces = {}
    for score in ("gnorm", "full_gnorm"):
        wrapper = OracleWrapper(model, policy, score=score)
        norms = np.stack([flat(wrapper.gradient(x[[i]], y[[i]])) for i in range(N)])
        p = wrapper.score(x, y).astype("float64")
        p /= p.sum()
        # Exact trace of the covariance of one weighted draw, no sampling needed.
        weighted = norms / (N * p[:, None])
        traces[score] = (p * (weighted**2).sum(1)).sum() - (norms.mean(0) ** 2).sum()
        traces["uniform"] = (norms**2).sum(1).mean() - (norms.mean(0) ** 2).sum()
        sampler = ModelSampler(dataset, policy, wrapper, large_batch=N, rng=5)
        measured = step_gradients(model, sampler, wrapper, 400).var(0, ddof=1).sum() * BATCH
        np.testing.assert_allclose(measured, traces[score], rtol=0.35)
    assert traces["full_gnorm"] <= traces["gnorm"] * (1 + 1e-5)
    assert traces["gnorm"] < traces["uniform"]


@pytest.mark.slow
def test_masked_sequences_aim_at_the_same_objective():
    """The mean over tokens of the whole set, though every batch has another number of them."""
    keras.utils.set_random_seed(1)
    x, y, _ = sequences(N)
    model = keras.Sequential(
        [
            layers.Input((7,), dtype="int32"),
            layers.Embedding(11, 3, mask_zero=True),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=3, verbose=0)
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    policy = BiasedReweightingPolicy(1.0)
    dataset = InMemoryDataset(x, y, x[:2], y[:2], categorical=False)
    wrapper = OracleWrapper(model, policy, score="gnorm")
    full = flat(wrapper.gradient(x, y))
    sampler = ModelSampler(dataset, policy, wrapper, large_batch=N, rng=5)
    z, bound = worst_z(step_gradients(model, sampler, wrapper, DRAWS), full)
    assert z < bound


@pytest.mark.slow
def test_several_outputs_and_sample_weights_stay_unbiased():
    x, y = data(N)
    inputs = keras.Input((FEATURES,))
    a = layers.Dense(CLASSES, activation="softmax")(inputs)
    b = layers.Dense(2)(inputs)
    model = keras.Model(inputs, [a, b])
    model.compile(
        keras.optimizers.SGD(1.0), ["categorical_crossentropy", "mse"], loss_weights=[1.0, 0.5]
    )
    targets = [one_hot(y).astype("float32"), x[:, :2] ** 2]
    weights = np.linspace(0.2, 2, N).astype("float32")

    class Weighted(InMemoryDataset):
        def _train_data(self, idxs):
            return (*super()._train_data(idxs), weights[idxs])

    dataset = Weighted(x, targets, x[:2], [t[:2] for t in targets], categorical=False)
    policy = BiasedReweightingPolicy(1.0)
    wrapper = OracleWrapper(model, policy, score="gnorm")
    full = flat(wrapper.gradient(x, targets, sample_weight=weights))
    sampler = ModelSampler(dataset, policy, wrapper, large_batch=48, rng=5)
    z, bound = worst_z(step_gradients(model, sampler, wrapper, DRAWS), full)
    assert z < bound
