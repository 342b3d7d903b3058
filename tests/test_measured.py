"""What is chosen by measurement: switches, and the way to draw."""

import itertools
import json
import time

import numpy as np
import pytest
from helpers import Scorer, adam_mlp, data, fixed_draw, numbered, observe

from importance_sampling import ImportanceTraining
from importance_sampling.model_wrappers import StepResult
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import AutoSampler
from importance_sampling.samplers.conditions import MeasuredReductionCondition
from importance_sampling.samplers.step_times import StepTimes
from importance_sampling.samplers.variance import MeasuredReduction

pytestmark = [pytest.mark.exact, pytest.mark.two_backends]

N, BATCH = 600, 20


SKEWED = np.random.default_rng(0).exponential(size=N) ** 3 + 1e-3
FLAT = np.ones(N)


def drive(sampler, scores, steps, seconds):
    """Steps that take `seconds[kind]`, or a pool's per batch scored beside the uniform time."""
    kinds = []
    for _ in range(steps):
        draw = sampler.sample(BATCH)
        time = seconds.get(draw.kind.value, seconds["uniform"])
        if draw.pool_scores is not None:
            time = seconds["uniform"] + seconds["batch"] * len(draw.pool_scores) / BATCH
        observe(sampler, draw, scores[draw.idxs] if draw.reads_scores else None, time)
        kinds.append(draw.kind.value)
    return kinds


# -- a switch by measured times ---------------------------------------------------------------


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
        on = condition.decide()
        decisions.append(on)
        condition.update(scores)
        condition.record_step_time(fixed_draw(on), cost if on else 1.0)
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
        condition.record_step_time(fixed_draw(False), 1.0)
    for _ in range(8):
        for scored in (True, False, False):
            condition.record_step_time(fixed_draw(True, scored), 2.5 if scored else 1.0)
    np.testing.assert_allclose(condition.cost, (2.5 + 1.0 + 1.0) / 3)


def test_training_by_the_measured_switch_measures():
    x, y = data(160)
    training = ImportanceTraining(adam_mlp(), tau_th="measured", seed=0)
    training.fit(x, y, batch_size=16, epochs=6, verbose=0)
    report = training.report()
    assert report.steps["pool"] >= 4 and report.steps["uniform"] >= 4


# -- auto -----------------------------------------------------------------------------------------


def auto(scores, steps=None):
    dataset, policy = numbered(len(scores)), BiasedReweightingPolicy()
    return AutoSampler(dataset, policy, Scorer(scores), steps=steps, rng=0)


def test_auto_draws_by_history_where_scores_differ():
    kinds = drive(auto(SKEWED), SKEWED, 200, {"uniform": 1.0, "history": 1.01, "batch": 0.3})
    assert set(kinds[:30]) == {"uniform"}
    assert kinds[40:].count("history") > 140


def test_auto_makes_the_first_pass_in_large_calls():
    """Its last steps are drawn before they are scored, and say nothing of the history."""
    sampler = auto(SKEWED)
    first = sampler.propose(BATCH)
    observe(sampler, first, SKEWED[first.idxs], 1.0)
    made = 1
    while made < N // BATCH:
        most = min(sampler.batches_ahead(BATCH), 16)
        assert most > 1 or made == N // BATCH - 1
        proposals = sampler.propose_many(BATCH, most)
        for proposal in proposals:
            assert proposal.kind.value == "uniform" and proposal.reads_scores
            observe(sampler, proposal, SKEWED[proposal.idxs], 1.0)
        made += len(proposals)
    assert made == N // BATCH and sampler._estimates.stored.value == 1.0
    sampler.propose(BATCH)
    # What draws by the history would be, as of the next step.
    assert np.ptp(sampler._history.weights_of(np.arange(N))) > 0.5


