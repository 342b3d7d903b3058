"""A report of training as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._text_tables import text_table

# As wide as terminals are by default.
_WIDTH = 80
_SHOWN = 5

Report = Mapping[str, Any]
"""What `TrainingReport.to_dict` returns."""


def describe(report: Report) -> str:
    """A report as lines of a figure and what it is.

    Args:
        report: what `TrainingReport.to_dict` returned.

    Returns:
        str of several lines, no wider than a terminal.
    """
    lines = [*_times(report), *_gains(report), *_draws(report)]
    lines += [("", f"from step {c['step']}: {c['choice']}") for c in report["choices"]]
    return text_table(None, ((f"{figure:>9}", text) for figure, text in lines), 2, _WIDTH, gap=1)


def _times(report: Report) -> Iterator[tuple[str, str]]:
    for kind, steps in report["steps"].items():
        how = "uniformly" if kind == "uniform" else f"by {kind}"
        yield str(steps), f"steps drawn {how}, {1e3 * report['seconds'][kind] / steps:.2f} ms each"
    total, drawing = sum(report["seconds"].values()), report["drawing_seconds"]
    share = drawing / total if total else 0.0
    yield (
        f"{total:.1f}",
        f"seconds of training, {drawing:.1f} of them ({share:.0%}) spent on drawing and scoring",
    )


def _gains(report: Report) -> Iterator[tuple[str, str]]:
    if report["steps_on"]:
        size = report["batch_size"]
        whole = size * (report["steps_on"] + report["steps_off"])
        yield f"{report['variance_reduction']:.2f}", "variance reduction, while by score"
        yield f"{report['effective_sample_size']:.0%}", "effective sample size, while by score"
        yield (
            f"{report['relative_noise']:.2f}",
            f"variance of the gradient, uniform batches of {size} = 1, while by score",
        )
        share = report["examples"] / whole
        yield str(report["examples"]), f"examples trained on, {share:.0%} of those of whole batches"
        if report["relative_time"] is not None:
            yield f"{report['relative_time']:.2f}", "time of all steps, uniform ones = 1"
    if report["gain"] is not None:
        yield f"{report['gain']:.2f}", "variance reduction per second, uniform training = 1"


def _draws(report: Report) -> Iterator[tuple[str, str]]:
    for name in ("most", "least"):
        found = report.get(f"{name}_drawn")
        if found and found["indices"]:
            pairs = zip(found["indices"][:_SHOWN], found["draws"][:_SHOWN], strict=True)
            listed = ", ".join(f"{example} ({times}x)" for example, times in pairs)
            yield "", f"{name} drawn examples: {listed}"
