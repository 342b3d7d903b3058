"""Labeled Faces in the Wild."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..._files import AnyPath
from ..._untrusted import shown
from ...data.dataset import BaseDataset
from ._image_files import SIZE, ImageFiles, directory, folders_in, images_in, read_lines

_LAYOUT = "all_images/PERSON/PERSON_0001.jpg and view2/pairs.txt"


class LFW(BaseDataset):
    """Labeled Faces in the Wild (Huang et al., 2007): are these two the same person?

    With a fold, inputs are pairs of images and targets 1 for the same person and 0 for two
    persons, of shape `(n, 1)`; the fold is the test set, the other folds the training set. With
    `fold=None` the training set is all images and targets are the persons' numbers, `(n,)`.

    The directory holds `all_images/PERSON/PERSON_0001.jpg` and `view2/pairs.txt` (the number of
    folds and of pairs of each kind in the first line; then `PERSON 1 2` or `PERSON 1 OTHER 2`).
    Images are resized to 224 x 224 and preprocessed as for `keras.applications.ResNet50`.

    Args:
        basepath: of the directory.
        fold: int from 1 on, or `None` for all images. Defaults to `1`.
        idxs: bool, whether inputs are the images' numbers, `(n, 2)`, instead of the images, for
            embeddings that were computed once for all. Defaults to `False`.
        cache: keyword-only; int, decoded images (147 KiB each) kept in memory. Defaults to
            `4096`.

    Raises:
        OSError: if something is missing or cannot be read; names it.
        ValueError: if `pairs.txt` is malformed or has no such fold; names the line.
    """

    reads_ahead = True

    def __init__(
        self, basepath: AnyPath, fold: int | None = 1, idxs: bool = False, *, cache: int = 4096
    ):
        base = directory(basepath, _LAYOUT)
        persons = folders_in(directory(base / "all_images", "a directory for each person"))
        paths = [(person, path) for person in persons for path in images_in(person)]
        if not paths:
            raise ValueError(f"{base / 'all_images'} holds no images. Expected {_LAYOUT}.")
        self.names = [person.name for person in persons]
        number = {name: i for i, name in enumerate(self.names)}
        self._person = np.array([number[person.name] for person, _ in paths], dtype=np.int64)
        self._images = ImageFiles((path for _, path in paths), cache)
        self._fold, self._as_numbers = fold, bool(idxs)
        if fold is not None:
            known = {path.stem: i for i, (_, path) in enumerate(paths)}
            pairs, same, folds = _read_pairs(base / "view2" / "pairs.txt", known)
            if not 1 <= fold <= folds:
                raise ValueError(
                    f"`fold` must be None or from 1 to {folds}, as {base / 'view2' / 'pairs.txt'} "
                    f"says, got {fold!r}."
                )
            size = len(pairs) // folds
            tested = np.arange(len(pairs)) // size == fold - 1
            self._train = pairs[~tested], same[~tested]
            self._test = pairs[tested], same[tested]

    def _read(self, part: tuple[np.ndarray, np.ndarray], idxs: Any) -> tuple[Any, np.ndarray]:
        pairs, same = part[0][idxs], part[1][idxs]
        if self._as_numbers:
            return pairs, same
        return [self._images[column] for column in pairs.T], same

    def _train_data(self, idxs: Any) -> tuple[Any, np.ndarray]:
        if self._fold is None:
            numbers = np.asarray(idxs)
            return (numbers if self._as_numbers else self._images[numbers]), self._person[numbers]
        return self._read(self._train, idxs)

    def _train_size(self) -> int:
        return len(self._images) if self._fold is None else len(self._train[0])

    def _test_data(self, idxs: Any) -> tuple[Any, np.ndarray]:
        if self._fold is None:
            # There are no such rows; only an empty selection gets here.
            return self._train_data(idxs)
        return self._read(self._test, idxs)

    def _test_size(self) -> int:
        return 0 if self._fold is None else len(self._test[0])

    @property
    def paths(self) -> list[Path]:
        """The images' paths, in the order of their numbers."""
        return self._images.paths

    @property
    def shape(self) -> Any:
        """Shape of one input, or shapes of a pair."""
        if self._as_numbers:
            return () if self._fold is None else (2,)
        image = (SIZE, SIZE, 3)
        return image if self._fold is None else [image] * 2

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of a target."""
        return () if self._fold is None else (1,)

    @property
    def output_size(self) -> int:
        """1, or the number of persons with `fold=None`."""
        return len(self.names) if self._fold is None else 1


def _read_pairs(path: Path, known: dict[str, int]) -> tuple[np.ndarray, np.ndarray, int]:
    """Pairs of image numbers, whether they are the same person, and the number of folds."""
    first, *lines = read_lines(path)
    try:
        folds, each = map(int, first.split())
    except ValueError:
        raise ValueError(
            f"{path}, line 1: expected the numbers of folds and of pairs, got {shown(first)}."
        ) from None
    if folds < 1 or each < 1 or len(lines) != 2 * folds * each:
        raise ValueError(
            f"{path} has {len(lines)} pairs, but its first line says {folds} folds of twice "
            f"{each} pairs."
        )
    pairs = np.empty((len(lines), 2), dtype=np.int32)
    same = np.empty((len(lines), 1), dtype=np.float32)
    for i, line in enumerate(lines):
        parts = line.split()
        if len(parts) not in (3, 4):
            raise ValueError(
                f"{path}, line {i + 2}: expected PERSON 1 2 or PERSON 1 OTHER 2, got {shown(line)}."
            )
        same[i] = len(parts) == 3
        names = (parts[0], parts[0]) if len(parts) == 3 else (parts[0], parts[2])
        for column, (name, image) in enumerate(zip(names, (parts[1], parts[-1]), strict=True)):
            # Never made a number, which could have any length.
            stem = f"{name}_{image.lstrip('0').zfill(4) if image.isdecimal() else image}"
            if stem not in known:
                raise FileNotFoundError(
                    f"{path}, line {i + 2} names {stem[:80]}.jpg, which is not among the images."
                )
            pairs[i, column] = known[stem]
    return pairs, same, folds
