"""Pictures: what is drawn where, and every kind through the command line."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from importance_sampling import plots
from importance_sampling.datasets import CanevetICML2016
from importance_sampling.experiment import cli, demo_picture
from importance_sampling.experiment.arms import ARMS, POOLS, SAME_NOISE
from importance_sampling.experiment.commands.plot import draw, frames
from importance_sampling.experiment.results import Result

pytestmark = pytest.mark.any_backend
exact = pytest.mark.exact


def axes():
    return Figure().subplots()


def luminance(colour):
    """How light a colour is in grey print."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


@exact
def test_training_curves():
    ax = axes()
    curves = [
        plots.Curve("a", np.arange(1, 101), np.linspace(2, 1, 100)),
        plots.Curve("b", np.arange(1, 6), np.array([5.0, 4.0, 0.0, 2.0, 1.0])),
    ]
    plots.training_curves(ax, curves, "training time (s)", "test error (%)")
    first, second = ax.lines
    np.testing.assert_allclose(first.get_ydata(), curves[0].y)
    # an error that vanished is not on a logarithmic axis
    assert np.isnan(second.get_ydata()[2]) and ax.get_yscale() == "log"
    assert ax.get_xlabel() == "training time (s)" and ax.get_ylabel() == "test error (%)"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    assert first.get_color() != second.get_color()
    assert first.get_linestyle() != second.get_linestyle()
    ax = axes()
    plots.training_curves(ax, [curves[0]], window=10, log=False)
    np.testing.assert_allclose(ax.lines[0].get_ydata()[-1], curves[0].y[-10:].mean())
    assert ax.get_legend() is None and ax.get_yscale() == "linear"
    # less than a factor of three apart
    ax = axes()
    plots.training_curves(ax, [curves[0]])
    assert ax.get_yscale() == "linear"


@exact
def test_neighbouring_colours_differ_in_grey():
    grey = [luminance(colour) for colour in plots.COLOURS]
    assert len(plots.COLOURS) == len(plots.LINES)
    assert abs(grey[0] - grey[1]) > 0.1
    assert len({str(line) for line in plots.LINES}) == len(plots.LINES)


@exact
def test_variance_reduction_is_shaded_where_it_was_on():
    ax = axes()
    steps, on = np.arange(1, 11), np.array([0, 0, 1, 1, 1, 0, 0, 1, 0, 0])
    plots.variance_reduction(ax, steps, np.linspace(1, 2, 10), on, "run")
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]
    assert spans == [(3, 5), (8, 8)]
    assert ax.get_title() == "run: 40 % of the steps drawn by score"
    ax = axes()
    plots.variance_reduction(ax, steps, np.ones(10), np.zeros(10))
    assert not ax.patches and "0 %" in ax.get_title()


@exact
def test_score_distribution_and_predictions():
    ax = axes()
    scores = np.random.default_rng(0).exponential(size=(4, 500))
    plots.score_distribution(ax, np.arange(4), scores, "loss")
    median, mean = ax.lines
    np.testing.assert_allclose(median.get_ydata(), np.median(scores, axis=1))
    np.testing.assert_allclose(mean.get_ydata(), scores.mean(axis=1))
    assert ax.get_ylabel() == "loss" and len(ax.collections) == 3
    ax = axes()
    actual = scores[0]
    plots.predictions(ax, actual, actual * 2, np.arange(500) % 3)
    np.testing.assert_array_equal(ax.collections[0].get_offsets()[:, 1], actual * 2)
    assert ax.get_xlabel() == "actual score" and ax.get_ylabel() == "predicted score"
    plots.predictions(axes(), actual, actual)


@exact
def test_draws_in_plane():
    ax = axes()
    x = (np.arange(40) + 0.5) / 40
    points = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)
    counts = np.where(points[:, 0] < 0.5, 3, 1)
    image = plots.draws_in_plane(ax, points, counts, "title", bins=10)
    relative = np.asarray(image.get_array())
    # rows are the second coordinate, from below
    np.testing.assert_allclose(relative[:, :5], 1.5)
    np.testing.assert_allclose(relative[:, 5:], 0.5)


@exact
def test_example_grid():
    ax = axes()
    images = np.zeros((5, 4, 4, 1))
    images[1] = 1.0
    plots.example_grid(ax, images, "five", columns=3)
    picture = np.asarray(ax.images[0].get_array())
    assert picture.shape == (2 * 5, 3 * 5)
    # dark on white, as digits are written
    assert (picture[:4, 5:9] == 0).all() and (picture[:4, :4] == 1).all()
    plots.example_grid(axes(), np.random.default_rng(0).random((5, 4, 4, 3)))


