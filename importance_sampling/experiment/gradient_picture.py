"""The picture of how good drawn gradients are.

`python -m importance_sampling.experiment.gradient_picture quality.json quality.png` draws what
`importance-sampling variance-reduction --output` wrote. Of a file that holds several results by
name, `--of` says which.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import plots
from .._files import read_json, write_whole


def draw(found: Sequence[Mapping[str, Any]], title: str = "") -> plots.Picture:
    """Draws the distance and the cosine of each way to draw, with their 95 % intervals.

    Args:
        found: what `Quality.as_dict` returned for each; the first one is what others are compared
            with.
        title: str.

    Returns:
        A matplotlib figure.
    """
    names = [row["draw"] for row in found]
    with plots.style():
        figure = plots.Picture(figsize=(9, 1.3 + 0.38 * len(names)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, key, label, better in (
            (left, "distance", "Distance to the gradient of all", "less"),
            (right, "cosine", "Cosine with the gradient of all", "more"),
        ):
            intervals = [(row[key]["mean"], row[key]["low"], row[key]["high"]) for row in found]
            unit = " in units of that gradient's norm" if key == "distance" else ""
            xlabel = f"{key}{unit}, 95 % intervals"
            plots.means_with_intervals(
                axes, names, intervals, xlabel, f"{label}: {better} is better"
            )
        left.set_xlim(left=0)
        right.set_xlim(right=1)
        left.set_ylabel("drawn by")
        if names:
            right.set_xlabel(f"{right.get_xlabel()} (dotted: {names[0]})")
        if title:
            figure.suptitle(title)
    return figure


def title_of(settings: Mapping[str, object]) -> str:
    """What was looked at, as a title.

    Args:
        settings: as `variance-reduction --output` writes them.
    """
    batches = f"{settings['samples']} mini-batches of {settings['batch_size']}"
    return f"{settings['model']} on {settings['dataset']}: {batches}"


def main() -> None:
    """Draws the picture of a file of results again."""
    parser = argparse.ArgumentParser(
        prog="gradient_picture", description=str(__doc__).split("\n", 1)[0]
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--of", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--title", help="what was looked at, if left out")
    options = parser.parse_args()
    found = read_json(options.source)
    for name in options.of:
        if name not in found:
            raise SystemExit(f"There is no {name!r} in {options.source}, only {sorted(found)}.")
        found = found[name]
    title = options.title
    if title is None:
        title = title_of(found["settings"]) if "settings" in found else ""
    write_whole(options.target, draw(found["draws"], title).savefig)


if __name__ == "__main__":
    main()
