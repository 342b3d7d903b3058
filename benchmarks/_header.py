"""Where, when and with what the figures of a file were made."""

from __future__ import annotations

import os
import platform
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


def header(backend: str) -> dict[str, Any]:
    """Machine, versions, date and command."""
    from importance_sampling import __version__

    names = ("keras", backend, "numpy")
    return {
        "date": date.today().isoformat(),
        "machine": {"processor": _processor(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            "keras-importance-sampling": __version__,
            **{name: version(name) for name in names},
        },
        "command": ["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]],
    }
