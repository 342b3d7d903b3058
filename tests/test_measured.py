"""What is chosen by measurement, and what is told of it: switches, auto, reuse, reports."""

import json

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data, mlp, oracle

from importance_sampling import HistoryImportanceTraining, ImportanceTraining
from importance_sampling.datasets import InMemoryDataset
from importance_sampling.model_wrappers import OracleWrapper
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import AutoSampler, Draw, ModelSampler, PoolReuseSampler
from importance_sampling.samplers._costs import MeasuredReductionCondition, StepTimes

pytestmark = pytest.mark.exact

N, BATCH = 600, 20


class Scorer:
    """Scores of its own for each example; counts how many it was asked for."""

    def __init__(self, scores):
        self.scores = scores
        self.asked = 0

    def score(self, x, y, batch_size=128):
        self.asked += len(x)
        return self.scores[x[:, 0].astype(int)]


def dataset(n=N):
    x = np.arange(n, dtype="float32")[:, None]
    return InMemoryDataset(x, np.arange(n) % 3, x[:3], np.arange(3), categorical=False)


SKEWED = np.random.default_rng(0).exponential(size=N) ** 3 + 1e-3
FLAT = np.ones(N)


def drive(sampler, scores, steps, seconds):
    """Steps that take `seconds[kind]`, or a pool's per batch scored beside the uniform time."""
    kinds = []
    for _ in range(steps):
        draw = sampler.sample(BATCH)
        sampler.update_from(draw, scores[draw[0]])
        time = seconds.get(draw.kind, seconds["uniform"])
        if draw.pool_scores is not None:
            time = seconds["uniform"] + seconds["batch"] * len(draw.pool_scores) / BATCH
        sampler.timed(draw, time)
        kinds.append(draw.kind)
    return kinds


# -- several mini-batches from one pool -----------------------------------------------------------


