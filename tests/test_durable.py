"""Runs that are killed, run twice at once, or find no room: nothing written is lost or wrong."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import processes
import pytest
from spread import full

from importance_sampling import _files
from importance_sampling.experiment import cli
from importance_sampling.experiment.lock import LOCK, locked
from importance_sampling.experiment.recorder import Recorder
from importance_sampling.experiment.resume import BEFORE, CHECKPOINT
from importance_sampling.state_files import load_state, save_state

pytestmark = pytest.mark.end_to_end

TESTS = Path(__file__).parent
HYPERPARAMS = "N=i16;batch_size=i8;seed=i1"
NAMES = ("small_nn", "oracle-loss", "history", "predicted", "canevet-icml2016")


def arguments(directory, *more, **options):
    settings = {"train_for": 12, "validate_every": 4, "checkpoint_every": 3}
    settings |= {"hyperparams": HYPERPARAMS} | options
    flat = [str(part) for key, value in settings.items() for part in (f"--{key}", value)]
    return ["run", *NAMES, str(directory), *flat, *more]


def run(directory, *more, **options):
    """The exit status of a small run."""
    return cli.main(arguments(directory, *more, **options))


def texts(directory):
    """All text files but the clock, which no two runs share."""
    return {p.name: p.read_text() for p in directory.glob("*.txt") if p.name != "clock.txt"}


def check_equal(directory, whole):
    assert texts(directory) == texts(whole)
    draws = [np.load(d / "draws.npy") for d in (directory, whole)]
    np.testing.assert_array_equal(*draws)
    assert json.loads((directory / "run.json").read_text())["state"] == "finished"
    left = [p.name for p in directory.iterdir() if p.name.startswith(".") or p.name == LOCK]
    assert not left


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbs."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    keras.utils.set_random_seed(0)
    assert run(directory) == 0
    return directory


@pytest.fixture(scope="module")
def server():
    """Sends orders to `run_server.py`, which forks a process for each."""
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "run_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=processes.environment(OMP_NUM_THREADS="1"),
    )

    def send(arguments, **order):
        process.stdin.write(json.dumps({"arguments": arguments, **order}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    with process:
        yield send
        process.stdin.close()


forks = pytest.mark.skipif(
    keras.backend.backend() != "torch" or not hasattr(os, "fork"),
    reason="TensorFlow and JAX cannot go on in a forked process",
)


# -- killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1, 2] if full() else [0])
@forks
def test_killed_before_any_file_operation(tmp_path, whole, server, first):
    """One run is killed again and again, each time later, and ends as if it never had been."""
    directory = tmp_path / "killed"
    answer = server(arguments(tmp_path / "counted", "--save_model"))
    assert answer["status"] == 0 and answer["operations"] > 40
    every = 3 if full() else 23
    killed = 0
    for at in range(1 + first, answer["operations"] + 1, every):
        found = server(arguments(directory, "--resume", "--save_model"), kill_at=at)
        assert found["status"] in (-signal.SIGKILL, 0), at
        killed += found["status"] != 0
        # Whatever is there can be gone on from; a copy of it does at once.
        copy = tmp_path / f"copy_{at}"
        if directory.exists():
            shutil.copytree(directory, copy)
        assert server(arguments(copy, "--resume", "--save_model"))["status"] == 0, at
        check_equal(copy, whole)
    assert killed >= 2
    assert server(arguments(directory, "--resume", "--save_model"))["status"] == 0
    check_equal(directory, whole)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@forks
def test_killed_at_any_time(tmp_path, whole, server, number):
    generator, kills = random.Random(0), 50 if full() else 6
    directory, ended = tmp_path / "killed", []
    for _ in range(kills):
        seconds = generator.uniform(0.0, 0.4)
        order = arguments(directory, "--resume")
        answer = server(order, seconds=seconds, signal=int(number))
        ended.append(answer["status"])
        if answer["status"] == 0:
            check_equal(directory, whole)
            shutil.rmtree(directory)
    assert server(arguments(directory, "--resume"))["status"] == 0
    check_equal(directory, whole)
    by_signal = {signal.SIGKILL: {-signal.SIGKILL}, signal.SIGTERM: {-signal.SIGTERM, 143}}
    assert set(ended) <= {0, *by_signal[number]}


@pytest.mark.skipif(not full(), reason="starts fifty processes; with CI_FULL=1")
@pytest.mark.timeout(1500)
def test_kill_9_in_a_loop(tmp_path):
    """Processes of their own on each backend, killed at random times in a longer run."""
    generator, options = random.Random(1), {"train_for": 3000, "checkpoint_every": 50}
    options |= {"validate_every": 400}
    assert run(tmp_path / "whole", **options) == 0
    directory, kills = tmp_path / "killed", 0
    command = [sys.executable, "-m", "importance_sampling.experiment.cli"]
    while kills < 50:
        process = subprocess.Popen(
            [*command, *arguments(directory, "--resume", **options)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            process.communicate(timeout=generator.uniform(3.0, 12.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0
        check_equal(directory, tmp_path / "whole")
        shutil.rmtree(directory)
    assert run(directory, "--resume", **options) == 0
    check_equal(directory, tmp_path / "whole")


class Killed(BaseException):
    """Ends a run in this process without giving it a chance to tidy up."""


@pytest.mark.any_backend
def test_a_run_killed_before_its_description_can_go_on(tmp_path, whole, monkeypatch, capsys):
    directory = tmp_path / "run"
    # As one that is killed while it loads its data leaves it.
    directory.mkdir()
    (directory / LOCK).write_text("{}")
    (directory / "stdout").write_text("")
    (directory / ".123.run.json").write_text("{")
    assert run(directory, "--resume") == 0
    check_equal(directory, whole)
    # As the version before left it: first lines, and no description.
    old = tmp_path / "old"
    old.mkdir()
    (old / "train.txt").write_text("Crossent Accuracy\n")
    (old / "clock.txt").write_text("")
    assert run(old, "--resume") == 0
    check_equal(old, whole)
    # But what holds rows is not thrown away.
    (old / "run.json").unlink()
    before = texts(old)
    capsys.readouterr()
    assert run(old, "--resume") == 2
    assert "without run.json, which says how it was made" in capsys.readouterr().err
    assert texts(old) == before
    # Nor is a folder of something else taken for a run.
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.doc").write_text("")
    assert run(other, "--resume") == 2
    assert "holds no run that could go on" in capsys.readouterr().err
    assert [path.name for path in other.iterdir()] == ["letter.doc"]


# -- files that are not whole -------------------------------------------------------------------


DEEP = 20_000 * "[" + 20_000 * "]"


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "text",
    ["[]", "null", "{}", "", "7", '{"settings": []}', DEEP, '{"settings": ' + DEEP + "}", "\0\xff"],
    ids=["list", "null", "object", "empty", "number", "settings", "deep", "deeper", "binary"],
)
def test_a_description_that_is_none(tmp_path, capsys, text):
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "train.txt").write_text("Crossent Accuracy\n0.5 0.5\n")
    (directory / "run.json").write_bytes(text.encode("latin-1"))
    for command in (arguments(directory, "--resume"), ["compare", str(directory)]):
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "run.json" in error, error
        assert len(error) < 1000
    assert cli.main(["list", str(tmp_path)]) == 0
    assert "run.json" in capsys.readouterr().out
    assert (directory / "train.txt").read_text() == "Crossent Accuracy\n0.5 0.5\n"


@pytest.mark.any_backend
@pytest.mark.parametrize("fault", ["truncated", "removed", "log", "parts", "pickle"])
def test_the_checkpoint_before_is_gone_on_from(tmp_path, whole, capsys, fault):
    directory = tmp_path / "run"
    shutil.copytree(whole, directory)
    path = directory / CHECKPOINT
    assert load_state(path)["recorder"]["steps"] == 12
    assert load_state(directory / BEFORE)["recorder"]["steps"] == 9
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif fault == "removed":
        path.unlink()
    elif fault == "parts":
        save_state(path, {"model": []})
    elif fault == "pickle":
        np.savez(path, skeleton=np.array([{}], dtype=object))
    else:
        # What a loss of power may do to a file that was written last.
        log = directory / "sampling.txt"
        log.write_bytes(log.read_bytes()[:-5])
    assert run(directory, "--resume") == 0
    error = capsys.readouterr().err
    assert ("Going on from" in error) == (fault != "removed"), error
    check_equal(directory, whole)
    assert load_state(directory / CHECKPOINT)["recorder"]["steps"] == 12
    # Without any that is whole, it says what is wrong with each.
    for name in (CHECKPOINT, BEFORE):
        (directory / name).write_bytes(b"PK\x03\x04")
    before = texts(directory)
    assert run(directory, "--resume", train_for=14) == 2
    error = capsys.readouterr().err
    assert CHECKPOINT in error and BEFORE in error and error.count("\n") == 1
    assert texts(directory) == before


@pytest.mark.any_backend
def test_mutated_checkpoints_end_in_one_line(tmp_path, whole, capsys):
    content = (whole / CHECKPOINT).read_bytes()
    generator = random.Random(0)
    directory = tmp_path / "run"
    for _ in range(100 if full() else 5):
        changed = bytearray(content)
        for _ in range(generator.choice([1, 8, 100])):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        shutil.copytree(whole, directory)
        (directory / BEFORE).unlink()
        (directory / CHECKPOINT).write_bytes(changed)
        status = run(directory, "--resume")
        error = capsys.readouterr().err
        # A byte that the format does not look at changes nothing.
        assert (status, error.count("\n")) in [(0, 0), (2, 1)], error
        assert status == 0 or CHECKPOINT in error
        assert texts(directory) == texts(whole)
        shutil.rmtree(directory)


@pytest.mark.any_backend
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_files_are_on_the_disk_before_they_are_renamed(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        done.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    original = Path.replace

    def watched_replace(self, target):
        done.append(("replace", str(self), str(target)))
        return original(self, target)

    monkeypatch.setattr(Path, "replace", watched_replace)
    target, before = tmp_path / "new.json", tmp_path / "before.json"
    for text in ("1", "2"):
        done.clear()
        _files.write_whole(target, lambda path, text=text: path.write_text(text), before)
        temporary = str(tmp_path / f".{os.getpid()}.new.json")
        expected = [("fsync", temporary), ("replace", temporary, str(target))]
        if text == "2":
            expected.insert(1, ("replace", str(target), str(before)))
        assert done == [*expected, ("fsync", str(tmp_path))]
    assert (target.read_text(), before.read_text()) == ("2", "1")
    assert replace is os.replace


# -- two at once --------------------------------------------------------------------------------


@pytest.mark.any_backend
def test_one_run_in_a_directory(tmp_path, whole, capsys, monkeypatch):
    directory = tmp_path / "run"
    refused = []
    original = Recorder.on_train_batch_end

    def second(self, batch, logs):
        original(self, batch, logs)
        if self.steps == 5:
            for more in ("--resume", "--overwrite"):
                refused.append(run(directory, more))
                error = capsys.readouterr().err
                assert f"in use by another run: process {os.getpid()} on " in error
                assert error.count("\n") == 1

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_end", second)
        assert run(directory) == 0
    assert refused == [2, 2]
    check_equal(directory, whole)
    # The lock of one that was killed holds nobody up.
    (directory / LOCK).write_text('{"pid": 1}')
    assert run(directory, "--resume") == 0
    # Nor does it matter what is written there.
    for text in ("", "[]", "null", DEEP):
        with locked(tmp_path):
            (tmp_path / LOCK).write_text(text)
            with pytest.raises(RuntimeError, match="in use by another run"), locked(tmp_path):
                pytest.fail("two hold it")


@pytest.mark.any_backend
def test_many_threads_take_turns_with_a_lock(tmp_path):
    """The file comes and goes, and never do two hold it."""
    held = most = 0
    guard = threading.Lock()

    def work():
        nonlocal held, most
        mine = 0
        while mine < 20:
            with contextlib.suppress(RuntimeError), locked(tmp_path):
                with guard:
                    held += 1
                    most = max(most, held)
                mine += 1
                time.sleep(0.0002)
                with guard:
                    held -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and not list(tmp_path.iterdir())


# -- no room ------------------------------------------------------------------------------------


@pytest.mark.any_backend
@pytest.mark.skipif(sys.platform == "win32", reason="no limits of that kind")
def test_no_room_for_a_file(tmp_path, whole, capsys):
    """A limit on the size of files stands for a full disk: what is there stays whole."""
    directory = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (whole / CHECKPOINT).stat().st_size
    for limit in (10, 150, size // 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            status = run(directory, "--resume", "--save_model")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        error = capsys.readouterr().err
        assert status == 2 and error.count("\n") == 1, error
        assert str(directory) in error and "File too large" in error, error
        assert not list(directory.glob(".*"))
    assert run(directory, "--resume", "--save_model") == 0
    check_equal(directory, whole)


def _can_mount():
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.any_backend
@pytest.mark.skipif(not full(), reason="starts processes; with CI_FULL=1")
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_full_disk_and_a_read_only_folder(tmp_path, kind):
    """File systems of their own: one too small for the run, one that takes nothing."""
    if not _can_mount():
        pytest.skip("may not mount file systems here")
    directory = tmp_path / "mounted"
    directory.mkdir()
    # Enough for a run to begin in.
    option = "size=36k" if kind == "full" else "ro"
    command = [sys.executable, "-m", "importance_sampling.experiment.cli"]
    told = '"$@"; status=$?; echo; echo "=$status"'
    script = f"mount -t tmpfs -o {option} tmpfs {directory} || exit; {told}"
    if kind == "full":
        script += f"; mount -o remount,size=10m {directory}; {told}; "
        script += f"cp -r {directory}/run {tmp_path}/run"
    order = arguments(directory / "run", "--resume", hyperparams=HYPERPARAMS + ";lr=f0.01")
    found = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command, *order],
        capture_output=True,
        text=True,
        check=False,
    )
    statuses = [line for line in found.stdout.splitlines() if line.startswith("=")]
    errors = [line for line in found.stderr.splitlines() if line.startswith("importance-sampling")]
    assert "Traceback" not in found.stderr
    assert statuses[0] == "=2" and str(directory) in errors[0], found
    if kind == "full":
        assert "No space left" in errors[0]
        assert statuses == ["=2", "=0"], found
        assert run(tmp_path / "whole", hyperparams=HYPERPARAMS + ";lr=f0.01") == 0
        check_equal(tmp_path / "run", tmp_path / "whole")
    else:
        assert "Read-only" in errors[0]


# -- signals, randomness ------------------------------------------------------------------------


@pytest.mark.any_backend
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_after_its_step(tmp_path, whole, capsys, monkeypatch, number):
    original = Recorder.on_train_batch_begin
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def sends(self, batch, logs=None):
        original(self, batch, logs)
        if self.steps == 6:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_begin", sends)
        assert run(tmp_path / "run") == 128 + number
    assert "Interrupted after 7 steps; --resume goes on" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "interrupted"
    assert {n: signal.getsignal(n) for n in before} == before
    assert run(tmp_path / "run", "--resume") == 0
    check_equal(tmp_path / "run", whole)


@pytest.mark.any_backend
def test_sigterm_before_the_first_step(tmp_path, monkeypatch, capsys):
    from importance_sampling.experiment import build

    def stops(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(build, "build_experiment", stops)
    assert run(tmp_path / "run") == 143
    assert capsys.readouterr().err == "\nimportance-sampling: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not (tmp_path / "run").exists()


def test_a_network_with_dropout_goes_on_exactly(tmp_path):
    """Also where dropout draws by a generator that belongs to the backend."""
    names = ("small_nn", "oracle-loss", "model", "unweighted", "canevet-icml2016")
    from importance_sampling import models

    def network(input_shape, output_size):
        layers = keras.layers
        model = keras.Sequential(
            [
                layers.Input(input_shape),
                layers.Dense(16, activation="relu"),
                layers.Dropout(0.5),
                layers.Dense(output_size, activation="softmax"),
            ]
        )
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        return model

    original = models.get

    def get(name):
        return network if name == names[0] else original(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "get", get)
        order = [*names, "--hyperparams", HYPERPARAMS, "--checkpoint_every", "3"]

        def train(directory, steps, *more):
            command = ["run", *order[:5], str(directory), *order[5:], "--train_for", str(steps)]
            assert cli.main([*command, *more]) == 0

        train(tmp_path / "whole", 10)
        train(tmp_path / "parts", 4)
        keras.utils.set_random_seed(77)
        train(tmp_path / "parts", 10, "--resume")
    check_equal(tmp_path / "parts", tmp_path / "whole")


# -- values that make no sense ------------------------------------------------------------------


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "value",
    [
        *("lr=fnan", "lr=f-1", "lr=finf", "lr=f1e400", "seed=i-1", "seed=i99999999999", "k=f1e400"),
        *("k=fnan", "batch_size=i0", "batch_size=i-3", "presample=i0", "momentum=f1;opt=ssgd"),
        *("lr_targets=F-1;lr_changes=I1", "lr_reductions=I-1", "clipnorm=f0", "smooth=fnan"),
        *("warmup=i-1", "vr_th=fnan", "mix=f0;N=i8", "N=i0", "time_based=i7", "lr=f", "k=F0.5"),
        *("lr_changes=I1", "N=i" + 5000 * "9"),
    ],
)
def test_hyperparameters_that_make_no_sense(tmp_path, capsys, value):
    assert run(tmp_path / "run", hyperparams=value) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and ("`" in error or "'" in error), error
    assert not (tmp_path / "run").exists()
