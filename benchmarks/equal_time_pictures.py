"""Draws the pictures of the runs at equal time again, from their files.

The runs of an earlier `time_to_accuracy.py` had the same time each. Every panel shows a few ways to
train, `model.fit` always among them, as means over the seeds with 95 % intervals (Student's t) as
bands where there are several.

Example:

    python benchmarks/equal_time_pictures.py benchmarks/results/time_to_accuracy_*.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from _summary import interval
from _words import error_name, task_name

from importance_sampling import plots
from importance_sampling._files import write_whole

UNIFORM = "uniform"
_ARMS = {UNIFORM: "model.fit", "auto": 'presample="auto"', "random subset": "random third"}
# Shares of the time at which all runs are compared.
_SHARES = np.linspace(0.0, 1.0, 11)


def curve(name: str, runs: list[dict[str, Any]], key: str) -> plots.Curve:
    """The mean of a way to train over its seeds, with its interval."""
    budget = np.mean([run["seconds"] for run in runs])
    values = np.array(
        [
            np.interp(
                _SHARES * run["seconds"],
                [point["seconds"] for point in run["history"]],
                [point[key] for point in run["history"]],
            )
            for run in runs
        ]
    )
    found = [interval(column.tolist()) for column in values.T]
    means = np.array([mean for mean, _ in found])
    if len(runs) == 1:
        return plots.Curve(name, budget * _SHARES, means)
    halves = np.array([half for _, half in found], dtype=np.float64)
    return plots.Curve(name, budget * _SHARES, means, means - halves, means + halves)


def panels(runs: list[dict[str, Any]]) -> list[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """The runs of each row of panels by way to train, and the row's title."""
    rows = []
    for task, epochs in dict.fromkeys((run["task"], run["epochs"]) for run in runs):
        by_arm: dict[str, list[dict[str, Any]]] = {}
        for run in runs:
            if (run["task"], run["epochs"]) == (task, epochs):
                by_arm.setdefault(run["arm"], []).append(run)
        seeds = max(map(len, by_arm.values()))
        title = f"in the time of {epochs:g} epochs, {seeds} seed" + "s" * (seeds > 1)
        others = [arm for arm in by_arm if arm != UNIFORM]
        for start in range(0, max(len(others), 1), plots.MOST_CURVES - 1):
            some = [UNIFORM, *others[start : start + plots.MOST_CURVES - 1]]
            rows.append((title, {arm: by_arm[arm] for arm in some if arm in by_arm}))
    return rows


def draw(runs: list[dict[str, Any]]) -> plots.Picture:
    """Training loss and test error over time, a row for each task or each few ways to train."""
    rows = panels(runs)
    with plots.style():
        figure = plots.Picture(figsize=(9, 2.9 * len(rows)), layout="constrained")
        axes = figure.subplots(len(rows), 2, squeeze=False)
        for (title, by_arm), (left, right) in zip(rows, axes, strict=True):
            task = next(iter(by_arm.values()))[0]["task"]
            error = error_name(task)
            for axis, key, ylabel in (
                (left, "train_loss", "training loss"),
                (right, "test_error", error),
            ):
                plots.training_curves(
                    axis,
                    [curve(_ARMS.get(arm, arm), found, key) for arm, found in by_arm.items()],
                    "training time (s)",
                    ylabel,
                    title=f"{task_name(task)}: {ylabel.split(' (')[0]}\n{title}",
                    named=axis is right,
                )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("files", type=Path, nargs="+")
    for path in parser.parse_args().files:
        runs = json.loads(path.read_text())["runs"]
        target = path.with_suffix(".png")
        write_whole(target, lambda whole, runs=runs: draw(runs).savefig(whole, dpi=100))
        print(target)


if __name__ == "__main__":
    main()