@pytest.mark.parametrize("resampling", ["multinomial", "systematic"])
def test_a_pool_is_scored_once_for_several_batches(resampling):
    scorer = Scorer(SKEWED)
    inner = ModelSampler(
        dataset(), BiasedReweightingPolicy(), scorer, large_batch=100, rng=0, resampling=resampling
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
            dataset(),
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


# -- a switch by measured times ---------------------------------------------------------------


def _draw(importance, scored=True):
    scores = np.ones(4) if importance else None
    draw = Draw(np.arange(4), (), np.ones((4, 1)), scores)
    draw.pool_scores = np.ones(8) if importance and scored else None
    return draw


def test_step_times_leave_out_the_first_of_a_kind():
    times = StepTimes()
    for seconds in (9.0, 1.0, 2.0, 3.0, 2.0):
        times.add("off", seconds)
    assert times.known("off") and times.median("off") == 2.0
    times.add("on", 7.0)
    assert not times.known("on", 1)
    again = StepTimes()
    again.load_state_dict(json.loads(json.dumps(times.state_dict())))
    assert again.median("off") == 2.0


@pytest.mark.parametrize(("cost", "expected"), [(1.2, True), (3.0, False)])
def test_the_measured_switch_weighs_the_gain_against_the_time(cost, expected):
    condition = MeasuredReductionCondition(prior=2.0, sample_size=50)
    scores = np.random.default_rng(0).exponential(size=50)
    decisions = []
    for _ in range(60):
        on = condition.satisfied
        decisions.append(on)
        condition.update(scores)
        condition.timed(_draw(on), cost if on else 1.0)
    assert not decisions[0]
    # It was tried, whatever came of it; then the cost is known.
    assert True in decisions[:20]
    np.testing.assert_allclose(condition.threshold, cost)
    assert 1.2 < condition.variance_reduction < 3.0
    assert decisions[-1] is expected
    again = MeasuredReductionCondition(prior=2.0)
    again.load_state_dict(condition.state_dict())
    assert again.threshold == condition.threshold and again.satisfied is expected


def test_the_measured_cost_is_spread_over_reused_pools():
    condition = MeasuredReductionCondition(prior=2.0, reuse=3)
    for _ in range(8):
        condition.timed(_draw(False), 1.0)
    for _ in range(8):
        for scored in (True, False, False):
            condition.timed(_draw(True, scored), 2.5 if scored else 1.0)
    np.testing.assert_allclose(condition.cost, (2.5 + 1.0 + 1.0) / 3)


def test_training_by_the_measured_switch_measures():
    x, y = data(160)
    training = ImportanceTraining(adam_mlp(), tau_th="measured", seed=0)
    training.fit(x, y, batch_size=16, epochs=6, verbose=0)
    report = training.report()
    assert report.steps["pool"] >= 4 and report.steps["uniform"] >= 4


# -- auto -----------------------------------------------------------------------------------------


def auto(scores, steps=None, **kwargs):
    return AutoSampler(dataset(), BiasedReweightingPolicy(), Scorer(scores), steps=steps, rng=0)


def test_auto_draws_by_history_where_scores_differ():
    kinds = drive(auto(SKEWED), SKEWED, 200, {"uniform": 1.0, "history": 1.01, "batch": 0.3})
    assert set(kinds[:30]) == {"uniform"}
    assert kinds[40:].count("history") > 140


def test_auto_stays_uniform_where_nothing_is_gained():
    sampler = auto(FLAT)
    kinds = drive(sampler, FLAT, 200, {"uniform": 1.0, "history": 1.01, "batch": 0.3})
    assert set(kinds) == {"uniform"}
    assert sampler.choices == [] and sampler.model.asked == 0


def test_auto_goes_back_where_history_costs_more_than_it_gains():
    sampler = auto(SKEWED)
    kinds = drive(sampler, SKEWED, 300, {"uniform": 1.0, "history": 9.0, "batch": 3.0})
    assert "history" in kinds
    assert kinds[-50:].count("uniform") == 50
    assert [c["kind"] for c in sampler.choices] == ["history", "uniform"]


def test_auto_takes_pools_where_scoring_is_nearly_free():
    """Scores that change all the time: of the past nothing can be learnt, of a pool much."""
    rng = np.random.default_rng(0)
    sampler = auto(SKEWED, steps=10_000)
    seconds = {"uniform": 1.0, "history": 1.0, "batch": 0.001}
    kinds = []
    for _ in range(300):
        sampler.model.scores = rng.permutation(SKEWED)
        kinds += drive(sampler, sampler.model.scores, 1, seconds)
    assert kinds[-100:].count("pool") > 80
    last = sampler.choices[-1]
    # The larger the pool, the better, if scores cost nothing.
    assert (last["kind"], last["presample"], last["reuse"]) == ("pool", 9, 1)


def test_auto_tries_no_pool_when_there_is_no_time_for_it():
    sampler = auto(SKEWED, steps=300)
    drive(sampler, SKEWED, 300, {"uniform": 1.0, "history": 50.0, "batch": 0.001})
    assert sampler.model.asked == 0


def test_auto_trains_and_reports():
    x, y = data(320)
    training = ImportanceTraining(adam_mlp(), presample="auto", seed=0)
    training.fit(x, y, batch_size=16, epochs=6, verbose=0)
    report = training.report()
    assert sum(report.steps.values()) == 6 * 20
    assert report.steps["uniform"] >= 20
    assert report.draws.sum() == 6 * 320
    assert len(report.choices) >= (report.steps_on > 0)


# -- reports --------------------------------------------------------------------------------------


def test_a_report_counts_what_was_drawn(tmp_path):
    x, y = data(64)
    training = HistoryImportanceTraining(adam_mlp(), seed=0)
    with pytest.raises(RuntimeError, match="call `fit` first"):
        training.report()
    draws, sizes = np.zeros(64, int), []

    def watch(sampler, idxs, w, scores):
        np.add.at(draws, idxs, 1)
        if not (w == 1).all():
            sizes.append(w.sum() ** 2 / (len(w) * (w**2).sum()))

    training.fit(x, y, batch_size=16, epochs=5, verbose=0, on_sample=watch)
    report = training.report()
    np.testing.assert_array_equal(report.draws, draws)
    assert (report.steps_off, report.steps_on) == (4, 16)
    assert report.steps == {"uniform": 4, "history": 16}
    np.testing.assert_allclose(report.effective_sample_size, np.mean(sizes), rtol=1e-5)
    assert 0 < report.drawing_seconds < sum(report.seconds.values())
    idxs, counts = report.most_drawn(3)
    np.testing.assert_array_equal(counts, np.sort(draws)[::-1][:3])
    np.testing.assert_array_equal(draws[idxs], counts)
    assert report.least_drawn(3)[1].max() <= counts.min()
    text = str(report)
    assert "16 steps drawn by history" in text and f"{idxs[0]} ({counts[0]}x)" in text
    json.dumps(report.to_dict())
    course = report.course()
    assert len({len(column) for column in course.values()}) == 1 and course["step"][-1] == 20
    np.testing.assert_allclose(np.mean(course["by_score"]), 0.8)
    for name, inputs in (("a.png", None), ("b.svg", np.zeros((64, 4, 4, 1)))):
        assert report.plot(tmp_path / name, inputs).stat().st_size > 5000


def test_the_gain_is_variance_reduction_per_median_second():
    x, y = data(64)
    training = HistoryImportanceTraining(adam_mlp(), seed=0)
    training.fit(x, y, batch_size=16, epochs=1, verbose=0)
    assert training.report().gain == 1.0
    report = training.report()
    for i in range(30):
        seconds = 50.0 if i in (3, 7) else 3.0
        draw = _draw(True)
        report.add(draw, seconds, 1.0, 2.0)
    uniform = report._times.median("uniform")
    np.testing.assert_allclose(report.gain, (4 + 60) * uniform / (4 * uniform + 30 * 3.0))


def test_a_long_course_is_merged():
    from importance_sampling.training._report import _Course

    course = _Course(("value",))
    for i in range(5000):
        course.add(float(i))
    columns = course.columns()
    assert 256 <= len(columns["step"]) <= 513
    assert columns["step"][-1] == 5000 and np.diff(columns["step"]).min() > 0
    np.testing.assert_allclose(columns["value"][0], np.mean(range(columns["step"][0])))


# -- overlap --------------------------------------------------------------------------------------


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


# -- scores in lower precision --------------------------------------------------------------------


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
