"""What a training tells of itself."""

import json

import keras
import numpy as np
import processes
import pytest
from helpers import adam_mlp, data

from importance_sampling import (
    SVRG,
    HistoryImportanceTraining,
    ImportanceTraining,
    SelectiveBackpropTraining,
)
from importance_sampling.plots import training_report
from importance_sampling.proposal import Kind, Proposal
from importance_sampling.training import TrainingReport
from importance_sampling.training._course import Course
from importance_sampling.training._report_text import as_text

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
    assert report.figure().axes and report.step_seconds["history"] > 0
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


def test_ties_are_named_and_picked_at_random():
    report = hand_made_report()
    # 1 to 7 were drawn twice, 32 to 63 never.
    idxs, draws = report.most_drawn(4)
    assert idxs[0] == 0 and draws.tolist() == [18, 2, 2, 2]
    idxs, draws = report.least_drawn(20)
    assert set(idxs) <= set(range(32, 64)) and not draws.any() and len(set(idxs)) == 20
    # Not the first or the last ones, in whose place any others could stand.
    assert idxs.max() - idxs.min() > 20 and (np.diff(idxs) < 0).any()
    np.testing.assert_array_equal(report.least_drawn(20)[0], idxs)
    told = report.to_dict()
    assert told["most_drawn"]["tied"] == [1, *7 * [7], 24, 24]
    assert told["least_drawn"]["tied"] == 10 * [32]
    words = " ".join(str(report).split())
    listed = ", ".join(map(str, report.least_drawn(5)[0]))
    assert f"least drawn examples: {listed} (picked at random of 32 drawn 0x)" in words
    assert "most drawn examples: 0 (18x), " in words and "random of 7 drawn 2x)" in words
    even = TrainingReport(32, 16)
    for idxs in (np.arange(16), np.arange(16, 32)):
        even.add(Proposal(idxs, (), np.ones((16, 1))), 1.0, 0.0, 1.0)
    assert "every example was drawn 1x" in str(even)


def test_a_report_as_text_fits_a_terminal():
    report = hand_made_report()
    report.choices = [{"step": 3, "choice": "by history, because " + "it is cheap " * 12}]
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    words = [" ".join(line.split()) for line in lines]
    assert words[:4] == [
        "2 steps drawn uniformly, 3000.00 ms each",
        "1 step drawn by pool, 4.00 s in all",
        "1 step drawn by history, 2.00 s in all",
        "10.0 seconds of training with compiling, 2.0 of them (20%) spent on drawing",
    ]
    text = " ".join(words)
    assert "2.00 variance reduction by score: as noisy as uniform batches 4.00 times as" in text
    assert "75% effective sample size by score (good, above 50%)" in text
    assert "- gain: not known" in text and "Uniform" not in text
    assert any(line.startswith("from step 3: by history") for line in words)
    assert "stream" not in text and str(TrainingReport(None, 8)).split()[0] == "0"
    # The same in a notebook, and without print.
    assert repr(report) == str(report)
    report.why_uniform = "a < b"
    table = report._repr_html_()
    assert table.startswith("<table>") and table.count("<tr>") == str(table).count("</tr>") >= 9
    assert "Uniform at the end: a &lt; b." in table


@pytest.mark.parametrize(
    ("share", "judged"),
    [(0.3, "30% effective sample size by score (below 50%"), (0.04, "4% effective sample size")],
)
def test_effective_sample_sizes_are_judged(share, judged):
    report = hand_made_report()
    told = report.to_dict() | {"effective_sample_size": share}
    text = " ".join(as_text(told).split())
    assert judged in text and ("a few large weights decide" in text) == (share < 0.1)


REASONS = {
    "history": (
        lambda: HistoryImportanceTraining(adam_mlp(), seed=0),
        1,
        "the first pass over the 64 examples, which shows each of them once, has 16 left",
    ),
    "auto": (
        lambda: ImportanceTraining(adam_mlp(), presample="auto", seed=0),
        1,
        "compared after a pass over the data and some more, there were 3 steps",
    ),
    "auto, compared": (
        lambda: ImportanceTraining(adam_mlp(), presample="auto", seed=0),
        20,
        "draws by history promise a variance reduction of 1.",
    ),
    "threshold": (
        lambda: ImportanceTraining(adam_mlp(), tau_th=1e3, seed=0),
        1,
        "draws are by score above 1000.00",
    ),
    "svrg": (lambda: SVRG(adam_mlp(), B_over_b=2), 1, "SVRG draws no examples by score"),
}


@pytest.mark.parametrize("name", list(REASONS))
def test_why_draws_stayed_uniform(name, monkeypatch):
    make, epochs, reason = REASONS[name]
    # So that auto never thinks that a step by the history takes no longer.
    monkeypatch.setattr("importance_sampling.samplers._auto._MARGIN", 100.0)
    training, (x, y) = make(), data(64)
    training.fit(x, y, batch_size=16, steps_per_epoch=3, epochs=epochs, verbose=0)
    report = training.report()
    assert report.steps == {"uniform": 3 * epochs} and reason in report.why_uniform
    assert f"Uniform all the time: {report.why_uniform}." in " ".join(str(report).split())
    assert report.to_dict()["why_uniform"] == report.why_uniform


