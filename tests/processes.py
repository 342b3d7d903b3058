"""Processes that tests start, with what their backend needs and no more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import keras

_WITHOUT = Path(__file__).with_name("without_tensorflow")


def environment(**more: str) -> dict[str, str]:
    """The variables of a process of its own.

    Keras and its random seeds load TensorFlow wherever it is installed, for seconds and to no
    effect on another backend; here it is not found then.

    Args:
        more: further variables; with another KERAS_BACKEND, what that one needs.
    """
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **more}
    if variables.get("KERAS_BACKEND", keras.backend.backend()) != "tensorflow":
        path = variables.get("PYTHONPATH")
        variables["PYTHONPATH"] = os.pathsep.join([str(_WITHOUT), *([path] if path else [])])
    return variables


def run(*arguments: object, cwd: Path | None = None, timeout: float = 400, **more: str):
    """Runs Python with these arguments and returns what came of it.

    Args:
        arguments: a script and its arguments, or options of Python.
        cwd: where to run it.
        timeout: seconds after which it is an error.
        more: further variables of the environment.
    """
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def script_of(page, heading, number=0):
    """A script of a page of the documents: of those below a heading, the one of that number."""
    text = (Path(__file__).parents[1] / "docs" / page).read_text()
    return re.findall(r"^```py\n(.*?)^```", text.split(f"\n## {heading}\n")[1], re.M | re.S)[number]
