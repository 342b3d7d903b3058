"""What programs share that train tasks of the benchmarks, once for each seed."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def parser_for(description: str, task: str, seed: int) -> argparse.ArgumentParser:
    """The options: which tasks, seeds and backend, and where to write.

    Args:
        description: the first line of the program's.
        task: by default.
        seed: by default.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "tensorflow"))
    parser.add_argument("--tasks", nargs="+", default=[task])
    parser.add_argument("--epochs", type=int, help="of each; as many as it takes by default")
    parser.add_argument("--examples", type=int, help="keep no more of them, for a quick look")
    parser.add_argument("--seeds", type=int, nargs="+", default=[seed])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser


def trainings(options: argparse.Namespace) -> Iterator[tuple[str, int, Any, int]]:
    """The name, seed, task and epochs of each training, on the backend that was asked for.

    Raises:
        SystemExit: if there is no such task.
    """
    os.environ["KERAS_BACKEND"] = options.backend
    from _tasks import EPOCHS, TASKS

    if unknown := sorted(set(options.tasks) - set(TASKS)):
        raise SystemExit(f"Unknown tasks {unknown}; there are {sorted(TASKS)}.")
    for name in options.tasks:
        for seed in options.seeds:
            task = TASKS[name]()
            if options.examples:
                task.shrink(options.examples)
            yield name, seed, task, options.epochs or EPOCHS[name]


def write(options: argparse.Namespace, content: dict[str, Any]) -> None:
    """Writes what was found, with its origin, whole or not at all."""
    from _header import header

    if options.output:
        temporary = options.output.with_suffix(".tmp")
        temporary.write_text(json.dumps({**header(options.backend), **content}, indent=1) + "\n")
        temporary.replace(options.output)
