"""What arguments on the command line are made of."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any

from .._names import nearest, unknown
from .hyperparams import KNOWN


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help shows defaults and keeps its layout."""

    def __init__(self, **options: Any):
        super().__init__(**{"formatter_class": HelpFormatter, **options})
        self._given: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses what is known; errors look at the rest as well.

        Args:
            args: list of str; those of the process where None.
            namespace: takes the values.

        Returns:
            `(namespace, rest)`.
        """
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> Any:
        """Ends the process with status 2.

        Args:
            message: str, what is wrong.
        """
        lines = " ".join(f"{message}{self._misspelt(message)}".split())
        self.exit(2, f"{self.prog}: {lines} (`{self.prog} --help` says more)\n")

    def _misspelt(self, message: str) -> str:
        """The option that there is not, which nobody looks for where an argument is missing."""
        known = self._option_string_actions
        if "arguments are required" not in message:
            return ""
        for given in self._given:
            name = given.partition("=")[0]
            if name == "--":
                break
            # Options may be shortened.
            if name.startswith("--") and not any(option.startswith(name) for option in known):
                return f". {no_option(given, known)}"
        return ""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with the defaults of options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help or "", action.default
        if not action.option_strings or default is None or default is False or default == "":
            return text
        if isinstance(default, list):
            # As it is written on the command line: values of their own, or divided by commas.
            default = (" " if action.nargs else ",").join(
                f"{one:g}" if isinstance(one, float) else str(one) for one in default
            )
        elif isinstance(default, slice) or default == argparse.SUPPRESS:
            return text
        elif isinstance(default, str) and not default.strip():
            default = repr(default)
        return f"{text} (default: {str(default).replace('%', '%%')})".strip()


def one_of(kind: str, names: Iterable[str]) -> Callable[[str], str]:
    """An argument that is one of some names, with an error that says which is most alike.

    Args:
        kind: str, what the names are of.
        names: all that there are.

    Returns:
        A function to be the `type` of an argument.
    """
    known = list(names)

    def checked(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(str(unknown(kind, text, known)))
        return text

    return checked


def no_option(argument: str, options: Iterable[str]) -> str:
    """Says that there is no such option, and what may have been meant.

    Args:
        argument: str, as it was given.
        options: all that there are, as "--name".

    Returns:
        str.
    """
    return f"There is no option {argument!r}.{_hint_for(argument, list(options))}"


def _hint_for(argument: str, options: list[str]) -> str:
    name, _, value = argument.partition("=")
    key = name.lstrip("-").replace("-", "_")
    if key in KNOWN and "--hyperparams" in options:
        what = f"{key}={KNOWN[key]}{value or 'VALUE'}"
        return f" It is a hyper-parameter: --hyperparams '{what}'."
    if key in ("backend", "keras_backend"):
        return f" Set the environment variable KERAS_BACKEND={value or 'tensorflow, jax or torch'}."
    return nearest(name, options)


def numbers(text: str) -> list[float]:
    """Numbers divided by commas.

    Args:
        text: str, such as "5,2.5".

    Returns:
        list of float.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers divided by commas, got {text!r}"
        ) from None


def slice_of(text: str) -> slice:
    """A slice as Python writes it.

    Args:
        text: str, such as "10:100:2".

    Returns:
        slice.
    """
    try:
        return slice(*(int(part) if part else None for part in text.split(":")))
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"expected START:STOP[:STEP], got {text!r}") from None
