"""Drawing by the scores of training's own passes."""

import tracemalloc

import keras
import numpy as np
import pytest
from helpers import Scorer, adam_mlp, data, mlp, numbered, observe
from spread import full

from importance_sampling import HistoryImportanceTraining, RobustImportanceTraining
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import HistoryMixtureSampler
from importance_sampling.samplers._history_store import batches_at_once
from importance_sampling.samplers.drawing import draw_positions, uniforms_for
from importance_sampling.samplers.score_cells import (
    ScoreCells,
    robust_second_moments,
    score_bin,
)
from importance_sampling.samplers.variance import IdealReduction, MeasuredReduction

pytestmark = pytest.mark.two_backends

N, BATCH = 240, 20


def after_one_pass(truth, **kwargs):
    sampler = HistoryMixtureSampler(numbered(len(truth)), BiasedReweightingPolicy(), **kwargs)
    for _ in range(len(truth) // BATCH):
        draw = sampler.sample(BATCH)
        observe(sampler, draw, truth[draw[0]])
    return sampler


@pytest.mark.exact
def test_the_first_epoch_visits_every_example_once():
    x, y = data(64)
    drawn = []
    HistoryImportanceTraining(adam_mlp(), seed=0).fit(
        x,
        y,
        batch_size=16,
        epochs=3,
        verbose=0,
        on_sample=lambda sampler, idxs, w, scores: drawn.append((idxs, w[:, 0])),
    )
    first = np.concatenate([idxs for idxs, _ in drawn[:4]])
    np.testing.assert_array_equal(np.sort(first), np.arange(64))
    assert all((w == 1).all() for _, w in drawn[:4])
    assert any((w != 1).any() for _, w in drawn[4:])


@pytest.mark.exact
def test_a_second_fit_goes_on_with_what_is_known_of_the_same_data():
    x, y = data(64)
    training = HistoryImportanceTraining(adam_mlp(), seed=0)
    options = {"batch_size": 16, "epochs": 1, "verbose": 0}
    by_score = []
    for rows in ((x, y), (x, y), (x.copy(), y)):
        training.fit(*rows, **options)
        by_score.append(training.report().steps_on)
    # One epoch of four steps each: uniform, by what it learnt, and anew for other arrays.
    assert by_score == [0, 4, 0]
    training.fit(x, y, **options | {"batch_size": 32})
    assert training.report().steps_on == 0


@pytest.mark.exact
@pytest.mark.parametrize("mix", [0.05, 0.3, 0.95])
def test_probabilities_are_the_mixture(mix):
    truth = np.random.default_rng(0).exponential(size=N) + 0.01
    sampler = after_one_pass(truth, mix=mix, rng=0)
    sampler.refit_if_due(BATCH)
    expected = sampler._tree.values / sampler._tree.values.sum(dtype="float64")
    p = (1 - mix) * expected + mix / N
    for _ in range(5):
        idxs, _, w = sampler.sample(BATCH)
        np.testing.assert_allclose(w[:, 0], 1 / (N * p[idxs]), rtol=1e-5)
        assert w.max() <= 1 / mix + 1e-6
    # Where nothing was learnt of their fate, scores are taken to stay: in half octaves.
    ratio = expected * N / (truth / truth.mean())
    assert np.log2(ratio).max() - np.log2(ratio).min() <= 0.5 + 1e-6


MANY = 1600
"""Of so many examples, ten batches of twenty are drawn at once."""


@pytest.mark.exact
@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
def test_batches_drawn_at_once_have_the_same_probabilities(resampling):
    truth = np.random.default_rng(0).exponential(size=MANY) + 0.01
    sampler = after_one_pass(truth, rng=0, resampling=resampling)
    assert [batches_at_once(n, BATCH) for n in (MANY, N, 10**6)] == [10, 1, 32]
    last_of_run = []
    for run in range(4):
        first = sampler.sample(BATCH)
        if run >= 2:
            # A run is learnt from when the one after the next is drawn. Of an example that came
            # twice, the last score is kept.
            seen = sampler._memory.bins[last_of_run[run - 2]]
            np.testing.assert_array_equal(seen, score_bin(np.full(BATCH, 10.0 + 9)))
        values = sampler._tree.values.astype("float64")
        p = 0.7 * values / values.sum() + 0.3 / MANY
        for i, draw in enumerate([first, *(sampler.sample(BATCH) for _ in range(9))]):
            np.testing.assert_allclose(draw[2][:, 0], 1 / (MANY * p[draw[0]]), rtol=1e-5)
            observe(sampler, draw, np.full(BATCH, 10.0 + i))
            # Those of the run before wait, too: they might be under way.
            assert len(sampler._memory.pending) == 10 + i + 1
        last_of_run.append(draw[0])
    # Another batch size draws anew.
    assert len(sampler.sample(BATCH)[0]) == BATCH
    assert len(sampler.sample(2 * BATCH)[0]) == 2 * BATCH


@pytest.mark.exact
def test_a_state_between_batches_drawn_at_once_goes_on_exactly():
    truth = np.random.default_rng(0).exponential(size=MANY) + 0.01

    def step(sampler):
        draw = sampler.sample(BATCH)
        observe(sampler, draw, truth[draw[0]] / (1 + sampler._memory.step))
        return draw

    one = after_one_pass(truth, rng=0)
    for _ in range(3):
        step(one)
    other = HistoryMixtureSampler(numbered(MANY), BiasedReweightingPolicy(), rng=1)
    other.load_state_dict(one.state_dict())
    for _ in range(40):
        first, second = step(one), step(other)
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[2], second[2])


