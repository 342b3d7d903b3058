"""One battery for all samplers; a class without a row fails."""

import numpy as np
import pytest
from blinker import signal
from helpers import observe

import importance_sampling.samplers as samplers
from importance_sampling.datasets import GeneratorDataset, InMemoryDataset
from importance_sampling.reweighting import BiasedReweightingPolicy, NoReweightingPolicy

N = 300
BATCH = 10
CLASSES = 3


def truth(idxs):
    """The score of each example: its class counts, and some examples more than others."""
    idxs = np.asarray(idxs)
    return 0.2 + idxs % CLASSES + 4.0 * (idxs % 50 == 0)


class Scorer:
    def score(self, x, y, batch_size=128):
        return truth(x[:, 0].astype("int64"))


def dataset():
    x = np.arange(N, dtype="float32")[:, None]
    y = np.arange(N) % CLASSES
    return InMemoryDataset(x, y, x[:3], y[:3], categorical=True)


def stream():
    def rows():
        while True:
            for i in range(0, N, 30):
                x = np.arange(i, i + 30, dtype="float32")[:, None]
                yield x, np.eye(CLASSES)[np.arange(i, i + 30) % CLASSES]

    return GeneratorDataset(rows())


def pool(data, policy, rng):
    return samplers.ModelSampler(data, policy, Scorer(), large_batch=60, rng=rng)


def lstm(data, policy, rng):
    return samplers.LSTMSampler(data, policy, presample=60, history=3, rng=rng)


def smoothed(kind, *args):
    return lambda data, policy, rng: kind(pool(data, policy, rng), *args)


def condition():
    return samplers.VarianceReductionCondition(1.1, momentum=0.5)


def mixture(data, policy, rng, **kwargs):
    return samplers.HistoryMixtureSampler(data, policy, rng=rng, **kwargs)


def infobatch(data, policy, rng):
    return samplers.InfoBatchSampler(data, policy, rng=rng)


