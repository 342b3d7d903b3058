"""What exact norms of single gradients cost, in units of a training step on as many examples.

The passes are timed in turns, so that what else the machine does falls on all of them alike.

Example:

    PYTHONPATH=. python benchmarks/exact_norms.py --backend jax --output exact_norms_jax.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

MODELS = {
    "small_cnn": ((28, 28, 1), 10),
    "svrg_nn": ((28, 28, 1), 10),
    "wide_resnet_28_2": ((32, 32, 3), 10),
}


def passes(name: str, batch_size: int) -> dict[str, Any]:
    """Functions that make one pass each and wait for it."""
    from importance_sampling import models
    from importance_sampling.model_wrappers import OracleWrapper
    from importance_sampling.reweighting import UNWEIGHTED

    shape, classes = MODELS[name]
    rng = np.random.default_rng(0)
    x = rng.random((batch_size, *shape), "float32")
    y = np.eye(classes, dtype="float32")[rng.integers(0, classes, batch_size)]
    model = models.get(name)(shape, classes)
    found: dict[str, Any] = {"step": lambda: model.train_on_batch(x, y)}
    for score in ("gnorm", "full_gnorm"):
        wrapper = OracleWrapper(model, UNWEIGHTED, score=score)
        found[score] = lambda wrapper=wrapper: wrapper.score(x, y, batch_size=batch_size)
    return found


def main() -> None:
    """Prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "torch"))
    parser.add_argument("--models", nargs="+", default=["small_cnn", "svrg_nn"], choices=MODELS)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = options.backend
    from _header import header

    rows = {}
    for name in options.models:
        functions = passes(name, options.batch_size)
        times: dict[str, list[float]] = {key: [] for key in functions}
        for round_ in range(options.rounds + 1):
            for key, function in functions.items():
                begin = time.perf_counter()
                function()
                if round_:
                    # The first one compiles.
                    times[key].append(time.perf_counter() - begin)
        medians = {key: statistics.median(found) for key, found in times.items()}
        ratios = {key: medians[key] / medians["step"] for key in ("gnorm", "full_gnorm")}
        rows[name] = {"seconds": medians, "in_steps": ratios}
        cells = "  ".join(f"{key} {value:.2f}" for key, value in ratios.items())
        print(f"{name:18} step {1e3 * medians['step']:7.1f} ms   in steps: {cells}", flush=True)
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest memory of the process: {gigabytes:.2f} GiB")
    if options.output:
        content = {**header(options.backend), "gibibytes": gigabytes, "rows": rows}
        options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
