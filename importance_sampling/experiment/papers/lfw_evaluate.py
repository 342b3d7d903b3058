"""`importance-sampling lfw-evaluate`: how well representations tell faces apart."""

from __future__ import annotations

import argparse

import numpy as np

from ...datasets import LFW
from .location import location


def distances(representations: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Squared distances of pairs of representations, each scaled to length one.

    Args:
        representations: `(N, d)`.
        pairs: `(n, 2)` their indices.

    Returns:
        `(n,)` array, from 0 to 4.
    """
    lengths = np.linalg.norm(representations, axis=1, keepdims=True)
    unit = representations / np.maximum(lengths, 1e-12)
    return np.square(unit[pairs[:, 0]] - unit[pairs[:, 1]]).sum(axis=1)


def best_threshold(values: np.ndarray, same: np.ndarray) -> float:
    """The distance below which to say "the same person", so that most pairs come out right.

    Args:
        values: `(n,)` distances.
        same: `(n,)`, 1 for the same person and 0 for two.
    """
    order = np.argsort(values, kind="stable")
    values, same = values[order], same[order]
    # Right answers with the first i pairs called the same, for i = 0 ... n.
    right = np.concatenate([[0.0], np.cumsum(same)]) + np.concatenate(
        [np.cumsum((1 - same)[::-1])[::-1], [0.0]]
    )
    # Equal distances cannot be divided.
    edges = np.concatenate([[True], values[1:] > values[:-1], [True]])
    best = int(np.argmax(np.where(edges, right, -1.0)))
    below = values[best - 1] if best else values[0] - 1.0
    above = values[best] if best < len(values) else values[-1] + 1.0
    return float((below + above) / 2)


def main(options: argparse.Namespace) -> int:
    """Prints the share of right answers on each fold, by the threshold of the other folds."""
    path = location(options.dataset_path)
    try:
        flat = np.fromfile(options.representations, dtype=np.float32)
    except OSError as error:
        raise OSError(f"{options.representations} cannot be read: {error}") from error
    if options.embedding < 1 or not len(flat) or len(flat) % options.embedding:
        raise ValueError(
            f"{options.representations} holds {len(flat)} numbers, no whole number of "
            f"representations of size {options.embedding}."
        )
    representations = flat.reshape(-1, options.embedding)
    shares = []
    for fold in range(1, options.folds + 1):
        dataset = LFW(path, fold=fold, idxs=True)
        if len(dataset.paths) != len(representations):
            raise ValueError(
                f"{options.representations} holds {len(representations)} representations, but "
                f"there are {len(dataset.paths)} images in {path}."
            )
        pairs, same = dataset.train_data[:]
        threshold = best_threshold(distances(representations, pairs), same[:, 0])
        pairs, same = dataset.test_data[:]
        said = distances(representations, pairs) < threshold
        shares.append(float((said == (same[:, 0] > 0)).mean()))
        print(f"Fold {fold}: {shares[-1]:.4f}")
    print(f"Mean: {np.mean(shares):.4f}")
    return 0
