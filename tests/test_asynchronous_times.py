"""Times of steps where calls return before the device is done: what is compared is waited for."""

import time

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data

from importance_sampling import ImportanceTraining
from importance_sampling.model_wrappers import OracleWrapper, StepResult
from importance_sampling.proposal import Kind, Proposal
from importance_sampling.samplers._strategies import StrategyEstimates
from importance_sampling.samplers.step_times import ENOUGH
from importance_sampling.training import TrainingReport

pytestmark = [pytest.mark.exact, pytest.mark.any_backend, pytest.mark.slow]

DEVICE = 0.01
# Seconds of a look at the clock, of which a step takes about five.
QUICK, BUSY = 1e-5, 2.5e-3


class Device:
    """Makes steps one after the other, beside the host, whose time goes on at each look."""

    def __init__(self, monkeypatch, host):
        self.now = self.done = 0.0
        # Steps whose scores were read though nobody learns from them.
        self.waits = 0
        train, score_batch = OracleWrapper.train, OracleWrapper.score_batch

        def perf_counter():
            self.now += host
            return self.now

        def begin(wrapper, proposal):
            result = train(wrapper, proposal)
            # As long as a whole batch takes, in proportion to the examples.
            self.done = done = max(self.done, self.now) + DEVICE * len(proposal.idxs) / 16

            def scores():
                self.now = max(self.now, done)
                self.waits += not proposal.reads_scores
                return result.scores

            return StepResult(result.logs, lambda: (result.weighted_losses, scores()), scores)

        def score(wrapper, x, y, sample_weight=None):
            # A forward pass, a third of a step.
            self.now = self.done = max(self.done, self.now) + DEVICE * len(x) / 48
            return score_batch(wrapper, x, y, sample_weight)

        monkeypatch.setattr(time, "perf_counter", perf_counter)
        monkeypatch.setattr(OracleWrapper, "score_batch", score)
        monkeypatch.setattr(OracleWrapper, "train", begin)
        monkeypatch.setattr(OracleWrapper, "asynchronous", True)

    def wait(self):
        """As whoever reads the logs of a step does."""
        self.now = max(self.now, self.done)


def trained(constant, rate=0.05, **options):
    x, y = data(640, noise=0.02 if rate == 0.05 else 0.0)
    training = ImportanceTraining(adam_mlp(rate), presample="auto", constant=constant, seed=0)
    training.fit(x, y, batch_size=16, epochs=20, verbose=0, **options)
    return training.report()


@pytest.mark.parametrize("constant", ["variance", "batch_size"])
def test_auto_compares_the_time_of_the_device(constant, monkeypatch):
    device = Device(monkeypatch, QUICK)
    report = trained(constant)
    # A step that nobody waits for would seem to take a hundredth of it.
    assert report.step_seconds["uniform"] == pytest.approx(DEVICE, rel=0.05)
    # Once chosen, the history is found to be as cheap as it is, and kept.
    assert [choice["kind"] for choice in report.choices] == ["history"]
    assert report.steps["history"] > 500
    share = report.examples / (16 * sum(report.steps.values()))
    assert report.relative_time == pytest.approx(share, rel=0.1)
    assert 0 < device.waits < 50


@pytest.mark.parametrize("host", [QUICK, BUSY])
def test_both_kinds_of_steps_overlap_alike(host, monkeypatch):
    Device(monkeypatch, host)
    report = trained("batch_size")
    assert report.steps["history"] > 500
    # All steps are of whole batches and take as long, whatever the host does meanwhile.
    assert report.relative_time == pytest.approx(1.0, rel=0.1)


def test_both_kinds_of_steps_are_alike_to_a_callback_that_waits(monkeypatch):
    device = Device(monkeypatch, QUICK)
    waiting = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: device.wait())
    report = trained("batch_size", callbacks=[waiting])
    assert report.steps["history"] > 500
    assert report.relative_time == pytest.approx(1.0, rel=0.1)


def test_uniform_steps_that_are_not_compared_are_not_waited_for(monkeypatch):
    device = Device(monkeypatch, QUICK)
    # It learns next to nothing, so that drawing by score has nothing to gain.
    report = trained("batch_size", rate=1e-5)
    assert report.steps == {"uniform": 800}
    assert report.step_seconds["uniform"] == pytest.approx(DEVICE, rel=0.05)
    # Eight before each of two decisions at most, and a trial of six.
    assert ENOUGH < device.waits <= 2 * (ENOUGH + 4) + ENOUGH + 2


def test_the_time_of_all_steps_is_known(monkeypatch):
    device = Device(monkeypatch, QUICK)
    elapsed = []
    add_time = StrategyEstimates.add_time

    def told(estimates, step):
        add_time(estimates, step)
        elapsed.append(estimates.elapsed)

    monkeypatch.setattr(StrategyEstimates, "add_time", told)
    trained("batch_size", rate=1e-5)
    # Of those that are not compared, too; what the end of an epoch waits for is of no step.
    assert len(elapsed) == 800
    assert 0.75 * device.now < elapsed[-1] <= device.now


def test_a_time_that_is_not_known_is_not_compared():
    report = TrainingReport(None, 4)
    for kind, seconds, timed in (
        *6 * [(Kind.UNIFORM, 2.0, True)],
        *6 * [(Kind.UNIFORM, 0.001, False)],
        *6 * [(Kind.HISTORY, 1.0, True)],
    ):
        scores = None if kind is Kind.UNIFORM else np.ones(4)
        proposal = Proposal(np.arange(4), (), np.ones((4, 1)), scores, kind=kind)
        report.add_call([proposal], seconds, 0.0, 1.5, timed)
    assert report.step_seconds == {"uniform": 2.0, "history": 1.0}
    assert report.relative_time == pytest.approx((12 + 6 * 0.5) / 18)
    # All of the time is told.
    assert report.seconds["uniform"] == pytest.approx(12.006)