@pytest.mark.parametrize(("steps", "tried"), [(None, True), (4000, True), (400, False)])
def test_auto_compiles_for_smaller_batches_where_that_pays(steps, tried):
    dataset, policy = numbered(N), BiasedReweightingPolicy()
    sampler = AutoSampler(
        dataset, policy, Scorer(SKEWED), steps=steps, rng=0, constant="variance", min_batch_size=4
    )
    # The first step says that compiling takes 300 others; two sizes take turns.
    for step in range(300):
        proposal = sampler.propose(BATCH)
        observe(sampler, proposal, SKEWED[proposal.idxs], 1.0 if step else 301.0)
    assert (sampler._strategy.kind.value == "history") is tried


def test_auto_tries_the_history_whatever_a_busy_machine_said_of_scores():
    sampler = auto(SKEWED)
    for _ in range(200):
        proposal = sampler.propose(BATCH)
        # Uniform steps that read scores met something else at work.
        busy = proposal.reads_scores and proposal.kind.value == "uniform"
        observe(sampler, proposal, SKEWED[proposal.idxs], 9.0 if busy else 1.0)
    assert sampler.choices[0]["kind"] == "history"


def test_auto_stays_uniform_where_nothing_is_gained():
    sampler = auto(FLAT)
    kinds = drive(sampler, FLAT, 200, {"uniform": 1.0, "history": 1.01, "batch": 0.3})
    assert set(kinds) == {"uniform"}
    assert sampler.choices == [] and sampler.model.asked == 0


def test_auto_goes_back_where_history_costs_more_than_it_gains():
    sampler = auto(SKEWED)
    kinds = drive(sampler, SKEWED, 800, {"uniform": 1.0, "history": 9.0, "batch": 3.0})
    # Judged as soon as anything is known of its cost.
    assert 50 < kinds.count("history") <= 64
    assert "history" not in kinds[-400:]
    assert [c["kind"] for c in sampler.choices] == ["history", "uniform"]


def test_auto_takes_pools_where_scoring_is_nearly_free():
    """Scores that change all the time: of the past nothing can be learnt, of a pool much."""
    rng = np.random.default_rng(0)
    sampler = auto(SKEWED, steps=10_000)
    seconds = {"uniform": 1.0, "history": 1.0, "batch": 0.001}
    kinds = []
    for _ in range(900):
        sampler.model.scores = rng.permutation(SKEWED)
        kinds += drive(sampler, sampler.model.scores, 1, seconds)
    assert kinds[-100:].count("pool") > 80
    last = sampler.choices[-1]
    # The larger the pool, the better, if scores cost nothing.
    assert (last["kind"], last["presample"], last["reuse"]) == ("pool", 9, 1)


def test_auto_compares_times_of_the_same_minute():
    """A machine that gets three times slower tells nothing about the ways to draw."""
    sampler = auto(SKEWED)
    seconds = {"uniform": 1.0, "history": 1.05, "batch": 3.0}
    for slow in (1, 3, 9, 3, 1):
        drive(sampler, SKEWED, 400, {kind: slow * time for kind, time in seconds.items()})
    assert [c["kind"] for c in sampler.choices] == ["history"]
    np.testing.assert_allclose(sampler._estimates.costs[f"history of {BATCH}"], 1.05)


def test_auto_is_not_alarmed_by_a_single_batch():
    """One example thought to be easy makes the variance of the last batches, not of an epoch's."""
    scores = np.random.default_rng(0).exponential(size=6000) ** 3 + 1e-3
    sampler = auto(scores)
    seconds = {"uniform": 1.0, "history": 1.0, "batch": 3.0}
    assert drive(sampler, scores, 615, seconds)[-200:] == 200 * ["history"]
    short = MeasuredReduction(momentum=0.98)
    short.load_state_dict(sampler._estimates.stored.state_dict())
    # Right before a decision.
    draw = sampler.sample(BATCH)
    surprise = scores[draw[0]].copy()
    surprise[draw.importance_weights.argmax()] = 20 * np.sqrt(np.mean(scores**2))
    short.add(draw.importance_weights, surprise)
    assert draw.importance_weights.max() > 3 and short.value < 1
    observe(sampler, draw, surprise, 1.0)
    assert drive(sampler, scores, 60, seconds)[-20:] == 20 * ["history"]
    assert [c["kind"] for c in sampler.choices] == ["history"]


