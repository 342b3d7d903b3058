"""Samplers without any network: one battery for all, driven by a table."""

import numpy as np
import pytest

from importance_sampling.datasets import GeneratorDataset, InMemoryDataset
from importance_sampling.reweighting import BiasedReweightingPolicy, NoReweightingPolicy
from importance_sampling.samplers import (
    AdaptiveAdditiveSmoothingSampler,
    AdditiveSmoothingSampler,
    BaseSampler,
    ConditionalStartSampler,
    ConstantTimeSampler,
    ConstantVarianceSampler,
    ModelSampler,
    Pool,
    PowerSmoothingSampler,
    VarianceReductionCondition,
)
from importance_sampling.samplers.drawing import IndexStream, draw_positions

pytestmark = pytest.mark.any_backend

N = 60
BATCH = 8


class Scorer:
    """Scores a row by a function of its index, which is its input."""

    def __init__(self, function=lambda i: 0.1 + i % 7):
        self.function = function
        self.calls = 0

    def score(self, x, y, batch_size=128):
        self.calls += 1
        return self.function(x[:, 0].astype("float64"))


def dataset(n=N):
    x = np.arange(n, dtype="float32")[:, None]
    return InMemoryDataset(x, 2 * x, x[:3], 2 * x[:3], categorical=False)


def pool(rng=0, **kwargs):
    arguments = {"large_batch": 24, "rng": rng} | kwargs
    return ModelSampler(dataset(), BiasedReweightingPolicy(), Scorer(), **arguments)


def skewed(i):
    return np.where(i % 20 == 0, 50.0, 0.1)


def on(sampler):
    """Feeds a sampler that starts when it pays with scores that make it pay."""
    sampler.condition.update(skewed(np.arange(N)))
    return sampler


@pytest.mark.statistical
def test_positions_are_drawn_in_proportion():
    """Chi-squared over 6 cells with 5 degrees of freedom: above 38 with p < 4e-7."""
    scores = np.array([1.0, 0.0, 2.0, 5.0, 0.5, 3.0, 0.0])
    rng = np.random.default_rng(0)
    n = 60_000
    counts = np.bincount(draw_positions(scores, n, rng), minlength=7)
    assert counts[1] == counts[6] == 0
    expected = n * scores / scores.sum()
    kept = scores > 0
    assert ((counts - expected)[kept] ** 2 / expected[kept]).sum() < 38


@pytest.mark.exact
def test_passes_visit_every_example_once():
    stream = IndexStream(10, np.random.default_rng(0))
    got = np.concatenate([stream.next(4) for _ in range(5)])
    for part in (got[:10], got[10:]):
        np.testing.assert_array_equal(np.sort(part), np.arange(10))
    assert not np.array_equal(got[:10], got[10:])
    ordered = IndexStream(10, np.random.default_rng(0), shuffle=False)
    np.testing.assert_array_equal(ordered.next(23) % 10, np.arange(23) % 10)


@pytest.mark.exact
def test_uniform_scores_give_ones():
    sampler = ModelSampler(dataset(), BiasedReweightingPolicy(), Scorer(lambda i: 0 * i + 3), rng=0)
    np.testing.assert_allclose(sampler.sample(BATCH)[2], 1, rtol=1e-6)


@pytest.mark.exact
def test_all_zero_scores_fall_back_to_a_uniform_draw():
    sampler = ModelSampler(dataset(), BiasedReweightingPolicy(), Scorer(lambda i: 0 * i), rng=0)
    draw = sampler.sample(BATCH)
    np.testing.assert_allclose(draw[2], 1, rtol=1e-6)
    assert len(np.unique(draw[0])) > 1


@pytest.mark.exact
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_impossible_scores_stop_with_their_rows(bad):
    sampler = pool()
    # 24 of 60 in a random order: which index this one row of the pool has is all that matters.
    seen = []

    def spoilt(i):
        seen.append(int(i[5]))
        return np.where(np.arange(len(i)) == 5, bad, 1.0)

    sampler.model.function = spoilt
    with pytest.raises(ValueError, match="1 of 24 scores") as error:
        sampler.sample(BATCH)
    assert seen[0] != 5 and f"index [{seen[0]}]" in str(error.value)


@pytest.mark.exact
def test_a_batch_larger_than_the_pool_holds_examples_twice():
    idxs, (x, _), w = pool().sample(30)
    assert len(idxs) == len(x) == len(w) == 30
    assert len(np.unique(idxs)) <= 24


@pytest.mark.exact
def test_only_the_drawn_rows_of_a_known_score_are_read():
    class Known(BaseSampler):
        def _get_samples_with_scores(self, batch_size):
            return np.arange(N), skewed(np.arange(N)), None

    read = []
    data = dataset()
    inner = data._train_data
    data._train_data = lambda idxs: read.append(len(idxs)) or inner(idxs)
    idxs, (x, _), w = Known(data, NoReweightingPolicy(), rng=0).sample(BATCH)
    assert read == [BATCH]
    np.testing.assert_array_equal(x[:, 0], idxs)
    np.testing.assert_array_equal(w, 1)


