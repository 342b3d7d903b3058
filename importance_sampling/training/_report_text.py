"""A report of training in words: for terminals and for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from .._text_tables import text_table

# As wide as terminals are by default.
_WIDTH = 80
_SHOWN = 5
# Shares of the batch: what is good of an effective sample size, and what is too little.
_GOOD, _LITTLE = 0.5, 0.1

Report = Mapping[str, Any]
"""What `TrainingReport.to_dict` returns."""


FIELDS = (
    "steps",
    "steps_on",
    "steps_off",
    "seconds",
    "step_seconds",
    "drawing_seconds",
    "variance_reduction",
    "possible_variance_reduction",
    "estimated",
    "threshold",
    "why_uniform",
    "effective_sample_size",
    "batch_size",
    "examples",
    "relative_noise",
    "relative_time",
    "gain",
    "choices",
    "rows_read",
)
"""What of a report `to_dict` takes as it is."""


def as_text(report: Report) -> str:
    """A report as lines of a figure and what it is.

    Args:
        report: what `TrainingReport.to_dict` returned.

    Returns:
        str of several lines, no wider than a terminal.
    """
    cells = ((f"{figure:>9}", text) for figure, text in _lines(report))
    return text_table(None, cells, 2, _WIDTH, gap=1)


def as_html(report: Report) -> str:
    """A report as a table for notebooks.

    Args:
        report: what `TrainingReport.to_dict` returned.

    Returns:
        str, a `<table>`.
    """
    rows = "".join(
        f'<tr><td style="text-align:right"><b>{html.escape(figure)}</b></td>'
        f'<td style="text-align:left">{html.escape(text)}</td></tr>'
        for figure, text in _lines(report)
    )
    return f"<table>{rows}</table>"


def _lines(report: Report) -> Iterator[tuple[str, str]]:
    yield from _times(report)
    yield from _uniform(report)
    yield from _gains(report)
    yield from _draws(report)
    for choice in report["choices"]:
        yield "", f"from step {choice['step']}: {choice['choice']}"


def _times(report: Report) -> Iterator[tuple[str, str]]:
    for kind, steps in report["steps"].items():
        how = "uniformly" if kind == "uniform" else f"by {kind}"
        each, total = report["step_seconds"][kind], report["seconds"][kind]
        # A few steps of which most compile say nothing of what one costs.
        time = f"{total:.2f} s in all" if each is None else f"{1e3 * each:.2f} ms each"
        yield str(steps), f"step{'s' * (steps != 1)} drawn {how}, {time}"
    if not report["steps"]:
        yield "0", "steps were made"
        return
    total, drawing = sum(report["seconds"].values()), report["drawing_seconds"]
    share = drawing / total if total else 0.0
    yield (
        f"{total:.1f}",
        f"seconds of training with compiling, {drawing:.1f} of them ({share:.0%}) spent on "
        "drawing and scoring",
    )
    if report["rows_read"] == "device":
        yield "", "Rows are gathered on the device, where the training set stays."


def _uniform(report: Report) -> Iterator[tuple[str, str]]:
    why = report["why_uniform"]
    if why and report["steps_off"]:
        yield "", f"Uniform {'at the end' if report['steps_on'] else 'all the time'}: {why}."
    elif why and not report["steps"]:
        yield "", f"They would have been uniform: {why}."


def _gains(report: Report) -> Iterator[tuple[str, str]]:
    if not report["steps_on"]:
        return
    reduction, effective = report["variance_reduction"], report["effective_sample_size"]
    if report["estimated"]:
        yield (
            f"{reduction:.2f}",
            f"variance reduction by score: as noisy as uniform batches {reduction**2:.2f} times "
            "as large",
        )
    else:
        yield "-", "variance reduction by score: this way to draw has no estimate of it"
    if effective >= _GOOD:
        judged = f"good, above {_GOOD:.0%}"
    elif effective >= _LITTLE:
        judged = f"below {_GOOD:.0%}, where large weights begin to count"
    else:
        judged = f"below {_LITTLE:.0%}: a few large weights decide, smooth the scores"
    yield f"{effective:.0%}", f"effective sample size by score ({judged})"
    size = report["batch_size"]
    if report["estimated"]:
        yield (
            f"{report['relative_noise']:.2f}",
            f"variance of the gradient by score, uniform batches of {size} = 1",
        )
    share = report["examples"] / (size * (report["steps_on"] + report["steps_off"]))
    yield str(report["examples"]), f"examples trained on, {share:.0%} of those of whole batches"
    if report["relative_time"] is None:
        yield "-", "gain: not known, no uniform steps were near to compare the time with"
        return
    yield (
        f"{report['relative_time']:.2f}",
        "time of all steps, uniform ones beside them = 1, without compiling",
    )
    if report["gain"] is not None:
        yield (
            f"{report['gain']:.2f}",
            "gain: mean variance reduction of all steps, less where batches are smaller, over "
            "that time; above 1 drawing by score was worth it",
        )


def _draws(report: Report) -> Iterator[tuple[str, str]]:
    if not report["steps"] or not report.get("most_drawn", {}).get("draws"):
        return
    low, high = report["least_drawn"]["draws"][0], report["most_drawn"]["draws"][0]
    if low == high:
        yield "", f"every example was drawn {high}x"
        return
    for name in ("most", "least"):
        found = report[f"{name}_drawn"]
        columns = (found[column][:_SHOWN] for column in ("indices", "draws", "tied"))
        yield "", f"{name} drawn examples: {_listed(list(zip(*columns, strict=True)))}"


def _listed(rows: list[tuple[int, int, int]]) -> str:
    """Examples with their draws; of those that share the last place, how many they are."""
    last, tied = rows[-1][1:]
    shared = sum(draws == last for _, draws, _ in rows)
    if tied == shared:
        return ", ".join(f"{example} ({draws}x)" for example, draws, _ in rows)
    ahead = [f"{example} ({draws}x)" for example, draws, _ in rows[: len(rows) - shared]]
    some = ", ".join(str(example) for example, *_ in rows[len(rows) - shared :])
    return ", ".join([*ahead, f"{some} (picked at random of {tied} drawn {last}x)"])