def warmed(make):
    """After its first pass, which is uniform: where a sampler shows what it is for."""

    def build(data, policy, rng):
        sampler = make(data, policy, rng)
        if isinstance(data, InMemoryDataset):
            for _ in range(N // BATCH + 12):
                step(sampler)
        return sampler

    return build


ROWS = {
    "UniformSampler": lambda d, p, r: samplers.UniformSampler(d, p, rng=r),
    "ModelSampler": pool,
    "CacheSampler": lambda d, p, r: samplers.CacheSampler(d, p, rng=r),
    "LSTMSampler": lstm,
    "PerClassGaussian": lambda d, p, r: samplers.PerClassGaussian(d, p, presample=60, rng=r),
    "LSTMComparisonSampler": lambda d, p, r: samplers.LSTMComparisonSampler(
        d, lstm(d, p, r), pool(d, p, r), subset=20
    ),
    "HistorySampler": lambda d, p, r: samplers.HistorySampler(d, p, Scorer(), recompute=0, rng=r),
    "OnlineBatchSelectionSampler": lambda d, p, r: samplers.OnlineBatchSelectionSampler(
        d, p, Scorer(), steps_per_epoch=5, recompute=2, s_e=(20, 2), n_epochs=30, rng=r
    ),
    "ConstantVarianceSampler": lambda d, p, r: samplers.ConstantVarianceSampler(
        d, p, Scorer(), backward_time=20.0, extra_samples=0.0, rng=r
    ),
    "ConstantTimeSampler": lambda d, p, r: samplers.ConstantTimeSampler(
        d, p, Scorer(), tau_th=1.1, rng=r
    ),
    "SamplerDecorator": smoothed(samplers.SamplerDecorator),
    "AdditiveSmoothingSampler": smoothed(samplers.AdditiveSmoothingSampler, 0.5),
    "AdaptiveAdditiveSmoothingSampler": smoothed(samplers.AdaptiveAdditiveSmoothingSampler, 0.5),
    "PowerSmoothingSampler": smoothed(samplers.PowerSmoothingSampler, 0.5),
    "ConditionalStartSampler": lambda d, p, r: samplers.ConditionalStartSampler(
        pool(d, p, r), condition()
    ),
    "HistoryMixtureSampler": mixture,
    "HistoryMixtureSampler later": warmed(mixture),
    "HistoryMixtureSampler at constant variance": warmed(
        lambda d, p, r: mixture(d, p, r, constant="variance", min_batch_size=3)
    ),
    "HistoryMixtureSampler robust": warmed(lambda d, p, r: mixture(d, p, r, robust=1.0, mix=0.1)),
    "HistoryMixtureSampler refreshed": warmed(
        lambda d, p, r: mixture(d, p, r, refresh=0.5, model=Scorer())
    ),
    "AdditiveSmoothingSampler of mixture": warmed(
        lambda d, p, r: samplers.AdditiveSmoothingSampler(mixture(d, p, r), 0.1)
    ),
    "PoolReuseSampler": lambda d, p, r: samplers.PoolReuseSampler(pool(d, p, r), 3),
    "AutoSampler": lambda d, p, r: samplers.AutoSampler(d, p, Scorer(), rng=r),
    "AutoSampler later": warmed(lambda d, p, r: samplers.AutoSampler(d, p, Scorer(), rng=r)),
    "PowerSmoothingSampler of history": lambda d, p, r: samplers.PowerSmoothingSampler(
        samplers.HistorySampler(d, p, Scorer(), recompute=0, rng=r)
    ),
    "AdditiveSmoothingSampler of LSTM": lambda d, p, r: samplers.AdditiveSmoothingSampler(
        lstm(d, p, r), 0.1
    ),
    "InfoBatchSampler": infobatch,
    "InfoBatchSampler later": warmed(infobatch),
    "SelectiveBackpropSampler": lambda d, p, r: samplers.SelectiveBackpropSampler(
        d, p, Scorer(), history=200, rng=r
    ),
}
# Without a length there is nothing to keep scores for.
NEEDS_LENGTH = {
    "CacheSampler",
    "LSTMSampler",
    "PerClassGaussian",
    "LSTMComparisonSampler",
    "HistorySampler",
    "OnlineBatchSelectionSampler",
    "HistoryMixtureSampler",
    "HistoryMixtureSampler later",
    "HistoryMixtureSampler at constant variance",
    "HistoryMixtureSampler robust",
    "HistoryMixtureSampler refreshed",
    "AdditiveSmoothingSampler of mixture",
    "PowerSmoothingSampler of history",
    "AdditiveSmoothingSampler of LSTM",
    "InfoBatchSampler",
    "InfoBatchSampler later",
}
every_sampler = pytest.mark.parametrize("name", ROWS)
pytestmark = pytest.mark.any_backend


# The variance reduction of these is measured on what they drew, and may turn out below one.
MEASURED = (
    "HistoryMixtureSampler",
    "AutoSampler",
    "AdditiveSmoothingSampler of mixture",
    "InfoBatchSampler",
)
# The weights of these are not meant to make a step's mean the full one; those of the logs are.
OTHER_WEIGHTS = ("InfoBatchSampler", "SelectiveBackpropSampler")


def step(sampler):
    """One draw, and an update with the scores of what was drawn."""
    draw = sampler.sample(BATCH)
    scores = truth(draw.idxs) if draw.reads_scores else None
    observe(sampler, draw, scores, 0.001 if draw.pool_scores is None else 0.0011)
    return draw


def test_every_sampler_has_a_row():
    public = {
        name
        for name in samplers.__all__
        if isinstance(getattr(samplers, name), type)
        and issubclass(getattr(samplers, name), samplers.BaseSampler)
    }
    # `SCSGSampler` wants a wrapper that takes snapshots, and has its tests in a file of its own.
    others = {"BaseSampler", "SCSGSampler"}
    assert public - others == {name.split()[0] for name in ROWS}


@pytest.mark.exact
@every_sampler
def test_shapes_and_rows(name):
    sampler = ROWS[name](dataset(), BiasedReweightingPolicy(), 0)
    heard = []
    with signal("is.sample").connected_to(heard.append):
        for _ in range(12):
            idxs, (x, y), w = draw = step(sampler)
            b = len(idxs)
            assert 0 < b <= BATCH and idxs.dtype.kind == "i" and 0 <= idxs.min() <= idxs.max() < N
            np.testing.assert_array_equal(x[:, 0], idxs)
            np.testing.assert_array_equal(y.argmax(1), idxs % CLASSES)
            assert w.shape == (b, 1) and w.dtype == np.float64 and (w > 0).all()
            assert draw.predicted_scores.shape == draw.importance_weights.shape == (b,)
            if not name.startswith(OTHER_WEIGHTS):
                np.testing.assert_allclose(draw.importance_weights, w[:, 0], rtol=1e-5)
    assert len(heard) == 12
    estimate = sampler.variance_reduction
    assert estimate is None or estimate >= (0.5 if name.startswith(MEASURED) else 1 - 1e-6)


@pytest.mark.exact
@every_sampler
def test_update_takes_indices_alone(name):
    sampler = ROWS[name](dataset(), NoReweightingPolicy(), 0)
    for _ in range(3):
        idxs, _, w = sampler.sample(BATCH)
        sampler.update(idxs, truth(idxs))
        np.testing.assert_array_equal(w, 1)


@pytest.mark.statistical
@every_sampler
def test_draws_are_unbiased_however_stale_the_scores(name):
    """The weighted mean of any function over a draw is, in the mean, that over the set.

    Given the past, each draw is unbiased, so that the steps' errors are uncorrelated and the
    spread over steps gives the standard error; 4.9 of those are p < 1e-6.
    """
    sampler = ROWS[name](dataset(), BiasedReweightingPolicy(), 3)
    value = np.random.default_rng(0).normal(size=N) + np.arange(N) % 7
    means = []
    for i in range(120 if "LSTM" in name else 600):
        draw = sampler.sample(BATCH)
        w = draw.importance_weights if name.startswith(OTHER_WEIGHTS) else draw[2][:, 0]
        means.append((w * value[draw[0]]).mean())
        # only now and then, so that scores get stale
        if i % 3 == 0:
            observe(sampler, draw, truth(draw[0]))
    means = np.array(means)
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert abs(means.mean() - value.mean()) < 4.9 * error
    assert error < 0.5


@pytest.mark.exact
@every_sampler
def test_seed_decides(name):
    before = np.random.get_state()[1].copy()
    draws = []
    for seed in (1, 1, 2):
        sampler = ROWS[name](dataset(), BiasedReweightingPolicy(), seed)
        draws.append(np.concatenate([step(sampler)[0] for _ in range(6)]))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert len(draws[0]) != len(draws[2]) or (draws[0] != draws[2]).any()
    # all randomness is the sampler's own
    np.testing.assert_array_equal(before, np.random.get_state()[1])


@pytest.mark.exact
@every_sampler
def test_state_restored_at_every_step_gives_the_same_draws(name):
    steps = 6
    sampler = ROWS[name](dataset(), BiasedReweightingPolicy(), 0)
    states, draws = [], []
    for _ in range(steps):
        states.append(sampler.state_dict())
        draws.append(step(sampler))
    for at in range(steps):
        other = ROWS[name](dataset(), BiasedReweightingPolicy(), 99)
        other.load_state_dict(states[at])
        for expected in draws[at:]:
            got = step(other)
            np.testing.assert_array_equal(got[0], expected[0])
            np.testing.assert_allclose(got[2], expected[2], rtol=1e-4)


@pytest.mark.exact
@every_sampler
def test_state_is_plain(name):
    """Numbers, text and arrays only: nothing that would have to be pickled."""
    sampler = ROWS[name](dataset(), BiasedReweightingPolicy(), 0)
    step(sampler)

    def check(part):
        if isinstance(part, dict):
            assert all(isinstance(key, str) for key in part)
            part = list(part.values())
        if isinstance(part, list | tuple):
            for one in part:
                check(one)
        else:
            assert part is None or isinstance(
                part, bool | int | float | str | np.ndarray | np.generic
            )
            assert not isinstance(part, np.ndarray) or part.dtype != object

    check(sampler.state_dict())


@pytest.mark.exact
@every_sampler
def test_streams(name):
    with stream() as data:
        if name in NEEDS_LENGTH:
            with pytest.raises(NotImplementedError, match="a stream has no examples"):
                ROWS[name](data, BiasedReweightingPolicy(), 0)
            return
        sampler = ROWS[name](data, BiasedReweightingPolicy(), 0)
        for _ in range(5):
            draw = sampler.sample(BATCH)
            observe(sampler, draw, truth(draw[1][0][:, 0].astype(int)))
            x, y = draw[1]
            np.testing.assert_array_equal(y.argmax(1), x[:, 0].astype(int) % CLASSES)


# -- what each of them is for --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize(
    "name",
    [
        "HistorySampler",
        "PerClassGaussian",
        "LSTMSampler",
        "CacheSampler",
        "HistoryMixtureSampler",
        "AutoSampler",
    ],
)
def test_learns_what_is_hard(name):
    """Examples of the class with the largest scores are drawn more often than by chance.

    Chance is a third of n independent draws: five standard deviations above it is p < 1e-6.
    """
    sampler = ROWS[name](dataset(), BiasedReweightingPolicy(), 0)
    for _ in range(150):
        step(sampler)
    drawn = np.concatenate([step(sampler)[0] for _ in range(60)]) % CLASSES
    share = (drawn == CLASSES - 1).mean()
    assert share > 1 / 3 + 5 * np.sqrt(2 / 9 / len(drawn))


