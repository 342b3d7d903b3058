"""The table and the picture of the runs of `time_to_accuracy.py`."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from _arms import SAME_NOISE, SMALLER, TOGETHER, UNIFORM
from _words import task_name

# Every epoch of theirs takes as long.
_BY_KERAS = (UNIFORM, SMALLER, TOGETHER)
# What pictures show: the recommended way, what it chooses, and the two controls.
_DRAWN = ("auto", SAME_NOISE, SMALLER, TOGETHER)
_FEWEST_SEEDS = 3
_BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
# Student's t: the factor of a 95 % confidence interval of a mean, by number of seeds.
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
_STUDENT[10] = 2.262
# What matters most comes first: the last columns of a narrow page are out of sight.
_HEAD = (
    "way to train",
    "time",
    "{error}",
    "minus uniform's",
    "examples",
    "examples (epochs)",
    "training loss",
    "test loss",
    "compiling (s)",
)


def interval(values: list[float]) -> tuple[float, float | None]:
    """Mean and half of its 95 % confidence interval; None of a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    # Beyond the table, its last row: an interval rather too wide than too narrow.
    factor = _STUDENT[min(len(values), max(_STUDENT))]
    return mean, factor * statistics.stdev(values) / math.sqrt(len(values))


def steady_seconds(run: dict[str, Any]) -> float:
    """What a run took; one of Keras' own `fit` without its stalls.

    On TensorFlow `model.fit` has single epochs that take several times as long as the others, with
    no more work of the processor, where other processes took turns before them. All its epochs are
    alike, so that their median tells what they take. Epochs by the library are not, and are added
    up.

    Args:
        run: as `run_one` returned it; older ones have no times of epochs.
    """
    epochs = run.get("epoch_seconds")
    if run["arm"] not in _BY_KERAS or not epochs:
        return run["seconds"]
    # The control's last epoch is a part of one.
    count = run["steps"] / (run["epoch_examples"] // run["batch_size"])
    return statistics.median(epochs[: int(count)] or epochs) * count


def _time(run: dict[str, Any], uniform: dict[str, Any] | None) -> float:
    """The time relative to that of `model.fit` in the same turns.

    Args:
        run: of any arm.
        uniform: that of `model.fit` with the same seed, if the file has one.
    """
    together = uniform is not None and uniform["seconds"] == run["uniform_seconds"]
    if uniform is not None and (together or run["arm"] in _BY_KERAS):
        # What runs after the others has a part of another `model.fit` beside it, with its stalls.
        return steady_seconds(run) / steady_seconds(uniform)
    return steady_seconds(run) / run["uniform_seconds"]


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per backend, task, epochs and arm."""
    names = ("backend", "task", "epochs", "arm")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(tuple(run[name] for name in names), []).append(run)
    rows = []
    # What was run later stands beside its task's other arms.
    tasks = list(dict.fromkeys(where[:-1] for where in groups))
    for where, found in sorted(groups.items(), key=lambda group: tasks.index(group[0][:-1])):
        uniform = {run["seed"]: run for run in groups.get((*where[:-1], UNIFORM), [])}
        row = dict(zip(names, where, strict=True))
        row |= {"seeds": len(found), "error": found[0]["error"]}
        epochs = row["epochs"]
        columns = {
            "seconds": [steady_seconds(run) for run in found],
            "time": [_time(run, uniform.get(run["seed"])) for run in found],
            "compile_seconds": [run["compile_seconds"] for run in found],
            "examples": [run["examples"] / run["epoch_examples"] for run in found],
            "examples_relative": [
                run["examples"] / run["epoch_examples"] / epochs for run in found
            ],
            "train_loss": [run["train_loss"] for run in found],
            "test_loss": [run["test_loss"] for run in found],
            "test_error": [run["test_error"] for run in found],
            "minus_uniform": [
                run["test_error"] - uniform[run["seed"]]["test_error"]
                for run in found
                if run["seed"] in uniform
            ],
        }
        for name, values in columns.items():
            if values:
                row[name], row[f"{name}_ci"] = interval(values)
        rows.append(row)
    return rows


def _figure(row: dict[str, Any], name: str, form: str) -> str:
    if name not in row:
        return ""
    half = row[f"{name}_ci"]
    mean = format(row[name], form)
    return mean if half is None else f"{mean} ± {format(half, form.lstrip('+'))}"


def table(rows: list[dict[str, Any]]) -> str:
    """The summary as Markdown."""
    lines: list[str] = []
    last = None
    for row in rows:
        here = row["backend"], row["task"], row["epochs"]
        if here != last:
            last = here
            seeds = max(r["seeds"] for r in rows if (r["backend"], r["task"], r["epochs"]) == here)
            lines += [
                "",
                f"{row['task']}, {row['epochs']} epochs, {row['backend']}, seeds: {seeds}",
            ]
            head = [name.format(error=row["error"]) for name in _HEAD]
            lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        own = row["arm"] == UNIFORM
        cells = [
            row["arm"] + ("" if row["seeds"] == seeds else f" (seeds: {row['seeds']})"),
            f"{row['seconds']:.1f} s = 1.00" if own else _figure(row, "time", ".2f") + " x",
            _figure(row, "test_error", ".3f"),
            "" if own else _figure(row, "minus_uniform", "+.3f"),
            f"{row['examples_relative']:.2f} x",
            f"{row['examples']:.2f}",
            _figure(row, "train_loss", ".5f"),
            _figure(row, "test_loss", ".4f"),
            f"{row['compile_seconds']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).lstrip("\n")


def draw(rows: list[dict[str, Any]], path: Path, arms: tuple[str, ...] = _DRAWN) -> None:
    """Time and error against `model.fit`'s: a line per task, a mark per arm with its interval.

    Errors have the unit of their task, so that the axis has them as a share of uniform
    training's. Of fewer than three seeds there is no interval worth the name: marks are hollow.
    """
    from importance_sampling import plots

    names = list(dict.fromkeys((row["backend"], row["task"], row["epochs"]) for row in rows))
    # A task on several backends in lines one below the other.
    tasks = list(dict.fromkeys(task for _, task, _ in names))
    names.sort(key=lambda name: tasks.index(name[1]))
    found = {(row["backend"], row["task"], row["epochs"], row["arm"]): row for row in rows}
    arms = tuple(a for a in arms if any((*n, a) in found for n in names))
    if not arms:
        # Of the others, then, the first few.
        others = dict.fromkeys(row["arm"] for row in rows if row["arm"] != UNIFORM)
        arms = tuple(others)[:2]
    with plots.style():
        size = (9, 1.6 + 0.65 * len(names))
        figure = plots.Picture(figsize=size, layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for i, name in enumerate(names):
            uniform = found.get((*name, UNIFORM))
            for j, arm in enumerate(arms):
                row = found.get((*name, arm))
                if row is None:
                    continue
                y = i + 0.2 * (j - (len(arms) - 1) / 2)
                look = {"fmt": plots.MARKERS[j], "color": plots.COLOURS[j], "capsize": 2, "ms": 5}
                few = row["seeds"] < _FEWEST_SEEDS
                if few:
                    look |= {"mfc": "none", "mew": 1.2}
                left.errorbar(row["time"], y, xerr=None if few else row["time_ci"], **look)
                if uniform is not None and "minus_uniform" in row:
                    at, half = _relative_error(row, uniform)
                    right.errorbar(at, y, xerr=None if few else half, **look)
        for axis, at in ((left, 1.0), (right, 0.0)):
            axis.axvline(at, color="black", linewidth=1)
            axis.grid(axis="y", visible=False)
        left.set_xlim(0.0, max(1.1, left.get_xlim()[1]))
        left.set_ylim(len(names) - 0.5, -0.5)
        left.set_yticks(range(len(names)), [_named(name, found) for name in names])
        left.set(title="Time of fit without compiling: less is faster", xlabel="model.fit = 1")
        right.set(
            title="Test error minus model.fit's: less is better", xlabel="% of model.fit's error"
        )
        _legend(figure, arms)
    figure.savefig(path, dpi=100)


def _relative_error(row: dict[str, Any], uniform: dict[str, Any]) -> tuple[float, float]:
    """The difference of the errors and half of its interval, in per cent of uniform training's."""
    difference, half = row["minus_uniform"], row["minus_uniform_ci"] or 0.0
    if "dB" in row["error"]:
        # A logarithm of the mean squared error, whose share is meant.
        at, end = (100.0 * (10.0 ** (d / 10.0) - 1.0) for d in (difference, difference + half))
        return at, end - at
    unit = 100.0 / abs(uniform["test_error"])
    return unit * difference, unit * half


def _named(name: tuple[str, str, int], found: dict[tuple[Any, ...], dict[str, Any]]) -> str:
    """A task with its epochs, seeds and, where there are several, its backend."""
    backend, task, epochs = name
    seeds = max(row["seeds"] for where, row in found.items() if where[:3] == name)
    several = len({where[0] for where in found}) > 1
    more = f", {_BACKENDS[backend]}" if several else ""
    return f"{task_name(task)}\n{epochs} epochs, {seeds} seed{'s' * (seeds > 1)}{more}"


def _legend(figure: Any, arms: tuple[str, ...]) -> None:
    """Names the marks above the axes, where no data can be."""
    from matplotlib.lines import Line2D

    from importance_sampling import plots

    marks = [
        Line2D([], [], color=plots.COLOURS[j], marker=plots.MARKERS[j], linestyle="none", label=arm)
        for j, arm in enumerate(arms)
    ]
    title = "same epochs as model.fit; 95 % intervals; hollow marks: fewer than three seeds"
    figure.legend(handles=marks, loc="outside upper center", ncols=len(arms), title=title)
