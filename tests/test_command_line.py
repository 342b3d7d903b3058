"""The command line and the examples, run as a user runs them."""

import contextlib
import importlib
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data
from processes import run

from importance_sampling.datasets import CanevetICML2016
from importance_sampling.experiment import cli
from importance_sampling.experiment.arm_names import UNIFORM
from importance_sampling.experiment.arms import ARMS, RandomSubsetTraining
from importance_sampling.experiment.commands.demo import note_on
from importance_sampling.samplers import ModelSampler

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def run_here(monkeypatch):
    """Runs a script as `python script` does, in this process, which has loaded the frameworks.

    Loading them takes most of the time of a short script; `run` is for what needs a process.
    """

    def run_here(script, *arguments, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.syspath_prepend(str(Path(script).parent))
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        out, status = io.StringIO(), 0
        with contextlib.redirect_stdout(out):
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as ended:
                status = ended.code or 0
        return subprocess.CompletedProcess(sys.argv, status, out.getvalue(), "")

    return run_here


CLI = ("-m", "importance_sampling.experiment.cli")
BACKEND = ("--backend", keras.backend.backend())


def assert_no_startup_lines(result):
    assert "absl" not in result.stderr and "0000 00:00:" not in result.stderr


def check_demo(result, folder, steps):
    assert result.returncode == 0, result.stderr
    assert_no_startup_lines(result)
    # In a file, one line an arm and a quarter.
    assert not set("\r\b\x1b") & set(result.stdout)
    quarters = re.findall(r"^(\w.*): +(25|50|75|100) %  loss \d", result.stdout, re.MULTILINE)
    assert len(quarters) == len(set(quarters)) == 4 * 5
    content = json.loads((folder / "demo.json").read_text())
    arms = {r["arm"]: r for r in content["results"]}
    # A word on what drew nothing by score may follow it.
    table = next(part for part in result.stdout.split("\n\n") if "test error" in part)
    assert set(arms) == {
        "uniform",
        "random third of each pool",
        "importance sampling",
        "history of scores",
        "same noise, less work",
    }
    starts = {(r["history"][0]["train_loss"], r["history"][0]["test_loss"]) for r in arms.values()}
    assert len(starts) == 1  # the same network from the same weights
    assert content["settings"]["steps"] == steps
    assert {"date", "machine", "versions"} <= set(content["made"])
    command = content["made"]["command"]
    assert command[:3] == ["importance-sampling", "demo", "--dataset"]
    assert command[4:6] == ["--steps", str(steps)]
    assert content["made"]["versions"][content["settings"]["backend"]]
    for r in arms.values():
        assert r["steps"] == steps
        assert r["train_loss"] < r["history"][0]["train_loss"] * 0.8
        assert len(r["history"]) >= 10
        assert f"{r['test_error']:.2%}".replace("%", " %") in table
    assert arms["uniform"]["share_on"] == 0
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    return arms


@pytest.mark.any_backend
def test_demo(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    status = cli.main(["demo", "--steps", "200", "--output", "out"])
    result = subprocess.CompletedProcess((), status, *capsys.readouterr())
    arms = check_demo(result, tmp_path / "out", 200)
    # The first pass, which is uniform, is 172 steps.
    uniform = len(CanevetICML2016(N=512).train_data) + 28 * 1024
    assert arms["same noise, less work"]["examples"] < arms["uniform"]["examples"] == uniform


@pytest.mark.slow
@pytest.mark.one_backend("torch")
def test_demo_on_mnist(tmp_path, data_folder):
    """In a process of its own."""
    pytest.importorskip("matplotlib")
    options = ("--steps", 40, "--dataset", "mnist", "--data", data_folder, "--output", tmp_path)
    result = run(*CLI, "demo", *options, cwd=tmp_path)
    check_demo(result, tmp_path, 40)


@pytest.mark.any_backend
def test_errors_are_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (("demo", "--dataset", "mnist", "--data", "nowhere"), "No mnist.npz at nowhere"),
        (("demo", "--seconds", "0"), "--seconds must be above 0"),
        (("demo", "--steps", "0"), "--steps must be at least 1"),
        (("demo", "--output", "file/below"), "file"),
    ):
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("importance-sampling: ") and error.count("\n") == 1
        assert message in error


@pytest.mark.any_backend
def test_version_and_help(tmp_path):
    from importance_sampling import __version__

    assert run(*CLI, "--version", cwd=tmp_path).stdout.strip() == __version__
    assert "demo" in run("-m", "importance_sampling", "--help", cwd=tmp_path).stdout


# What takes seconds to load, and none of which is needed to read and draw text files.
HEAVY = ("keras", "tensorflow", "jax", "torch", "sklearn", "pandas", "seaborn", "scipy")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("list", "."),
        ("compare", "run"),
        ("plot", "curves", "run", "-o", "curves.png"),
        ("plot", "variance-reduction", "run", "-o", "reduction.svg"),
        ("plot", "draws", "run", "-o", "draws.png"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_what_only_reads_and_draws_loads_no_framework(tmp_path, arguments):
    """A run that is there, written by hand: the commands load neither Keras nor a backend."""
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "train.txt").write_text("Crossent Accuracy\n1 0.5\n0.5 0.75\n")
    (directory / "clock.txt").write_text("0.1\n0.2\n")
    (directory / "val_eval.txt").write_text("Crossent Accuracy\n0.6 0.7\n")
    names = "Score VarianceReduction ImportanceSampling"
    (directory / "sampling.txt").write_text(f"{names}\n1 1.1 0\n1 1.3 1\n")
    settings = {"dataset": "canevet-icml2016", "hyperparams": {"N": 8}, "validate_every": 2}
    (directory / "run.json").write_text(json.dumps({"settings": settings, "state": "finished"}))
    np.save(directory / "draws.npy", np.arange(len(CanevetICML2016(8).train_data)))
    code = (
        "import sys\n"
        "from importance_sampling.experiment.cli import main\n"
        "try:\n"
        "    status = main(sys.argv[1:])\n"
        "except SystemExit as ended:\n"
        "    status = ended.code\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(f'loaded {loaded}' if loaded else status)\n"
    )
    result = run("-c", code, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout


_EXPERIMENT = ("run", "small_nn", "oracle-loss", "model", "predicted", "canevet-icml2016", "out")
_MEASURED = ("variance-reduction", "small_nn", "w.h5", "canevet-icml2016")
REFUSED = (
    (("demo", "--steps", "-3"), "--steps must be at least 1, got -3."),
    (("demo", "--seconds", "nan"), "--seconds must be above 0 and finite, got nan."),
    (("demo", "--seconds", "inf"), "--seconds must be above 0 and finite, got inf."),
    (("demo", "--seed", "-1"), "--seed must be at least 0 and at most 4294967295, got -1."),
    (("demo", "--data", "x"), "--data is for --dataset mnist; the points of canevet are made up."),
    ((*_EXPERIMENT, "--train_for", "0"), "--train_for must be at least 1, got 0."),
    ((*_EXPERIMENT, "--validate_every", "-1"), "--validate_every must be at least 1, got -1."),
    ((*_EXPERIMENT, "--hyperparams", "batch_size=i-1"), "batch_size must be at least 1, got -1."),
    ((*_EXPERIMENT, "--hyperparams", "lr=0.1"), "Try lr=f0.1."),
    ((_EXPERIMENT[0], "smal_nn", *_EXPERIMENT[2:]), "Did you mean 'small_nn'?"),
    (
        ("run", "small_nn", "model", "oracle-loss", *_EXPERIMENT[4:]),
        "'model' is the name of a sampler and stands in the place of the wrapper. The order is "
        "model, wrapper, sampler, reweighting, dataset.",
    ),
    ((*_EXPERIMENT[:3], "scsg", *_EXPERIMENT[4:]), "the sampler 'scsg' do not go together"),
    (("scores", *_MEASURED[1:], "--batch_size", "0"), "--batch_size must be at least 1, got 0."),
    ((*_MEASURED, "--samples", "0"), "--samples must be at least 1, got 0."),
    ((*_MEASURED, "--score", "history"), "Draws by the history need --earlier_weights"),
    (("compare", "run", "--errors", "-5"), "--errors are in percent, from 0 to 100, got -5."),
    (("compare", "run", "--errors", "nan"), "--errors are in percent, from 0 to 100, got nan."),
)


@pytest.mark.any_backend
def test_a_directory_with_a_run_is_refused_before_a_backend_is_loaded(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text("{}")
    code = (
        "import sys\n"
        "from importance_sampling.experiment.cli import main\n"
        "assert main(['run', *'small_nn oracle-loss uniform unweighted mnist a'.split()]) == 2\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    result = run("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "a holds a run already. Pass --resume" in result.stderr


@pytest.mark.any_backend
def test_the_demo_says_what_drew_nothing_by_score():
    results = [{"arm": arm, "share_on": 0.0} for arm in ARMS]
    note = note_on(results)
    assert note.startswith("No step was drawn by score: importance sampling, history of scores")
    assert UNIFORM not in note.split(".")[0].split(": ")[1]
    assert note_on([result | {"share_on": 0.5} for result in results]) is None


@pytest.mark.any_backend
def test_bad_arguments_are_refused_before_a_backend_is_loaded(tmp_path):
    code = (
        "import sys\n"
        "from importance_sampling.experiment.cli import main\n"
        f"for arguments, _ in {REFUSED}:\n"
        "    assert main(arguments) == 2, arguments\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    result = run("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    for line, (arguments, message) in zip(lines, REFUSED, strict=True):
        assert line.startswith("importance-sampling: ") and message in line.replace("`", ""), (
            arguments,
            line,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.any_backend
def test_the_package_is_lazy_and_complete(tmp_path):
    code = (
        "import sys, importance_sampling as package\n"
        "from importance_sampling import datasets, proposal, samplers\n"
        f"assert not [name for name in {HEAVY} if name in sys.modules]\n"
        "assert set(package.__all__) < set(dir(package))\n"
        "from importance_sampling import ImportanceTraining\n"
        "from importance_sampling.training import ImportanceTraining as again\n"
        "assert ImportanceTraining is again is package.ImportanceTraining\n"
        "assert all(getattr(package, name) is not None for name in dir(package))\n"
        "try:\n"
        "    package.ImportanceTrainin\n"
        "except AttributeError as error:\n"
        "    assert \"'ImportanceTrainin'. Did you mean 'ImportanceTraining'?\" in str(error)\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    result = run("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.any_backend
def test_the_control_arm_overlaps_as_its_rival_does(monkeypatch):
    """Otherwise demo and benchmark would compare a step that waits with one that does not."""
    x, y = data(96)
    pools = []
    prepare = ModelSampler.prepare

    def counted(self, batch_size):
        pools.append(self)
        prepare(self, batch_size)

    monkeypatch.setattr(ModelSampler, "prepare", counted)
    training = RandomSubsetTraining(adam_mlp(), seed=0)
    monkeypatch.setattr(type(training.model), "asynchronous", True)
    history = training.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    assert len(pools) == 12 and pools[0].overlaps
    # It pays for the scores, and then draws uniformly.
    assert history["importance_sampling"] == [1.0, 1.0]
    drawn = pools[0].sample(16)
    assert (drawn[2] == 1).all() and drawn.pool_scores is not None


@pytest.mark.any_backend
def test_a_missing_backend_names_the_command(tmp_path):
    # An empty package path in front hides nothing; a backend that is not installed does.
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'jax' else find(name, *a)\n"
        "import importance_sampling\n"
        "print(importance_sampling.__version__)\n"
        "for room in ('layers', 'model_wrappers', 'models', 'pretrained', 'reweighting',\n"
        "             'training', 'transparent'):\n"
        "    try:\n"
        "        __import__(f'importance_sampling.{room}')\n"
        "    except ImportError as error:\n"
        "        assert 'keras-importance-sampling[jax]' in str(error), room\n"
        "    else:\n"
        "        raise AssertionError(room)\n"
        "importance_sampling.ImportanceTraining"
    )
    result = run("-c", code, cwd=tmp_path, KERAS_BACKEND="jax")
    assert result.returncode == 1 and result.stdout.startswith("1.")
    assert 'pip install "keras-importance-sampling[jax]"' in result.stderr


@pytest.mark.slow
@pytest.mark.any_backend
def test_intro_example(tmp_path):
    source = (ROOT / "examples" / "intro.py").read_text()
    assert "CanevetICML2016(N=1024)" in source and "epochs=10" in source
    # The same script on a hundredth of the data.
    script = tmp_path / "intro.py"
    shutil.copy(ROOT / "examples" / "example_utils.py", tmp_path)
    script.write_text(source.replace("N=1024", "N=100").replace("epochs=10", "epochs=1"))
    result = run(str(script), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Epoch 3/3" in result.stdout and "variance_reduction" in result.stdout
    assert_no_startup_lines(result)


@pytest.mark.slow
@pytest.mark.any_backend
@pytest.mark.parametrize("mode", [(), ("--uniform",)], ids=["importance", "uniform"])
@pytest.mark.parametrize("name", ["mnist_mlp", "mnist_cnn", "mnist_svrg", "mnist_svrg_cnn"])
def test_mnist_examples(tmp_path, few_images, run_here, name, mode):
    options = ("--epochs", 1, "--examples", 512, "--data", few_images, *mode)
    result = run_here(ROOT / "examples" / f"{name}.py", *options, cwd=tmp_path)
    assert result.returncode == 0
    assert "Test accuracy" in result.stdout
    assert ("variance_reduction" in result.stdout) == (not mode)


@pytest.mark.any_backend
def test_step_cost_benchmark(tmp_path, run_here):
    options = ("--model", "mlp", "--steps", 3, "--rounds", 1, "--output", "cost.json")
    result = run_here(ROOT / "benchmarks" / "step_cost.py", *options, *BACKEND, cwd=tmp_path)
    assert result.returncode == 0
    row = json.loads((tmp_path / "cost.json").read_text())[0]
    assert row["off / fit"] > 0 and row["on / (pool + fit)"] > 0


@pytest.mark.slow
@pytest.mark.any_backend
def test_time_to_accuracy_benchmark(tmp_path):
    """Both arms train as long from the same weights; what the file holds is not run again."""
    pytest.importorskip("matplotlib")
    command = [str(ROOT / "benchmarks" / "time_to_accuracy.py"), "--tasks", "friedman"]
    command += ["--examples", "1280", "--epochs", "2", "--arms", "model.fit", "history"]
    command += ["--output", "same", *BACKEND]
    result = run(*command, "--seeds", "1", "--first-seed", "3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "same.json").read_text())
    uniform, history = content["runs"]
    assert (uniform["arm"], history["arm"]) == ("model.fit", "history")
    assert uniform["start"] == history["start"]
    for r in content["runs"]:
        assert (r["seed"], r["steps"], r["uniform_steps"]) == (3, 20, 20)
        assert r["examples"] == 20 * 128 and r["epoch_examples"] == 1280
        assert r["uniform_seconds"] == uniform["seconds"] > 0
        assert np.isfinite([r["train_loss"], r["test_error"], r["compile_seconds"]]).all()
    assert history["report"]["steps_on"] == 10
    made = content["made"][0]
    assert made["machine"]["cores"] and made["versions"]["keras"] and made["date"]
    row = content["summary"][1]
    assert row["minus_uniform"] == history["test_error"] - uniform["test_error"]
    assert row["examples"] == 2 and row["examples_relative"] == 1
    assert (tmp_path / "same.png").read_bytes().startswith(b"\x89PNG")
    result = run(*command, "--seeds", "1", "--first-seed", "3", cwd=tmp_path)
    assert result.returncode == 0 and "| history | " in result.stdout
    assert json.loads((tmp_path / "same.json").read_text())["runs"] == content["runs"]


@pytest.mark.any_backend
def test_batch_cost_benchmark(tmp_path, run_here):
    result = run_here(
        ROOT / "benchmarks" / "batch_cost.py",
        *("--tasks", "friedman", "--sizes", 128, 32, "--rounds", 2, "--seconds", 0),
        *("--output", "cost", *BACKEND),
        cwd=tmp_path,
    )
    assert result.returncode == 0
    rows = json.loads((tmp_path / "cost.json").read_text())["rows"]
    assert [(r["way"], r["size"]) for r in rows] == [
        (way, size) for size in (128, 32) for way in ("keras", "library")
    ]
    assert all(r["ms"] > 0 for r in rows) and rows[0]["relative"] == 1


@pytest.fixture
def run_example(run_here, tmp_path):
    """Runs an example and returns what it printed and the test accuracy."""

    def run_example(name, *more):
        result = run_here(ROOT / "examples" / f"{name}.py", *more, cwd=tmp_path)
        assert result.returncode == 0
        assert "Test accuracy: " in result.stdout
        return result.stdout, float(result.stdout.split("Test accuracy: ")[1].split()[0])

    return run_example


@pytest.mark.slow
@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["cifar10_cnn", "cifar10_resnet"])
def test_cifar_examples(run_example, few_images, name):
    more = ("--data", str(few_images / "cifar10_12k.npz"), "--examples", "128", "--epochs", "1")
    if name == "cifar10_resnet":
        more = (*more, "--time_budget", "2", "--batch_size", "32")
    out, _ = run_example(name, *more)
    assert "variance_reduction" in out
    if name == "cifar10_cnn":
        assert "variance_reduction" not in run_example(name, *more, "--uniform")[0]


@pytest.mark.slow
@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["reuters_mlp", "imdb_fasttext"])
def test_text_examples(run_example, tmp_path, name):
    """On a local file."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 400), ("test", 100)):
        y = rng.integers(0, 2, n)
        lengths = rng.integers(100, 300, n)
        # words of one class are even, those of the other odd
        words = np.concatenate(
            [2 * rng.integers(0, 50, k) + label for k, label in zip(lengths, y, strict=True)]
        )
        arrays |= {f"words_{part}": words, f"lengths_{part}": lengths, f"y_{part}": y}
    np.savez(tmp_path / "texts.npz", **arrays)
    more = ("--data", str(tmp_path / "texts.npz"), "--epochs", "15")
    out, accuracy = run_example(name, *more)
    assert accuracy > 0.7 and "SYNTHETIC" not in out


@pytest.mark.any_backend
def test_made_up_text_says_what_it_is(monkeypatch, capsys):
    def offline(**_):
        raise OSError("no network")

    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setattr(keras.datasets.imdb, "load_data", offline)
    (x, y), (x_test, _) = importlib.import_module("example_utils").load_text("imdb", 2000)
    assert len(x) == len(y) == 6400 and len(x_test) == 1600 and set(y) == {0, 1}
    assert max(map(max, x)) < 2000
    out = capsys.readouterr().out
    assert "could not be downloaded (no network)" in out
    assert "SYNTHETIC TEXT is used in its place" in out