@pytest.mark.exact
def test_history_rescores_everything():
    sampler = samplers.HistorySampler(
        dataset(), BiasedReweightingPolicy(), Scorer(), recompute=2, rng=0
    )
    step(sampler)
    assert np.abs(sampler._all_scores() - truth(np.arange(N))).max() > 0.1
    step(sampler)
    np.testing.assert_allclose(sampler._all_scores(), truth(np.arange(N)), rtol=1e-6)


@pytest.mark.exact
def test_unseen_examples_count_as_the_mean_of_the_seen():
    sampler = samplers.HistorySampler(
        dataset(), BiasedReweightingPolicy(), Scorer(), recompute=0, rng=0
    )
    sampler.update(np.array([3, 4]), np.array([1.0, 3.0]))
    scores = sampler._all_scores()
    assert scores[3] == 1 and scores[4] == 3
    np.testing.assert_allclose(np.delete(scores, [3, 4]), 2.0)


@pytest.mark.exact
def test_cache_follows_its_formula_and_forgets():
    sampler = samplers.CacheSampler(
        dataset(), BiasedReweightingPolicy(), staleness=1, cache_prob=0.75, smooth=0.5, rng=0
    )
    expected = np.ones(N)
    updates = [([1, 2], [1.0, 2.0]), ([2, 3], [0.0, 4.0]), ([5], [1.0]), ([5], [7.0])]
    for i, (idxs, values) in enumerate(updates):
        sampler.update(np.array(idxs), np.array(values))
        alive = {}
        for past, scores in updates[max(0, i - 1) : i + 1]:
            alive.update(zip(past, scores, strict=True))
        expected[:] = 1.0
        total = sum(s + 0.5 for s in alive.values())
        for index, score in alive.items():
            expected[index] = 1 + 3.0 * N * (score + 0.5) / total
        np.testing.assert_allclose(sampler._all_scores(), expected, rtol=1e-5)
        # three quarters of the mass is the cache's
        share = (expected[list(alive)] - 1).sum() / expected.sum()
        np.testing.assert_allclose(share, 0.75)


