"""The arguments of all commands; nothing here takes time to import."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import checks, registry
from .argument_types import numbers, one_of
from .help_texts import (
    all_names,
    before,
    command_line,
    described,
    either,
    models_and_data,
    names_of,
)
from .papers import options as papers

DEMO_DATASETS = ("canevet", "mnist")
"""What `demo` trains on."""

SNAPSHOT_PERIOD = 3000
"""Steps between saved weights, if they are saved."""

FRAMES = 50
"""Frames of an animation, at the most."""

STILL = (".png", ".svg", ".pdf")
"""How names of pictures that do not move may end."""

MOVING = (".gif", ".mp4")
"""How names of animations may end."""


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        type=one_of("data set of the demo", DEMO_DATASETS),
        default=DEMO_DATASETS[0],
        help=f"{' or '.join(DEMO_DATASETS)}; canevet is points in the plane, made up",
    )
    parser.add_argument("--data", help="mnist.npz or a folder that holds it, for mnist")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="about how long the uniform training is to take; all others take as many steps",
    )
    length.add_argument("--steps", type=int, help="exactly so many steps instead of --seconds")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and draws")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("importance-sampling-demo"),
        help="directory for demo.png and demo.json",
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.epilog = all_names()
    add = parser.add_argument
    add("model", help="network, such as small_cnn; all are listed below")
    add("wrapper", help=f"score: {names_of(registry.WRAPPERS.values())}")
    add("sampler", help=f"{names_of(registry.SAMPLERS.values())}; {before()}")
    add("reweighting", help=names_of(registry.REWEIGHTINGS.values()))
    add("dataset", help="data set, such as mnist; all are listed below")
    add("output_directory", help="directory for the results")
    add("--train_for", type=int, default=10000, help="mini-batches (seconds with time_based=i1)")
    add(
        "--validate_every",
        type=int,
        default=300,
        help="mini-batches between evaluations; the end is always evaluated",
    )
    add(
        "--hyperparams",
        default="",
        help="key=TVALUE joined by ';', T one of s f i (one value) or S F I (a list divided by "
        "'!'), such as 'batch_size=i128;lr_reductions=I1000!2000'",
    )
    add("--save_predictions", action="store_true", help="write predictions.txt")
    add("--save_scores", action="store_true", help="write the scores of all examples evaluated")
    add("--save_train_scores", action="store_true", help="evaluate on training examples too")
    add("--plot_model", action="store_true", help="draw the network to model.png")
    add("--save_model", action="store_true", help="save weights at the end and every period")
    add(
        "--snapshot_period",
        type=int,
        default=SNAPSHOT_PERIOD,
        help="mini-batches between saved weights, with --save_model",
    )
    add("--initial_weights", metavar="FILE", help="begin with the weights of this file")
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
    parser.add_argument(
        "directory", nargs="?", type=Path, help="where to look; the present one if left out"
    )
    parser.add_argument(
        "--expdir", type=Path, metavar="DIRECTORY", help="the same, as the original's script has it"
    )
    parser.add_argument("--latest", "-t", action="store_true", help="sort by last change")
    parser.add_argument("--pending", "-p", action="store_true", help="only runs not yet begun")


def _plot(parser: argparse.ArgumentParser) -> None:
    parser.epilog = described(
        "kinds", ((f"{row.name}:", row.summary) for row in registry.PICTURES.values())
    )
    parser.add_argument("kind", metavar="KIND", help=names_of(registry.PICTURES.values()))
    _runs(parser)
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"file: {either(STILL)}; {either(MOVING)} for scores and predictions over training",
    )
    parser.add_argument("--title", help="of a picture that does not move")
    parser.add_argument(
        "--frames", type=int, default=FRAMES, help="of an animation (.gif, .mp4), at the most"
    )


def _scores(parser: argparse.ArgumentParser) -> None:
    parser.epilog = models_and_data()
    parser.add_argument("model", help="network, listed below")
    parser.add_argument("weights", help="file with its weights")
    parser.add_argument("dataset", help="data set, listed below")
    parser.add_argument(
        "--score",
        type=one_of("score", registry.SCORES),
        default="loss",
        help=names_of(registry.SCORES.values()),
    )
    parser.add_argument("--batch_size", type=int, default=128, help="examples scored in one call")
    parser.add_argument("--random_seed", type=int, default=0, help="of what is made up or drawn")
    parser.add_argument("--hyperparams", default="", help="of the data set, as for `run`")


def _variance_reduction(parser: argparse.ArgumentParser) -> None:
    parser.epilog = models_and_data()
    add = parser.add_argument
    add("model", help="network, listed below")
    add("weights", help="file with its weights")
    add("dataset", help="data set, listed below")
    add("--samples", type=int, default=10, metavar="N", help="mini-batches to draw")
    draws = (*registry.SCORES, "ones", "uniform", "history")
    add(
        "--score",
        type=one_of("score", draws),
        nargs="+",
        default=["loss"],
        help=f"what to draw by: {either(draws)}; ones is uniform, history is gnorm by "
        "--earlier_weights with some draws uniform",
    )
    add(
        "--earlier_weights",
        type=Path,
        metavar="FILE",
        help="weights of the model some hundred steps before",
    )
    add("--batch_size", type=int, default=128, metavar="N", help="examples in a mini-batch")
    add(
        "--inner_batch_size",
        type=int,
        default=32,
        metavar="N",
        help="examples in one gradient computation",
    )
    add(
        "--sample_size",
        type=int,
        default=1024,
        metavar="N",
        help="examples whose gradient is estimated",
    )
    add("--random_seed", type=int, default=0, metavar="N", help="of all draws")
    add("--save_scores", type=Path, metavar="DIRECTORY", help="directory for SCORE.txt")
    add("--output", type=Path, metavar="FILE", help="JSON file to write")
    add("--picture", type=Path, metavar="FILE", help=f"picture to write, {either(STILL)}")
    add("--hyperparams", default="", help="of the data set, as for `run`")


class Command(NamedTuple):
    """A command of `importance-sampling`.

    Attributes:
        summary: str, one line of help.
        add_options: adds its arguments to a parser.
        module: str, the module below `experiment` whose `main(options)` runs it.
        example: str, arguments that it may be called with.
        loads_backend: bool, whether it computes with a network.
        check: refuses arguments that cannot work, before anything that takes time.
    """

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]
    module: str
    example: str
    loads_backend: bool = True
    check: Callable[[argparse.Namespace], None] = checks.accept

    def prepare(self, parser: argparse.ArgumentParser) -> None:
        """Adds its arguments and its example to a parser.

        Args:
            parser: of this command alone.
        """
        self.add_options(parser)
        example = command_line(f"{parser.prog} {self.example}")
        text = f"example:\n  {example}\n\n{parser.epilog or ''}"
        parser.epilog = text.rstrip().replace("%", "%%")


_RUN = "runs/first"

COMMANDS: dict[str, Command] = {
    "demo": Command(
        "compare five ways to take the same training steps",
        _demo,
        "commands.demo",
        "--seconds 5 --output demo",
        check=checks.check_demo,
    ),
    "run": Command(
        "run one experiment",
        _run,
        "commands.run",
        f"small_cnn oracle-gnorm model predicted mnist {_RUN} --train_for 2000 "
        "--hyperparams 'batch_size=i128;lr=f0.003;presample=i640'",
        check=checks.check_run,
    ),
    "compare": Command(
        "a table over runs",
        _compare,
        "commands.compare",
        f"{_RUN} runs/uniform --errors 5,2",
        False,
        checks.check_compare,
    ),
    "list": Command("what runs lie in a directory", _list, "commands.list", "runs --latest", False),
    "plot": Command(
        "draw runs", _plot, "commands.plot", f"curves {_RUN} runs/uniform -o curves.png", False
    ),
    "scores": Command(
        "print the score of every training example",
        _scores,
        "commands.scores",
        f"small_cnn {_RUN}/model.weights.h5 mnist > scores.txt",
        check=checks.check_experiment,
    ),
    "variance-reduction": Command(
        "how well mini-batches estimate a gradient",
        _variance_reduction,
        "commands.variance_reduction",
        f"small_cnn {_RUN}/model.weights.h5 mnist --score uniform loss gnorm",
        check=checks.check_variance_reduction,
    ),
}
"""Every command by its name."""

PAPERS: dict[str, Command] = {
    name: Command(
        program.summary,
        program.add_options,
        f"papers.{name.replace('-', '_')}",
        program.example,
        program.loads_backend,
    )
    for name, program in papers.PROGRAMS.items()
}
"""The programs of the original's papers."""