@pytest.mark.statistical
@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
def test_batches_drawn_at_once_are_independent_and_unbiased(resampling):
    """Means of weighted batches: right on average, and without a word about each other."""
    rng = np.random.default_rng(0)
    truth, values = rng.exponential(size=MANY) + 0.01, rng.normal(size=MANY)
    sampler = after_one_pass(truth, rng=0, resampling=resampling)
    sampler.refit_if_due(BATCH)
    rounds = [[sampler.sample(BATCH) for _ in range(8)] for _ in range(600)]
    means = [[draw[2][:, 0] @ values[draw[0]] / BATCH for draw in drawn] for drawn in rounds]
    # Nothing was learnt meanwhile, so that all 4800 have the same distribution.
    errors = np.array(means) - values.mean()
    spread = errors.std()
    assert abs(errors.mean()) < 4.5 * spread / np.sqrt(errors.size)
    # 28 correlations of 600 pairs, each of a standard deviation of 1 / sqrt(600).
    correlations = np.corrcoef(errors.T)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 4.5 / np.sqrt(600)


@pytest.mark.exact
def test_systematic_draws_are_within_one_of_the_expected_number():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.exponential(size=40) ** 2
        counts = np.bincount(draw_positions(scores, 64, rng, "systematic"), minlength=40)
        expected = 64 * scores / scores.sum()
        assert (np.floor(expected - 1e-9) <= counts).all()
        assert (counts <= np.ceil(expected + 1e-9)).all()
    assert (uniforms_for("systematic", 1000, rng) <= 1).all()


