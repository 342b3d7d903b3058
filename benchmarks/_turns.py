"""Runs in processes of their own, which take turns so that only one of them works at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# Of its training, what an arm does in a turn; a whole epoch at least.
_SHARE = 0.05
# The reference goes this part of the way.
_REFERENCE_SHARE = 0.25


class Run:
    """An order that is carried out in a fresh process, turn by turn."""

    def __init__(self, order: dict[str, Any], backend: str):
        environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.order = order
        self.state: dict[str, Any] = {}
        self.result: dict[str, Any] | None = None
        # Closed, and with that removed, when the process is forgotten.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        program = str(Path(__file__).with_name("time_to_accuracy.py"))
        self.process = subprocess.Popen(
            [sys.executable, program, "--one", json.dumps(order)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def wait(self) -> None:
        """Waits until its turn ends, or its training with all that is measured afterwards."""
        for line in self.process.stdout:
            if line.startswith("turn {"):
                self.state = json.loads(line.removeprefix("turn "))
                return
            if line.startswith("{"):
                self.process.wait()
                self.result = json.loads(line)
                return
        self.errors.seek(0)
        raise RuntimeError(f"The run {self.order} failed:\n{self.errors.read()[-2000:]}")

    def go(self, share: float) -> None:
        """Lets it train until that share of its training is done."""
        self.process.stdin.write(f"{share!r}\n")
        self.process.stdin.flush()
        self.wait()


def take_turns(
    orders: list[dict[str, Any]], backend: str, reference: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Carries out orders in turns; the results in the order of the orders.

    In a turn every arm does the same share of its training, to the end of an epoch, so that all of
    them begin and end together, however fast they are, and a change in the machine's speed meets
    all alike.

    Args:
        orders: what to run.
        backend: Keras' backend.
        reference: uniform training, of which a part is run beside the orders where it is not
            among them, to know what it would have taken at that time.

    Returns:
        The runs, with what uniform training took, or would have taken, as `"uniform_seconds"`.
    """
    begun: list[Run] = []
    try:
        for order in [*orders, *([reference] if reference else [])]:
            begun.append(Run(order, backend))
            # Compiles while nobody else does, before anybody's clock starts.
            begun[-1].wait()
        runs = begun[: len(orders)]
        share = 0.0
        while any(run.result is None for run in runs):
            share += _SHARE
            for run in begun:
                to = share if run in runs else _REFERENCE_SHARE * share
                if run.result is None and run.state["share"] < to:
                    run.go(to)
        results = [run.result for run in runs]
        if reference is None:
            seconds = next(r["seconds"] for r in results if r["arm"] == "model.fit")
        else:
            whole, part = begun[-1].result, begun[-1].state
            # Of a single epoch, it has made all.
            seconds = whole["seconds"] if whole else part["seconds"] / part["share"]
    finally:
        for run in begun:
            run.process.kill()
            run.process.wait()
    return [result | {"uniform_seconds": seconds} for result in results]
