"""`importance-sampling variance-reduction`: how well mini-batches estimate a gradient."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..._arrays import take_rows
from ..._files import make_directory, write_whole
from ...model_wrappers import OracleWrapper
from ...reweighting import BiasedReweightingPolicy
from .. import build, registry
from ..hyperparams import parse


def _gradient(wrapper: Any, xy: Any, w: np.ndarray, inner: int) -> np.ndarray:
    """Gradient of the mean weighted loss as one vector, `inner` rows at a time."""
    total: Any = 0.0
    for start in range(0, len(w), inner):
        rows = slice(start, start + inner)
        x, y = take_rows(xy, rows)
        parts = wrapper.gradient(x, y, w[rows])
        flat = np.concatenate([np.asarray(g, np.float64).reshape(-1) for g in parts])
        total = total + len(w[rows]) * flat
    return total / len(w)


def main(options: argparse.Namespace) -> int:
    """Prints, for each score, how far the estimates are from the gradient of the whole sample."""
    hp = parse(options.hyperparams)
    for name in ("samples", "batch_size", "inner_batch_size", "sample_size"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}.")
    rng = np.random.default_rng(options.random_seed)
    names = {"model": options.model, "dataset": options.dataset}
    build.check(names, hp)
    build.warn_without_effect(names, hp)
    keras.utils.set_random_seed(options.random_seed)
    dataset = registry.DATASETS.look_up(options.dataset).make(hp)
    model = build.build_model(options.model, dataset, hp)
    build.load_initial_weights(model, Path(options.weights))
    if options.save_scores:
        make_directory(options.save_scores)
    x, y = dataset.train_data[rng.integers(0, len(dataset.train_data), options.sample_size)]
    policy = BiasedReweightingPolicy()
    wrapper = OracleWrapper(model, policy, score="loss")
    full = _gradient(wrapper, (x, y), np.ones(options.sample_size), options.inner_batch_size)
    for score in options.score:
        scores = np.ones(options.sample_size)
        if score != "ones":
            scorer = OracleWrapper(model, policy, score=score)
            scores = np.asarray(scorer.score(x, y, batch_size=options.inner_batch_size), np.float64)
        if not scores.any():
            raise ValueError(f"All scores {score} are 0, so that nothing can be drawn by them.")
        distances, alignments = [], []
        for _ in range(options.samples):
            rows = rng.choice(len(scores), options.batch_size, p=scores / scores.sum())
            w = policy.sample_weights(rows, scores).reshape(-1)
            part = _gradient(wrapper, take_rows((x, y), rows), w, options.inner_batch_size)
            distances.append(np.linalg.norm(part - full))
            alignments.append(part @ full / (np.linalg.norm(part) * np.linalg.norm(full)))
        print(f"{score}:")
        for what, values in (("distance", distances), ("cosine", alignments)):
            print(f"  {what} to the gradient: mean {np.mean(values):.6g}, var {np.var(values):.6g}")
        if options.save_scores:
            path = options.save_scores / f"{score}.txt"
            write_whole(path, partial(np.savetxt, X=scores))
    return 0
