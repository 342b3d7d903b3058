"""`importance-sampling scores`: the score of every training example, one per line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import keras

from ..._progress import shown
from ...model_wrappers import OracleWrapper
from ...reweighting import UNWEIGHTED
from ...utils.keras_utils import DatasetSequence
from .. import build, checks, registry
from ..hyperparams import parse


def main(options: argparse.Namespace) -> int:
    """Prints the scores."""
    hp = parse(options.hyperparams)
    checks.warn_without_effect(checks.named(options), hp)
    keras.utils.set_random_seed(options.random_seed)
    dataset = registry.DATASETS.look_up(options.dataset).make(hp)
    model = build.build_model(options.model, dataset, hp)
    build.load_initial_weights(model, Path(options.weights))
    wrapper = OracleWrapper(model, UNWEIGHTED, score=options.score)
    batches = DatasetSequence(dataset, batch_size=options.batch_size)
    # On standard error, and nothing where that is a file: standard output is data.
    count = len(batches)
    for i in shown(range(count), "scores", count, unit="batches", file=sys.stderr, quiet=True):
        scores = wrapper.score_batch(*batches[i]).reshape(-1)
        sys.stdout.write("".join(f"{float(score):.8g}\n" for score in scores))
    sys.stdout.flush()
    return 0
