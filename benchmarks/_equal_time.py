"""Tables of the runs at equal time, which an earlier `time_to_accuracy.py` made."""

from __future__ import annotations

from typing import Any

from _words import task_name

_NAMES = {
    "uniform": "uniform (`model.fit`)",
    "auto": '`presample="auto"`',
    "random subset": "random third of each pool",
    "history": "`HistoryImportanceTraining`",
    "history k=0.5": "`HistoryImportanceTraining(k=0.5)`",
    "robust": "`RobustImportanceTraining`",
    "pool": "`ImportanceTraining` (the paper's pool)",
    "pool, measured": 'pool, `tau_th="measured"`, systematic',
    "pool, reused": "pool of 8 batches for 4",
    "biased": "`BiasedImportanceTraining`, pool of 384",
    "approximate": "`ApproximateImportanceTraining`",
    "constant variance": "`ConstantVarianceImportanceTraining`",
    "constant time": "`ConstantTimeImportanceTraining`",
}


def figure(row: dict[str, Any], name: str, digits: int, sign: str = "") -> str:
    """A mean with half of its 95 % interval, where there is more than one seed."""
    half = row[f"{name}_ci"]
    mean = f"{row[name]:{sign}.{digits}f}"
    return mean if half is None else f"{mean} ± {half:.{digits}f}"


def equal_time(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The table of one task and budget, its head first."""
    several = rows[0]["seeds"] > 1
    # Enough digits for the best of them; no more for errors than they are told apart by.
    losses = 5 if min(row["train_loss"] for row in rows) < 0.1 else 3
    errors = 2 if max(row["test_error"] for row in rows) > 0.5 else 3
    head = ["way to train", "steps", "cost of a step", "training loss", "test loss", "test error"]
    head += ["minus uniform's"] * several + ["time to uniform's error"]
    table = [head]
    for row in rows:
        own = row["arm"] == "uniform"
        cells = [_NAMES.get(row["arm"], row["arm"]), f"{row['steps']:.0f}", f"{row['cost']:.2f}"]
        cells += [figure(row, "train_loss", losses), figure(row, "test_loss", max(losses - 1, 3))]
        cells.append(figure(row, "test_error", errors))
        if several:
            cells.append("" if own else figure(row, "against_uniform", errors, "+"))
        reached = row["reached"]
        share = f"{row['time_to_uniform']:.2f} ({reached} of {row['seeds']})" if reached else "-"
        table.append([*cells, share])
    return table


def _at(run: dict[str, Any], share: float, column: str) -> float:
    """The last measurement within a share of the time."""
    known = [point for point in run["history"] if point["seconds"] <= share * run["seconds"]]
    return known[-1][column]


def before_the_end(files: dict[str, Any], share: float) -> list[list[str]]:
    """Who was ahead within a share of the time, the head first: "auto" against `model.fit`."""
    table = [["task", "time of", "backend", "`model.fit`: error", "auto: error"]]
    table[0] += ["auto ahead in error", "in training loss"]
    for stored in files.values():
        for task, epochs in dict.fromkeys((r["task"], r["epochs"]) for r in stored["runs"]):
            runs = [r for r in stored["runs"] if (r["task"], r["epochs"]) == (task, epochs)]
            by_seed = {
                arm: {r["seed"]: r for r in runs if r["arm"] == arm} for arm in ("uniform", "auto")
            }
            seeds = sorted(set(by_seed["uniform"]) & set(by_seed["auto"]))
            if not seeds:
                continue
            errors, losses = (
                {arm: [_at(by_seed[arm][s], share, column) for s in seeds] for arm in by_seed}
                for column in ("test_error", "train_loss")
            )
            cells = [task_name(task, code=True), f"{epochs:.0f} epochs", stored["backend"]]
            cells += [f"{sum(errors[arm]) / len(seeds):.3g}" for arm in ("uniform", "auto")]
            for found in (errors, losses):
                ahead = sum(a < u for a, u in zip(found["auto"], found["uniform"], strict=True))
                cells.append(f"{ahead} of {len(seeds)}")
            table.append(cells)
    return table
