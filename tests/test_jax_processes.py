"""Processes joined by `keras.distribution.initialize` train as one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from spread import QUICK_XLA

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="processes of JAX")

# As where TensorFlow is not installed: Keras would load it, which takes longer than the rest.
RUN = """
import runpy, sys
sys.modules["tensorflow"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0])
"""


def test_two_processes_do_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    flags = f"--xla_force_host_platform_device_count=1 {QUICK_XLA}"
    path = os.pathsep.join(filter(None, sys.path))
    program = str(Path(__file__).parent / "two_jax_processes.py")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, program, str(rank), port, str(tmp_path)],
            env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=600)[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], "\n".join(s[-3000:] for s in said)
    found = [json.loads((tmp_path / f"found{rank}.json").read_text()) for rank in range(2)]
    first, second = found
    assert "gnorm" in first["ways"]
    assert all(apart < 1e-5 for apart in first["ways"].values()), first["ways"]
    assert first["resumed"] < 1e-5 and first["resumed by two"] < 1e-5
    assert first["a death"].startswith("RuntimeError: Process 0 of 2 (counted from 0) ends")
    assert first["weights"] == second["weights"]
    for each in found:
        # Half of seven pools of 32, the last of which is scored ahead, and of six batches drawn;
        # a few rows are looked at before.
        assert 0 < each["rows read"]["gnorm"] <= 5 + 1 + 32 + 7 * 16 + 6 * 8
        assert "ValueError: Process 1 of 2" in each["other data"]
        assert "NotImplementedError: 2 processes" in each["eager"]
        # Whichever of them wants to stop, both do.
        assert each["stopped after"] == 1
    # The first one writes.
    assert (tmp_path / "state0.npz").exists() and not (tmp_path / "state1.npz").exists()
