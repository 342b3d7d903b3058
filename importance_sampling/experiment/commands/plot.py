"""`importance-sampling plot`: pictures of runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import plots
from ..._files import make_directory, write_whole
from ..._names import unknown
from .. import registry
from ..help_texts import times
from ..options import FRAMES, MOVING, STILL
from ..registry.decorators import CONDITIONS
from ..results import Result

_SHOWN = 32


def _check_output(options: argparse.Namespace, moving: bool, animated: bool) -> None:
    """Refuses what is no name of a picture, and options without an effect on it."""
    output = options.output
    allowed = [*STILL, *(MOVING if animated else ())]
    if output.is_dir():
        raise IsADirectoryError(
            f"--output {output} is a folder; name a file in it, such as "
            f"{output / options.kind}{STILL[0]}."
        )
    if output.suffix not in allowed:
        also = ""
        if output.suffix in MOVING:
            kinds = [row.name for row in registry.PICTURES.values() if row.animated]
            also = f"; {' and '.join(MOVING)} are for {' and '.join(kinds)}"
        raise ValueError(
            f"--output {output} must end in {', '.join(allowed[:-1])} or {allowed[-1]} for the "
            f"kind {options.kind}{also}."
        )
    if moving and options.title:
        raise ValueError("--title is for pictures that do not move; each frame has its own.")
    if not moving and options.frames != FRAMES:
        raise ValueError(f"--frames is for animations, whose names end in {' or '.join(MOVING)}.")


def main(options: argparse.Namespace) -> int:
    """Draws and writes a picture."""
    if options.kind not in registry.PICTURES:
        raise unknown("kind of picture", options.kind, registry.PICTURES)
    animated = registry.PICTURES[options.kind].animated
    moving = animated and options.output.suffix in MOVING
    _check_output(options, moving, animated)
    results = [Result(path) for path in options.runs]
    make_directory(options.output.parent)
    with plots.style():
        if moving:
            _ANIMATED[options.kind](_one(results, options.kind), options)
        else:
            picture = draw(options.kind, results)
            if options.title:
                picture.suptitle(options.title)
            write_whole(options.output, lambda path: picture.savefig(path, dpi=130))
    print(f"The picture is {options.output}")
    return 0


def draw(kind: str, results: list[Result]) -> Any:
    """Draws a picture that does not move.

    Args:
        kind: str, one of `registry.PICTURES`.
        results: the runs.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: if a run lacks what is to be drawn; says how to get it.
    """
    return _KINDS[kind](results)


def _figure(*shape: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure in no window, and its axes."""
    made = plots.Picture(figsize=size, layout="constrained")
    return made, made.subplots(*shape)


def _one(results: list[Result], kind: str) -> Result:
    if len(results) != 1:
        raise ValueError(f"A picture of {kind} is of one run, got {len(results)}.")
    return results[0]


def _lacking(result: Result, what: str, option: str) -> ValueError:
    return ValueError(f"The run in {result.directory} has no {what}. Run it with {option}.")