@pytest.mark.exact
@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (np.ones(N), TypeError, "Own.candidates returned ndarray; it must return a Pool"),
        ((np.arange(N), np.ones(N), None), TypeError, r"returned tuple; .*`Pool\(idxs, scores\)`"),
        (Pool(np.arange(N), np.ones(N - 1)), ValueError, r"60 indices and scores of shape \(59,\)"),
        (Pool(np.arange(N), np.ones((30, 2))), ValueError, r"scores of shape \(30, 2\)"),
        (Pool(list(range(N)), np.ones(N)), TypeError, "returned a Pool of list; .* numpy arrays"),
        (Pool(np.arange(0), np.ones(0)), ValueError, "returned no candidates"),
        (Pool(np.arange(N), np.arange(N) - 2.0), ValueError, r"index \[0, 1\] .*absolute value"),
        (Pool(np.arange(N), np.full(N, np.nan)), ValueError, "Check these rows of the data"),
    ],
    ids=["array", "tuple", "too few", "a table", "list", "none", "negative", "NaN"],
)
def test_what_candidates_return_is_checked(found, error, words):
    class Own(BaseSampler):
        def candidates(self, batch_size):
            return found

    own = Own(dataset(), NoReweightingPolicy(), rng=0)
    for sampler in (own, AdditiveSmoothingSampler(own), PowerSmoothingSampler(own)):
        with pytest.raises(error, match=words):
            sampler.propose(BATCH)


@pytest.mark.exact
def test_what_the_old_name_of_candidates_returns_is_checked():
    class Old(BaseSampler):
        def _get_samples_with_scores(self, batch_size):
            return np.arange(N), np.ones(N)

    message = r"Old\._get_samples_with_scores must return three things: .* got tuple"
    with pytest.raises(TypeError, match=message):
        Old(dataset(), NoReweightingPolicy(), rng=0).propose(BATCH)


@pytest.mark.exact
def test_overlap_is_declared_and_inherited():
    class Inherits(ModelSampler):
        pass

    class Told(ModelSampler):
        def update(self, idxs, results):
            super().update(idxs, results)

    class Fresh(BaseSampler):
        def candidates(self, batch_size):
            return Pool(np.arange(N), np.ones(N))

    arguments = (dataset(), BiasedReweightingPolicy())
    assert ModelSampler(*arguments, Scorer()).overlaps
    assert Inherits(*arguments, Scorer()).overlaps
    # As in 0.10: told of a step before it is asked for the next.
    assert not Told(*arguments, Scorer()).overlaps
    assert not Fresh(*arguments).overlaps
    assert not AdditiveSmoothingSampler(Fresh(*arguments)).overlaps
    assert AdditiveSmoothingSampler(Inherits(*arguments, Scorer())).overlaps


@pytest.mark.exact
def test_conditional_start_switches_on_and_keeps_watching_the_pool():
    condition = VarianceReductionCondition(1.5, momentum=0.0, sample_size=BATCH)
    sampler = ConditionalStartSampler(pool(large_batch=2 * BATCH), condition)
    assert not sampler.sample(BATCH).by_score
    sampler.update(np.arange(BATCH), skewed(np.arange(BATCH)))
    assert condition.variance_reduction > 2
    assert sampler.sampler.model.calls == 0
    draw = sampler.sample(BATCH)
    assert draw.by_score and len(draw.pool_scores) == 2 * BATCH
    # the pool's scores are nearly uniform, so it is off again; a batch drawn by score is no
    # estimate of anything and must not be averaged in
    after = condition.variance_reduction
    assert after < 1.5
    sampler.update(draw[0], skewed(np.arange(BATCH)))
    assert condition.variance_reduction == after
    assert not sampler.sample(BATCH).by_score


@pytest.mark.exact
def test_variable_batches_take_few_sizes():
    sizes, pools = set(), set()
    for make in (ConstantVarianceSampler, ConstantTimeSampler):
        sampler = make(dataset(4096), BiasedReweightingPolicy(), Scorer(skewed), rng=0)
        rng = np.random.default_rng(0)
        for _ in range(200):
            heavy = rng.random(128) ** rng.uniform(1, 40)
            sampler.condition.update(heavy)
            draw = sampler.sample(128)
            sizes.add(len(draw[0]))
            pools.add(0 if draw.pool_scores is None else len(draw.pool_scores))
            assert len(draw[0]) % 8 == 0
    assert len(sizes) <= 16 and len(pools) <= 18


@pytest.mark.exact
def test_constant_time_keeps_to_its_time():
    sampler = ConstantTimeSampler(dataset(4096), BiasedReweightingPolicy(), Scorer(skewed), rng=0)
    for spread in (3.0, 8.0, 30.0):
        sampler.condition.update(np.random.default_rng(0).random(128) ** spread)
        draw = sampler.sample(128)
        cost = len(draw[0]) * 3.0 + (0 if draw.pool_scores is None else len(draw.pool_scores))
        assert cost == 3.0 * 128


@pytest.mark.exact
def test_streams_are_sampled_from_their_pools():
    def batches():
        start = 0
        while True:
            x = np.arange(start, start + 10, dtype="float32")[:, None]
            yield x, 2 * x
            start += 10

    with GeneratorDataset(batches()) as data:
        sampler = ModelSampler(data, BiasedReweightingPolicy(), Scorer(), large_batch=24, rng=0)
        for step in range(3):
            _, (x, y), w = sampler.sample(BATCH)
            assert x.shape == (BATCH, 1) and w.shape == (BATCH, 1)
            np.testing.assert_array_equal(y, 2 * x)
            assert (x >= 24 * step).all() and (x < 24 * (step + 1)).all()


@pytest.mark.exact
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdditiveSmoothingSampler(pool(), -1), "`c` must be at least 0"),
        (lambda: AdaptiveAdditiveSmoothingSampler(pool(), -1), "`percentage`"),
        (lambda: AdaptiveAdditiveSmoothingSampler(pool(), 0.5, 1.0), "`momentum`"),
        (lambda: PowerSmoothingSampler(pool(), 2), "`power` must be in"),
        (lambda: ConstantVarianceSampler(dataset(), None, None, 2.0, 0.7), "extra_samples"),
        (lambda: ConstantTimeSampler(dataset(), None, None, -1), "backward_time"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
