"""What a training tells of itself."""

import json

import numpy as np
import pytest
from helpers import adam_mlp, data, fixed_draw

from importance_sampling import HistoryImportanceTraining

pytestmark = pytest.mark.exact


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
    report = training.report()
    assert (report.gain, report.relative_noise, report.relative_time) == (1.0, 1.0, 1.0)
    # Batches of four instead of sixteen, at a variance reduction of two.
    for i in range(30):
        seconds = 50.0 if i in (3, 7) else 3.0
        draw = fixed_draw(True)
        report.add(draw, seconds, 1.0, 2.0)
    uniform = report._times.median(("uniform", 16))
    np.testing.assert_allclose(report.gain, (4 + 30) * uniform / (4 * uniform + 30 * 3.0))
    np.testing.assert_allclose(report.relative_noise, 16 / (4 * 2.0**2))
    np.testing.assert_allclose(report.relative_time, (4 * uniform + 30 * 3.0) / (34 * uniform))
    assert report.examples == 64 + 30 * 4


def test_a_long_course_is_merged():
    from importance_sampling.training._report import _Course

    course = _Course(("value",))
    for i in range(5000):
        course.add(float(i))
    columns = course.columns()
    assert 256 <= len(columns["step"]) <= 513
    assert columns["step"][-1] == 5000 and np.diff(columns["step"]).min() > 0
    np.testing.assert_allclose(columns["value"][0], np.mean(range(columns["step"][0])))
