"""`importance-sampling lfw-forward-pass`: representations of all faces of LFW."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ... import pretrained
from ..._files import write_whole
from ...datasets import LFW
from ...utils.keras_utils import DatasetSequence, load_weights_by_name
from .location import location

# Without the softmax that the classifiers of these names end in: what is wanted is the embedding.
_NETWORKS = {
    "pretrained_resnet50": pretrained.ResNet50,
    "pretrained_densenet121": pretrained.DenseNet121,
}


def main(options: argparse.Namespace) -> int:
    """Writes float32 representations, one row after the other."""
    if options.model not in _NETWORKS:
        raise ValueError(f"The model must be one of {', '.join(_NETWORKS)}, got {options.model!r}.")
    if options.batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1, got {options.batch_size}.")
    dataset = LFW(location(options.dataset_path), fold=None)
    if not Path(options.weights).is_file():
        raise FileNotFoundError(f"There is no weights file {options.weights}.")
    model = _NETWORKS[options.model](None, dataset.shape, options.embedding)
    loaded = load_weights_by_name(options.weights, model)
    if not loaded:
        raise ValueError(f"{options.weights} has no weights with a name of the model's.")
    print(f"{len(loaded)} of {len(model.weights)} weights are from {options.weights}")
    batches = DatasetSequence(dataset, part=options.slice, batch_size=options.batch_size)
    representations = np.asarray(model.predict(batches, verbose=1), dtype=np.float32)
    write_whole(options.output, representations.tofile)
    print(f"{len(representations)} representations are in {options.output}")
    return 0
