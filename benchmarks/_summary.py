"""Tables and pictures of the runs of `time_to_accuracy.py`."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np

# Student's t: the factor of a 95 % confidence interval of a mean, by number of seeds.
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half of its 95 % confidence interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    # Beyond the table, its last row: an interval rather too wide than too narrow.
    factor = _STUDENT[min(len(values), max(_STUDENT))]
    return mean, factor * statistics.stdev(values) / math.sqrt(len(values))


def time_to(run: dict[str, Any], error: float) -> float | None:
    """When a run first had a test error of at most `error`; between points, on a line."""
    before = None
    for row in run["history"]:
        if row["test_error"] <= error:
            if before is None or before["test_error"] == row["test_error"]:
                return row["seconds"]
            share = (before["test_error"] - error) / (before["test_error"] - row["test_error"])
            return before["seconds"] + share * (row["seconds"] - before["seconds"])
        before = row
    return None


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per task, budget and arm."""
    groups: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["task"], run["epochs"], run["arm"]), []).append(run)
    rows = []
    for (task, epochs, arm), found in groups.items():
        uniform = groups.get((task, epochs, "uniform"), [])
        row: dict[str, Any] = {"task": task, "epochs": epochs, "arm": arm, "seeds": len(found)}
        for key in ("train_loss", "test_loss", "test_error", "steps", "ms"):
            row[key], row[f"{key}_ci"] = interval([run[key] for run in found])
        if uniform:
            goal = statistics.fmean(run["test_error"] for run in uniform)
            times = [time_to(run, goal) for run in found]
            reached = [t / run["seconds"] for t, run in zip(times, found, strict=True) if t]
            row["reached"] = len(reached)
            row["time_to_uniform"] = statistics.median(reached) if reached else None
            row["cost"] = row["ms"] / statistics.fmean(run["ms"] for run in uniform)
            pairs = [
                run["test_error"] - other["test_error"]
                for run in found
                for other in uniform
                if other["seed"] == run["seed"]
            ]
            row["against_uniform"], row["against_uniform_ci"] = interval(pairs)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The summary as text."""
    head = (
        f"{'':<18} {'steps':>7} {'step cost':>9} {'training loss':>19} {'test error':>17} "
        f"{'minus uniform':>17} {'time to its error':>18}"
    )
    lines = []
    last = None
    for row in rows:
        if (row["task"], row["epochs"]) != last:
            last = row["task"], row["epochs"]
            lines += ["", f"{last[0]}, budget of {last[1]:g} uniform epochs", head]
        when = row.get("time_to_uniform")
        reached = "-" if when is None else f"{when:.2f} ({row['reached']}/{row['seeds']})"
        lines.append(
            f"{row['arm']:<18} {row['steps']:>7.0f} {row.get('cost', math.nan):>9.2f} "
            f"{row['train_loss']:>10.5f} ±{row['train_loss_ci']:>7.5f} "
            f"{row['test_error']:>8.3f} ±{row['test_error_ci']:>6.3f} "
            f"{row.get('against_uniform', math.nan):>+8.3f} "
            f"±{row.get('against_uniform_ci', math.nan):>6.3f} {reached:>18}"
        )
    return "\n".join(lines).lstrip("\n")


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Training loss and test error over time, a row of panels per task and budget."""
    from matplotlib.figure import Figure

    from importance_sampling import plots

    panels = list(dict.fromkeys((run["task"], run["epochs"]) for run in runs))
    with plots.style():
        figure = Figure(figsize=(11, 3.6 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 2, squeeze=False)
        for i, (task, epochs) in enumerate(panels):
            here = [run for run in runs if (run["task"], run["epochs"]) == (task, epochs)]
            for axis, key, label in (
                (axes[i, 0], "train_loss", "training loss"),
                (axes[i, 1], "test_error", "test error"),
            ):
                curves = []
                for arm in dict.fromkeys(run["arm"] for run in here):
                    grids = [run["history"] for run in here if run["arm"] == arm]
                    length = min(map(len, grids))
                    mean = [
                        [statistics.fmean(g[j][name] for g in grids) for j in range(1, length)]
                        for name in ("seconds", key)
                    ]
                    curves.append(plots.Curve(arm, np.array(mean[0]), np.array(mean[1])))
                plots.training_curves(axis, curves, "training time (s)", label)
                axis.set_title(f"{task}, time of {epochs:g} uniform epochs")
    figure.savefig(path, dpi=100)
