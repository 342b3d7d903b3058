#!/usr/bin/env python3
"""Runs all examples in both ways and writes what came out to a file, with a table of it.

    python examples/measure.py --output examples/results.json

An example that is in the file is not run again. The table goes by the file: `--show` prints it
without any run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "mnist_mlp",
    "mnist_cnn",
    "mnist_history",
    "mnist_jax",
    "mnist_tf_data",
    "mnist_dataloader",
    "mnist_fine_tuning",
    "long_tailed_mnist",
    "friedman_regression",
    "cifar10_cnn",
    "cifar10_resnet",
    "reuters_mlp",
    "imdb_fasttext",
    "mnist_svrg",
    "mnist_svrg_cnn",
)
WAYS = {"by score": (), "uniform": ("--uniform",)}


def cores():
    """How many this process may use, which are not all that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def machine():
    """Where, when and with what it is made."""
    packages = ("keras", "tensorflow", "jax", "torch", "numpy", "keras-importance-sampling")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return {
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": {"processor": platform.machine(), "cores": cores()},
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "command": ["python", "examples/measure.py", *sys.argv[1:]],
        "backend": os.environ.get("KERAS_BACKEND", "Keras' default"),
    }


def run(name, more):
    """What an example says of itself when it has ended."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        command = [sys.executable, str(HERE / f"{name}.py"), *more, "--json", str(target)]
        print(" ".join(command[1:]), flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        # Without the file, whose place says nothing.
        return json.loads(target.read_text()) | {"arguments": list(more)}


def drawn(found):
    """The share of steps by score of a run, and what it gained in noise."""
    report = found.get("report")
    if report is None:
        return ["", ""]
    by_score = sum(n for kind, n in report["steps"].items() if kind != "uniform")
    share = f"{100 * by_score / max(sum(report['steps'].values()), 1):.0f} %"
    return [share, f"{report['variance_reduction']:.2f}" if by_score else "-"]


def table(runs):
    """A line for each example that was run in both ways, as Markdown."""
    lines = ["| example | epochs | steps by score | variance reduction | result | by model.fit |"]
    lines.append("|---|---|---|---|---|---|")
    for name, ways in runs.items():
        if len(ways) < len(WAYS):
            continue
        cells = []
        for way in WAYS:
            found = ways[way]
            metric = "accuracy" if "accuracy" in found else "mean_absolute_error"
            word = "" if metric == "accuracy" else " (mean absolute error)"
            cells.append(f"{found[metric]:.4f}{word}, {found['seconds']:.1f} s")
        epochs = ways["uniform"]["epochs"]
        cells = [f"`{name}`", str(epochs), *drawn(ways["by score"]), *cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    parser.add_argument("--only", nargs="+", default=NAMES, metavar="EXAMPLE")
    parser.add_argument("--show", action="store_true", help="no runs, the table alone")
    parser.add_argument("more", nargs="*", help="passed on to the examples, after --")
    options = parser.parse_args()
    stored = {"runs": {}}
    if options.output.exists():
        stored = json.loads(options.output.read_text())
    for name in () if options.show else options.only:
        ways = stored["runs"].setdefault(name, {})
        for way, flags in WAYS.items():
            if way not in ways:
                ways[way] = run(name, (*flags, *options.more)) | {"made": machine()}
                options.output.write_text(json.dumps(stored, indent=1) + "\n")
    print(table(stored["runs"]))


if __name__ == "__main__":
    main()
