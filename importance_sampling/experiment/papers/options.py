"""The arguments of the papers' programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..argument_types import numbers, slice_of


def _plot_distribution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--delimiter", "-d", default=" ", help="between values of a line")
    parser.add_argument("--xlim", type=numbers, help="limits of the x axis, divided by a comma")
    parser.add_argument("--ylim", type=numbers, help="limits of the y axis, divided by a comma")
    parser.add_argument("--frames", type=int, default=100, help="lines to read at the most")
    parser.add_argument("--to_file", type=Path, help="write the animation there (.gif or .mp4)")
    parser.add_argument("--vline", type=float, help="draw a vertical line")


def _plot_loss_evolution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("metrics", help="predictions.txt or comparison.txt; - for standard input")
    parser.add_argument("--to_file", type=Path, help="write the animation there (.gif or .mp4)")
    parser.add_argument("--step", type=int, default=1000, help="points between frames")
    parser.add_argument("--n_points", type=int, default=10000, help="points in a frame")
    parser.add_argument("--frames", type=slice_of, default=slice(None), help="such as 10:100:2")
    parser.add_argument("--lim", type=numbers, help="limits of both axes, divided by a comma")


def _lfw_forward_pass(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="pretrained_resnet50 or pretrained_densenet121")
    parser.add_argument("weights", help="file with its weights")
    parser.add_argument("output", type=Path, help="file for the representations, float32")
    parser.add_argument("--embedding", type=int, default=128, help="size of a representation")
    parser.add_argument("--slice", type=slice_of, default=slice(None), help="part, such as 0:1000")
    parser.add_argument("--batch_size", type=int, default=16, help="images in one forward pass")
    parser.add_argument("--dataset_path", help="directory of LFW (or the variable LFW)")


def _lfw_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("representations", type=Path, help="what lfw-forward-pass wrote")
    parser.add_argument("--embedding", type=int, default=128, help="size of a representation")
    parser.add_argument("--folds", type=int, default=10, help="how many folds there are")
    parser.add_argument("--dataset_path", help="directory of LFW (or the variable LFW)")


class Program(NamedTuple):
    """A program of the papers; see `Command` for what is of the same name there."""

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]
    example: str
    loads_backend: bool = False


PROGRAMS: dict[str, Program] = {
    "plot-distribution": Program(
        "animate the distribution of each line's values",
        _plot_distribution,
        "--to_file values.gif < values.txt",
    ),
    "plot-loss-evolution": Program(
        "animate predicted against actual losses",
        _plot_loss_evolution,
        "runs/first/predictions.txt --to_file losses.gif",
    ),
    "lfw-forward-pass": Program(
        "compute representations of the faces of LFW",
        _lfw_forward_pass,
        "pretrained_resnet50 resnet.weights.h5 faces.bin --dataset_path lfw",
        True,
    ),
    "lfw-evaluate": Program(
        "evaluate representations of the faces of LFW",
        _lfw_evaluate,
        "faces.bin --dataset_path lfw",
    ),
}
"""Every program by its name."""
