"""Times of steps where calls return before the device is done: what is compared is waited for."""

import time

import numpy as np
import pytest
from helpers import adam_mlp, data

from importance_sampling import ImportanceTraining
from importance_sampling.model_wrappers import OracleWrapper, StepResult
from importance_sampling.proposal import Kind, Proposal
from importance_sampling.samplers.step_times import ENOUGH
from importance_sampling.training import TrainingReport, _stepper

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]

DEVICE = 0.01
HOST = 1e-5


class Device:
    """Makes steps one after the other, beside the host, whose time goes on at each look."""

    def __init__(self, monkeypatch):
        self.now = self.done = 0.0
        self.waits = 0
        train = OracleWrapper.train

        def perf_counter():
            self.now += HOST
            return self.now

        def begin(wrapper, proposal):
            result = train(wrapper, proposal)
            # As long as a whole batch takes, in proportion to the examples.
            self.done = done = max(self.done, self.now) + DEVICE * len(proposal.idxs) / 16

            def scores():
                self.now = max(self.now, done)
                return result.scores

            return StepResult(result.logs, lambda: (result.weighted_losses, scores()), scores)

        def wait(tensor):
            self.waits += 1
            self.now = max(self.now, self.done)

        monkeypatch.setattr(time, "perf_counter", perf_counter)
        monkeypatch.setattr(OracleWrapper, "train", begin)
        monkeypatch.setattr(OracleWrapper, "asynchronous", True)
        monkeypatch.setattr(_stepper, "tensor_to_numpy", wait)


def trained(constant, epochs=20):
    x, y = data(640, noise=0.02)
    training = ImportanceTraining(adam_mlp(0.05), presample="auto", constant=constant, seed=0)
    training.fit(x, y, batch_size=16, epochs=epochs, verbose=0)
    return training.report()


@pytest.mark.parametrize("constant", ["variance", "batch_size"])
def test_auto_compares_the_time_of_the_device(constant, monkeypatch):
    device = Device(monkeypatch)
    report = trained(constant)
    # A step that nobody waits for would seem to take a hundredth of it.
    assert report.step_seconds["uniform"] == pytest.approx(DEVICE, rel=0.05)
    first = report.choices[0]
    assert first["kind"] == "history"
    # Once chosen, it is found to be as cheap as it is, and kept.
    assert [choice["kind"] for choice in report.choices] == ["history"]
    assert report.steps["history"] > 500
    if constant == "variance":
        assert report.relative_time == pytest.approx(
            report.examples / (16 * sum(report.steps.values())), rel=0.1
        )
    assert 0 < device.waits < 50


def test_uniform_steps_that_are_not_compared_are_not_waited_for(monkeypatch):
    device = Device(monkeypatch)
    x, y = data(640)
    # It learns next to nothing, so that drawing by score has nothing to gain.
    training = ImportanceTraining(adam_mlp(1e-5), presample="auto", constant="batch_size", seed=0)
    training.fit(x, y, batch_size=16, epochs=20, verbose=0)
    report = training.report()
    assert report.steps == {"uniform": 800}
    assert report.step_seconds["uniform"] == pytest.approx(DEVICE, rel=0.05)
    # Eight before each of two decisions at most, and a trial of six.
    assert ENOUGH < device.waits <= 2 * (ENOUGH + 4) + ENOUGH + 2


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
