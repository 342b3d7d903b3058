"""What each way to train reaches in the same wall-clock time.

A budget is the time that `model.fit` takes for some epochs, measured first. Every arm then trains
the same network from the same weights for exactly that time, the learning rate decayed over it
(constant for the first half, then a cosine to zero), in a process of its own. The arms of a seed
take turns of a second, so that all of them meet the machine in the same mood. Beside the clock
stand compiling, measuring, waiting and the first step of every epoch, before which `model.fit` on
TensorFlow may pause for as long as many steps take. Runs are written as they end, and those
already in the file are not made again. Tables give means over the seeds with 95 % confidence
intervals (Student's t).

Example:

    IMPORTANCE_SAMPLING_DATA=../data python benchmarks/time_to_accuracy.py \
        --tasks mnist_small_cnn --epochs 5 --seeds 5 --arms uniform auto history \
        --output benchmarks/results/small_cnn
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _one_run import arms, run_one
from _summary import draw, summary, table
from _tasks import TASKS


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", nargs="+", default=["canevet", "mnist_mlp", "friedman"])
    parser.add_argument("--arms", nargs="+", default=["uniform", "auto", "history"])
    parser.add_argument("--epochs", type=float, nargs="+", default=[2.0], help="budgets")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each arm, from 1")
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--output", type=Path, default=Path("time_to_accuracy"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


class Arm:
    """An order that is carried out in a fresh process, turn by turn."""

    def __init__(self, order: dict[str, Any], backend: str):
        environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.order = order
        # Closed, and with that removed, when the process is forgotten.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--one", json.dumps(order)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def next(self) -> dict[str, Any] | None:
        """Waits until its turn ends; the result, if it is done."""
        for line in self.process.stdout:
            if line == "turn\n":
                return None
            if line.startswith("{"):
                self.process.wait()
                return json.loads(line)
        self.errors.seek(0)
        raise RuntimeError(f"The run {self.order} failed:\n{self.errors.read()[-2000:]}")

    def go(self) -> None:
        """Gives it a turn."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


def ask(order: dict[str, Any], backend: str) -> dict[str, Any]:
    """Carries out an order that takes no turns."""
    return Arm(order, backend).next()


def take_turns(orders: list[dict[str, Any]], backend: str) -> list[dict[str, Any]]:
    """Carries out orders in turns; the results in the order of the orders."""
    begun = []
    try:
        at_once = os.cpu_count() or 1
        for first in range(0, len(orders), at_once):
            begun += [Arm(order, backend) for order in orders[first : first + at_once]]
            # Compiled and measured before anybody's clock starts.
            for arm in begun[first:]:
                arm.next()
        waiting = list(enumerate(begun))
        results = {}
        while waiting:
            i, arm = waiting.pop(0)
            arm.go()
            result = arm.next()
            if result is None:
                waiting.append((i, arm))
            else:
                results[i] = result
    finally:
        for arm in begun:
            arm.process.kill()
    return [results[i] for i in range(len(orders))]


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(run_one(json.loads(options.one))))
        return
    from importance_sampling._files import write_json, write_whole

    for kind, given, known in (("arms", options.arms, arms()), ("tasks", options.tasks, TASKS)):
        unknown = set(given) - set(known)
        if unknown:
            raise SystemExit(f"Unknown {kind} {sorted(unknown)}; there are {sorted(known)}.")
    target = options.output.with_suffix(".json")
    stored: dict[str, Any] = {"backend": options.backend, "timing": {}, "runs": []}
    if target.exists():
        stored = json.loads(target.read_text())
        if stored["backend"] != options.backend:
            raise SystemExit(f"{target} holds runs of {stored['backend']}; name another file.")
    done = {(r["task"], r["epochs"], r["arm"], r["seed"]) for r in stored["runs"]}
    for task in options.tasks:
        for epochs in options.epochs:
            for seed in range(1, options.seeds + 1):
                left = [a for a in options.arms if (task, epochs, a, seed) not in done]
                if not left:
                    continue
                # Anew for each seed: machines change their speed.
                timing = ask({"task": task, "arm": "time", "seed": 0}, options.backend)
                stored["timing"].setdefault(task, []).append(timing)
                seconds = epochs * timing["epoch_seconds"]
                order = {"task": task, "epochs": epochs, "seed": seed, "seconds": seconds}
                orders = [order | {"arm": arm} for arm in left]
                stored["runs"] += take_turns(orders, options.backend)
                write_json(target, stored)
                for result in stored["runs"][-len(left) :]:
                    print(
                        f"{task} {epochs:g} {result['arm']} seed {seed}: {result['steps']} steps, "
                        f"training loss {result['train_loss']:.5f}, "
                        f"test error {result['test_error']:.3f}",
                        flush=True,
                    )
    rows = summary(stored["runs"])
    # JSON knows no NaN, which is the interval of a single run.
    stored["summary"] = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in rows
    ]
    write_json(target, stored)
    print("\n" + table(rows))
    write_whole(options.output.with_suffix(".png"), lambda path: draw(stored["runs"], path))


if __name__ == "__main__":
    main()
