"""`importance-sampling list`: what runs lie in a directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..._text_tables import print_table
from ..results import Result

_LEVELS = ("dataset", "model", "sampler", "wrapper", "reweighting")
_HEAD = (
    *("Dataset", "Network", "Sampler", "Score", "Reweighting", "Params"),
    *("Epochs", "Steps", "State"),
)


def _begun(directory: Path) -> bool:
    return any((directory / name).is_file() for name in ("train.txt", "run.json", "stdout"))


def find(root: Path) -> list[Path]:
    """Directories of runs, and those laid out as DATASET/.../PARAMS for runs to come.

    Args:
        root: the directory to look in.

    Returns:
        list of `Path`.
    """
    found = []
    for path in [*sorted(p for p in root.rglob("*") if p.is_dir()), root]:
        depth = len(path.relative_to(root).parts)
        if _begun(path) or (depth == len(_LEVELS) + 1 and not any(path.iterdir())):
            found.append(path)
    return found


def describe(root: Path, directory: Path) -> list[str]:
    """One run's cells.

    Args:
        root: the directory that runs are looked for in.
        directory: of the run.

    Returns:
        list of str, a cell for each column.
    """
    parts = directory.relative_to(root).parts
    cells = dict.fromkeys(_LEVELS, "-")
    params = "/".join(parts) or "."
    if len(parts) == len(_LEVELS) + 1:
        cells, params = dict(zip(_LEVELS, parts, strict=False)), parts[-1]
    epochs, steps, state = None, 0, "not begun"
    if (directory / "train.txt").is_file():
        result = Result(directory)
        epochs, steps = result.epochs, result.steps
        state = result.description.get("state", "begun")
        cells |= {level: result.settings[level] for level in _LEVELS if level in result.settings}
    shown = "-" if epochs is None else f"{epochs:.2f}"
    return [*(cells[level] for level in _LEVELS), params, shown, str(steps), state]


def _cells(root: Path, directory: Path) -> list[str]:
    try:
        return describe(root, directory)
    except (OSError, ValueError) as error:
        return [*("-" for _ in _LEVELS), str(directory.relative_to(root)), "-", "-", str(error)]


def _changed(directory: Path) -> float:
    path = directory / "train.txt"
    return (path if path.is_file() else directory).stat().st_mtime


def main(options: argparse.Namespace) -> int:
    """Prints a table."""
    if options.expdir and options.directory:
        raise ValueError("--expdir is another name of the directory: give one of them.")
    root = options.expdir or options.directory or Path(".")
    if not root.is_dir():
        raise NotADirectoryError(f"There is no directory {root}.")
    runs = [path for path in find(root) if _begun(path) != options.pending]
    if options.latest:
        runs.sort(key=_changed)
    if not runs:
        print(f"There are no runs{' to come' if options.pending else ''} below {root}.")
        return 0
    print_table(_HEAD, [_cells(root, path) for path in runs], left=len(_LEVELS) + 1)
    return 0
