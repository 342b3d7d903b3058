"""The benchmark that takes the noise of draws apart."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import history_noise

pytestmark = pytest.mark.any_backend


@pytest.mark.exact
def test_other_mixes_are_those_of_the_whole_distribution():
    rng = np.random.default_rng(0)
    n, mix = 500, 0.3
    scores = rng.lognormal(sigma=1.5, size=n)
    known = scores * rng.lognormal(sigma=1.0, size=n)
    by = known / known.sum()
    p = (1 - mix) * by + mix / n
    draws = 200_000
    idxs = rng.choice(n, draws, p=p)
    found = history_noise.second_moments(1 / (n * p[idxs]), scores[idxs], mix)
    assert found["drawn"] == draws
    uniform = np.mean(scores**2)
    for other in history_noise.OTHERS:
        q = (1 - other) * by + other / n
        weighted = np.sum(scores**2 / q) / n**2
        # Both moments are means over the draws; the delta method gives the ratio's deviation.
        terms = scores**2 / (n * p), scores**2 / (n * p) / (n * q)
        variances = [np.sum(p * t**2) - np.sum(p * t) ** 2 for t in terms]
        cross = np.sum(p * terms[0] * terms[1]) - np.sum(p * terms[0]) * np.sum(p * terms[1])
        relative = variances[0] / uniform**2 + variances[1] / weighted**2
        relative -= 2 * cross / (uniform * weighted)
        deviation = uniform / weighted * np.sqrt(relative / draws)
        ratio = found["ratios"][str(other)]
        assert abs(ratio - uniform / weighted) < 5 * deviation
        # Which is narrow enough to tell a wrong share from the right one.
        assert deviation < 0.02 * ratio
    assert found["ratio"] == pytest.approx(found["ratios"][str(mix)])


@pytest.mark.exact
def test_the_largest_terms_are_counted():
    scores = np.ones(100)
    scores[:10] = 3.0
    found = history_noise.second_moments(np.ones(100), scores, 0.3)
    assert found["largest"] == pytest.approx(90 / 180)
    assert found["ratio"] == pytest.approx(1.0)


@pytest.mark.end_to_end
def test_a_task_is_trained_and_told(tmp_path, data_folder, monkeypatch, capsys):
    import keras

    monkeypatch.setenv("IMPORTANCE_SAMPLING_DATA", str(data_folder))
    target = tmp_path / "noise.json"
    arguments = ["--tasks", "mnist_mlp", "--examples", "640", "--epochs", "3", "--seeds", "1"]
    arguments += ["--backend", keras.backend.backend(), "--output", str(target)]
    monkeypatch.setattr(sys, "argv", ["history_noise.py", *arguments])
    history_noise.main()
    (run,) = json.loads(target.read_text())["runs"]
    assert [row["epoch"] for row in run["epochs"]] == [2, 3]
    for row in run["epochs"]:
        # Five steps of at least an eighth and at most the whole of a batch.
        assert 5 * 16 <= row["drawn"] <= 640
        assert row["ratio"] == pytest.approx(row["ratios"]["0.3"], rel=1e-5)
        assert 10 / row["drawn"] < row["largest"] <= 1
    assert "mnist_mlp, seed 1, epoch 3" in capsys.readouterr().out
