"""Shared by all tests; which backend they run on is KERAS_BACKEND's choice."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

from spread import QUICK_XLA, full, runs_on

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers with a thread per core each only get in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("XLA_FLAGS", QUICK_XLA)

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

if keras.backend.backend() == "tensorflow" and "PYTEST_XDIST_WORKER" in os.environ and not full():
    import tensorflow as tf

    # The same for TensorFlow's graphs, which hardly run often enough to be worth rewriting. Without
    # what prunes them it vectorises recurrent layers wrongly.
    rewriting = ("arithmetic_optimization", "constant_folding", "dependency_optimization")
    rewriting += ("function_optimization", "implementation_selector", "layout_optimizer")
    rewriting += ("loop_optimization", "remapping", "scoped_allocator_optimization")
    rewriting += ("shape_optimization",)
    tf.config.optimizer.set_experimental_options(dict.fromkeys(rewriting, False))

# Where real data may lie beside a checkout; tests that need it skip without it.
_FOLDERS = (
    os.environ.get("IMPORTANCE_SAMPLING_DATA"),
    Path(__file__).parents[2] / "shared" / "data",
)


# What was collected, as `spread.runs_on` takes it, whether it runs here or not.
COLLECTED = pytest.StashKey[list]()


def pytest_collection_modifyitems(config, items):
    """Which of the tests run on this backend, and in this part of CI."""
    # pytest begins with the closest marks: what a test says for itself goes before its file's.
    found = [(item.nodeid, [(m.name, m.args) for m in item.iter_markers()]) for item in items]
    config.stash[COLLECTED] = found
    here = keras.backend.backend()
    runs = [runs_on(here, *one) for one in found]
    config.hook.pytest_deselected(
        items=[i for i, kept in zip(items, runs, strict=True) if not kept]
    )
    items[:] = [item for item, kept in zip(items, runs, strict=True) if kept]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files stay together and share what they made; who is done takes from the other's rest."""
    from xdist.scheduler import WorkStealingScheduling

    # "load" is what `-n` asks for; another way is the user's own choice.
    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None


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


_PREDICTORS = {}


@pytest.fixture
def one_predictor(monkeypatch):
    """LSTM samplers, of which one is used at a time, share a network; its weights begin anew."""
    from importance_sampling.samplers import _lstm

    build, made = _lstm.build_network, _PREDICTORS

    def cached(history, classes, seed, bias):
        key = (history, classes, seed, bias)
        if key not in made:
            made[key] = build(history, classes, seed, bias)
            made[key].optimizer.build(made[key].trainable_variables)
            variables = [*made[key].variables, *made[key].optimizer.variables]
            made[key].start = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
        network = made[key]
        variables = [*network.variables, *network.optimizer.variables]
        for variable, value in zip(variables, network.start, strict=True):
            variable.assign(value)
        return network

    monkeypatch.setattr(_lstm, "build_network", cached)


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


@pytest.fixture
def steps_of_calls(monkeypatch):
    """How many steps each call of the device made, where several might go together."""
    from importance_sampling.model_wrappers import OracleWrapper

    made = []
    own = OracleWrapper.train_many

    def train_many(self, proposals, *args):
        made.append(len(proposals))
        return own(self, proposals, *args)

    monkeypatch.setattr(OracleWrapper, "train_many", train_many)
    return made
