"""What is in a directory before a run begins in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from .._files import final_name
from ..state_files import load_state, save_state
from .lock import LOCK
from .logs import COLUMNS, check_sizes
from .results import RUN, read_description

CHECKPOINT = "checkpoint.npz"
BEFORE = "checkpoint.before.npz"
"""The checkpoint before, which is gone on from where the last one, or its logs, are not whole."""

DRAWS = "draws.npy"
"""How often each example was drawn, written when a run ends."""

_PARTS = ("model", "sampler", "wrapper", "loop", "recorder", "sizes", "last")


class Checkpoint(NamedTuple):
    """A state to go on from.

    Attributes:
        path: the file that it was read from.
        state: what `save_checkpoint` was given.
    """

    path: Path
    state: dict[str, Any]


def state_to_resume(
    directory: Path, settings: dict[str, Any], resume: bool, overwrite: bool, begun: bool = False
) -> Checkpoint | None:
    """The state of an interrupted run to go on from, or None to begin anew.

    Args:
        directory: where the run is to be.
        settings: what the run is, as it is written to its description.
        resume: whether to go on with what is there.
        overwrite: whether to leave what is there out of account.
        begun: whether a run is known to have begun there, whatever is to be seen of it.

    Raises:
        ValueError: if there is a run and neither was asked for, or one with other settings.
        OSError: if its files cannot be read; names the file.
    """
    if overwrite:
        return None
    found = directory / RUN
    if not found.exists() and not _has_rows(directory):
        if resume and not begun and _holds_others_only(directory):
            raise ValueError(f"{directory} holds no run that could go on.")
        # Nothing, or what a run had begun when it was killed before its first step.
        return None
    if not resume:
        refuse_another(directory)
    try:
        before = read_description(found)["settings"]
    except FileNotFoundError:
        raise OSError(
            f"{directory} holds a run without {RUN}, which says how it was made, so that it "
            "cannot go on. Begin anew with --overwrite, or in another directory."
        ) from None
    except (OSError, ValueError) as error:
        raise OSError(f"{error} The run cannot go on; begin anew with --overwrite.") from error
    for name, value in settings.items():
        if before.get(name) != value:
            raise ValueError(
                f"The run in {directory} was made with {name} {_short(before.get(name))}, "
                f"now it is {_short(value)}. A run goes on with the same settings."
            )
    return _last_checkpoint(directory)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."


def refuse_another(directory: Path) -> None:
    """Refuses a directory that holds a run, for one that is neither to go on nor to begin anew.

    Args:
        directory: where the run is to be.

    Raises:
        ValueError: if there is a run.
    """
    if (directory / RUN).exists() or _has_rows(directory):
        raise ValueError(
            f"{directory} holds a run already. Pass --resume to go on with it, --overwrite to "
            "begin anew, or another directory."
        )


def _has_rows(directory: Path) -> bool:
    """Whether a log has more than the first line, or there is a checkpoint."""
    if any((directory / name).exists() for name in (CHECKPOINT, BEFORE)):
        return True
    for name, columns in COLUMNS.items():
        path = directory / name
        if path.is_file() and path.stat().st_size > len(" ".join(columns)) + 1:
            return True
    return False


def _holds_others_only(directory: Path) -> bool:
    """Whether there are files, but none that a run writes before its first step."""
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    others = [name for name in names if name != LOCK]
    return bool(others) and not any(name in COLUMNS or _is_temporary(name) for name in others)


def _is_temporary(name: str) -> bool:
    """Whether a file is one that a run had begun to write when it was killed."""
    final = final_name(name) or ""
    return final in (RUN, CHECKPOINT, DRAWS) or final.endswith(".weights.h5")


def remove_temporaries(directory: Path) -> None:
    """Removes what runs that were killed left half written.

    Args:
        directory: where no other run writes now.
    """
    for path in directory.iterdir():
        if _is_temporary(path.name):
            path.unlink(missing_ok=True)


def _last_checkpoint(directory: Path) -> Checkpoint | None:
    """The last checkpoint that is whole and whose logs are; None if there never was one."""
    reasons: list[str] = []
    for name in (CHECKPOINT, BEFORE):
        path = directory / name
        if not path.exists():
            continue
        try:
            state = _read(path)
            check_sizes(directory, state["sizes"])
        except (OSError, ValueError) as error:
            reasons.append(str(error))
            continue
        if reasons:
            print(f"{reasons[0]} Going on from {path}, the one before.", file=sys.stderr)
        return Checkpoint(path, state)
    if reasons:
        raise OSError(f"{' '.join(reasons)} The run cannot go on; begin anew with --overwrite.")
    # Interrupted before there was anything to go on from.
    return None


def _read(path: Path) -> dict[str, Any]:
    state = load_state(path)
    parts = {"sizes": dict, "recorder": dict, "model": dict}
    if not isinstance(state, dict) or any(name not in state for name in _PARTS):
        raise ValueError(f"{path} is no checkpoint of a run: expected the parts {list(_PARTS)}.")
    if any(not isinstance(state[name], kind) for name, kind in parts.items()):
        raise ValueError(f"{path} is no checkpoint of a run: its parts are of other kinds.")
    return state


def save_checkpoint(directory: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint; the one before is kept beside it.

    Args:
        directory: that of the run.
        state: nested dicts and lists of numbers, strings and arrays, by the names of its parts.
    """
    save_state(directory / CHECKPOINT, state, directory / BEFORE)


def go_on_from(checkpoint: Checkpoint) -> None:
    """Makes a checkpoint the last one, so that the next does not take the place of a whole one.

    Args:
        checkpoint: what `state_to_resume` returned.
    """
    path = checkpoint.path
    if path.name == BEFORE:
        path.replace(path.with_name(CHECKPOINT))
