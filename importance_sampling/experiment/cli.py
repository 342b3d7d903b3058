"""`importance-sampling`: the command line."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from .options import COMMANDS, PAPERS
from .signals import Stopped, sigterm_raises, status

_PROGRAM = "importance-sampling"


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Importance sampling for the training of Keras models. The backend is chosen "
        "by the environment variable KERAS_BACKEND (tensorflow, jax or torch).",
        epilog=f"Programs of the original's papers: {', '.join(PAPERS)}.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_options(
            commands.add_parser(name, help=command.summary, description=command.summary)
        )
    for name, command in PAPERS.items():
        # Without a line of help, so that they are not listed.
        command.add_options(commands.add_parser(name, description=command.summary))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the command and its arguments; those of the process if left out.

    Returns:
        The exit status: 2 after an error that is the user's to mend, 130 after Ctrl-C, 143 after
        SIGTERM.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = _parser().parse_args(arguments)
    try:
        # Imported late: deep learning frameworks take seconds to load, `--help` should not.
        command = {**COMMANDS, **PAPERS}[options.command]
        module = importlib.import_module(f".{command.module}", __package__)
        with sigterm_raises():
            return module.main(options)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # One line, whatever the error's own layout.
        print(f"{_PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{_PROGRAM}: interrupted", file=sys.stderr)
        return status(stop.number if isinstance(stop, Stopped) else signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
