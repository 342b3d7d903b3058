"""The arguments of all commands; nothing here takes time to import."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from . import registry
from .argument_types import numbers
from .papers import options as papers
from .registry import HYPERPARAMETERS, Row

STILL = (".png", ".svg", ".pdf")
"""How names of pictures that do not move may end."""

_WIDTH = 78


def _names(rows: Iterable[Row]) -> str:
    """The names of rows as a sentence has them: "a, b or c"."""
    *first, last = [row.name for row in rows]
    return f"{', '.join(first)} or {last}" if first else last


def _before() -> str:
    """What may stand before which samplers, in words."""
    samplers = registry.SAMPLERS.values()
    return (
        f"{_names(registry.SMOOTHINGS.values())} before {_names(r for r in samplers if r.smoothed)}"
        f"; {_names(registry.CONDITIONS.values())} before "
        f"{_names(r for r in samplers if r.conditional)} and what stands before these"
    )


def _described(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and what they are, as text of 78 columns."""
    indent = " " * 31
    lines = [f"{title}:"]
    for name, summary in pairs:
        begin = f"  {name:<28} "
        lines.append(textwrap.fill(begin + summary, _WIDTH, subsequent_indent=indent))
    return "\n".join(lines)


def _all_names() -> str:
    """Every name that `run` knows, with its line of help."""
    tables = (
        ("scores", registry.WRAPPERS),
        ("samplers", registry.SAMPLERS),
        ("before a sampler", registry.SMOOTHINGS),
        ("before a sampler and its smoothing", registry.CONDITIONS),
        ("reweightings", registry.REWEIGHTINGS),
        ("data sets", registry.DATASETS),
    )
    parts = [
        _described(title, ((row.name, row.summary) for row in table.values()))
        for title, table in tables
    ]
    used = (
        (f"{name}={next(iter(users.values())).letter}...", _meaning(name))
        for name, users in HYPERPARAMETERS.items()
    )
    return "\n\n".join([*parts, _described("hyper-parameters, with their defaults", used)])


def _meaning(name: str) -> str:
    """What a hyper-parameter is for each row that has it, with its default, in words."""
    by_summary: dict[str, list[str]] = {}
    for summary, default, users in registry.meanings_of(name):
        of = ", ".join(users) if default is None else f"{default} for {', '.join(users)}"
        by_summary.setdefault(summary, []).append(of)
    return "; ".join(f"{summary} ({'; '.join(of)})" for summary, of in by_summary.items())


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=["canevet", "mnist"], default="canevet")
    parser.add_argument("--data", help="mnist.npz or a folder that holds it")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="about how long the uniform training is to take; all others take as many steps",
    )
    parser.add_argument("--steps", type=int, help="exactly so many steps instead of --seconds")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and draws")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("importance-sampling-demo"),
        help="directory for demo.png and demo.json",
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _all_names()
    add = parser.add_argument
    add("model", help="network, such as small_cnn (see importance_sampling.models)")
    add("wrapper", help=f"score: {_names(registry.WRAPPERS.values())}")
    add("sampler", help=f"{_names(registry.SAMPLERS.values())}; {_before()}")
    add("reweighting", help=_names(registry.REWEIGHTINGS.values()))
    add("dataset", help=f"data set: {_names(registry.DATASETS.values())}")
    add("output_directory", help="directory for the results")
    add("--train_for", type=int, default=10000, help="mini-batches (seconds with time_based=i1)")
    add("--validate_every", type=int, default=300, help="mini-batches between evaluations")
    add(
        "--hyperparams",
        default="",
        help="key=TVALUE joined by ';', T one of s f i (one value) or S F I ('!'-separated list): "
        "'batch_size=i128;lr=f0.003;lr_reductions=I10000;k=f0.5'",
    )
    add("--save_predictions", action="store_true", help="write predictions.txt")
    add("--save_scores", action="store_true", help="write the scores of all examples evaluated")
    add("--save_train_scores", action="store_true", help="evaluate on training examples too")
    add("--plot_model", action="store_true", help="draw the network to model.png")
    add("--save_model", action="store_true", help="save weights at the end and every period")
    add("--snapshot_period", type=int, default=3000, help="mini-batches between saved weights")
    add("--initial_weights", help="begin with the weights of this file")
    add("--checkpoint_every", type=int, default=1000, help="mini-batches between checkpoints")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    again.add_argument("--overwrite", action="store_true", help="begin anew where a run is")


