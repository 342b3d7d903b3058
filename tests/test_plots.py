"""Pictures: what is drawn where, and every kind through the command line."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from importance_sampling import plots
from importance_sampling.datasets import CanevetICML2016
from importance_sampling.experiment import cli, demo_picture, gradient_picture
from importance_sampling.experiment.arm_names import HISTORY, POOLS, SAME_NOISE
from importance_sampling.experiment.arms import ARMS
from importance_sampling.experiment.commands.plot import draw, frames
from importance_sampling.experiment.results import Result

pytestmark = pytest.mark.any_backend
exact = pytest.mark.exact


def axes():
    return Figure().subplots()


def title(ax):
    """At the left within `plots.style`, in the middle without."""
    return ax.get_title("left") or ax.get_title()


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
    # named at their ends, and told apart without colour
    assert ax.get_legend() is None and [text.get_text() for text in ax.texts] == ["a", "b"]
    for look in ("color", "linestyle", "marker"):
        assert getattr(first, f"get_{look}")() != getattr(second, f"get_{look}")()
    ax = axes()
    plots.training_curves(ax, [curves[0]], window=10, log=False)
    np.testing.assert_allclose(ax.lines[0].get_ydata()[-1], curves[0].y[-10:].mean())
    assert not ax.texts and ax.get_yscale() == "linear"
    # less than a factor of three apart
    ax = axes()
    plots.training_curves(ax, [curves[0]])
    assert ax.get_yscale() == "linear"
    # the interval of several seeds as a band
    ax = axes()
    band = curves[0].y - 0.1, curves[0].y + 0.1
    plots.training_curves(ax, [curves[0]._replace(low=band[0], high=band[1])], title="Title")
    edges = ax.collections[0].get_paths()[0].vertices
    assert edges[:, 1].min() == band[0].min() and edges[:, 1].max() == band[1].max()
    assert title(ax) == "Title" or title(ax) == "Title"
    ax = axes()
    plots.training_curves(ax, [plots.Curve("a", np.empty(0), np.empty(0))])
    assert [text.get_text() for text in ax.texts] == ["no data"]


@exact
def test_names_keep_apart_in_the_order_of_their_points():
    ax = axes()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    heights = [0.50, 0.51, 0.49, 0.0, 1.0]
    labels = [plots.Label(1.0, y, str(y)) for y in heights]
    plots.name_at_right(ax, labels)
    found = np.array([text.get_position()[1] for text in ax.texts])
    assert np.diff(np.sort(found)).min() > 0.03 and found.min() >= 0 and found.max() <= 1
    assert found[3] == 0.0 and found[4] == 1.0 and abs(found[:3].mean() - 0.5) < 0.1
    # Lines end where the names begin, so that they pass through none of them.
    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    for text in ax.texts:
        text.update_positions(renderer)
        line = text.arrow_patch.get_path().get_extents(text.arrow_patch.get_transform())
        name = Text.get_window_extent(text, renderer)
        assert line.x1 < name.x0 + 0.1 * name.width


@exact
@pytest.mark.parametrize(
    ("low", "high", "labelled"),
    [(2, 7, {3, 4, 5}), (0.2, 5, {0.3, 0.5, 2}), (1, 500, {2, 50, 200})],
)
def test_logarithmic_axes_are_labelled_between_powers_of_ten(low, high, labelled):
    ax = axes()
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    plots.plain_log_axis(ax.yaxis)
    minor = {float(t) for t in ax.yaxis.get_minorticklocs() if low <= t <= high}
    assert all(any(np.isclose(value, minor_one) for minor_one in minor) for value in labelled)
    assert ax.yaxis.get_minor_formatter()(2.0) == "2"


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
    plots.variance_reduction(ax, steps, np.linspace(1.1, 2, 10), on, "run")
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]
    assert spans == [(2.5, 5.5), (7.5, 8.5)]
    assert title(ax) == "run: 40 % of the steps drawn by score"
    light, dark = ax.lines[:2]
    assert light.get_alpha() < 1 and np.isfinite(light.get_ydata()).all()
    np.testing.assert_array_equal(np.isfinite(dark.get_ydata()), on)
    assert [text.get_text() for text in ax.texts] == ["τ", "uniform draws: 1"]
    ax = axes()
    plots.variance_reduction(ax, steps, np.linspace(1, 2, 10), on, threshold=1.33)
    assert "threshold: 1.33" in [text.get_text() for text in ax.texts]
    assert any(np.allclose(line.get_ydata(), 1.33) for line in ax.lines)
    ax = axes()
    plots.variance_reduction(ax, steps, np.ones(10), np.zeros(10))
    assert not ax.patches and "0 %" in title(ax)
    # 1.0 to the last digit: nothing was estimated yet.
    assert "no estimate of the variance reduction" in [text.get_text() for text in ax.texts]
    ax = axes()
    plots.variance_reduction(ax, steps, np.r_[np.ones(4), 1.2, 1.0, 1.1 * np.ones(4)], np.zeros(10))
    np.testing.assert_array_equal(np.isfinite(ax.lines[0].get_ydata()), np.arange(10) >= 4)
    assert "light: what draws by score would have had" in ax.get_xlabel()


@exact
def test_score_distribution_and_predictions():
    ax = axes()
    scores = np.random.default_rng(0).exponential(size=(4, 500))
    plots.score_distribution(ax, np.arange(4), scores, "loss")
    median, mean = ax.lines
    np.testing.assert_allclose(median.get_ydata(), np.median(scores, axis=1))
    np.testing.assert_allclose(mean.get_ydata(), scores.mean(axis=1))
    assert ax.get_ylabel() == "loss" and len(ax.collections) == 3
    names = [text.get_text() for text in ax.texts]
    assert names == ["1 % lower than this", "99 %", "5 %", "95 %", "25 %", "75 %", "median", "mean"]
    ax = axes()
    actual = scores[0]
    plots.predictions(ax, actual, actual * 2, np.arange(500) % 3)
    np.testing.assert_array_equal(ax.collections[0].get_offsets()[:, 1], actual * 2)
    assert ax.get_xlabel() == "actual score" and ax.get_ylabel() == "predicted score"
    assert "classes not known" not in [text.get_text() for text in ax.texts]
    ax = axes()
    plots.predictions(ax, actual, actual)
    assert "classes not known" in [text.get_text() for text in ax.texts]
    # One evaluation has bands, too; none has a note.
    ax = axes()
    plots.score_distribution(ax, np.array([5]), scores[:1])
    assert np.ptp(ax.collections[0].get_paths()[0].vertices[:, 0]) == 1.0
    ax = axes()
    plots.score_distribution(ax, np.empty(0), np.empty((0, 5)))
    assert [text.get_text() for text in ax.texts] == ["no data"]


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
def test_examples_drawn_as_often_are_picked_at_random():
    draws = np.r_[np.ones(500, int), [7, 5, 9], np.ones(500, int)]
    most, least = plots.most_and_least(draws, 50)
    assert most[:3].tolist() == [502, 500, 501] and (draws[most[3:]] == 1).all()
    # Not the last ones of all; the same once more.
    assert (draws[least] == 1).all() and 150 < least.mean() < 850 and len({*least}) == 50
    np.testing.assert_array_equal(plots.most_and_least(draws, 50)[1], least)


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


@pytest.mark.slow
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
    # As of a run that was killed before its first evaluation.
    results[1].validation = np.empty((0, 2))
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
        # Beside the axes at the right, whose curves are those at the left.
        names = ["by loss", "images"] if xlabel != "steps" else []
        if ylabel == "test error (%)":
            # One run was not evaluated.
            names = ["no data: images", *names[:1]]
        assert [text.get_text() for text in ax.texts] == names
    for i, result in enumerate(results):
        np.testing.assert_array_equal(loss.lines[i].get_xdata(), np.arange(1, result.steps + 1))
        np.testing.assert_allclose(loss.lines[i].get_ydata(), result.train[:, 0])
        np.testing.assert_array_equal(timed_loss.lines[i].get_xdata(), result.clock)
        np.testing.assert_array_equal(error.lines[i].get_xdata(), result.validated_at)
        percent = 100 * (1 - result.validation[:, 1])
        np.testing.assert_allclose(error.lines[i].get_ydata(), percent)
    # More than six go into panels of their own.
    assert len(draw("curves", [results[0]] * 8).axes) == 8
    path = tmp_path / "curves.png"
    assert cli.main(["plot", "curves", str(run), str(images_run), "-o", str(path)]) == 0
    with Image.open(path) as image:
        assert image.size == (9 * 130, 6 * 130)  # as `plot` writes it


@pytest.mark.end_to_end
def test_what_the_other_kinds_show(run, images_run):
    result, images = Result(run), Result(images_run)
    (ax,) = draw("scores", [result]).axes
    assert title(ax) == "by loss: scores of 1351 test examples"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("steps", "loss")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.median(result.scores, axis=1))
    ax = draw("predictions", [result]).axes[0]
    points = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(points, result.predictions[:, :2])
    assert title(ax) == f"by loss: the last {30 * 32} draws"
    for ax, one in zip(
        draw("variance-reduction", [result, images]).axes, (result, images), strict=True
    ):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), one.sampling[:, 1])
        # That of the sampler's name.
        threshold = "1.05" if one is result else "1.2"
        assert f"threshold: {threshold}" in [text.get_text() for text in ax.texts]
        share = 100 * one.sampling[:, 2].mean()
        assert title(ax) == f"{one.label}: {share:.0f} % of the steps drawn by score"
    ax = draw("draws", [result]).axes[0]
    assert title(ax) == f"by loss: where {30 * 32} examples were drawn"
    assert np.isfinite(np.asarray(ax.images[0].get_array())).sum() > 150
    most, least = draw("examples", [images]).axes
    counts = np.sort(images.draws)[::-1]
    assert title(most).endswith(f"{counts[31]} to {counts[0]} times)") or (
        counts[31] == counts[0] and title(most).endswith((f"({counts[0]} times)", "(once)"))
    )
    assert title(least) == "Drawn least often (never)"
    # Thirty-two digits of 28 x 28, in rows of eight, with a line between.
    assert np.asarray(most.images[0].get_array()).shape == (4 * 29, 8 * 29)


@exact
def test_the_demos_picture(tmp_path, monkeypatch):
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
    settings = {"dataset": "canevet", "steps": 20}
    counts = dict.fromkeys(ARMS, np.arange(n)) | {POOLS: np.zeros(n, int)}
    drawn = demo_picture.what_was_drawn("canevet", dataset, counts)
    assert list(drawn) == [SAME_NOISE] and np.shape(drawn[SAME_NOISE]) == (9, 9)
    figure = demo_picture.draw(settings, results, drawn)
    loss, error, pools, same_noise = figure.axes[:4]
    # A curve for each way to train, from the start on.
    for ax, label, values in (
        (loss, "training loss", [2.0, 2 - 1 / 3, 2 - 2 / 3]),
        (error, "test error (%)", [50.0, 40.0, 30.0]),
    ):
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("training time (s)", label)
        assert len(ax.lines) == len(ARMS)
        np.testing.assert_allclose(ax.lines[0].get_ydata(), values)
        assert ax.lines[0].get_xdata()[0] == 0
    assert [text.get_text() for text in error.texts] == [f"{arm}: 30.00 %" for arm in ARMS]
    assert pools.texts[0].get_text() == f"{POOLS}: never drew by score" and not pools.images
    assert title(same_noise) == f"Draws by score: {SAME_NOISE}"
    assert len(same_noise.images) == 1
    assert figure.get_suptitle().startswith("Points in the plane: ")
    assert "20 steps for each curve" in figure.get_suptitle()
    # All of it is in the file of the figures; of an older one the curves.
    for more, panels in (({"drawn": drawn}, 4), ({}, 2)):
        source, target = tmp_path / "demo.json", tmp_path / "demo.png"
        source.write_text(json.dumps({"settings": settings, "results": results} | more))
        monkeypatch.setattr(sys, "argv", ["demo_picture", str(source), str(target)])
        demo_picture.main()
        with Image.open(target) as image:
            assert image.size[0] == 900 and (image.size[1] > 500) == (panels == 4)
    by_score = {HISTORY: np.r_[np.zeros(60, int), np.arange(40)]}
    drawn = demo_picture.what_was_drawn("mnist", dataset, by_score)
    assert drawn["most"]["draws"] == list(range(39, 7, -1)) and not any(drawn["least"]["draws"])


@exact
def test_the_picture_of_gradients_is_drawn_from_its_figures(tmp_path, monkeypatch):
    interval = {"mean": 0.5, "low": 0.4, "high": 0.7}
    rows = [
        {"draw": name, "distance": interval, "cosine": interval} for name in ("uniform", "loss")
    ]
    distance, cosine = gradient_picture.draw(rows).axes
    assert title(distance).endswith("less is better") and title(cosine).endswith("more is better")
    assert [tick.get_text() for tick in distance.get_yticklabels()] == ["uniform", "loss"]
    source, target = tmp_path / "quality.json", tmp_path / "quality.png"
    source.write_text(json.dumps({"mnist": {"draws": rows}}))
    arguments = ["gradient_picture", str(source), str(target), "--of"]
    monkeypatch.setattr(sys, "argv", [*arguments, "mnist"])
    gradient_picture.main()
    assert target.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(sys, "argv", [*arguments, "cifar"])
    with pytest.raises(SystemExit, match=r"There is no 'cifar' in .*, only \['mnist'\]"):
        gradient_picture.main()


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("curve", "RUN", "-o", "a.png"), "no kind of picture 'curve'. Did you mean 'curves'"),
        (("curves", "RUN", "-o", "a.jpeg2"), "must end in .png, .svg or .pdf for the kind curves"),
        (
            ("scores", "RUN", "-o", "a.doc"),
            "must end in .png, .svg, .pdf, .gif or .mp4 for the kind scores",
        ),
        (("scores", "RUN", "RUN", "-o", "a.png"), "A picture of scores is of one run, got 2"),
        (("examples", "RUN", "-o", "a.png"), "Only images can be shown"),
        (("draws", "IMAGES", "-o", "a.png"), "Only points in the plane can be drawn"),
        (("scores", "IMAGES", "-o", "a.png"), "has no scores of evaluations. Run it with --save_s"),
        (("predictions", "IMAGES", "-o", "a.gif"), "has no predictions. Run it with --save_pred"),
        (("curves", "nowhere", "-o", "a.png"), "nowhere holds no run"),
        (("curves", "RUN", "BEGUN", "-o", "a.png"), "begun has not made a step yet"),
    ],
)
def test_errors_are_one_line(
    run, images_run, tmp_path_factory, tmp_path, monkeypatch, capsys, arguments, message
):
    begun = tmp_path_factory.mktemp("runs") / "begun"
    begun.mkdir()
    (begun / "train.txt").touch()
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(run), "IMAGES": str(images_run), "BEGUN": str(begun)}
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
