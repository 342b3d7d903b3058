"""Faces: CASIA-WebFace as triplets and as classes, and Labeled Faces in the Wild."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..._files import AnyPath
from ..base import IndexedParts
from ._image_files import SIZE, ImageFiles, LabelledImages, directory, folders_in, images_in

_IMAGE = (SIZE, SIZE, 3)
_PERSONS = "a directory of .jpg files for each person"


def _persons(basepath: AnyPath) -> list[tuple[str, list[Path]]]:
    """Names and images of all persons that have images."""
    base = directory(basepath, _PERSONS)
    persons = [(folder.name, images_in(folder)) for folder in folders_in(base)]
    persons = [(name, images) for name, images in persons if images]
    if not persons:
        raise ValueError(f"{base} holds no images. Expected {_PERSONS} there.")
    return persons


class _Triplets:
    """Anchor, positive and negative example, the same ones whenever an index is asked for."""

    def __init__(
        self, persons: list[list[Path]], margin: float, cache: int, rounds: int, seed: int
    ):
        self._margin = margin
        self._sizes = np.array([len(images) for images in persons], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        self._images = ImageFiles((p for images in persons for p in images), cache)
        # A person's only image has no other one to be near to.
        paired = np.repeat(self._sizes > 1, self._sizes)
        self._anchors = np.flatnonzero(paired)
        self._rounds, self._seed = rounds, seed

    def __len__(self) -> int:
        return len(self._anchors) * self._rounds

    def rows(self, idxs: np.ndarray) -> np.ndarray:
        """Numbers of the images, `(n, 3)`."""
        rows = np.empty((len(idxs), 3), dtype=np.int64)
        for row, idx in zip(rows, idxs, strict=True):
            rng = np.random.default_rng([self._seed, int(idx)])
            anchor = self._anchors[idx % len(self._anchors)]
            person = np.searchsorted(self._starts, anchor, side="right") - 1
            start, size = self._starts[person], self._sizes[person]
            positive = start + (anchor - start + rng.integers(1, size)) % size
            # A person other than the anchor's, then one of their images.
            other = (person + rng.integers(1, len(self._sizes))) % len(self._sizes)
            negative = self._starts[other] + rng.integers(self._sizes[other])
            row[:] = anchor, positive, negative
        return rows

    def __getitem__(self, idxs: Any) -> tuple[list[np.ndarray], np.ndarray]:
        images = [self._images[column] for column in self.rows(np.asarray(idxs)).T]
        return images, np.full((len(idxs), 1), self._margin, dtype=np.float32)


class CASIAWebFace(IndexedParts):
    """CASIA-WebFace ([1411.7923](https://arxiv.org/abs/1411.7923)) for training on triplets.

    Inputs are three images: the anchor, another one of the same person and one of somebody else;
    targets are the margin `alpha`, of shape `(n, 1)`. Which three belong to an index is drawn at
    random and then stays the same.

    The directory holds one named by a number for each person, with `.jpg` files in it. Images are
    resized to 224 x 224 and preprocessed as for `keras.applications.ResNet50`.

    Args:
        basepath: of the directory.
        alpha: float, the margin. Defaults to `0.2`.
        embedding: int, the size of the embedding, which `output_size` tells a network. Defaults
            to `128`.
        validation: int, persons whose number is a multiple of it are the test set. Defaults to
            `5`.
        cache: int, decoded images (147 KiB each) that are kept in memory. Defaults to `4096`.
        triplets: keyword-only; int, triplets for each anchor. Defaults to `1`.
        seed: keyword-only; int, of the triplets. Defaults to `0`.

    Raises:
        OSError: if the directory is missing or an image cannot be read; names it.
        ValueError: if there are fewer than two persons to train on or no two images of one.
    """

    reads_ahead = True

    def __init__(
        self,
        basepath: AnyPath,
        alpha: float = 0.2,
        embedding: int = 128,
        validation: int = 5,
        cache: int = 4096,
        *,
        triplets: int = 1,
        seed: int = 0,
    ):
        for name, value in (("validation", validation), ("triplets", triplets)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value!r}.")
        parts: tuple[list[list[Path]], list[list[Path]]] = ([], [])
        for name, images in _persons(basepath):
            if not name.isdecimal():
                raise ValueError(
                    f"{Path(basepath) / name} is not named by a number, as CASIA-WebFace names "
                    "persons."
                )
            parts[int(name) % validation == 0].append(images)
        self._train = _Triplets(parts[0], alpha, cache, triplets, seed)
        if len(parts[0]) < 2 or not len(self._train):
            raise ValueError(
                f"{basepath} has {len(parts[0])} persons whose number is not a multiple of "
                f"{validation}; triplets need at least two persons and two images of one."
            )
        # A single person has nobody to be told apart from.
        tested = parts[1] if len(parts[1]) > 1 else []
        self._test = _Triplets(tested, alpha, cache, triplets, seed)
        self._embedding = int(embedding)

    @property
    def shape(self) -> list[tuple[int, ...]]:
        """Shapes of the three images."""
        return [_IMAGE] * 3

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of a target, the margin."""
        return (1,)

    @property
    def output_size(self) -> int:
        """Size of the embedding."""
        return self._embedding


class CASIAWebFace2(IndexedParts):
    """CASIA-WebFace ([1411.7923](https://arxiv.org/abs/1411.7923)) as a classification of persons.

    Targets are the persons' numbers from 0 on, of shape `(n, 1)`. The directory is as for
    `CASIAWebFace`.

    Args:
        basepath: of the directory.
        validation: keyword-only; int, every how many-th image of a person is for testing instead
            of training; 0 for none. Defaults to `10`.
        cache: keyword-only; int, decoded images (147 KiB each) kept in memory. Defaults to
            `4096`.

    Raises:
        OSError: if the directory is missing or an image cannot be read; names it.
    """

    reads_ahead = True

    def __init__(self, basepath: AnyPath, *, validation: int = 10, cache: int = 4096):
        if validation < 0 or validation == 1:
            raise ValueError(f"`validation` must be 0 or at least 2, got {validation!r}.")
        persons = _persons(basepath)
        self.names = [name for name, _ in persons]
        paths: tuple[list[Path], list[Path]] = ([], [])
        labels: tuple[list[int], list[int]] = ([], [])
        for label, (_, images) in enumerate(persons):
            for i, path in enumerate(images):
                tested = bool(validation) and i % validation == validation - 1
                paths[tested].append(path)
                labels[tested].append(label)
        self._train, self._test = (
            LabelledImages(ImageFiles(p, cache), np.array(own, dtype=np.int64)[:, None])
            for p, own in zip(paths, labels, strict=True)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return _IMAGE

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of a target, one integer."""
        return (1,)

    @property
    def output_size(self) -> int:
        """Number of persons."""
        return len(self.names)
