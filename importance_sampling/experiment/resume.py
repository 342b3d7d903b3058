"""What is in a directory before a run begins in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..state_files import load_state
from .results import RUN

CHECKPOINT = "checkpoint.npz"


def state_to_resume(
    directory: Path, settings: dict[str, Any], resume: bool, overwrite: bool
) -> dict[str, Any] | None:
    """The state of an interrupted run to go on from, or None to begin anew.

    Args:
        directory: where the run is to be.
        settings: what the run is, as it is written to its description.
        resume: whether to go on with what is there.
        overwrite: whether to leave what is there out of account.

    Raises:
        ValueError: if there is a run and neither was asked for, or one with other settings.
        OSError: if its files cannot be read; names the file.
    """
    found = directory / RUN
    if not found.is_file() and not (directory / "train.txt").exists():
        if resume and directory.is_dir() and any(directory.iterdir()):
            raise ValueError(f"{directory} holds no run that could go on.")
        return None
    if overwrite:
        return None
    if not resume:
        raise ValueError(
            f"{directory} holds a run already. Pass --resume to go on with it, --overwrite to "
            "begin anew, or another directory."
        )
    try:
        before = json.loads(found.read_text())
    except (OSError, ValueError) as error:
        raise OSError(f"{found} cannot be read, so that the run cannot go on: {error}") from error
    for name, value in settings.items():
        if before["settings"].get(name) != value:
            raise ValueError(
                f"The run in {directory} was made with {name} {before['settings'].get(name)!r}, "
                f"now it is {value!r}. A run goes on with the same settings."
            )
    path = directory / CHECKPOINT
    # Interrupted before there was anything to go on from.
    return load_state(path) if path.is_file() else None
