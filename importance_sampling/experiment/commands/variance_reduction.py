"""`importance-sampling variance-reduction`: how well mini-batches estimate a gradient."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import keras
import numpy as np

from ... import _requirements
from ..._arrays import Nested
from ..._files import check_target, make_directory, write_json, write_whole
from ..._progress import Progress
from ..._text_tables import print_table
from ...model_wrappers import OracleWrapper, Score
from ...reweighting import BiasedReweightingPolicy
from .. import build, checks, registry
from ..gradient_quality import GradientSample, Interval, Quality
from ..hyperparams import parse
from ..options import STILL
from ..registry.samplers import MIX

UNIFORM = ("ones", "uniform")
HISTORY = "history"


def main(options: argparse.Namespace) -> int:
    """Prints, for each way to draw, how far the estimates are from the gradient of the sample."""
    hp = parse(options.hyperparams)
    if options.output:
        check_target(options.output)
    if options.picture:
        _requirements.require("matplotlib", "plots", "A picture")
        if options.picture.suffix not in STILL:
            raise ValueError(f"--picture {options.picture} must end in {', '.join(STILL)}.")
        check_target(options.picture)
    rng = np.random.default_rng(options.random_seed)
    checks.warn_without_effect(checks.named(options), hp)
    keras.utils.set_random_seed(options.random_seed)
    dataset = registry.DATASETS.look_up(options.dataset).make(hp)
    model = build.build_model(options.model, dataset, hp)
    idxs = rng.integers(0, len(dataset.train_data), options.sample_size)
    x, y = dataset.train_data[idxs]
    scoring = _Scoring(model, (x, y), options.inner_batch_size)
    earlier = None
    if options.earlier_weights is not None:
        build.load_initial_weights(model, options.earlier_weights)
        earlier = scoring.by("gnorm")
    build.load_initial_weights(model, Path(options.weights))
    if options.save_scores:
        make_directory(options.save_scores)
    exact = scoring.by("full_gnorm")
    wrapper = OracleWrapper(model, BiasedReweightingPolicy(), score="loss")
    sample = GradientSample(wrapper, (x, y), exact, options.inner_batch_size)
    found = []
    # Elsewhere than on a terminal, what is found tells how far it has come.
    bar = Progress("mini-batches", len(options.score) * options.samples, "", quiet=True)
    with bar:
        for name in options.score:
            if name in UNIFORM:
                scores = np.ones(options.sample_size)
            elif name == HISTORY and earlier is not None:
                # As `HistoryMixtureSampler` draws: a share of the draws is uniform.
                scores = MIX.default / len(earlier) + (1 - MIX.default) * earlier / earlier.sum()
            else:
                scores = exact if name == "full_gnorm" else scoring.by(name)
            if not exact.any():
                raise ValueError("All gradients are 0: there is nothing to estimate.")
            if not scores.any():
                raise ValueError(f"All scores {name} are 0, so that nothing can be drawn by them.")
            if options.save_scores:
                path = options.save_scores / f"{name}.txt"
                write_whole(path, partial(np.savetxt, X=scores))
            found.append(
                sample.measure(
                    name, scores, options.batch_size, options.samples, rng, each=bar.advance
                )
            )
            _print(found[-1])
    print()
    print_table(_HEAD, [_cells(quality) for quality in found])
    settings = {
        name: getattr(options, name)
        for name in ("model", "dataset", "samples", "batch_size", "sample_size", "random_seed")
    }
    if options.output:
        rows = [quality.as_dict() for quality in found]
        write_json(options.output, {"settings": settings, "draws": rows})
    if options.picture:
        _draw(options.picture, found, settings)
    return 0


class _Scoring:
    """Scores of the sample by the model as it is.

    Args:
        model: the compiled model.
        rows: `(x, y)`.
        inner: int, examples in one pass.
    """

    def __init__(self, model: keras.Model, rows: tuple[Nested, Nested], inner: int):
        self._model, self._rows, self._inner = model, rows, inner
        self._wrappers: dict[str, OracleWrapper] = {}

    def by(self, score: Score) -> np.ndarray:
        """`(n,)` float64.

        Args:
            score: name of the score.
        """
        if score not in self._wrappers:
            policy = BiasedReweightingPolicy()
            self._wrappers[score] = OracleWrapper(self._model, policy, score=score)
        found = self._wrappers[score].score(*self._rows, batch_size=self._inner)
        return np.asarray(found, np.float64)


def _print(quality: Quality) -> None:
    print(f"{quality.draw}:")
    for what, interval, variance in (
        ("distance", quality.distance, quality.variances[0]),
        ("cosine", quality.cosine, quality.variances[1]),
    ):
        print(f"  {what} to the gradient: mean {interval.mean:.6g}, var {variance:.6g}")


_HEAD = (
    "drawn by",
    "distance (95 %)",
    "expected",
    "cosine (95 %)",
    "second moment",
    "correlation",
    "of ranks",
)


def _cells(quality: Quality) -> list[str]:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    def interval(found: Interval) -> str:
        return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"

    return [
        quality.draw,
        interval(quality.distance),
        shown(quality.expected_distance),
        interval(quality.cosine),
        shown(quality.second_moment),
        shown(quality.correlation),
        shown(quality.rank_correlation),
    ]


def _draw(path: Path, found: list[Quality], settings: Mapping[str, object]) -> None:
    from ..gradient_picture import draw, title_of

    figure = draw([quality.as_dict() for quality in found], title_of(settings))
    write_whole(path, figure.savefig)
