"""Indoor scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..._files import AnyPath
from ..._untrusted import reading, shown
from ..base import IndexedParts
from ._image_files import SIZE, ImageFiles, LabelledImages, directory, read_lines, stays_inside

_MOST_CLASSES = 1000
_LISTS = ("TrainImages.txt", "TestImages.txt")


class MIT67(IndexedParts):
    """67 kinds of indoor scenes (Quattoni & Torralba, "Recognizing indoor scenes", CVPR 2009).

    Images are read when they are first asked for and kept decoded (147 KiB each), resized to 224
    on the shorter side, cut to the middle, and preprocessed as for `keras.applications.ResNet50`.

    The directory holds `images/CLASS/FILE` and the lists `TrainImages.txt` and `TestImages.txt`
    with a line `CLASS/FILE` for each image, which lies in `images`.

    Args:
        basepath: of the directory.

    Raises:
        OSError: if a list or an image is missing or cannot be read; names it.
        ValueError: if a list names what is no image of a class, or leads out of `images`.
    """

    reads_ahead = True

    def __init__(self, basepath: AnyPath):
        base = directory(basepath, f"images/ and {' and '.join(_LISTS)}")
        files = [read_lines(base / name) for name in _LISTS]
        classes = sorted({_class(base / _LISTS[0], line) for line in files[0]})
        self.classes = classes
        if len(classes) > _MOST_CLASSES:
            raise ValueError(f"{base / _LISTS[0]} has {len(classes)} classes, MIT67 has 67.")
        number = {name: i for i, name in enumerate(classes)}
        parts = []
        for list_name, lines in zip(_LISTS, files, strict=True):
            names = [_class(base / list_name, line) for line in lines]
            unknown = sorted(set(names) - set(number))
            if unknown:
                raise ValueError(
                    f"{base / list_name} has images of {shown(unknown[0])}, of which {_LISTS[0]} "
                    "has none."
                )
            paths = [base / "images" / line for line in lines]
            with reading(base / list_name, "a list of images"):
                missing = [path for path in paths if not path.is_file()]
            if missing:
                raise FileNotFoundError(
                    f"{base / list_name} names {missing[0]}, which does not exist; "
                    f"{len(missing)} of its {len(paths)} images are missing."
                )
            targets = np.eye(len(classes), dtype=np.float32)[[number[name] for name in names]]
            images = ImageFiles(paths, len(paths), crop=True)
            parts.append(LabelledImages(images, targets))
        self._train, self._test = parts

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return (SIZE, SIZE, 3)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of a one-hot target."""
        return (len(self.classes),)

    @property
    def output_size(self) -> int:
        """Number of classes."""
        return len(self.classes)


def _class(path: Path, line: str) -> str:
    name, slash, file = line.partition("/")
    if not (name and slash and file):
        raise ValueError(f"{path} has the line {shown(line)}; expected CLASS/FILE.")
    if not stays_inside(line):
        raise ValueError(f"{path} has the line {shown(line)}, which leads out of the images.")
    return name