def test_auto_comes_back_when_a_surprise_is_an_epoch_old():
    """One uniform batch in eight is looked at, and stands for all eight where it is averaged."""
    scores = np.random.default_rng(0).exponential(size=12_000) ** 3 + 1e-3
    seconds = {"uniform": 1.0, "history": 1.0, "batch": 3.0}
    sampler = auto(scores)
    assert drive(sampler, scores, 1250, seconds)[-200:] == 200 * ["history"]
    for _ in range(20):
        # Thought to be easy, and all but that.
        draw = sampler.sample(BATCH)
        surprise = scores[draw[0]].copy()
        surprise[draw.importance_weights.argmax()] = 20 * np.sqrt(np.mean(scores**2))
        observe(sampler, draw, surprise, 1.0)
    assert drive(sampler, scores, 620, seconds)[-10:] == 10 * ["uniform"]
    # Three epochs later it has a twentieth of its weight.
    assert drive(sampler, scores, 1900, seconds)[-10:] == 10 * ["history"]
    assert [c["kind"] for c in sampler.choices] == ["history", "uniform", "history"]


def test_auto_tries_no_pool_when_there_is_no_time_for_it():
    sampler = auto(SKEWED, steps=300)
    drive(sampler, SKEWED, 300, {"uniform": 1.0, "history": 50.0, "batch": 0.001})
    assert sampler.model.asked == 0


def test_auto_reads_few_scores_while_draws_are_uniform(monkeypatch):
    """All up to the first decision, then those of one batch in eight."""
    reads = []
    scores = StepResult.scores.fget
    monkeypatch.setattr(StepResult, "scores", property(lambda r: reads.append(1) or scores(r)))
    monkeypatch.setattr(AutoSampler, "_change", lambda *_: None)
    monkeypatch.setattr(AutoSampler, "_may_try_pool", lambda *_: False)
    x, y = data(320)
    options = {"batch_size": 16, "epochs": 12, "verbose": 0}
    training = ImportanceTraining(adam_mlp(), presample="auto", seed=0)
    training.fit(x, y, **options)
    assert training.report().steps == {"uniform": 240}
    # One pass of 20 and 17 more to judge by, six timed ones, and then 197 steps.
    # Where calls return at once, the timed ones are read, too, to wait for them.
    expected = 37 + 197 // 8 + 6 * training.model.asynchronous
    assert expected - 1 <= len(reads) <= expected + 1
    reads.clear()
    training = ImportanceTraining(adam_mlp(), presample="auto", seed=0)
    training.fit(x, y, **options, on_scores=lambda sampler, scores: None)
    assert len(reads) == 240


def test_auto_trains_and_reports(monkeypatch):
    # Every look at the clock is a millisecond after the last: all kinds of steps take as long.
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: 1e-3 * next(ticks))
    x, y = data(640, noise=0.02)
    model = adam_mlp(0.05)
    before = model.evaluate(x, y, verbose=0)[0]
    training = ImportanceTraining(model, presample="auto", constant="batch_size", seed=0)
    training.fit(x, y, batch_size=16, epochs=12, verbose=0)
    report = training.report()
    # Where drawing by score costs nothing it is turned to, after a pass and a few uniform steps.
    assert report.steps["uniform"] >= 40 and report.steps["history"] > 120
    assert sum(report.steps.values()) == 12 * 40
    assert report.examples == report.draws.sum() == 12 * 640
    first = report.choices[0]
    assert first["kind"] == "history" and first["cost"] == pytest.approx(1.0)
    assert 40 < first["step"] <= 12 * 40 - report.steps_on
    assert f"from step {first['step']}: {first['choice']}" in " ".join(str(report).split())
    assert model.evaluate(x, y, verbose=0)[0] < 0.8 * before
