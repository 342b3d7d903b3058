"""The arguments of all commands; nothing here takes time to import."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

KINDS = {
    "curves": "training loss and test error over steps and over time",
    "scores": "distribution of the test examples' scores over training",
    "predictions": "scores drawn by against the scores that came out",
    "variance-reduction": "estimated variance reduction, and when drawing was by score",
    "draws": "where in the plane examples were drawn",
    "examples": "the images drawn most and least often",
}
"""What `plot` can draw."""


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=["canevet", "mnist"], default="canevet")
    parser.add_argument("--data", help="mnist.npz or a folder that holds it")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="about how long the uniform training is to take; all others take as many steps",
    )
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and draws")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("importance-sampling-demo"),
        help="directory for demo.png and demo.json",
    )


def _run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", help="network, such as small_cnn (see importance_sampling.models)")
    add("wrapper", help="score: oracle-loss, oracle-gnorm or oracle-acc")
    add(
        "sampler",
        help="uniform, model, lstm, pcg, obs, history, cache or lstm-comparison; smooth-, "
        "adaptive-smooth- or power-smooth- before model, lstm, pcg and history; warmup-, exp-, "
        "tv- or vr- before anything with model or lstm in its name",
    )
    add("reweighting", help="unweighted, predicted, adjusted or correcting")
    add("dataset", help="data set, such as mnist, cifar10-augmented or canevet-icml2016")
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
        type=_numbers,
        default=[5.0, 2.0, 1.0],
        help="test errors in percent, divided by commas, to tell steps and seconds to",
    )


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", nargs="?", type=Path, default=Path("."))
    parser.add_argument("--expdir", type=Path, help="the same, as the original's script names it")
    parser.add_argument("--latest", "-t", action="store_true", help="sort by last change")
    parser.add_argument("--pending", "-p", action="store_true", help="only runs not yet begun")


def _plot(parser: argparse.ArgumentParser) -> None:
    kinds = "; ".join(f"{name}: {summary}" for name, summary in KINDS.items())
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
    parser.add_argument("--score", choices=["gnorm", "loss"], default="loss")
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
        choices=["gnorm", "full_gnorm", "loss", "ones"],
        nargs="+",
        default=["loss"],
        help="what to draw by",
    )
    add("--batch_size", type=int, default=128)
    add("--inner_batch_size", type=int, default=32, help="examples in one gradient computation")
    add("--sample_size", type=int, default=1024, help="examples whose gradient is estimated")
    add("--random_seed", type=int, default=0)
    add("--save_scores", type=Path, help="directory for SCORE.txt")
    add("--hyperparams", default="", help="of the data set, as for `run`")


def _plot_distribution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--delimiter", "-d", default=" ", help="between values of a line")
    parser.add_argument("--xlim", type=_numbers, help="limits of the x axis, divided by a comma")
    parser.add_argument("--ylim", type=_numbers, help="limits of the y axis, divided by a comma")
    parser.add_argument("--frames", type=int, default=100, help="lines to read at the most")
    parser.add_argument("--to_file", type=Path, help="write the animation there (.gif or .mp4)")
    parser.add_argument("--vline", type=float, help="draw a vertical line")


def _plot_loss_evolution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("metrics", help="predictions.txt or comparison.txt; - for standard input")
    parser.add_argument("--to_file", type=Path, help="write the animation there (.gif or .mp4)")
    parser.add_argument("--step", type=int, default=1000, help="points between frames")
    parser.add_argument("--n_points", type=int, default=10000, help="points in a frame")
    parser.add_argument("--frames", type=_slice, default=slice(None), help="such as 10:100:2")
    parser.add_argument("--lim", type=_numbers, help="limits of both axes, divided by a comma")


def _lfw_forward_pass(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="pretrained_resnet50 or pretrained_densenet121")
    parser.add_argument("weights", help="file with its weights")
    parser.add_argument("output", type=Path, help="file for the representations, float32")
    parser.add_argument("--embedding", type=int, default=128, help="size of a representation")
    parser.add_argument("--slice", type=_slice, default=slice(None), help="part, such as 0:1000")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--dataset_path", help="directory of LFW (or the variable LFW)")


def _lfw_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("representations", type=Path, help="what lfw-forward-pass wrote")
    parser.add_argument("--embedding", type=int, default=128, help="size of a representation")
    parser.add_argument("--folds", type=int, default=10, help="how many folds there are")
    parser.add_argument("--dataset_path", help="directory of LFW (or the variable LFW)")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers divided by commas, got {text!r}"
        ) from None


def _slice(text: str) -> slice:
    try:
        return slice(*(int(part) if part else None for part in text.split(":")))
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"expected START:STOP[:STEP], got {text!r}") from None


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "demo": ("compare five ways to take the same training steps", _demo),
    "run": ("run one experiment", _run),
    "compare": ("a table over runs", _compare),
    "list": ("what runs lie in a directory", _list),
    "plot": ("draw runs", _plot),
    "scores": ("print the score of every training example", _scores),
    "variance-reduction": (
        "how well mini-batches estimate a gradient",
        _variance_reduction,
    ),
    "plot-distribution": ("animate the distribution of each line's values", _plot_distribution),
    "plot-loss-evolution": ("animate predicted against actual losses", _plot_loss_evolution),
    "lfw-forward-pass": ("compute representations of the faces of LFW", _lfw_forward_pass),
    "lfw-evaluate": ("evaluate representations of the faces of LFW", _lfw_evaluate),
}
"""Every command with a summary and what adds its arguments."""
