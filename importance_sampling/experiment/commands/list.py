"""`importance-sampling list`: what runs lie in a directory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..results import Result

_LEVELS = ("dataset", "model", "sampler", "wrapper", "reweighting")
_HEAD = ("Dataset", "Network", "Sampler", "Score", "Reweighting", "Params", "Epochs", "Steps")


def _begun(directory: Path) -> bool:
    return any((directory / name).is_file() for name in ("train.txt", "run.json", "stdout"))


def find(root: Path) -> list[Path]:
    """Directories of runs, and those laid out as DATASET/.../PARAMS for runs to come."""
    found = []
    for path in [*sorted(p for p in root.rglob("*") if p.is_dir()), root]:
        depth = len(path.relative_to(root).parts)
        if _begun(path) or (depth == len(_LEVELS) + 1 and not any(path.iterdir())):
            found.append(path)
    return found


def describe(root: Path, directory: Path) -> list[str]:
    """One run's cells."""
    parts = directory.relative_to(root).parts
    cells = dict.fromkeys(_LEVELS, "-")
    params = "/".join(parts) or "."
    if len(parts) == len(_LEVELS) + 1:
        cells, params = dict(zip(_LEVELS, parts, strict=False)), parts[-1]
    evaluations, steps, state = 0, 0, "not begun"
    if (directory / "train.txt").is_file():
        result = Result(directory)
        evaluations, steps = len(result.validation), result.steps
        state = result.description.get("state", "begun")
        cells |= {level: result.settings[level] for level in _LEVELS if level in result.settings}
    return [*(cells[level] for level in _LEVELS), params, str(evaluations), f"{steps} ({state})"]


def _changed(directory: Path) -> float:
    path = directory / "train.txt"
    return (path if path.is_file() else directory).stat().st_mtime


def main(options: argparse.Namespace) -> int:
    """Prints a tab-separated table."""
    root = options.expdir or options.directory
    if not root.is_dir():
        raise NotADirectoryError(f"There is no directory {root}.")
    runs = [path for path in find(root) if _begun(path) != options.pending]
    if options.latest:
        runs.sort(key=_changed)
    print("\t".join(_HEAD))
    for path in runs:
        try:
            print("\t".join(describe(root, path)))
        except (OSError, ValueError, json.JSONDecodeError) as error:
            print(f"{path}\t{error}")
    return 0
