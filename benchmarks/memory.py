"""Peak memory of whole processes: `model.fit` against a training that never switches on.

Each way runs in a process of its own, in turn; the peak is the operating system's figure.

Example:

    python benchmarks/memory.py --backend torch --output memory_torch.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from _header import header
from step_cost import make_model


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--model", choices=["mlp", "small_cnn"], default="mlp")
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the data")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--way", choices=["fit", "off"], help=argparse.SUPPRESS)
    return parser.parse_args()


def run_one(options: argparse.Namespace) -> None:
    """In the child: trains one way and prints the peak in MiB."""
    import numpy as np

    from importance_sampling import ImportanceTraining

    shape = (784,) if options.model == "mlp" else (28, 28, 1)
    rng = np.random.default_rng(options.seeds[0])
    x = rng.random((options.examples, *shape), dtype=np.float32)
    y = rng.integers(0, 10, options.examples)
    model = make_model(options.model)
    trainer = model if options.way == "fit" else ImportanceTraining(model, tau_th=1e9)
    trainer.fit(x, y, batch_size=128, steps_per_epoch=options.steps, epochs=1, verbose=0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    options = arguments()
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.way:
        run_one(options)
        return
    table = []
    for seed in options.seeds:
        peaks: dict[str, list[float]] = {"fit": [], "off": []}
        for _ in range(options.rounds):
            for way, found in peaks.items():
                command = [sys.executable, __file__, "--way", way, "--backend", options.backend]
                command += ["--model", options.model, "--examples", str(options.examples)]
                command += ["--steps", str(options.steps), "--seeds", str(seed)]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found.append(float(out.strip().splitlines()[-1]))
        row = {f"{way}_mib": statistics.median(found) for way, found in peaks.items()}
        row |= {"off / fit": row["off_mib"] / row["fit_mib"], "seed": seed}
        row |= {"backend": options.backend, "model": options.model} | header(options.backend)
        table.append(row)
        print(
            f"{options.backend:<10} {options.model:<9} fit {row['fit_mib']:7.0f} MiB   "
            f"off {row['off_mib']:7.0f} MiB   off/fit {row['off / fit']:.3f}"
        )
    if options.output:
        temporary = options.output.with_suffix(".tmp")
        temporary.write_text(json.dumps(table, indent=2) + "\n")
        temporary.replace(options.output)


if __name__ == "__main__":
    main()
