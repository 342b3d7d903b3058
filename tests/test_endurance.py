"""Long trainings: what a step leaves behind does not add up; the long run is a benchmark."""

import gc
import os
import sys
import threading

import keras
import pytest
from helpers import data, mlp

from importance_sampling import training

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

X, Y = data(256)
WAYS = {
    "pool": lambda model: training.ImportanceTraining(model, tau_th=1e-9, seed=0),
    "history": lambda model: training.HistoryImportanceTraining(model, seed=0),
    "robust": lambda model: training.RobustImportanceTraining(model, seed=0),
}


def _open_files():
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


@pytest.mark.slow
@pytest.mark.parametrize("way", [*WAYS, "generator"])
def test_steps_leave_nothing_behind(way):
    """Hundreds of steps more leave no more objects, threads or open files."""
    readings = []

    class Reads(keras.callbacks.Callback):
        reaches_model_by_property = True

        def on_epoch_end(self, epoch, logs=None):
            if epoch in (12, 32):
                gc.collect()
                # Keras starts up to four for callbacks, as it needs them.
                names = [t.name for t in threading.enumerate()]
                threads = sum(not name.startswith("ThreadPoolExecutor") for name in names)
                readings.append((len(gc.get_objects()), threads, _open_files()))

    def batches():
        while True:
            yield X[:16], Y[:16]

    make = WAYS.get(way, WAYS["pool"])
    arguments = {"epochs": 33, "verbose": 0, "callbacks": [Reads()]}
    if way == "generator":
        make(mlp()).fit(batches(), steps_per_epoch=16, **arguments)
    else:
        make(mlp()).fit(X, Y, batch_size=16, **arguments)
    (early, *before), (late, *after) = readings
    assert before == after
    # Between them lie 320 steps.
    assert late - early < 100, late - early
