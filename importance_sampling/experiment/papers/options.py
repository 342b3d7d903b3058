"""The arguments of the papers' programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

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
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--dataset_path", help="directory of LFW (or the variable LFW)")


def _lfw_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("representations", type=Path, help="what lfw-forward-pass wrote")
    parser.add_argument("--embedding", type=int, default=128, help="size of a representation")
    parser.add_argument("--folds", type=int, default=10, help="how many folds there are")
    parser.add_argument("--dataset_path", help="directory of LFW (or the variable LFW)")


PROGRAMS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "plot-distribution": ("animate the distribution of each line's values", _plot_distribution),
    "plot-loss-evolution": ("animate predicted against actual losses", _plot_loss_evolution),
    "lfw-forward-pass": ("compute representations of the faces of LFW", _lfw_forward_pass),
    "lfw-evaluate": ("evaluate representations of the faces of LFW", _lfw_evaluate),
}
"""Every program with a summary and what adds its arguments."""
