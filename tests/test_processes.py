"""Processes of `torch.distributed` train as one does, and say what keeps them from it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from spread import full

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.one_backend("torch"),
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="processes are PyTorch's"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes found, which do everything one after the other: starting them is dear."""
    folder = tmp_path_factory.mktemp("together")
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "two_processes.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.slow
def test_two_processes_do_as_one(found):
    ways = found["ways"]
    assert {"gnorm", "batch sizes", "masked", "svrg", "sum", "by index"} <= set(ways)
    uniform = {way for way, share in found["by score"].items() if not share}
    # Two have not begun to draw by score after so few steps, the others never do.
    expected = {"constant time", "constant variance", "svrg", "masked svrg", "katyusha"}
    assert uniform <= expected
    assert all(apart < 1e-5 for apart in ways.values()), ways


def test_processes_wait_once_for_a_step_of_keras(found):
    exchange = ["meeting", "exchange"]
    once = [*exchange, "weights"]
    # Logs of the user's own, and scores that may depend on weights, are those after the step.
    twice = [*once, *exchange]
    assert found["exchanges"] == {
        "Keras' step": once,
        "gnorm": once,
        "full_gnorm": twice,
        "own loss": twice,
        "own metrics": twice,
        "own step": twice,
    }


def test_draws_that_must_be_equal_are_not_compared_before_each_exchange(found):
    one_epoch, four_epochs, watched = found["meetings"]
    assert one_epoch == four_epochs < watched


def test_metrics_set_on_a_model_between_fits_are_logged(found):
    assert "output" in found["logged"]


def test_each_reads_its_own_rows(found):
    alone, *both = found["rows read"]
    # Six steps of a pool of 32, of which 16 are trained on; a few rows are looked at beforehand.
    few = 5 + 5 + 1
    assert alone >= 6 * 32
    # What was drawn of a pool may be rows that the other process has scored.
    assert all(read <= few + 6 * (16 + 8) for read in both)


def test_state_goes_on_with_another_number_of_processes(found):
    assert len(found["resumed"]) == 4
    assert all(apart < 1e-5 for apart in found["resumed"].values()), found["resumed"]


def test_mean_step_is_that_of_the_whole_set(found):
    # Of about 200 weights none is further off than five standard errors: once in 10,000 such tests.
    assert found["unbiased"]["together"]
    assert found["unbiased"]["weights"] > 150
    assert found["unbiased"]["errors"] < 5


def test_statistics_are_averages_and_random_numbers_differ(found):
    alone, *both = found["moving means"]
    np.testing.assert_allclose(both, [alone, alone], atol=1e-6)
    assert np.abs(alone).max() > 0.01
    (within, after), (other_within, other_after) = found["random"]
    assert within != other_within and after == other_after


def test_one_process_writes_and_any_stops_all(found):
    assert found["calls and steps"] == [[1, 1], [0, 1]]
    assert found["epochs"] == [1, 1]


APART = "RuntimeError: The processes have drawn different batches, .*process 0 \\(of 2\\) is at "


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("other data", "ValueError: Process 1 of 2 .* with other data or arguments"),
        ("other batch size", "ValueError: .*batch_size: 8 in process 0, 16 there"),
        ("one batch size", "NotImplementedError: .* built for batches of 16"),
        ("other draws", APART + "a step on 8 rows, process 1 likewise, with others"),
        ("other sizes", APART + "a step on 8 rows, process 1 at a step on 9 rows"),
        ("other pools", APART + "the scores of 16 rows, process 1 at the scores of 9 rows"),
        ("other sizes, masked", APART + "a mean over 16 rows, process 1 at a mean over 9 rows"),
        ("other sizes, weights by scores", APART + "what is known of 7 rows, process 1 at what"),
        ("other numbers of batches", APART + "a step on 8 rows, process 1 at the end of an epoch"),
        ("pools in other numbers of parts", APART + "the scores of 8 rows, process 1 at a step"),
        (
            "pools in one alone",
            "ValueError: .* with other data or arguments .*: 0.0 in process 0",
        ),
        ("other words", "ValueError: .*constant: 'batch_size' in process 0, 'variance' there"),
        ("other snapshots", APART + "a snapshot's gradient of 24 rows, process 1 likewise"),
        ("a callback of one", "ValueError: .*callbacks: \\[\\] in process 0, .*ReduceLROnPlateau"),
        ("other models", "ValueError: Process 1 of 2 .* with other data or arguments .*variables"),
    ],
)
def test_what_cannot_be_shared_is_refused_by_all(found, what, words):
    unlike = [said for said in found["refused"][what] if not re.match(words, said)]
    assert not unlike, unlike


def test_death_of_a_process_ends_the_others(found):
    assert found["second backend"] != "gloo"
    assert "because process 1 has ended" in found["death"]
    # The state of the second step was not whole when the process died.
    assert found["steps after a death"] == 5
    assert found["alone after a death"] < 1e-5


@pytest.mark.skipif(not full(), reason="starts torchrun itself: every night")
def test_script_of_the_docs_runs_under_torchrun(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text()
    script = re.search(r"^```py\n(# torchrun .*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "train.py").write_text(script)
    path = os.pathsep.join(filter(None, sys.path))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", "train.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # One progress bar, one model, and no state left of a training that has ended.
    assert done.stdout.count("Epoch 10/10") == 1
    assert {file.name for file in tmp_path.iterdir()} == {"train.py", "model.keras"}