@pytest.mark.exact
def test_the_store_takes_at_most_16_bytes_per_example():
    n = 100_000
    sampler = HistoryMixtureSampler(numbered(n), BiasedReweightingPolicy(), rng=0)
    for _ in range(n // 1000 + 3):
        draw = sampler.sample(1000)
        observe(sampler, draw, np.ones(1000))
    arrays = [sampler._memory.bins, sampler._memory.seen, sampler._indices._at(0, n)]
    assert sampler._tree.nbytes + sum(a.nbytes for a in arrays) <= 16 * n


@pytest.mark.exact
def test_expectations_are_worked_out_piece_by_piece():
    """Not even for a moment are there several numbers of eight bytes for every example."""
    n = 2_000_000
    sampler = HistoryMixtureSampler(numbered(n), BiasedReweightingPolicy(), rng=0)
    sampler.update(np.arange(1000), np.full(1000, 4.0))
    sampler.end_first_pass()
    tracemalloc.start()
    sampler.refit_if_due(100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 14 * n
    values = sampler._tree.values
    # Seen a moment ago, they are expected to be what they were, in half octaves; and all others
    # as the mean of those seen.
    assert abs(np.log2(values[0] / 4.0)) <= 0.5
    np.testing.assert_allclose(values, values[0], rtol=1e-6)


@pytest.mark.exact
def test_refresh_scores_the_oldest_within_its_budget():
    asked = []

    class Scorer:
        def score(self, x, y, batch_size):
            idxs = x[:, 0].astype(int)
            others = np.delete(sampler._memory.seen, idxs)
            assert len(np.unique(idxs)) == batch_size == BATCH
            assert asked or sampler._memory.seen[idxs].max() <= others.min()
            asked.append(idxs)
            return np.ones(len(x))

    truth = np.ones(N)
    sampler = after_one_pass(truth, rng=0, refresh=0.25, model=Scorer())
    assert not asked
    for i in range(1, 41):
        draw = sampler.sample(BATCH)
        observe(sampler, draw, truth[draw[0]])
        assert len(asked) == i // 4


@pytest.mark.exact
def test_a_refreshed_score_is_not_replaced_by_an_older_one():
    truth = np.random.default_rng(0).exponential(size=MANY) + 0.01
    sampler = after_one_pass(truth, rng=0, refresh=1.0, model=Scorer(np.full(MANY, 100.0)))
    draw = sampler.sample(BATCH)
    observe(sampler, draw, truth[draw[0]])
    assert len(sampler._memory.pending) == 1
    sampler._refresher._queue = draw[0]
    sampler.refit_if_due(BATCH)
    sampler._memory.learn_pending()
    assert len(sampler._refresher._queue) == 0
    np.testing.assert_array_equal(sampler._memory.bins[draw[0]], score_bin(np.full(BATCH, 100.0)))


@pytest.mark.exact
def test_streams_and_bad_settings_are_refused():
    def rows():
        while True:
            yield data(16)

    with pytest.raises(NotImplementedError, match="a stream has no examples"):
        HistoryImportanceTraining(mlp()).fit(rows(), steps_per_epoch=2, verbose=0)
    for wrong in ({"mix": 0.0}, {"mix": 1.0}, {"refresh": -1}, {"k": 2.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            HistoryImportanceTraining(mlp(), **wrong)
    with pytest.raises(ValueError, match="resampling"):
        HistoryImportanceTraining(mlp(), resampling="residual")
    with pytest.raises(ValueError, match="radius"):
        RobustImportanceTraining(mlp(), radius=-1.0)
    with pytest.raises(ValueError, match="needs a `model`"):
        HistoryMixtureSampler(numbered(N), BiasedReweightingPolicy(), refresh=1.0)


# -- what is learnt of scores by size and age -----------------------------------------------------


@pytest.mark.exact
def test_cells_learn_what_becomes_of_a_score():
    """Young scores stay, old ones fall to a tenth, and vanished ones sometimes come back."""
    rng = np.random.default_rng(0)
    cells = ScoreCells(epoch=1000)
    for _ in range(400):
        young, old = rng.uniform(1.0, 1.4, 16), rng.uniform(1.0, 1.4, 16)
        cells.observe(score_bin(young), np.full(16, 100), young)
        cells.observe(score_bin(old), np.full(16, 1500), old / 10)
        easy = np.where(rng.random(16) < 0.1, 1.0, 1e-4)
        cells.observe(score_bin(np.full(16, 1e-4)), np.full(16, 1500), easy)
    mean, variance = cells.moments()
    young_age, old_age = cells.age_bin(np.array([100, 1500]))
    bin_one, bin_easy = score_bin(np.array([1.2, 1e-4]))
    # E[u^2] for u uniform on [1, 1.4]; 4 prior observations among thousands.
    second = (1.4**3 - 1) / 3 / 0.4
    np.testing.assert_allclose(mean[bin_one, young_age], second, rtol=0.02)
    np.testing.assert_allclose(mean[bin_one, old_age], second / 100, rtol=0.2)
    np.testing.assert_allclose(mean[bin_easy, old_age], 0.1, rtol=0.2)
    np.testing.assert_allclose(variance[bin_easy, old_age], 0.1 * 0.9, rtol=0.2)


@pytest.mark.exact
def test_robust_second_moments_solve_the_problem():
    """On the ellipsoid, with a gradient that is a multiple of its own, and nothing beats it."""
    rng = np.random.default_rng(0)
    c, d = rng.exponential(size=12), rng.exponential(size=12) + 0.01
    size = rng.integers(1, 50, 12)
    share = size / size.sum()
    v = robust_second_moments(c, d, size, radius=0.7)
    assert (v > c).all()
    np.testing.assert_allclose(share @ ((v - c) ** 2 / d), 0.49, rtol=1e-5)
    multiplier = (v - c) * np.sqrt(v) / d
    np.testing.assert_allclose(multiplier, multiplier[0], rtol=1e-6)
    for _ in range(300):
        other = rng.normal(size=12) * np.sqrt(d)
        other = np.maximum(c + other * 0.7 / np.sqrt(share @ (other**2 / d)), 0)
        assert share @ np.sqrt(other) <= share @ np.sqrt(v) * (1 + 1e-5)
    np.testing.assert_array_equal(robust_second_moments(c, d, size, radius=0.0), c)
    empty = np.zeros(12, int)
    np.testing.assert_array_equal(robust_second_moments(c, d, empty, radius=1.0), c)


@pytest.mark.exact
def test_uncertain_scores_are_drawn_more_by_the_robust_choice():
    c, d = np.array([1.0, 1.0]), np.array([0.01, 4.0])
    v = robust_second_moments(c, d, np.array([10, 10]))
    assert v[1] / v[0] > 2


@pytest.mark.statistical
def test_measured_reduction_is_that_of_the_draw():
    """Both moments are means over independent draws; their errors are taken from the draws."""
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=2000) ** 1.5
    p = 0.7 * scores / scores.sum() + 0.3 / 2000
    uniform, weighted = (scores**2).mean(), (scores**2 / p).sum() / 2000**2
    measured, predicted = MeasuredReduction(momentum=0.999), MeasuredReduction(momentum=0.999)
    ideal = IdealReduction(momentum=0.999)
    for _ in range(4000):
        drawn = rng.choice(2000, 64, p=p)
        measured.add(1 / (2000 * p[drawn]), scores[drawn])
        ideal.add(1 / (2000 * p[drawn]), scores[drawn])
        chance = rng.choice(2000, 64)
        predicted.add(np.ones(64), scores[chance], 1 / (2000 * p[chance]))
    # About 1000 batches of 64 count. Relative errors of the moments, by their spread:
    w = 1 / (2000 * p)
    spread = max(
        np.sqrt((p * (w * scores**2) ** 2).sum()) / uniform,
        np.sqrt((p * (w**2 * scores**2) ** 2).sum()) / weighted,
        np.sqrt((scores**4).mean()) / uniform,
    )
    tolerance = 5 * spread / np.sqrt(64 * 1000)
    truth = np.sqrt(uniform / weighted)
    assert abs(measured.value / truth - 1) < tolerance
    assert abs(predicted.value / truth - 1) < tolerance
    assert abs(ideal.value / np.sqrt(uniform) * scores.mean() - 1) < tolerance
    assert truth > 1.3 and tolerance < 0.2


# -- the whole thing ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.any_backend
@pytest.mark.parametrize("kind", [HistoryImportanceTraining, RobustImportanceTraining])
def test_learns_mnist_faster_than_uniform(kind, mnist):
    """On the same number of steps, no forward pass more: a lower training loss, every time."""
    x, y = mnist[0][:6000].reshape(6000, 784), mnist[1][:6000]

    def network(seed):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Input((784,)), keras.layers.Dense(64, activation="relu")]
        model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
        model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
        return model

    for seed in (0, 1) if full() else (0,):
        losses = []
        for make in (lambda model: model, lambda model: kind(model, seed=0)):
            model = network(seed)
            make(model).fit(x, y, batch_size=64, epochs=8, verbose=0)
            losses.append(model.evaluate(x, y, batch_size=1000, verbose=0))
        assert losses[1] < 0.9 * losses[0]
