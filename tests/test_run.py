"""Experiments through the command line: runs, going on, comparing, listing."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import processes
import pytest
from PIL import Image

from importance_sampling import pretrained
from importance_sampling.datasets import LFW
from importance_sampling.experiment import cli
from importance_sampling.experiment.commands import variance_reduction
from importance_sampling.experiment.papers.lfw_evaluate import best_threshold, distances
from importance_sampling.experiment.recorder import Recorder
from importance_sampling.experiment.results import Result

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[1]
HYPERPARAMS = "N=i64;batch_size=i32;lr=f0.01;presample=i64;seed=i1"


def run(directory, *more, names=("small_nn", "oracle-loss", "model", "predicted"), **options):
    """The exit status of a small run."""
    settings = {"train_for": 20, "validate_every": 8, "hyperparams": HYPERPARAMS} | options
    arguments = [str(part) for key, value in settings.items() for part in (f"--{key}", value)]
    return cli.main(["run", *names, "canevet-icml2016", str(directory), *arguments, *more])


def texts(directory):
    """All text files; but for the clock, which no two runs share."""
    return {p.name: p.read_text() for p in directory.glob("*.txt") if p.name != "clock.txt"}


@pytest.mark.one_backend
@pytest.mark.parametrize("sampler", ["mixture", "vr-model"])
def test_a_run_that_drew_nothing_by_score_says_so(sampler, tmp_path, capsys):
    names = ("small_nn", "oracle-loss", sampler, "predicted")
    assert run(tmp_path / "run", names=names, train_for=2) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "0 of the steps were drawn by score, which begins later: by the history, after a pass"
        in out
    )


@pytest.mark.one_backend
def test_a_run_writes_the_documented_files(tmp_path, capsys):
    directory = tmp_path / "new" / "run"
    more = ("--save_predictions", "--save_scores", "--save_train_scores", "--save_model")
    assert run(directory, *more, snapshot_period=10) == 0
    out = capsys.readouterr().out
    assert "small_nn on canevet-icml2016: 2745 training examples, sampler model" in out
    assert "20 steps in" in out and "20 of the steps were drawn by score;" in out
    assert "test error" in out
    lines = {name: text.splitlines() for name, text in texts(directory).items()}
    lines["clock.txt"] = (directory / "clock.txt").read_text().splitlines()
    assert lines["train.txt"][0] == lines["val_eval.txt"][0] == "Crossent Accuracy"
    assert len(lines["train.txt"]) == 21 and len(lines["clock.txt"]) == 20
    # After 8 and 16 steps, and at the end.
    assert len(lines["val_eval.txt"]) == len(lines["train_eval.txt"]) == 1 + 20 // 8 + 1
    assert len(lines["val_scores.txt"]) == 3 * 1351
    assert len(lines["train_scores.txt"]) == 3 * len(range(0, 2745, 2745 // 1351))
    assert len(lines["predictions.txt"]) == 20 * 32 and "comparison.txt" not in lines
    seconds = [float(line) for line in lines["clock.txt"]]
    # The first step is compiling, which is no time of training.
    assert seconds == sorted(seconds) and seconds[0] == 0 < seconds[1]
    assert "s of compiling that the clock leaves out" in out
    names = {p.name for p in directory.glob("*.h5")}
    assert names == {"model.000010.weights.h5", "model.000020.weights.h5", "model.weights.h5"}
    result = Result(directory)
    # scores and predictions are losses of the same network at the same time
    assert result.scores.shape == (3, 1351) and result.validated_at.tolist() == [8, 16, 20]
    np.testing.assert_allclose(result.scores.mean(1), result.validation[:, 0], rtol=1e-4)
    np.testing.assert_allclose(result.predictions[:, 0], result.predictions[:, 1], rtol=1e-3)
    assert set(result.predictions[:, 2]) == {0, 1}
    assert result.draws.sum() == 20 * 32 and (result.sampling[:, 2] == 1).all()
    assert result.description["state"] == "finished" and result.description["steps"] == 20
    assert result.validation[-1, 0] < result.train[0, 0]
    # weights saved are the network's
    weights = str(directory / "model.weights.h5")
    arguments = ["scores", "small_nn", weights, "canevet-icml2016", "--hyperparams", HYPERPARAMS]
    assert cli.main(arguments) == 0
    printed = np.array(capsys.readouterr().out.split(), float)
    assert len(printed) == 2745 and printed.mean() < result.train[0, 0]


@pytest.mark.slow
@pytest.mark.one_backend
@pytest.mark.parametrize(
    "names",
    [
        ("small_nn", "oracle-gnorm", "vr-adaptive-smooth-model", "predicted"),
        pytest.param(
            ("small_nn", "oracle-loss", "lstm-comparison", "adjusted"),
            marks=pytest.mark.any_backend,
        ),
        ("small_nn", "oracle-acc", "history", "correcting"),
        pytest.param(
            ("small_nn", "oracle-gnorm", "robust", "predicted"), marks=pytest.mark.any_backend
        ),
    ],
    ids=lambda names: names[2],
)
def test_going_on_ends_where_an_uninterrupted_run_does(tmp_path, names):
    more = ("--save_predictions",)
    options = {"names": names, "checkpoint_every": 6}
    if names[2] == "robust":
        # So large a batch that the first pass, which is uniform, is over before the first stop.
        options["hyperparams"] = HYPERPARAMS.replace("batch_size=i32", "batch_size=i600")
    assert run(tmp_path / "whole", *more, **options) == 0
    # Stops at a checkpoint that is no evaluation, then in the middle of nothing.
    parts = tmp_path / "parts"
    assert run(parts, *more, **options, train_for=5) == 0
    assert run(parts, "--resume", *more, **options, train_for=13) == 0
    # What was written after the last checkpoint is cut off.
    with (parts / "train.txt").open("a") as file:
        file.write("9 9\n9 9")
    assert run(parts, "--resume", *more, **options) == 0
    expected, got = texts(tmp_path / "whole"), texts(parts)
    assert expected.keys() == got.keys()
    for name in expected:
        assert got[name] == expected[name], name
    draws = [np.load(d / "draws.npy") for d in (tmp_path / "whole", parts)]
    np.testing.assert_array_equal(*draws)
    if names[2] == "lstm-comparison":
        assert len(expected["comparison.txt"].splitlines()) == 20 * 1024


@pytest.mark.slow
@pytest.mark.any_backend
def test_ctrl_c_leaves_whole_files(tmp_path):
    """A run in a process of its own is interrupted, goes on, and equals one that was not."""
    names = ["small_nn", "oracle-loss", "model", "predicted", "canevet-icml2016"]
    options = ["--hyperparams", HYPERPARAMS, "--train_for", "4000", "--validate_every", "1000"]
    command = [sys.executable, "-m", "importance_sampling.experiment.cli", "run", *names]
    process = subprocess.Popen(
        [*command, str(tmp_path / "a"), *options],
        env=processes.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    train = tmp_path / "a" / "train.txt"
    deadline = time.time() + 200
    while not (train.is_file() and train.read_text().count("\n") > 20):
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Traceback" not in errors and "--resume goes on from there" in errors
    description = json.loads((tmp_path / "a" / "run.json").read_text())
    steps = description["steps"]
    assert description["state"] == "interrupted" and 20 <= steps < 4000
    assert train.read_text().count("\n") == steps + 1
    assert not [p for p in (tmp_path / "a").iterdir() if p.name.startswith(".")]
    more = {"train_for": steps + 5, "validate_every": 1000}
    assert run(tmp_path / "a", "--resume", **more) == 0
    assert run(tmp_path / "b", **more) == 0
    assert texts(tmp_path / "a") == texts(tmp_path / "b")


def killed(*_, **__):
    raise SystemExit("killed")


@pytest.mark.any_backend
def test_nothing_is_overwritten_silently(tmp_path, capsys, monkeypatch):
    assert run(tmp_path / "a", train_for=4) == 0
    before = texts(tmp_path / "a")
    capsys.readouterr()

    def refused(message, *more, **options):
        assert run(tmp_path / "a", *more, **options) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and message in error, error
        assert texts(tmp_path / "a") == before

    refused("holds a run already. Pass --resume", train_for=8)
    other = HYPERPARAMS.replace("lr=f0.01", "lr=f0.02")
    refused("was made with hyperparams", "--resume", train_for=8, hyperparams=other)
    # a finished run goes no further than asked
    assert run(tmp_path / "a", "--resume", train_for=4) == 0
    assert texts(tmp_path / "a") == before
    # an overwritten run leaves nothing behind to go on from by mistake
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_end", killed)
        with pytest.raises(SystemExit):
            run(tmp_path / "a", "--overwrite", train_for=2)
    assert not (tmp_path / "a" / "checkpoint.npz").exists()
    assert Result(tmp_path / "a").description["state"] == "failed"
    assert run(tmp_path / "a", "--resume", train_for=2) == 0
    assert Result(tmp_path / "a").steps == 2
    (tmp_path / "a" / "checkpoint.npz").write_bytes(b"PK\x03\x04")
    before = texts(tmp_path / "a")
    refused("checkpoint.npz cannot be read", "--resume", train_for=8)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, "smal_nn", "no model 'smal_nn'. Did you mean 'small_nn'"),
        (1, "oracle-los", "no wrapper 'oracle-los'. Did you mean 'oracle-loss'"),
        (1, "svrg", "wrapper 'svrg' and the sampler 'model' do not go together"),
        (2, "modl", "no sampler 'modl'. Did you mean 'model'"),
        (2, "scsg", "wrapper 'oracle-loss' and the sampler 'scsg' do not go together"),
        (3, "bias", "no reweighting 'bias'"),
        (4, "canevet", "no data set 'canevet'"),
        (0, "lstm_mnist", "'lstm_mnist' does not fit the data"),
        ("--hyperparams", "lr=0.1", "Try lr=f0.1"),
        ("--hyperparams", "N=i16;batch_size=i999", "`batch_size` 999 is larger than the training"),
        ("--train_for", "0", "--train_for must be at least 1"),
        ("--initial_weights", "nowhere.h5", "no weights file nowhere.h5"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, place, value, message):
    names = ["small_nn", "oracle-loss", "model", "predicted", "canevet-icml2016"]
    options = {"--hyperparams": "N=i16;batch_size=i32", "--train_for": "2"}
    if isinstance(place, int):
        names[place] = value
    else:
        options[place] = value
    flat = [part for pair in options.items() for part in pair]
    assert cli.main(["run", *names, str(tmp_path / "out"), *flat]) == 2
    error = capsys.readouterr().err
    assert error.startswith("importance-sampling: ") and error.count("\n") == 1, error
    assert message in error
    assert not (tmp_path / "out" / "train.txt").exists()


@pytest.mark.any_backend
def test_directories_that_cannot_be_written_to(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "below") == 2
    assert "below" in capsys.readouterr().err
    assert run(tmp_path / "file") == 2
    assert "file" in capsys.readouterr().err


@pytest.mark.any_backend
def test_learning_rates_time_and_initial_weights(tmp_path):
    hyperparams = HYPERPARAMS + ";time_based=i1;opt=ssgd;lr_reductions=I100"
    # Measured after every step: on a slow machine there are few.
    options = {"train_for": 1, "validate_every": 1, "hyperparams": hyperparams}
    assert run(tmp_path / "a", "--save_model", **options) == 0
    result = Result(tmp_path / "a")
    # It ends with the first step past the time, however many there were.
    assert (result.clock[:-1] < 1).all() and result.clock[-1] >= 1
    # with a rate of zero from the first step on, weights stay those that were given
    frozen = HYPERPARAMS + ";opt=ssgd;lr_changes=I0;lr_targets=F0"
    weights = str(tmp_path / "a" / "model.weights.h5")
    more = ("--initial_weights", weights, "--save_model")
    assert run(tmp_path / "b", *more, hyperparams=frozen, validate_every=1, train_for=2) == 0
    validation = Result(tmp_path / "b").validation
    np.testing.assert_array_equal(validation[0], validation[1])
    assert abs(validation[0, 0] - result.validation[-1, 0]) < 0.2


@pytest.mark.any_backend
def test_compare_and_list(tmp_path, capsys, monkeypatch):
    tree = tmp_path / "canevet" / "small_nn" / "model" / "oracle-loss" / "predicted"
    assert run(tree / "first", train_for=40) == 0
    names = ("small_nn", "oracle-loss", "uniform", "unweighted")
    assert run(tree / "second", train_for=9, names=names) == 0
    (tree / "third").mkdir()
    capsys.readouterr()
    assert cli.main(["compare", str(tree / "first"), str(tree / "second"), "--errors", "60,0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = "run steps seconds training loss test loss test error best to 60 % to 0 %"
    assert lines[0].split() == head.split()
    first, second = lines[1].split(), lines[2].split()
    assert first[:2] == ["first", "40"] and second[:2] == ["second", "9"]
    validation = Result(tree / "first").validation
    assert f"{100 * (1 - validation[-1, 1]):.2f} %" in lines[1]
    assert "8 steps," in lines[1] and lines[1].endswith("-")
    assert cli.main(["list", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines]
    assert rows[0][:2] == ["Dataset", "Network"] and len(rows) == 3
    assert len(set(map(len, lines))) == 1
    # 40 steps of 32 out of 2745 examples
    assert rows[1] == [
        *("canevet-icml2016", "small_nn", "model", "oracle-loss", "predicted"),
        *("first", "0.47", "40", "finished"),
    ]
    assert rows[2][2] == "uniform" and rows[2][5:] == ["second", "0.10", "9", "finished"]
    assert cli.main(["list", "--expdir", str(tmp_path), "--pending"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[5] for row in rows[1:]] == ["third"]
    assert cli.main(["list", "-t", str(tree)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["first" in lines[1], "second" in lines[2]] == [True, True]
    # On a terminal both are fitted to it.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    for command in (["list", str(tmp_path)], ["compare", str(tree / "first")]):
        assert cli.main(command) == 0
        out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        table = out.split("\n\n")[0].splitlines()
        assert len(table) > 2 and max(map(len, table)) <= 80 and "\t" not in out
        assert ("first" in out and "finished" in out.replace("\n", "")) or command[0] == "compare"
    monkeypatch.delenv("FORCE_COLOR")
    assert cli.main(["compare", str(tree / "third")]) == 2
    assert "holds no run: it has no train.txt" in capsys.readouterr().err


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("option", "path", "message"),
    [
        ("--output", "file/found.json", "file"),
        ("--output", "folder", "is a directory"),
        ("--picture", "file/found.png", "file"),
        ("--picture", "found.jpeg2", "must end in .png, .svg, .pdf"),
        ("--picture", "found", "must end in .png, .svg, .pdf"),
    ],
)
def test_variance_reduction_says_before_its_work_where_it_cannot_write(
    tmp_path, capsys, monkeypatch, option, path, message
):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    def work(*args):
        raise AssertionError("nothing is to be read or computed")

    monkeypatch.setattr(variance_reduction.build, "build_model", work)
    arguments = ["variance-reduction", "small_nn", "none.weights.h5", "canevet-icml2016"]
    assert cli.main([*arguments, option, str(tmp_path / path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.any_backend
def test_variance_reduction_makes_folders_that_are_missing(tmp_path, capsys):
    arguments = ["variance-reduction", "small_nn", "none.weights.h5", "canevet-icml2016"]
    arguments += ["--hyperparams", "N=i64"]
    target = tmp_path / "new" / "found.json"
    assert cli.main([*arguments, "--output", str(target)]) == 2
    assert "none.weights.h5" in capsys.readouterr().err and target.parent.is_dir()


@pytest.mark.any_backend
def test_variance_reduction_measures_gradients(tmp_path, capsys):
    assert run(tmp_path / "a", "--save_model", train_for=30) == 0
    capsys.readouterr()
    arguments = ["variance-reduction", "small_nn", str(tmp_path / "a" / "model.weights.h5")]
    arguments += ["canevet-icml2016", "--hyperparams", "N=i64", "--sample_size", "128"]
    arguments += ["--batch_size", "64", "--samples", "40", "--score", "ones", "full_gnorm"]
    arguments += ["--save_scores", str(tmp_path / "scores")]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    means = [
        float(line.split("mean ")[1].split(",")[0]) for line in out.splitlines() if "mean" in line
    ]
    uniform, by_norm = means[0], means[2]
    # sampling by the exact norms is the best there is
    assert by_norm < uniform
    assert len(np.loadtxt(tmp_path / "scores" / "full_gnorm.txt")) == 128
    # The history is that of weights before.
    assert run(tmp_path / "b", "--save_model", train_for=24) == 0
    everything = ["uniform", "loss", "gnorm", "full_gnorm", "history"]
    arguments[arguments.index("--score") + 1 : arguments.index("--save_scores")] = everything
    more = ["--output", str(tmp_path / "found.json"), "--picture", str(tmp_path / "found.png")]
    assert cli.main([*arguments, *more]) == 2
    assert "history need --earlier_weights" in capsys.readouterr().err
    more += ["--earlier_weights", str(tmp_path / "b" / "model.weights.h5")]
    assert cli.main([*arguments, *more]) == 0
    table = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert [line.split()[0] for line in table[1:]] == everything
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    found = {row["draw"]: row for row in json.loads((tmp_path / "found.json").read_text())["draws"]}
    assert found["uniform"]["second_moment"] == pytest.approx(1) and (
        found["uniform"]["correlation"] is None
    )
    least = found["full_gnorm"]["second_moment"]
    assert found["full_gnorm"]["correlation"] == pytest.approx(1)
    for name in ("loss", "gnorm", "history"):
        assert least < found[name]["second_moment"] < 3
        assert 0.3 < found[name]["rank_correlation"] <= 1
    for row in found.values():
        for key in ("distance", "cosine"):
            assert row[key]["low"] < row[key]["mean"] < row[key]["high"]
        # Distances are what the exact norms say they are.
        square = row["distance"]["mean"] ** 2 + row["distance"]["variance"]
        assert np.sqrt(square) == pytest.approx(row["expected_distance"], rel=0.25)


@pytest.mark.any_backend
def test_thresholds_of_faces():
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert 0.2 < best_threshold(values, np.array([1, 1, 0, 0, 0])) < 0.3
    assert best_threshold(values, np.ones(5)) > 0.5 and best_threshold(values, np.zeros(5)) < 0.1
    # equal distances are on one side
    assert best_threshold(np.array([0.1, 0.1, 0.2]), np.array([1, 0, 0])) != 0.1
    vectors = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    np.testing.assert_allclose(distances(vectors, np.array([[0, 1], [0, 2]])), [2, 0])


@pytest.mark.slow
@pytest.mark.any_backend
def test_lfw_commands(tmp_path, capsys):
    for name in ("Ada", "Bob"):
        for i in (1, 2):
            path = tmp_path / "lfw" / "all_images" / name / f"{name}_{i:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (200 * (name == "Ada"), 10 * i, 90)).save(path)
    (tmp_path / "lfw" / "view2").mkdir()
    pairs = "Ada 1 2\nAda 1 Bob 2\n"
    (tmp_path / "lfw" / "view2" / "pairs.txt").write_text("2 1\n" + 2 * pairs)
    # one number a colour: persons lie on two sides
    vectors = np.array([[1, 0.1], [1, 0.2], [-1, 0.1], [-1, 0.3]], np.float32)
    vectors.tofile(tmp_path / "vectors")
    arguments = ["lfw-evaluate", str(tmp_path / "vectors"), "--embedding", "2", "--folds", "2"]
    assert cli.main([*arguments, "--dataset_path", str(tmp_path / "lfw")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Mean: 1.0000"
    vectors[:3].tofile(tmp_path / "vectors")
    assert cli.main([*arguments, "--dataset_path", str(tmp_path / "lfw")]) == 2
    assert "holds 3 representations, but there are 4 images" in capsys.readouterr().err
    # representations are those of the network that the weights are of
    keras.utils.set_random_seed(0)
    network = pretrained.ResNet50(None, (224, 224, 3), 8)
    network.save_weights(tmp_path / "net.weights.h5")
    arguments = ["lfw-forward-pass", "pretrained_resnet50", str(tmp_path / "net.weights.h5")]
    arguments += [str(tmp_path / "out"), "--embedding", "8", "--slice", "1:3"]
    assert cli.main([*arguments, "--dataset_path", str(tmp_path / "lfw")]) == 0
    images = LFW(tmp_path / "lfw", fold=None).train_data[1:3][0]
    written = np.fromfile(tmp_path / "out", np.float32).reshape(-1, 8)
    expected = keras.ops.convert_to_numpy(network(images, training=False))
    np.testing.assert_allclose(written, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert cli.main(["lfw-forward-pass", "small_nn", "w.h5", "out"]) == 2
    assert "must be one of pretrained_resnet50" in capsys.readouterr().err


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "script",
    sorted(p.name for p in (ROOT / "scripts").glob("*.py")),
)
def test_scripts_run_under_their_old_names(script, monkeypatch, capsys):
    path = str(ROOT / "scripts" / script)
    monkeypatch.setattr(sys, "argv", [path, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(path, run_name="__main__")
    assert not ended.value.code
    # By its own name, in the usage and in the example; and it can be called by it.
    out = capsys.readouterr().out
    assert out.startswith(f"usage: {script} ") and f"\n  {script} " in out
    assert os.access(path, os.X_OK)


@pytest.mark.slow
@pytest.mark.any_backend
def test_the_script_runs_an_experiment(tmp_path, data_folder):
    """The original's experiment word for word, but shorter and in a smaller network."""
    command = ["svrg_nn", "oracle-loss", "model", "predicted", "mnist", "OUT", "--hyperparams"]
    hyperparams = "batch_size=i128;lr=f0.003;lr_reductions=I10000;k=f0.5"
    more = ["--train_for", "30", "--validate_every", "30"]
    script = ROOT / "scripts/importance_sampling.py"
    found = {"IMPORTANCE_SAMPLING_DATA": str(data_folder)}
    result = processes.run(script, *command, hyperparams, *more, cwd=tmp_path, **found)
    assert result.returncode == 0, result.stderr
    assert Result(tmp_path / "OUT").validation[-1, 1] > 0.7
