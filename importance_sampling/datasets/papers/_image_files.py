"""Images in files, read when they are asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..._files import AnyPath
from ..._requirements import require
from ..._untrusted import reading, regular_file

SIZE = 224
"""Height and width that networks pretrained on ImageNet expect."""

FORMATS = ("JPEG", "PNG")
"""What is read. Pillow goes by content, and starts a program for some of its other formats."""

_MOST_PIXELS = 50_000_000
_LONGEST = 100
"""How many times its shorter side an image's longer one may be."""


def read_image(path: Path, crop: bool = False) -> np.ndarray:
    """Reads an image as uint8 of shape `(224, 224, 3)`.

    Args:
        path: of a JPEG or PNG image, whatever it is called.
        crop: whether to keep the aspect ratio and cut out the middle instead of stretching.

    Raises:
        OSError: if the file is missing, truncated, in another format or no image, or if its pixels
            would take more memory than any photograph; names it.
    """
    image_module = require("PIL.Image", "images", "Reading images")
    regular_file(path)
    with reading(path, f"an image ({' or '.join(FORMATS)})"):
        with image_module.open(path, formats=FORMATS) as image:
            # Known from the first bytes, before anything is unpacked.
            _check_size(image.width, image.height, len(image.getbands()))
            image.load()
            image = image if image.mode == "RGB" else image.convert("RGB")
        return _resized(image, image_module.Resampling.BILINEAR, crop)


def _check_size(width: int, height: int, bands: int) -> None:
    # Four values each, as of print, take as much more while they are unpacked.
    if width * height * max(3, bands) > 3 * _MOST_PIXELS:
        most = 3 * _MOST_PIXELS // max(3, bands)
        raise ValueError(f"{width} x {height} pixels are more than {most:,}")
    if max(width, height) > _LONGEST * min(width, height):
        raise ValueError(f"{width} x {height} pixels are no picture but a line")


def _resized(image: Any, bilinear: Any, crop: bool) -> np.ndarray:
    if not crop:
        return np.array(image.resize((SIZE, SIZE), bilinear))
    scale = max(SIZE / image.width, SIZE / image.height)
    # Rounding errors may not leave a line less than is cut out.
    width, height = (max(SIZE, int(scale * side)) for side in image.size)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    image = image.resize((width, height), bilinear)
    return np.array(image.crop((left, top, left + SIZE, top + SIZE)))


def preprocess(images: np.ndarray) -> np.ndarray:
    """Images in [0, 255] as networks of `keras.applications` such as ResNet50 expect them."""
    from keras.applications.imagenet_utils import preprocess_input

    return preprocess_input(
        images.astype(np.float32), data_format="channels_last", mode="caffe"
    ).astype(np.float32)


class ImageFiles:
    """Preprocessed images by number, the last ones kept in memory.

    Args:
        paths: of the images.
        cache: int, how many decoded images (147 KiB each) are kept, those used last.
        crop: as in `read_image`.
    """

    def __init__(self, paths: Iterable[Path], cache: int, crop: bool = False):
        self.paths = list(paths)
        self._crop = crop
        # Not of the method itself, whose cache all data sets would share.
        self._read = functools.lru_cache(maxsize=cache)(self._read_one)

    def __len__(self) -> int:
        return len(self.paths)

    def _read_one(self, number: int) -> np.ndarray:
        return read_image(self.paths[number], self._crop)

    def __getitem__(self, numbers: Any) -> np.ndarray:
        """Float32 of shape `(n, 224, 224, 3)`."""
        numbers = np.asarray(numbers)
        images = np.empty((len(numbers), SIZE, SIZE, 3), dtype=np.uint8)
        for i, number in enumerate(numbers):
            images[i] = self._read(int(number))
        return preprocess(images)


class LabelledImages:
    """Images in files with a target each."""

    def __init__(self, images: ImageFiles, targets: np.ndarray):
        self._images, self._targets = images, targets

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, numbers: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._images[numbers], self._targets[numbers]


def directory(path: AnyPath, expected: str) -> Path:
    """The path of an existing directory.

    Args:
        path: where it should be.
        expected: str, what should be in it, for the error.

    Raises:
        NotADirectoryError: says what was expected there.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise NotADirectoryError(f"There is no directory {folder}. Expected {expected} there.")
    return folder


def images_in(folder: Path) -> list[Path]:
    """The `.jpg` files of a folder, sorted."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones are left out."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def stays_inside(line: str) -> bool:
    """Whether a name in a list of files is one below the list's own folder.

    Args:
        line: str, a path with slashes.

    Returns:
        bool; links are what the file system makes of them.
    """
    path = Path(line)
    return not (path.drive or path.root or ".." in path.parts)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, stripped.

    Raises:
        OSError: if it is missing or no text; names it.
        ValueError: if it is empty.
    """
    regular_file(path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise OSError(f"{path} is no text file: {error}") from error
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"{path} is empty.")
    return lines
