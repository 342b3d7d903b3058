"""`importance-sampling scores`: the score of every training example, one per line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import keras

from ..model_wrappers import OracleWrapper
from ..reweighting import UNWEIGHTED
from ..utils.keras_utils import DatasetSequence
from . import _build
from . import _registry as registry
from ._hyperparams import parse


def main(options: argparse.Namespace) -> int:
    """Prints the scores."""
    hp = parse(options.hyperparams)
    if options.batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1, got {options.batch_size}.")
    keras.utils.set_random_seed(options.random_seed)
    dataset = registry.look_up("data set", registry.DATASETS, options.dataset)(hp)
    model = _build.build_model(options.model, dataset, hp)
    _build.load_initial_weights(model, Path(options.weights))
    wrapper = OracleWrapper(model, UNWEIGHTED, score=options.score)
    batches = DatasetSequence(dataset, batch_size=options.batch_size)
    for i in range(len(batches)):
        scores = wrapper.score_batch(*batches[i]).reshape(-1)
        sys.stdout.write("".join(f"{float(score):.8g}\n" for score in scores))
    sys.stdout.flush()
    return 0
