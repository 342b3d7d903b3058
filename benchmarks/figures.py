"""Brings the tables of figures in the documents up to date with the files they name.

In a page a table stands between `<!-- figures: FILE; OPTION=VALUE -->` and
`<!-- end of figures -->`. FILE is a path from the root of the repository, or a pattern for several
(one per backend); options pick rows. A test compares every table with its file.

    python benchmarks/figures.py --write docs        # all tables of these pages
    python benchmarks/figures.py "benchmarks/results/svrg_convergence.json"
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _summary import summary
from _summary import table as same_epochs_table
from _words import task_name

ROOT = Path(__file__).parents[1]
_MARKED = re.compile(r"(<!-- figures: (.*?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}

Files = dict[str, Any]
Rows = list[list[str]]


def _backend(name: str) -> str:
    return _BACKENDS[Path(name).stem.rsplit("_", 1)[-1]]


def _chosen(rows: list[dict[str, Any]], options: dict[str, str]) -> list[dict[str, Any]]:
    """Of the rows of a summary, those of a task, number of epochs and some arms."""
    rows = [row for row in rows if row["task"] == options.get("task", row["task"])]
    if "epochs" in options:
        rows = [row for row in rows if row["epochs"] == float(options["epochs"])]
    if "arms" in options:
        wanted = options["arms"].split("|")
        rows = [row for name in wanted for row in rows if row["arm"] == name]
    return rows


def _same_epochs(files: Files, options: dict[str, str]) -> Rows:
    (stored,) = files.values()
    rows = _chosen(summary(stored["runs"]), options)
    lines = [line for line in same_epochs_table(rows).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    kept = [i for i, name in enumerate(cells[0]) if name != options.get("without")]
    return [[line[i] for i in kept] for line in cells]


def _gradient_quality(files: Files, options: dict[str, str]) -> Rows:
    (stored,) = files.values()

    def interval(found: dict[str, float]) -> str:
        return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"

    table = [["steps", "drawn by", "distance (95 %)", "expected", "cosine (95 %)"]]
    table[0] += ["second moment", "correlation", "of ranks"]
    for steps, point in stored[options["part"]].items():
        for i, row in enumerate(point["draws"]):
            name = row["draw"] if row["draw"] in ("uniform", "history") else f"`{row['draw']}`"
            cells = ["" if i else steps, name, interval(row["distance"])]
            cells += [f"{row['expected_distance']:.3f}", interval(row["cosine"])]
            cells.append(f"{row['second_moment']:.3f}")
            for key in ("correlation", "rank_correlation"):
                cells.append("" if row[key] is None else f"{row[key]:.3f}")
            table.append(cells)
    return table


def _history_noise(files: Files, options: dict[str, str]) -> Rows:
    (stored,) = files.values()
    table = [["task", "ratio of second moments", "of it ten examples"]]
    mixes = list(stored["runs"][0]["epochs"][0]["ratios"])
    table[0] += [f"mix {mix}" for mix in mixes]
    for task in dict.fromkeys(run["task"] for run in stored["runs"]):
        rows = [row for run in stored["runs"] if run["task"] == task for row in run["epochs"]]
        ratios, largest = ([row[key] for row in rows] for key in ("ratio", "largest"))
        cells = [
            task_name(task),
            f"{min(ratios):.1f} to {max(ratios):.1f}",
            f"{min(largest):.0%} to {max(largest):.0%}",
        ]
        for mix in mixes:
            shares = [row["ratios"][mix] / row["ratio"] for row in rows]
            cells.append(f"{statistics.geometric_mean(shares):.2f}")
        table.append(cells)
    return table


def _noise_kept(files: Files, options: dict[str, str]) -> Rows:
    (stored,) = files.values()
    looks = [(run, look) for run in stored["runs"] for look in run["looks"]]
    if options.get("part") == "expectations":
        ways = list(looks[0][1]["expectations"])
        table = [["task", "seed", "after epoch", *ways]]
        for run, look in looks:
            cells = [f"{look['expectations'][way]:.2f}" for way in ways]
            table.append([task_name(run["task"]), str(run["seed"]), str(look["epoch"]), *cells])
        return table
    table = [["task", "seed", "after epoch", "batch size", "noise, exact norms (95 %)"]]
    table[0] += ["noise, by scores", "ratio, exact norms", "ratio, by scores"]
    for run, look in looks:
        low, high = look["noise_interval"]
        table.append(
            [
                *(task_name(run["task"]), str(run["seed"]), str(look["epoch"])),
                f"{look['batch_size']:.0f}",
                f"{look['noise']:.2f} ({low:.2f} to {high:.2f})",
                f"{look['noise_by_bound']:.2f}",
                f"{look['ratio']:.1f}",
                f"{look['ratio_by_bound']:.1f}",
            ]
        )
    return table


def _exact_norms(files: Files, options: dict[str, str]) -> Rows:
    table = [["network", "backend", "training step", "`gnorm`", "`full_gnorm`"]]
    for network in next(iter(files.values()))["rows"]:
        for name, stored in files.items():
            row = stored["rows"][network]
            step = 1e3 * row["seconds"]["step"]
            cells = [
                f"`{network}`",
                _backend(name),
                f"{step:.0f} ms" if step > 50 else f"{step:.1f} ms",
            ]
            table.append(cells + [f"{row['in_steps'][k]:.2f}" for k in ("gnorm", "full_gnorm")])
    return table


def _svrg(files: Files, options: dict[str, str]) -> Rows:
    (stored,) = files.values()
    passes = sorted({row["passes"] for row in stored["rows"]})
    table = [["method", *(f"{n} passes" for n in passes)]]
    for method in dict.fromkeys(row["method"] for row in stored["rows"]):
        found = {row["passes"]: row["gap"] for row in stored["rows"] if row["method"] == method}
        cells = (re.sub(r"e([+-])0", r"e\1", f"{found[n]:.1e}") for n in passes)
        table.append([method, *cells])
    return table


def _step_cost(files: Files, options: dict[str, str]) -> Rows:
    table = [["network, backend", "fit", "off", "pool", "on", "off / fit", "on / (pool + fit)"]]
    for name, (row,) in files.items():
        times = [f"{row[f'{kind}_ms']:.1f}" for kind in ("fit", "off", "pool", "on")]
        ratios = [f"{row[kind]:.2f}" for kind in ("off / fit", "on / (pool + fit)")]
        table.append([f"{row['model']}, {_backend(name)}", *times, *ratios])
    return table


def _stream_cost(files: Files, options: dict[str, str]) -> Rows:
    table = [["backend", "fit", "off", "off / fit"]]
    for name, (row,) in files.items():
        cells = [f"{row['fit_ms']:.2f} ms", f"{row['off_ms']:.2f} ms", f"{row['off / fit']:.2f}"]
        table.append([_backend(name), *cells])
    return table


def _dense_cost(files: Files, options: dict[str, str]) -> Rows:
    """Times relative to `fit`: with single steps, as many in a call as are chosen, and with 32."""
    ways = ["off", "history", "auto"]
    table = [["network, backend", "fit", "fit, 32 in a call", "history, one by one", *ways]]
    table[0].append("off, 32 in a call")
    for name, rows in files.items():
        for row in rows:
            keys = ["fit x32", "history", *(f"{way} chosen" for way in ways), "off x32"]
            cells = [f"{row[f'{key} / fit']:.2f}" if f"{key} / fit" in row else "" for key in keys]
            table.append([f"{row['model']}, {_backend(name)}", f"{row['fit_ms']:.2f} ms", *cells])
    return table


def _many_devices(files: Files, options: dict[str, str]) -> Rows:
    table = [["engine, network, devices", "fit", "off", "history", "pool", "forward"]]
    table[0] += ["off", "history", "pool"]
    for stored in files.values():
        for row in stored["rows"]:
            name = f"{_BACKENDS[row['engine']]}, {row['model']}, {row['devices']}"
            kinds = ("fit", "off", "history", "pool", "forward")
            cells = [f"{row[f'{kind}_ms']:.1f} ms" for kind in kinds]
            cells += [f"{row[f'{kind} of fit']:.2f}" for kind in ("off", "history", "pool")]
            table.append([name, *cells])
    return table


def _memory(files: Files, options: dict[str, str]) -> Rows:
    table = [["backend", "`model.fit`", "importance sampling, off", "ratio"]]
    for name, (row,) in files.items():
        cells = [
            f"{row['fit_mib']:.0f} MiB",
            f"{row['off_mib']:.0f} MiB",
            f"{row['off / fit']:.2f}",
        ]
        table.append([_backend(name), *cells])
    return table


def _stored_scores(files: Files, options: dict[str, str]) -> Rows:
    (stored,) = files.values()
    examples = stored["settings"]["examples"]
    table = [["sampler", "a draw of 128 and its update", "bytes per example, at the peak"]]
    # Older files do not tell the first draw.
    told = all("first_seconds" in row for row in stored["rows"].values())
    if told:
        table[0].append("the first draw")
    for name, row in stored["rows"].items():
        kind, *where = name.split(", ")
        size = row["mebibytes"] * 2**20 / examples
        cells = [", ".join([f"`{kind}`", *where]), f"{row['milliseconds']:.2f} ms", f"{size:.1f}"]
        table.append([*cells, f"{row['first_seconds']:.1f} s"] if told else cells)
    return table


def _demo(files: Files, options: dict[str, str]) -> Rows:
    (stored,) = files.values()
    from importance_sampling.experiment.arm_names import UNIFORM

    uniform = next(r for r in stored["results"] if r["arm"] == UNIFORM)
    table = [["way of training", "examples", "seconds", "time", "training loss", "test error"]]
    table[0].append("steps by score")
    for r in stored["results"]:
        cells = [r["arm"], f"{r['examples']:,}", f"{r['seconds']:.1f}"]
        cells += [f"{r['seconds'] / uniform['seconds']:.2f} x", f"{r['train_loss']:.4f}"]
        cells += [f"{100 * r['test_error']:.2f} %"]
        drawn = r["arm"] != UNIFORM and "random" not in r["arm"]
        table.append([*cells, f"{100 * r['share_on']:.0f} %" if drawn else "none"])
    return table


def _examples(files: Files, options: dict[str, str]) -> Rows:
    """The table that `examples/measure.py` prints."""
    (stored,) = files.values()
    sys.path.insert(0, str(ROOT / "examples"))
    from measure import table

    lines = table(stored["runs"]).splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in (lines[0], *lines[2:])
    ]


def _head(found: dict[str, Any]) -> list[str]:
    """Machine, versions, commit and command of a file, as far as it has them."""
    machine = found.get("machine", "")
    if isinstance(machine, dict):
        machine = f"{machine['processor']}, {machine['cores']} cores"
    versions = found.get("versions", found)
    told = ", ".join(f"{k} {versions[k]}" for k in ("keras", *_BACKENDS) if k in versions)
    command = shlex.join(map(str, found.get("command", [])[1:]))
    return [machine, told, found.get("commit", ""), f"`{command}`" if command else ""]


def _made(files: Files, options: dict[str, str]) -> Rows:
    """When, where and with what every file was made; of one made in parts, the first."""
    table = [["file", "date", "machine", "versions", "commit", "command"]]
    for name, stored in files.items():
        head = stored[0] if isinstance(stored, list) else stored
        heads = head.get("made", [head])
        dates = dict.fromkeys(found["date"] for found in heads if "date" in found)
        told = [" and ".join(dates), *_head(heads[0])]
        table.append([f"`{Path(name).name}`", *(cell or "not noted" for cell in told)])
    return table


# By the beginning of a file's name; the longest that fits counts.
KINDS: dict[str, Callable[[Files, dict[str, str]], Rows]] = {
    "demo": _demo,
    "every_way": _same_epochs,
    "exact_norms": _exact_norms,
    "gradient_quality": _gradient_quality,
    "history_noise": _history_noise,
    "many_devices": _many_devices,
    "memory": _memory,
    "noise_kept": _noise_kept,
    "results": _examples,
    "same_epochs": _same_epochs,
    "single_steps": _same_epochs,
    "conv16_before": _same_epochs,
    "small_cnn_15": _same_epochs,
    "step_cost": _step_cost,
    "step_cost_dense": _dense_cost,
    "step_cost_stream": _stream_cost,
    "stored_scores": _stored_scores,
    "svrg_convergence": _svrg,
    "whole_batches": _same_epochs,
}


def read(pattern: str) -> Files:
    """The files of a path or pattern, in the order of backends: path to content.

    Raises:
        ValueError: if there is none.
    """
    order = list(_BACKENDS)

    def place(path: Path) -> tuple[str, int]:
        base, _, last = path.stem.rpartition("_")
        return (base, order.index(last)) if last in order else (path.stem, 0)

    paths = sorted(ROOT.glob(pattern), key=place)
    if not paths:
        raise ValueError(f"There is no file {pattern!r} to make a table of.")
    return {str(p.relative_to(ROOT)): json.loads(p.read_text()) for p in paths}


def make(what: str) -> str:
    """The table of a mark.

    Args:
        what: str, `FILE; OPTION=VALUE; ...`. The options of runs of `time_to_accuracy.py` are
            `task`, `epochs`, `arms` (joined by `|`) and `without`, a column to leave out; of
            `gradient_quality` and `noise_kept` it is `part`. `made`, of files of any kind, is how
            they were made.

    Returns:
        Markdown.
    """
    pattern, *given = (part.strip() for part in what.split(";"))
    options = dict(option.split("=", 1) for option in given if option != "made")
    files = read(pattern)
    if "made" in given:
        rows = _made(files, options)
    else:
        name = Path(pattern).name
        kind = max((k for k in KINDS if name.startswith(k)), key=len, default=None)
        if kind is None:
            raise ValueError(f"No table is known for files like {name!r}; there are {[*KINDS]}.")
        rows = KINDS[kind](files, options)
    # A figure and its interval stand in one line.
    rows = [
        [re.sub(r" (±|=|x$) ?", "\u00a0\\1\u00a0", cell).rstrip("\u00a0") for cell in row]
        for row in rows
    ]
    head, *rest = (f"| {' | '.join(cells)} |\n" for cells in rows)
    return head + "|---" * len(rows[0]) + "|\n" + "".join(rest)


def updated(text: str) -> str:
    """A page with its tables made anew."""
    return _MARKED.sub(lambda match: match[1] + make(match[2]) + match[3], text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", nargs="*", help="FILE; OPTION=VALUE: a table to print")
    parser.add_argument("--write", type=Path, metavar="DIRECTORY", help="of pages")
    options = parser.parse_args()
    for what in options.what:
        print(make(what))
    for path in sorted(options.write.rglob("*.md")) if options.write else ():
        before = path.read_text()
        after = updated(before)
        if after != before:
            path.write_text(after)
            print(f"{path} is up to date now")


if __name__ == "__main__":
    main()