@pytest.mark.exact
def test_per_class_gaussian_equals_one_update_after_the_other():
    sampler = samplers.PerClassGaussian(dataset(), BiasedReweightingPolicy(), alpha=0.7, rng=0)
    mean, second = sampler.mu.copy(), sampler.variance.copy()
    rng = np.random.default_rng(1)
    for _ in range(4):
        idxs, losses = rng.integers(0, N, 20), rng.random(20)
        sampler.update(idxs, losses)
        for i, loss in zip(idxs, losses, strict=True):
            c = i % CLASSES
            mean[c] = 0.7 * mean[c] + 0.3 * loss
            second[c] = 0.7 * second[c] + 0.3 * loss**2
    np.testing.assert_allclose(sampler.mu, mean)
    np.testing.assert_allclose(sampler.deviation, np.sqrt(np.maximum(second - mean**2, 0)))


@pytest.mark.exact
def test_online_batch_selection_by_rank():
    sampler = samplers.OnlineBatchSelectionSampler(
        dataset(),
        BiasedReweightingPolicy(),
        Scorer(),
        steps_per_epoch=1,
        recompute=1,
        s_e=(100, 100),
        rng=0,
    )
    np.testing.assert_array_equal(sampler._all_scores(), 1)
    sampler.update(np.arange(5), np.ones(5))
    scores = sampler._all_scores()
    np.testing.assert_allclose(scores.max() / scores.min(), 100 ** ((N - 1) / N), rtol=1e-4)
    order = np.argsort(-truth(np.arange(N)), kind="stable")
    np.testing.assert_allclose(scores[order], 100 ** (-np.arange(N) / N), rtol=1e-5)


@pytest.mark.exact
def test_comparison_tells_actual_and_predicted():
    sampler = ROWS["LSTMComparisonSampler"](dataset(), BiasedReweightingPolicy(), 0)
    heard = []
    with signal("is.lstm_comparison_sampler.scores").connected_to(heard.append):
        sampler.sample(BATCH)
    actual, predicted = np.array(heard[0]).T
    np.testing.assert_allclose(actual, truth(sampler._idxs), rtol=1e-6)
    assert len(predicted) == 20 and (predicted > 0).all()