def _curves(results: list[Result]) -> Any:
    for result in results:
        if not result.steps:
            raise ValueError(f"The run in {result.directory} has not made a step yet.")
    accuracy = all(result.measures_accuracy for result in results)
    window = max(1, max((r.steps for r in results), default=1) // 100)
    mean = f", mean of {window} steps" if window > 1 else ""
    # More curves than are told apart in one panel go below.
    groups = [results[i : i + plots.MOST_CURVES] for i in range(0, len(results), plots.MOST_CURVES)]
    rows = 2 * len(groups)
    made, axes = _figure(rows, 2, size=(9, 3 * rows))
    for g, group in enumerate(groups):
        for column, (xlabel, timed) in enumerate((("steps", False), ("training time (s)", True))):
            losses, errors = [], []
            for result in group:
                steps = np.arange(1, result.steps + 1)
                at = result.validated_at
                x = result.seconds_at(steps) if timed else steps
                losses.append(plots.Curve(result.label, x, result.train[:, 0]))
                measured = result.validation
                values = 100 * (1 - measured[:, 1]) if accuracy else measured[:, 0]
                where = result.seconds_at(at) if timed else at
                errors.append(plots.Curve(result.label, where, values))
            look: dict[str, Any] = {"named": timed, "first": g * plots.MOST_CURVES}
            over = "time" if timed else "steps"
            plots.training_curves(
                axes[2 * g, column],
                losses,
                xlabel,
                "training loss",
                window,
                title=f"Training loss over {over}{mean}",
                **look,
            )
            unit = " (%)" if accuracy else ""
            name = "test error" if accuracy else "test loss"
            plots.training_curves(
                axes[2 * g + 1, column],
                errors,
                xlabel,
                f"{name}{unit}",
                title=f"{name.capitalize()} over {over}",
                **look,
            )
    return made


def _scores(results: list[Result]) -> Any:
    result = _one(results, "scores")
    if not len(result.scores):
        raise _lacking(result, "scores of evaluations", "--save_scores")
    made, axes = _figure(size=(8, 4.5))
    steps = result.validated_at[: len(result.scores)]
    plots.score_distribution(axes, steps, result.scores, _score_name(result))
    axes.set_title(f"{result.label}: scores of {result.scores.shape[1]} test examples")
    return made


def _score_name(result: Result) -> str:
    row = registry.WRAPPERS.get(result.settings.get("wrapper", ""))
    return "score" if row is None else row.label


def _pairs(result: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Actual and predicted scores, and classes where they are known."""
    rows = result.predictions
    if len(rows):
        return rows[:, 0], rows[:, 1], rows[:, 2].astype(int)
    rows = result.comparison
    if len(rows):
        return rows[:, 0], rows[:, 1], None
    raise _lacking(result, "predictions", "--save_predictions")


def _predictions(results: list[Result]) -> Any:
    result = _one(results, "predictions")
    actual, predicted, classes = _pairs(result)
    last = slice(-10_000, None)
    made, axes = _figure(size=(6.5, 5.5))
    classes = None if classes is None else classes[last]
    plots.predictions(axes, actual[last], predicted[last], classes)
    shown = min(len(actual), 10_000)
    axes.set_title(f"{result.label}: the last {shown} draws")
    return made


def _variance_reduction(results: list[Result]) -> Any:
    made, axes = _figure(len(results), 1, size=(8, 3.2 * len(results)))
    for row, result in zip(np.atleast_1d(axes), results, strict=True):
        sampling = result.sampling
        if not len(sampling):
            raise _lacking(result, "sampling.txt", "`importance-sampling run`")
        steps = np.arange(1, len(sampling) + 1)
        plots.variance_reduction(
            row, steps, sampling[:, 1], sampling[:, 2] > 0, result.label, _threshold(result)
        )
    return made


def _threshold(result: Result) -> float | None:
    """The variance reduction above which a run drew by score; None if it went by nothing."""
    if not str(result.settings.get("sampler", "")).startswith("vr-"):
        return None
    (value,) = CONDITIONS["vr-"].values(result.settings.get("hyperparams", {})).values()
    return float(value)


def _with_draws(results: list[Result], kind: str) -> tuple[Result, np.ndarray, Any]:
    """A run, how often each example was drawn, and its data set."""
    result = _one(results, kind)
    if result.draws is None:
        raise ValueError(
            f"The run in {result.directory} has neither draws.npy, which is written when it ends, "
            "nor a checkpoint."
        )
    row = registry.DATASETS.look_up(result.settings.get("dataset", ""))
    dataset = row.make(result.settings["hyperparams"])
    if len(dataset.train_data) != len(result.draws):
        raise ValueError(
            f"The run in {result.directory} drew from {len(result.draws)} examples, the data set "
            f"now has {len(dataset.train_data)}."
        )
    return result, result.draws, dataset


def _draws(results: list[Result]) -> Any:
    result, draws, dataset = _with_draws(results, "draws")
    if tuple(dataset.shape) != (2,):
        raise ValueError(
            f"Only points in the plane can be drawn, {result.settings['dataset']} has examples of "
            f"shape {tuple(dataset.shape)}; try the kind examples."
        )
    made, axes = _figure(size=(7, 5))
    title = f"{result.label}: where {draws.sum()} examples were drawn"
    image = plots.draws_in_plane(axes, dataset.train_data[:][0], draws, title)
    plots.frequency_bar(made, image, axes)
    return made


def _examples(results: list[Result]) -> Any:
    result, draws, dataset = _with_draws(results, "examples")
    if len(dataset.shape) != 3:
        raise ValueError(
            f"Only images can be shown, {result.settings['dataset']} has examples of shape "
            f"{dataset.shape}."
        )
    made, axes = _figure(1, 2, size=(9, 2.8))
    made.get_layout_engine().set(wspace=0.08)
    parts = zip(plots.most_and_least(draws, _SHOWN), ("most", "least"), strict=True)
    for ax, (rows, which) in zip(axes, parts, strict=True):
        low, high = draws[rows].min(), draws[rows].max()
        title = f"Drawn {which} often ({times(int(low), int(high))})"
        plots.example_grid(ax, dataset.train_data[rows][0], title)
    made.suptitle(result.label)
    return made


def _animated_scores(result: Result, options: argparse.Namespace) -> None:
    if not len(result.scores):
        raise _lacking(result, "scores of evaluations", "--save_scores")
    chosen = frames(len(result.scores), options.frames)
    made, axes = _figure(size=(7, 4.5))
    titles = [f"{result.label}: step {result.validated_at[i]}" for i in chosen]
    values = [result.scores[i] for i in chosen]
    animation = plots.animate_distribution(made, axes, values, titles, _score_name(result))
    plots.save_animation(animation, options.output)


def _animated_predictions(result: Result, options: argparse.Namespace) -> None:
    actual, predicted, classes = _pairs(result)
    # At least five frames that do not overlap, where there are enough draws.
    size = max(1, min(len(actual) // 5, 10_000))
    starts = np.linspace(0, len(actual) - size, min(options.frames, len(actual) - size + 1))
    windows = [(int(start), int(start) + size) for start in starts]
    made, axes = _figure(size=(6.5, 5.5))
    animation = plots.animate_predictions(made, axes, actual, predicted, classes, windows)
    plots.save_animation(animation, options.output)


def frames(available: int, most: int) -> list[int]:
    """At most so many of the frames there are, evenly spread.

    Args:
        available: int, how many there are.
        most: int, how many to take.

    Returns:
        list of int.
    """
    if most < 1:
        raise ValueError(f"--frames must be at least 1, got {most}.")
    return (
        np.unique(np.linspace(0, available - 1, min(most, available)).round()).astype(int).tolist()
    )


_KINDS: dict[str, Callable[[list[Result]], Any]] = {
    "curves": _curves,
    "scores": _scores,
    "predictions": _predictions,
    "variance-reduction": _variance_reduction,
    "draws": _draws,
    "examples": _examples,
}
_ANIMATED: dict[str, Callable[[Result, argparse.Namespace], None]] = {
    "scores": _animated_scores,
    "predictions": _animated_predictions,
}