@exact
def test_animations(tmp_path):
    figure = Figure(figsize=(3, 2))
    ax = figure.subplots()
    values = [np.random.default_rng(i).random(50) for i in range(3)]
    animation = plots.animate_distribution(figure, ax, values, ["a", "b", "c"], vline=0.5)
    path = tmp_path / "a.gif"
    plots.save_animation(animation, path)
    with Image.open(path) as image:
        assert image.n_frames == 3
    figure = Figure(figsize=(3, 2))
    ax = figure.subplots()
    x = np.arange(100.0)
    animation = plots.animate_predictions(figure, ax, x, 2 * x + 1, windows=[(0, 50), (50, 100)])
    plots.save_animation(animation, path)
    with Image.open(path) as image:
        assert image.n_frames == 2
    # the line of the last frame is the fit
    low, high = ax.lines[-1].get_xdata()
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), [2 * low + 1, 2 * high + 1], rtol=1e-6)
    with pytest.raises(ValueError, match=r"a \.gif or \.mp4 file, got a\.avi"):
        plots.save_animation(animation, tmp_path / "a.avi")
    assert list(tmp_path.iterdir()) == [path]


@exact
def test_ffmpeg_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(RuntimeError, match=r"needs the program ffmpeg.* Write a \.gif"):
        plots.save_animation(None, tmp_path / "a.mp4")


@exact
def test_frames_are_evenly_spread():
    assert frames(3, 50) == [0, 1, 2] and frames(101, 3) == [0, 50, 100] and frames(9, 1) == [0]
    with pytest.raises(ValueError, match="--frames must be at least 1"):
        frames(3, 0)


# -- through the command line ----------------------------------------------------------------------

NAMES = ("small_nn", "oracle-loss", "vr-model", "predicted")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "by loss"
    arguments = ["run", *NAMES, "canevet-icml2016", str(directory), "--train_for", "30"]
    arguments += ["--hyperparams", "N=i64;batch_size=i32;presample=i64;lr=f0.01;vr_th=f1.05"]
    arguments += ["--validate_every", "6", "--save_scores", "--save_predictions"]
    assert cli.main(arguments) == 0
    return directory


@pytest.fixture(scope="module")
def images_run(tmp_path_factory, data_folder):
    directory = tmp_path_factory.mktemp("runs") / "images"
    arguments = ["run", "svrg_nn", *NAMES[1:], "mnist", str(directory), "--train_for", "5"]
    arguments += ["--hyperparams", f"data=s{data_folder};presample=i256"]
    assert cli.main([*arguments, "--validate_every", "9"]) == 0
    return directory


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("curves", "a.png"),
        ("curves", "a.svg"),
        ("scores", "a.png"),
        ("scores", "a.gif"),
        ("predictions", "a.pdf"),
        ("predictions", "a.gif"),
        ("variance-reduction", "a.png"),
        ("draws", "a.png"),
    ],
)
def test_every_kind_through_the_command_line(run, tmp_path, capsys, kind, file):
    path = tmp_path / "new" / file
    more = ["--title", "Title"] if file.endswith("png") else []
    assert cli.main(["plot", kind, str(run), "-o", str(path), *more]) == 0
    assert str(path) in capsys.readouterr().out
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".gif": b"GIF8"}
    assert path.read_bytes().startswith(starts[path.suffix])
    assert [p.name for p in path.parent.iterdir()] == [file]


@pytest.mark.end_to_end
def test_curves_are_those_of_the_runs(run, images_run, tmp_path):
    results = [Result(run), Result(images_run)]
    figure = draw("curves", results)
    loss, timed_loss, error, timed_error = figure.axes
    for ax, xlabel, ylabel in (
        (loss, "steps", "training loss"),
        (timed_loss, "training time (s)", "training loss"),
        (error, "steps", "test error (%)"),
        (timed_error, "training time (s)", "test error (%)"),
    ):
        assert (ax.get_xlabel(), ax.get_ylabel()) == (xlabel, ylabel)
        assert [line.get_label() for line in ax.lines] == ["by loss", "images"]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["by loss", "images"]
    for i, result in enumerate(results):
        np.testing.assert_array_equal(loss.lines[i].get_xdata(), np.arange(1, result.steps + 1))
        np.testing.assert_allclose(loss.lines[i].get_ydata(), result.train[:, 0])
        np.testing.assert_array_equal(timed_loss.lines[i].get_xdata(), result.clock)
        np.testing.assert_array_equal(error.lines[i].get_xdata(), result.validated_at)
        percent = 100 * (1 - result.validation[:, 1])
        np.testing.assert_allclose(error.lines[i].get_ydata(), percent)
    path = tmp_path / "curves.png"
    assert cli.main(["plot", "curves", str(run), str(images_run), "-o", str(path)]) == 0
    with Image.open(path) as image:
        assert image.size == ((11 * 130), int(7.5 * 130))


