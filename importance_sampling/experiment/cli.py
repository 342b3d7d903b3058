"""`importance-sampling`: the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = argparse.ArgumentParser(
        prog="importance-sampling",
        description="Importance sampling for the training of Keras models. The backend is chosen "
        "by the environment variable KERAS_BACKEND (tensorflow, jax or torch).",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="compare three ways to spend the same training time")
    demo.add_argument("--dataset", choices=["canevet", "mnist"], default="canevet")
    demo.add_argument("--data", help="mnist.npz or a folder that holds it")
    demo.add_argument("--seconds", type=float, default=20.0, help="training time of each arm")
    demo.add_argument("--seed", type=int, default=0, help="of data, weights and draws")
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("importance-sampling-demo"),
        help="directory for demo.png and demo.json",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status, 2 after an error that is the user's to mend."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = _parser().parse_args(arguments)
    # Imported late: deep learning frameworks take seconds to load, `--help` should not.
    from . import demo

    try:
        return demo.main(options)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"importance-sampling: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nimportance-sampling: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
