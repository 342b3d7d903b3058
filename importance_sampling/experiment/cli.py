"""`importance-sampling`: the command line."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from . import _options

_PROGRAM = "importance-sampling"


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Importance sampling for the training of Keras models. The backend is chosen "
        "by the environment variable KERAS_BACKEND (tensorflow, jax or torch).",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (summary, add_options) in _options.COMMANDS.items():
        add_options(commands.add_parser(name, help=summary, description=summary))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status, 2 after an error that is the user's to mend."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = _parser().parse_args(arguments)
    try:
        # Imported late: deep learning frameworks take seconds to load, `--help` should not.
        module = importlib.import_module(f".{options.command.replace('-', '_')}", __package__)
        return module.main(options)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # One line, whatever the error's own layout.
        print(f"{_PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{_PROGRAM}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
