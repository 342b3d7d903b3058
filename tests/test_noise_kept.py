"""The benchmark that asks whether smaller batches keep the noise, and what would spare more."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import noise_kept

pytestmark = pytest.mark.any_backend


@pytest.mark.exact
def test_expectations_are_those_of_the_other_half():
    """Of cells that tell all there is to know, what comes out is what the optimum gives."""
    rng = np.random.default_rng(0)
    n = 40_000
    cells = rng.integers(0, 4, n)
    # Within a cell scores are of one size, with a spread that nobody can foresee.
    sizes = np.array([0.1, 1.0, 3.0, 9.0])
    squares = (sizes[cells] * rng.choice([0.5, 1.5], n)) ** 2
    expected = noise_kept.fitted(cells, cells, sizes[cells] ** 2, squares)
    mean_square = sizes**2 * (0.5**2 + 1.5**2) / 2
    np.testing.assert_allclose(expected, np.sqrt(mean_square)[cells], rtol=0.03)
    # (1/N) sum of s^2 over its value under the draw, by cell.
    share = np.sqrt(mean_square) / np.sqrt(mean_square).mean()
    share = (1 - noise_kept.MIX) * share + noise_kept.MIX
    optimum = mean_square.mean() / (mean_square / share).mean()
    assert noise_kept.ratio_of(expected, squares) == pytest.approx(optimum, rel=0.03)


@pytest.mark.exact
def test_cells_that_know_nothing_gain_nothing():
    rng = np.random.default_rng(0)
    n = 20_000
    squares = rng.lognormal(sigma=1.0, size=n)
    # Seen by itself, a cell of each example's own would tell its score.
    expected = noise_kept.fitted(np.arange(n) // 2, np.zeros(n, np.int64), np.ones(n), squares)
    assert noise_kept.ratio_of(expected, squares) < 1.02


@pytest.mark.exact
def test_the_last_two_scores_are_kept():
    known = noise_kept.LastScores(3)
    known.learn(np.array([0, 1]), np.array([1.0, 2.0]), 1)
    known.learn(np.array([1, 2]), np.array([4.0, 5.0]), 2)
    assert known.last.tolist() == [1.0, 4.0, 5.0]
    assert known.before.tolist() == [1.0, 2.0, 5.0]
    assert known.mean.tolist() == [1.0, 3.0, 5.0]
    assert known.step.tolist() == [1, 2, 2]


@pytest.mark.exact
def test_the_interval_covers_the_noise():
    """Of two columns whose means are known, at the stated rate within the error of 200 trials."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        u = rng.exponential(1.0, 400)
        w = u * rng.uniform(0.2, 0.6, 400)
        low, high = noise_kept.interval(u, w, 0.0, 2.0)
        inside += low <= 2.0 * 0.4 <= high
    # 95 % of 200, less four deviations of a binomial.
    assert inside >= 190 - 4 * np.sqrt(200 * 0.95 * 0.05)


@pytest.mark.end_to_end
def test_a_task_is_looked_at(tmp_path, data_folder, monkeypatch, capsys):
    import keras

    monkeypatch.setenv("IMPORTANCE_SAMPLING_DATA", str(data_folder))
    target = tmp_path / "noise.json"
    arguments = ["--tasks", "mnist_mlp", "--examples", "640", "--epochs", "3", "--exact", "256"]
    arguments += ["--backend", keras.backend.backend(), "--output", str(target)]
    monkeypatch.setattr(sys, "argv", ["noise_kept.py", *arguments])
    noise_kept.main()
    (run,) = json.loads(target.read_text())["runs"]
    assert [look["epoch"] for look in run["looks"]] == [2, 3]
    for look in run["looks"]:
        assert 16 <= look["batch_size"] <= 128 and look["spared"] >= 1
        low, high = look["noise_interval"]
        assert 0 < low <= look["noise"] <= high
        found = look["expectations"]
        # Nothing is above the draw by exact scores.
        assert max(found.values()) == found["exact"] > 1.1
    assert '"epoch": 3' in capsys.readouterr().out
