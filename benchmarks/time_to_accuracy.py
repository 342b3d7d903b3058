"""The same epochs, the same learning-rate schedule: how long did it take, how good was it?

For each seed every arm trains the same network from the same weights for the same epochs, by Adam
with a learning rate that is constant for the first half of the steps and then falls to zero along a
cosine. All arms take as many optimizer steps, but for those that leave examples out (InfoBatch,
Selective Backprop): their learning rate is set for each epoch.

Each arm runs in a process of its own, and the processes take turns, so that only one of them works
at a time and has the machine to itself. It is as alternating in one process, without the state that
arms would share there. In a turn every arm does the same share of its training, a whole epoch at
least, so that a change in the machine's speed meets all of them alike.

The clock is that of `fit` from its first callback to its last. Beside it stand compiling (done
before, for every batch size, and reported), waiting, and evaluation of what was trained. Of Keras'
own `fit` it is the median of its epochs times their number, because after others' turns single
epochs of it stall on TensorFlow (`_summary.steady_seconds`). Nobody looks at single steps: the
library makes many in one call where it would for a user.

"uniform, smaller batch" is the control: `model.fit` with a constant batch size, the multiple of 8
that comes nearest to the examples that "same noise" trained on with the same seed, and as many
steps. It runs after "same noise", in turns with a part of a further `model.fit`, which its time is
compared with.

Tables give means over the seeds with 95 % confidence intervals (Student's t); times and differences
are paired by seed. The file is written after each seed, and runs that it holds are not made again.

Examples:

    IMPORTANCE_SAMPLING_DATA=../data python benchmarks/time_to_accuracy.py \
        --tasks mnist_conv16 --epochs 15 --seeds 5 --output benchmarks/results/same_epochs_conv16
    python benchmarks/time_to_accuracy.py --show benchmarks/results/same_epochs_*.json \
        --output benchmarks/results/same_epochs
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from _arms import ARMS, DEFAULT, SAME_NOISE, SMALLER, UNIFORM, smaller_batch
from _header import header
from _one_run import run_one
from _summary import draw, summary, table
from _tasks import EPOCHS, TASKS
from _turns import take_turns


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="TASK")
    parser.add_argument("--arms", nargs="+", default=DEFAULT, metavar="ARM")
    parser.add_argument("--epochs", type=int, nargs="+", help="by default each task's own")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--examples", type=int, help="use no more than these, for a quick look")
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--output", type=Path, default=Path("time_to_accuracy"))
    parser.add_argument("--show", type=Path, nargs="+", help="no runs: table, picture of files")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def key(run: dict[str, Any]) -> tuple[Any, ...]:
    """What a run is known by."""
    return tuple(run[name] for name in ("task", "examples_kept", "epochs", "arm", "seed"))


def read(path: Path) -> dict[str, Any]:
    """What a file of this program holds."""
    stored = json.loads(path.read_text())
    if "made" not in stored:
        raise SystemExit(f"{path} is not of this program, or of an older one; name another file.")
    return stored


def run_seed(order: dict[str, Any], names: list[str], runs: list[dict[str, Any]]) -> list[Any]:
    """The runs of one seed that are missing: the control last, whose batches need another's."""
    stored = {key(run): run for run in runs}
    left = [n for n in names if key(order | {"arm": n}) not in stored]
    reference = order | {"arm": UNIFORM}
    first = [order | {"arm": name} for name in left if name != SMALLER]
    found = []
    if first:
        found = take_turns(first, order["backend"], None if UNIFORM in left else reference)
    if SMALLER in left:
        stored |= {key(run): run for run in found}
        like = stored.get(key(order | {"arm": SAME_NOISE}))
        if like is None:
            raise SystemExit(f'"{SMALLER}" needs "{SAME_NOISE}" among the arms.')
        size = smaller_batch(like["batch_size"], like["examples"], like["uniform_steps"])
        control = order | {"arm": SMALLER, "batch_size": size}
        found += take_turns([control], order["backend"], reference)
    return found


def run_all(options: argparse.Namespace, target: Path) -> dict[str, Any]:
    """Makes the runs that the file lacks; everything it holds then."""
    from importance_sampling._files import write_json

    stored = (
        read(target) if target.exists() else {"backend": options.backend, "made": [], "runs": []}
    )
    if stored["backend"] != options.backend:
        raise SystemExit(f"{target} holds runs of {stored['backend']}; name another file.")
    if any("epoch_seconds" not in run for run in stored["runs"]):
        raise SystemExit(f"{target} holds runs timed by an earlier clock; name another file.")
    settings = {k: v for k, v in vars(options).items() if k not in ("one", "show", "output")}
    stored["made"].append(header(options.backend) | {"settings": settings})
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for task in options.tasks:
        for epochs in options.epochs or [EPOCHS[task]]:
            # Seed by seed, so that what is done of a task has all its arms.
            for seed in seeds:
                order = {"task": task, "epochs": epochs, "seed": seed}
                order |= {"examples_kept": options.examples, "backend": options.backend}
                found = run_seed(order, options.arms, stored["runs"])
                if not found:
                    continue
                stored["runs"] += found
                write_json(target, stored)
                for run in found:
                    print(
                        f"{task}, {epochs} epochs, seed {seed}, {run['arm']}: "
                        f"{run['seconds']:.1f} s ({run['seconds'] / run['uniform_seconds']:.2f}), "
                        f"training loss {run['train_loss']:.5f}, {run['error']} "
                        f"{run['test_error']:.3f}",
                        flush=True,
                    )
    return stored


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(run_one(json.loads(options.one))))
        return
    from importance_sampling._files import write_json, write_whole

    if options.show:
        rows = summary([run for path in options.show for run in read(path)["runs"]])
    else:
        given = {"arms": (options.arms, ARMS), "tasks": (options.tasks, TASKS)}
        for kind, (names, known) in given.items():
            if unknown := sorted(set(names) - set(known)):
                raise SystemExit(f"Unknown {kind} {unknown}; there are {sorted(known)}.")
        target = options.output.with_suffix(".json")
        stored = run_all(options, target)
        rows = stored["summary"] = summary(stored["runs"])
        write_json(target, stored)
    print("\n" + table(rows))
    write_whole(options.output.with_suffix(".png"), lambda path: draw(rows, path))


if __name__ == "__main__":
    main()