def _runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="directory of a run")


def _compare(parser: argparse.ArgumentParser) -> None:
    _runs(parser)
    parser.add_argument(
        "--errors",
        type=numbers,
        default=[5.0, 2.0, 1.0],
        help="test errors in percent, divided by commas, to tell steps and seconds to",
    )


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", nargs="?", type=Path, default=Path("."))
    parser.add_argument("--expdir", type=Path, help="the same, as the original's script names it")
    parser.add_argument("--latest", "-t", action="store_true", help="sort by last change")
    parser.add_argument("--pending", "-p", action="store_true", help="only runs not yet begun")


def _plot(parser: argparse.ArgumentParser) -> None:
    kinds = "; ".join(f"{row.name}: {row.summary}" for row in registry.PICTURES.values())
    parser.add_argument("kind", metavar="KIND", help=kinds.replace("%", "%%"))
    _runs(parser)
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        required=True,
        help="file: .png, .svg or .pdf; .gif or .mp4 for scores and predictions over training",
    )
    parser.add_argument("--title", help="of the picture")
    parser.add_argument("--frames", type=int, default=50, help="of an animation, at the most")


def _scores(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="network")
    parser.add_argument("weights", help="file with its weights")
    parser.add_argument("dataset", help="data set")
    parser.add_argument("--score", choices=list(registry.SCORES), default="loss")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--random_seed", type=int, default=0)
    parser.add_argument("--hyperparams", default="", help="of the data set, as for `run`")


def _variance_reduction(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", help="network")
    add("weights", help="file with its weights")
    add("dataset", help="data set")
    add("--samples", type=int, default=10, help="mini-batches to draw")
    add(
        "--score",
        choices=[*registry.SCORES, "ones", "uniform", "history"],
        nargs="+",
        default=["loss"],
        help="what to draw by; history: gnorm by --earlier_weights, some draws uniform",
    )
    add("--earlier_weights", type=Path, help="weights of the model some hundred steps before")
    add("--batch_size", type=int, default=128)
    add("--inner_batch_size", type=int, default=32, help="examples in one gradient computation")
    add("--sample_size", type=int, default=1024, help="examples whose gradient is estimated")
    add("--random_seed", type=int, default=0)
    add("--save_scores", type=Path, help="directory for SCORE.txt")
    add("--output", type=Path, help="JSON file to write")
    add("--picture", type=Path, help="picture to write, .png, .svg or .pdf")
    add("--hyperparams", default="", help="of the data set, as for `run`")


class Command(NamedTuple):
    """A command of `importance-sampling`.

    Attributes:
        summary: str, one line of help.
        add_options: adds its arguments to a parser.
        module: str, the module below `experiment` whose `main(options)` runs it.
    """

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]
    module: str


COMMANDS: dict[str, Command] = {
    "demo": Command("compare five ways to take the same training steps", _demo, "commands.demo"),
    "run": Command("run one experiment", _run, "commands.run"),
    "compare": Command("a table over runs", _compare, "commands.compare"),
    "list": Command("what runs lie in a directory", _list, "commands.list"),
    "plot": Command("draw runs", _plot, "commands.plot"),
    "scores": Command("print the score of every training example", _scores, "commands.scores"),
    "variance-reduction": Command(
        "how well mini-batches estimate a gradient",
        _variance_reduction,
        "commands.variance_reduction",
    ),
}
"""Every command by its name."""

PAPERS: dict[str, Command] = {
    name: Command(summary, add_options, f"papers.{name.replace('-', '_')}")
    for name, (summary, add_options) in papers.PROGRAMS.items()
}
"""The programs of the original's papers."""
