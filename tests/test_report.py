"""What a training tells of itself."""

import json

import numpy as np
import processes
import pytest
from helpers import adam_mlp, data

from importance_sampling import HistoryImportanceTraining
from importance_sampling.plots import training_report
from importance_sampling.proposal import Kind, Proposal
from importance_sampling.training import TrainingReport
from importance_sampling.training._course import Course

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


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
    for name, start in (("a.png", b"\x89PNG"), ("b.svg", b"<?xml"), ("c.pdf", b"%PDF")):
        assert report.plot(tmp_path / name) == tmp_path / name
        assert (tmp_path / name).read_bytes().startswith(start)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.svg", "c.pdf"}


def hand_made_report(n=64):
    """Two uniform steps of 16, a pool of 8 and one by history."""
    report = TrainingReport(n, 16)
    draws = [np.arange(16), np.arange(16, 32), np.arange(8), np.zeros(16, int)]
    for idxs, kind, seconds in zip(
        draws,
        (Kind.UNIFORM, Kind.UNIFORM, Kind.POOL, Kind.HISTORY),
        (1.0, 3.0, 4.0, 2.0),
        strict=True,
    ):
        size = len(idxs)
        scores = None if kind is Kind.UNIFORM else np.ones(size)
        # Half of the examples count for nothing: half the batch is effective.
        w = np.where(np.arange(size) % 2, 0.0, 2.0) if kind is Kind.HISTORY else np.ones(size)
        proposal = Proposal(idxs, (), np.ones((size, 1)), scores, w, kind)
        report.add(proposal, seconds, drawing=0.5, reduction=2.0)
    return report


def test_what_is_counted():
    report = hand_made_report()
    assert report.steps == {"uniform": 2, "pool": 1, "history": 1}
    assert report.seconds == {"uniform": 4.0, "pool": 4.0, "history": 2.0}
    assert (report.steps_on, report.steps_off, report.examples) == (2, 2, 56)
    assert report.drawing_seconds == 2.0 and report.variance_reduction == 2.0
    np.testing.assert_allclose(report.effective_sample_size, (1.0 + 0.5) / 2)
    # b / (b' tau^2) of the pool's eight and the history's sixteen
    np.testing.assert_allclose(report.relative_noise, (16 / (8 * 4) + 16 / (16 * 4)) / 2)
    expected = np.zeros(64, int)
    np.add.at(expected, np.r_[0:32, 0:8, np.zeros(16, int)], 1)
    np.testing.assert_array_equal(report.draws, expected)
    assert report.most_drawn(1)[0].tolist() == [0] and report.most_drawn(1)[1].tolist() == [18]


def test_a_report_as_text_fits_a_terminal():
    report = hand_made_report()
    report.choices = [{"step": 3, "choice": "by history, because " + "it is cheap " * 12}]
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    words = [" ".join(line.split()) for line in lines]
    assert words[:4] == [
        "2 steps drawn uniformly, 2000.00 ms each",
        "1 steps drawn by pool, 4000.00 ms each",
        "1 steps drawn by history, 2000.00 ms each",
        "10.0 seconds of training, 2.0 of them (20%) spent on drawing and scoring",
    ]
    assert "most drawn examples: 0 (18x), 7 (2x), 6 (2x), 5 (2x), 4 (2x)" in words
    assert any(line.startswith("from step 3: by history") for line in words)
    assert "stream" not in str(report) and str(TrainingReport(None, 8)).split()[0] == "0.0"


def test_what_the_picture_shows():
    report = hand_made_report()
    images = np.zeros((64, 4, 4, 1))
    figure = training_report(report, images)
    reduction, effective, times, draws, most, least = figure.axes
    assert reduction.get_title() == "50 % of the steps drawn by score"
    assert reduction.lines[0].get_ydata().tolist() == [2.0] * 4
    np.testing.assert_allclose(effective.lines[0].get_ydata(), [1, 1, 1, 0.5])
    assert [bar.get_width() for bar in times.patches] == [2000.0, 4000.0, 2000.0]
    assert [tick.get_text() for tick in times.get_yticklabels()] == ["uniform", "pool", "history"]
    assert times.get_title() == "10 s of training, 20% of it drawing and scoring"
    curve, mean = draws.lines
    np.testing.assert_array_equal(curve.get_ydata(), np.sort(report.draws)[::-1])
    np.testing.assert_allclose(mean.get_ydata(), 56 / 64)
    assert most.get_title() == "drawn most often (1 to 18 times)"
    assert least.get_title() == "drawn least often (0 to 0 times)"
    assert len(most.images) == len(least.images) == 1
    # Nothing to show of a stream, nor of what are no images.
    figure = training_report(TrainingReport(None, 16), images)
    assert len(figure.axes) == 4 and not figure.axes[3].lines
    assert len(training_report(report, np.zeros((64, 5))).axes) == 4


def test_reporting_loads_no_plotting():
    code = (
        "import sys\n"
        "from importance_sampling.training import TrainingReport\n"
        "print(TrainingReport(8, 4))\n"
        "assert 'importance_sampling.plots' not in sys.modules\n"
    )
    # Whatever the backend; this one takes least time to load.
    done = processes.run("-c", code, KERAS_BACKEND="numpy")
    assert done.returncode == 0, done.stderr


def test_the_gain_is_variance_reduction_per_median_second():
    x, y = data(64)
    training = HistoryImportanceTraining(adam_mlp(), seed=0)
    training.fit(x, y, batch_size=16, epochs=1, verbose=0)
    report = training.report()
    assert (report.gain, report.relative_noise, report.relative_time) == (1.0, 1.0, 1.0)
    # Batches of four instead of sixteen, at a variance reduction of two.
    proposal = Proposal(np.arange(4), (), np.ones((4, 1)), np.ones(4), kind=Kind.POOL)
    for i in range(30):
        report.add(proposal, 50.0 if i in (3, 7) else 3.0, drawing=1.0, reduction=2.0)
    uniform = report._times.median(("uniform", 16))
    np.testing.assert_allclose(report.gain, (4 + 30) * uniform / (4 * uniform + 30 * 3.0))
    np.testing.assert_allclose(report.relative_noise, 16 / (4 * 2.0**2))
    np.testing.assert_allclose(report.relative_time, (4 * uniform + 30 * 3.0) / (34 * uniform))
    assert report.examples == 64 + 30 * 4


def test_a_long_course_is_merged():
    course = Course(("value",))
    for i in range(5000):
        course.add(float(i))
    columns = course.columns()
    assert 256 <= len(columns["step"]) <= 513
    assert columns["step"][-1] == 5000 and np.diff(columns["step"]).min() > 0
    np.testing.assert_allclose(columns["value"][0], np.mean(range(columns["step"][0])))
