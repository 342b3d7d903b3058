"""Shared by all tests; which backend they run on is KERAS_BACKEND's choice."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers with a thread per core each only get in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Small networks take longer to compile than to run.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
        "--xla_cpu_multi_thread_eigen=false",
    )

# Hundreds of small networks are alike: JAX need not compile the same program for each again.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache/jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As shells leave it to what they run in the background, where Ctrl-C would be tested in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import keras
import numpy as np
import pytest
from spread import BACKENDS, SMALL_NETWORKS, full, one_backend

# Where real data may lie beside a checkout; tests that need it skip without it.
_FOLDERS = (
    os.environ.get("IMPORTANCE_SAMPLING_DATA"),
    Path(__file__).parents[2] / "shared" / "data",
)


def _runs_here(item):
    if full():
        return True
    name, here = item.nodeid.rsplit("/", 1)[-1], keras.backend.backend()
    if item.get_closest_marker("any_backend") is not None:
        return one_backend(name, shares=SMALL_NETWORKS) == here
    evenly = item.get_closest_marker("one_backend")
    return evenly is None or one_backend(name, evenly.args or BACKENDS) == here


def pytest_collection_modifyitems(config, items):
    """Tests that are marked so run on one backend."""
    kept = [item for item in items if _runs_here(item)]
    config.hook.pytest_deselected(items=[item for item in items if not _runs_here(item)])
    items[:] = kept


def pytest_collection_finish():
    """What frameworks made at import stays, so that the collector need not look again."""
    gc.collect()
    gc.freeze()
    # Tracing makes hundreds of thousands of short-lived objects.
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """A folder with mnist.npz."""
    for folder in _FOLDERS:
        if folder and (Path(folder) / "mnist.npz").is_file():
            return Path(folder)
    pytest.skip("no mnist.npz: set IMPORTANCE_SAMPLING_DATA to a folder that has it")


@pytest.fixture(scope="session")
def few_images(data_folder, tmp_path_factory) -> Path:
    """A folder with the first images of mnist.npz and cifar10_12k.npz, for whole programs."""
    folder = tmp_path_factory.mktemp("images")
    for name in ("mnist.npz", "cifar10_12k.npz"):
        with np.load(data_folder / name) as images:
            first = {part: images[part][: 640 if "train" in part else 256] for part in images}
        np.savez(folder / name, **first)
    return folder


@pytest.fixture(scope="session")
def mnist(data_folder):
    """`x_train, y_train, x_test, y_test`: float32 rows of 784 and integer labels."""
    with np.load(data_folder / "mnist.npz") as data:
        images = [data[n].reshape(-1, 784).astype("float32") / 255 for n in ("x_train", "x_test")]
        labels = [data[n].astype("int64") for n in ("y_train", "y_test")]
    return images[0], labels[0], images[1], labels[1]


@pytest.fixture(autouse=True)
def _fresh():
    """Every test begins with the same initial weights and ends without a trace."""
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session(free_memory=False)


@pytest.fixture(scope="module", autouse=True)
def _free_memory():
    """Once per file: a full collection over all that the frameworks hold takes half a second."""
    yield
    gc.collect()