def test_what_was_not_estimated_is_not_told():
    x, y = data(128)
    training = SelectiveBackpropTraining(adam_mlp(), seed=0)
    training.fit(x, y, batch_size=16, epochs=4, verbose=0)
    report = training.report()
    words = " ".join(str(report).split())
    assert report.steps_on and not report.to_dict()["estimated"]
    assert "- variance reduction by score: this way to draw has no estimate of it" in words
    assert "variance of the gradient" not in words and "gain: mean" not in words
    assert report.gain is None and "effective sample size" in words
    reduction = report.figure().axes[0]
    assert "no estimate of the variance reduction" in [t.get_text() for t in reduction.texts]
    assert not np.isfinite(np.concatenate([line.get_ydata() for line in reduction.lines[:2]])).any()


def test_a_fit_that_ended_before_its_first_step_tells_why_and_nothing_else():
    class Stop(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise KeyboardInterrupt

    x, y = data(64)
    training = HistoryImportanceTraining(adam_mlp(), seed=0)
    with pytest.raises(KeyboardInterrupt):
        training.fit(x, y, batch_size=16, verbose=0, callbacks=[Stop()])
    words = " ".join(str(training.report()).split())
    assert words.startswith("0 steps were made") and "drawn" not in words and "seconds" not in words
    assert "the first pass over the 64 examples" in words


def test_nothing_is_explained_of_draws_by_score():
    x, y = data(64)
    training = ImportanceTraining(adam_mlp(), tau_th=0.0, seed=0)
    training.fit(x, y, batch_size=16, verbose=0)
    assert training.report().why_uniform is None and training.report().steps_on == 3


def test_what_the_picture_shows():
    report = hand_made_report()
    images = np.zeros((64, 4, 4, 1))
    figure = training_report(report, images)
    reduction, effective, times, draws, most, least = figure.axes
    assert reduction.get_title("left") == "50 % of the steps drawn by score"
    # Whole in light, and dark over it where draws were by score.
    light, dark = reduction.lines[:2]
    assert light.get_ydata().tolist() == [2.0] * 4 and light.get_alpha() < 1
    np.testing.assert_array_equal(dark.get_ydata(), [np.nan, np.nan, 2, 2])
    np.testing.assert_allclose(effective.lines[0].get_ydata(), [100, 100, 100, 50])
    assert [bar.get_width() for bar in times.patches] == [3000.0, 4000.0, 2000.0]
    assert [tick.get_text() for tick in times.get_yticklabels()] == ["uniform", "pool", "history"]
    assert times.get_title("left") == "Time: 10 s, 20% of it drawing and scoring"
    curve, mean = draws.lines
    np.testing.assert_array_equal(curve.get_ydata(), np.sort(report.draws)[::-1])
    np.testing.assert_allclose(mean.get_ydata(), 56 / 64)
    assert [text.get_text() for text in draws.texts] == ["drawn", "uniform:\n0.875"]
    assert most.get_title("left") == "Drawn most often (1 to 18 times)"
    assert least.get_title("left") == "Drawn least often (0 times)"
    assert len(most.images) == len(least.images) == 1
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert len(training_report(report, np.zeros((64, 5))).axes) == 4
    # Panels without anything to show are left out: nothing by score, no examples with an index.
    stream = TrainingReport(None, 16)
    times_of(stream, Kind.UNIFORM, 16, 4, 1.0)
    stream.threshold = 1.5
    reduction, times = training_report(stream, images).axes
    assert "threshold: 1.5" in [text.get_text() for text in reduction.texts]
    (panel,) = training_report(TrainingReport(None, 16)).axes
    assert "no data" in [text.get_text() for text in panel.texts]


def test_the_picture_of_examples_drawn_equally_often():
    report = TrainingReport(16, 16)
    times_of(report, Kind.UNIFORM, 16, 6, 1.0)
    # None of them was drawn most, and the line lies within the axes, between ticks.
    *_, draws = training_report(report, np.zeros((16, 4, 4, 1))).axes
    assert draws.get_title("left") == "How often each example was drawn"
    assert draws.get_ylim()[1] > 6.5
    assert [tick for tick in draws.get_yticks() if 4 <= tick <= draws.get_ylim()[1]]


def test_logs_tell_the_variance_reduction_that_was_used():
    x, y = data(64)
    training = ImportanceTraining(adam_mlp(), tau_th=1e6, seed=0)
    logs = training.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    assert (
        logs["variance_reduction"] == [1.0, 1.0] == [1.0 - on for on in logs["importance_sampling"]]
    )
    report = training.report()
    assert report.possible_variance_reduction > 1.0 == report.variance_reduction
    # A third of the steps in the first epoch, all in the second.
    training = ImportanceTraining(adam_mlp(), tau_th=0.0, seed=0)
    used = training.fit(x, y, batch_size=16, epochs=2, verbose=0).history["variance_reduction"]
    course = training.report().course()
    # The report reads the estimate when a step is made, the logs when the sampler is told of it.
    means = np.reshape(course["variance_reduction"], (2, 4)).mean(axis=1)
    assert np.all(means > 1.005)
    np.testing.assert_allclose(used, means, atol=2e-3)
    assert course["by_score"] == [0, *7 * [1]] and course["variance_reduction"][0] == 1.0
    assert min(course["possible_variance_reduction"]) > 1.0


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


def times_of(report, kind, size, count, seconds, reads_scores=True, together=1):
    """Adds steps that took so long, the first call of them much longer, as where it compiles."""
    scores = None if kind is Kind.UNIFORM else np.ones(size)
    for i in range(0, count, together):
        proposal = Proposal(
            np.arange(size), (), np.ones((size, 1)), scores, None, kind, None, reads_scores
        )
        took = 50.0 if i == 0 else seconds
        report.add_call([proposal] * together, took, drawing=0.0, reduction=2.0)


def test_a_call_may_hold_steps_of_several_kinds():
    one_by_one, together = TrainingReport(64, 4), TrainingReport(64, 4)
    kinds = [Kind.UNIFORM, Kind.POOL, Kind.POOL, Kind.UNIFORM]
    proposals = [
        Proposal(
            np.arange(4),
            (),
            np.array([[1.0], [2.0], [0.5], [i]]),
            None if kind is Kind.UNIFORM else np.ones(4),
            kind=kind,
        )
        for i, kind in enumerate(kinds)
    ]
    for proposal in proposals:
        one_by_one.add(proposal, 1.0, 0.25, 1.5)
    together.add_call(proposals, 1.0, 0.25, 1.5)
    assert together.steps == {"uniform": 2, "pool": 2}
    for name in ("steps", "seconds", "examples", "variance_reduction", "effective_sample_size"):
        assert getattr(together, name) == getattr(one_by_one, name), name
    np.testing.assert_array_equal(together.draws, one_by_one.draws)


def test_the_gain_is_variance_reduction_over_time():
    report = TrainingReport(None, 16)
    assert (report.gain, report.relative_noise, report.relative_time) == (None, 1.0, None)
    times_of(report, Kind.UNIFORM, 16, 8, 2.0)
    assert (report.gain, report.relative_noise, report.relative_time) == (1.0, 1.0, 1.0)
    # Batches of four instead of sixteen, at a variance reduction of two.
    times_of(report, Kind.POOL, 4, 32, 3.0)
    np.testing.assert_allclose(report.relative_time, (8 + 32 * 1.5) / 40)
    np.testing.assert_allclose(report.gain, 40 / (8 + 32 * 1.5))
    np.testing.assert_allclose(report.relative_noise, 16 / (4 * 2.0**2))
    assert report.examples == 8 * 16 + 32 * 4
    assert report.step_seconds == {"uniform": 2.0, "pool": 3.0}


def test_times_are_compared_side_by_side():
    report = TrainingReport(None, 16)
    times_of(report, Kind.UNIFORM, 16, 40, 2.0)
    times_of(report, Kind.HISTORY, 8, 40, 3.0)
    # The machine becomes ten times as slow. A size that no uniform step stands beside is
    # compared with one whose cost is known.
    times_of(report, Kind.HISTORY, 8, 160, 30.0)
    times_of(report, Kind.HISTORY, 4, 240, 20.0)
    np.testing.assert_allclose(report.relative_time, (40 + 200 * 1.5 + 240 * 1.0) / 480)
    # Uniform steps of which nothing is fetched are the unit, where there are some.
    report = TrainingReport(None, 16)
    times_of(report, Kind.UNIFORM, 16, 40, 4.0)
    times_of(report, Kind.UNIFORM, 16, 6, 2.0, reads_scores=False)
    times_of(report, Kind.HISTORY, 16, 46, 3.0)
    np.testing.assert_allclose(report.relative_time, (46 + 46 * 1.5) / 92)
    # And nothing is said where nothing could be compared.
    report = TrainingReport(None, 16)
    times_of(report, Kind.POOL, 16, 40, 4.0)
    assert report.relative_time is None and "gain: not known" in str(report)


def test_steps_that_share_the_time_of_compiling_are_not_compared():
    report = TrainingReport(None, 16)
    times_of(report, Kind.UNIFORM, 16, 24, 2.0, together=8)
    times_of(report, Kind.HISTORY, 8, 64, 3.0, together=8)
    # No uniform step is near the sizes that follow: a wrong cost would grow from size to size.
    times_of(report, Kind.HISTORY, 4, 80, 2.0, together=8)
    times_of(report, Kind.HISTORY, 2, 80, 1.0, together=8)
    np.testing.assert_allclose(report.relative_time, (24 + 64 * 1.5 + 80 + 80 * 0.5) / 248)


def test_a_long_course_is_merged():
    course = Course(("value",))
    for i in range(5000):
        course.add(float(i))
    columns = course.columns()
    assert 256 <= len(columns["step"]) <= 513
    assert columns["step"][-1] == 5000 and np.diff(columns["step"]).min() > 0
    np.testing.assert_allclose(columns["value"][0], np.mean(range(columns["step"][0])))