@pytest.mark.end_to_end
def test_what_the_other_kinds_show(run, images_run):
    result, images = Result(run), Result(images_run)
    (ax,) = draw("scores", [result]).axes
    assert ax.get_title() == "by loss: scores of 1351 test examples"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("steps", "loss")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.median(result.scores, axis=1))
    ax = draw("predictions", [result]).axes[0]
    points = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(points, result.predictions[:, :2])
    assert ax.get_title() == f"by loss: the last {30 * 32} draws"
    for ax, one in zip(
        draw("variance-reduction", [result, images]).axes, (result, images), strict=True
    ):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), one.sampling[:, 1])
        share = 100 * one.sampling[:, 2].mean()
        assert ax.get_title() == f"{one.label}: {share:.0f} % of the steps drawn by score"
    ax = draw("draws", [result]).axes[0]
    assert ax.get_title() == f"by loss: where {30 * 32} examples were drawn"
    assert np.isfinite(np.asarray(ax.images[0].get_array())).sum() > 500
    most, least = draw("examples", [images]).axes
    counts = np.sort(images.draws)[::-1]
    assert most.get_title().endswith(f"{counts[31]} to {counts[0]} times)") or (
        counts[31] == counts[0] and most.get_title().endswith(f"({counts[0]} times)")
    )
    assert least.get_title() == "drawn least often (0 times)"
    # Thirty-two digits of 28 x 28, in rows of eight, with a line between.
    assert np.asarray(most.images[0].get_array()).shape == (4 * 29, 8 * 29)


@exact
def test_the_demos_picture():
    dataset = CanevetICML2016(N=32)
    n = len(dataset.train_data)
    results = [
        {
            "arm": arm,
            "steps": 20,
            "history": [
                {"seconds": float(s), "train_loss": 2.0 - s / 3, "test_error": 0.5 - s / 10}
                for s in range(3)
            ],
        }
        for arm in ARMS
    ]
    counts = dict.fromkeys(ARMS, np.arange(n)) | {POOLS: np.zeros(n, int)}
    figure = demo_picture.draw("canevet", dataset, results, counts)
    loss, error, pools, same_noise = figure.axes[:4]
    # A curve and its end for each way to train.
    for ax, label, values in (
        (loss, "training loss", [2.0, 2 - 1 / 3, 2 - 2 / 3]),
        (error, "test error (%)", [50.0, 40.0, 30.0]),
    ):
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("training time (s)", label)
        assert len(ax.lines) == 2 * len(ARMS)
        np.testing.assert_allclose(ax.lines[0].get_ydata(), values)
        np.testing.assert_allclose(ax.lines[1].get_ydata(), values[-1:])
    assert [text.get_text() for text in loss.get_legend().get_texts()] == list(ARMS)
    assert pools.get_title() == f"{POOLS} never switched on"
    assert same_noise.get_title() == f"where {SAME_NOISE} drew" and len(same_noise.images) == 1
    assert "20 steps for each curve" in figure.get_suptitle()


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("curve", "RUN", "-o", "a.png"), "no kind of picture 'curve'. Did you mean 'curves'"),
        (("curves", "RUN", "-o", "a.jpeg2"), "must end in .png, .svg, .pdf for curves"),
        (("scores", "RUN", "-o", "a.doc"), "must end in .png, .svg, .pdf or .gif, .mp4 for scores"),
        (("scores", "RUN", "RUN", "-o", "a.png"), "A picture of scores is of one run, got 2"),
        (("examples", "RUN", "-o", "a.png"), "Only images can be shown"),
        (("draws", "IMAGES", "-o", "a.png"), "Only points in the plane can be drawn"),
        (("scores", "IMAGES", "-o", "a.png"), "has no scores of evaluations. Run it with --save_s"),
        (("predictions", "IMAGES", "-o", "a.gif"), "has no predictions. Run it with --save_pred"),
        (("curves", "nowhere", "-o", "a.png"), "nowhere holds no run"),
    ],
)
def test_errors_are_one_line(run, images_run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(run), "IMAGES": str(images_run)}
    assert cli.main(["plot", *(places.get(a, a) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error, error
    assert not list(tmp_path.iterdir())


@pytest.mark.end_to_end
def test_the_originals_animations(run, tmp_path, monkeypatch, capsys):
    lines = "\n".join(" ".join(str(v) for v in range(i, i + 20)) for i in range(4))
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines + "\n"))
    path = tmp_path / "distribution.gif"
    arguments = ["plot-distribution", "--to_file", str(path), "--frames", "3", "--vline", "5"]
    assert cli.main([*arguments, "--xlim", "0,30"]) == 0
    with Image.open(path) as image:
        assert image.n_frames == 3
    monkeypatch.setattr(sys, "stdin", io.StringIO("1 2\n3 x\n"))
    assert cli.main(arguments) == 2
    assert "Line 2 of the input" in capsys.readouterr().err
    predictions = str(Path(run) / "predictions.txt")
    path = tmp_path / "evolution.gif"
    arguments = ["plot-loss-evolution", predictions, "--to_file", str(path), "--step", "200"]
    assert cli.main([*arguments, "--n_points", "300", "--frames", "0:2"]) == 0
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert cli.main([*arguments, "--frames", "90:99"]) == 2
    assert "--frames leaves no frame" in capsys.readouterr().err
    assert cli.main(["plot-loss-evolution", "nowhere.txt"]) == 2
    assert "nowhere.txt cannot be read" in capsys.readouterr().err
