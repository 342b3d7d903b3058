"""Where, when and with what the figures of a file were made."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The commit of the checkout, with a + where files were changed after it; else nothing."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cores() -> int | None:
    """The cores that this process may use; `taskset` leaves fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def header(backend: str | None) -> dict[str, Any]:
    """Machine, versions, commit, date and command.

    Args:
        backend: the framework whose version is told; None where there is none.
    """
    from importance_sampling import __version__

    names = ("keras", *([backend] if backend else []), "numpy")
    return {
        "date": date.today().isoformat(),
        "machine": {"processor": _processor(), "cores": _cores()},
        "versions": {
            "python": platform.python_version(),
            "keras-importance-sampling": __version__,
            **{name: version(name) for name in names},
        },
        "commit": _commit(),
        "command": ["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]],
    }
