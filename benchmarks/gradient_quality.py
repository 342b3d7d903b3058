"""How good the gradients of drawn mini-batches are at three points of a uniform training.

A network is trained by `importance-sampling run`; `importance-sampling variance-reduction` then
looks at its weights after some of the steps. The history's scores are those of some steps earlier.
The JSON holds what was found, and is written after each part.

Example:

    IMPORTANCE_SAMPLING_DATA=../data python benchmarks/gradient_quality.py \
        --output benchmarks/results/gradient_quality.json --picture docs/gradient-quality.png
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _header import header

# Data set: network, steps to look at, age of the history in steps, options of the look.
PARTS: dict[str, tuple[str, tuple[int, ...], int, dict[str, int]]] = {
    "mnist": (
        "small_cnn",
        (200, 500, 900),
        100,
        {"samples": 30, "batch_size": 128, "sample_size": 1024},
    ),
    "cifar10": (
        "wide_resnet_28_2",
        (40, 80, 120),
        20,
        {"samples": 8, "batch_size": 32, "sample_size": 128},
    ),
}
SCORES = ("uniform", "loss", "gnorm", "full_gnorm", "history")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--steps", type=int, nargs="+", help="by default each part's own")
    parser.add_argument("--age", type=int, help="of the history in steps; by default each part's")
    parser.add_argument("--samples", type=int, help="mini-batches; by default each part's")
    parser.add_argument("--sample-size", type=int, help="examples; by default each part's")
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--output", type=Path, default=Path("gradient_quality.json"))
    parser.add_argument("--picture", type=Path, help="of the first part's last point")
    return parser.parse_args()


def command_line(backend: str, *arguments: object) -> None:
    """Runs `importance-sampling` with these arguments.

    Raises:
        SystemExit: if it failed.
    """
    command = [sys.executable, "-m", "importance_sampling", *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": backend}, check=False)
    if done.returncode:
        raise SystemExit(f"importance-sampling {' '.join(map(str, arguments))} has failed.")


def look(part: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What is found at the points of one training, by their steps."""
    network, steps, age, settings = PARTS[part]
    steps, age = options.steps or steps, options.age or age
    if any(step % age or step <= age for step in steps):
        raise SystemExit(f"--steps must be multiples of --age {age}, two times it or more.")
    settings = dict(settings)
    for name in ("samples", "sample_size"):
        settings[name] = getattr(options, name) or settings[name]
    run, last = folder / part, max(steps)
    command_line(
        options.backend,
        *("run", network, "oracle-loss", "uniform", "unweighted", part, run),
        *("--train_for", last, "--validate_every", last, "--checkpoint_every", last),
        *("--save_model", "--snapshot_period", age, "--hyperparams", "batch_size=i32"),
    )
    found = {}
    for step in steps:
        output = folder / f"{part}-{step}.json"
        command_line(
            options.backend,
            *("variance-reduction", network, run / f"model.{step:06d}.weights.h5", part),
            *("--score", *SCORES, "--output", output),
            *("--earlier_weights", run / f"model.{step - age:06d}.weights.h5"),
            *(word for name, value in settings.items() for word in (f"--{name}", value)),
        )
        found[str(step)] = json.loads(output.read_text())
    if options.picture and part == options.parts[0]:
        draw_last(part, found[str(last)], last, age, options.picture)
    return found


def draw_last(part: str, found: dict[str, Any], step: int, age: int, path: Path) -> None:
    """Draws what was found at the last point."""
    from importance_sampling.experiment.gradient_picture import draw

    settings = found["settings"]
    batches = f"{settings['samples']} mini-batches of {settings['batch_size']}"
    title = (
        f"{settings['model']} on {part.upper()} after {step} steps: {batches}; history: scores "
        f"{age} steps old"
    )
    draw(found["draws"], title).savefig(path)


def main() -> None:
    options = parse()
    content: dict[str, Any] = {"made": [header(options.backend)]}
    for part in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            content[part] = look(part, options, Path(folder))
        temporary = options.output.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(options.output)


if __name__ == "__main__":
    main()
