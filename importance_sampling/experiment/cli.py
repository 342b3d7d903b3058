"""`importance-sampling`: the command line."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from .._names import nearest
from .._requirements import check_trains
from .argument_types import Parser, no_option
from .options import COMMANDS, PAPERS
from .signals import Stopped, sigterm_raises, status
from .startup import load_backend

_PROGRAM = "importance-sampling"
_ALL = {**COMMANDS, **PAPERS}
# As shells have it of a program that SIGPIPE ended.
_UNREAD = 141


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = Parser(
        prog=_PROGRAM,
        description="Importance sampling for the training of Keras models. The backend is chosen\n"
        "by the environment variable KERAS_BACKEND (tensorflow, jax or torch).",
        epilog=f"example:\n  {_PROGRAM} demo --seconds 5\n\n"
        "Programs of the original's papers: plot-distribution, plot-loss-evolution,\n"
        "lfw-forward-pass, lfw-evaluate. `COMMAND --help` shows an example of each.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _ALL.items():
        # Those without a line of help are not listed.
        listed: dict[str, Any] = {"help": command.summary} if name in COMMANDS else {}
        command.prepare(commands.add_parser(name, description=command.summary, **listed))
    return parser


def _script_parser(name: str, program: str) -> argparse.ArgumentParser:
    parser = Parser(prog=program, description=_ALL[name].summary)
    parser.set_defaults(command=name)
    _ALL[name].prepare(parser)
    return parser


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments; errors say what may have been meant."""
    if parser.prog == _PROGRAM and arguments and not arguments[0].startswith("-"):
        name = arguments[0]
        if name not in _ALL:
            known = "" if nearest(name, _ALL) else f" Commands: {', '.join(COMMANDS)}."
            parser.error(f"There is no command {name!r}.{nearest(name, _ALL)}{known}")
    options, rest = parser.parse_known_args(arguments)
    if rest:
        if parser.prog == _PROGRAM:
            parser.prog += f" {options.command}"
        if not rest[0].startswith("-"):
            parser.error(f"There is no argument {rest[0]!r}.")
        names = [f"--{name}" for name in vars(options) if name != "command"]
        parser.error(no_option(rest[0], names))
    return options


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a line, without the place in the code that it comes from."""
    print(f"{_PROGRAM}: {' '.join(str(message).split())}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None, script: tuple[str, str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the command and its arguments; those of the process if left out.
        script: for a script of its own: the command that it stands for, and what it is called. It
            is left out of the arguments then.

    Returns:
        The exit status: 2 after an error that is the user's to mend, 130 after Ctrl-C, 141 where
        nobody reads the output any more, 143 after SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser() if script is None else _script_parser(*script)
    options = _parsed(parser, arguments)
    try:
        # Imported late: deep learning frameworks take seconds to load, `--help` should not.
        command = _ALL[options.command]
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        command.check(options)
        if command.loads_backend:
            check_trains()
            load_backend()
        module = importlib.import_module(f".{command.module}", __package__)
        with sigterm_raises(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return module.main(options)
    except BrokenPipeError:
        # Whoever reads has seen enough. What is left would be an error when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # One line, whatever the error's own layout.
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{parser.prog}: interrupted", file=sys.stderr)
        return status(stop.number if isinstance(stop, Stopped) else signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
