"""ImageNet at 8 to 64 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..._files import AnyPath, read_npy
from ..._untrusted import naming
from ...data.dataset import BaseDataset
from ._image_files import directory

_CLASSES = 1000
_BRIGHTEST = 255


class ImageNetDownsampled(BaseDataset):
    """ImageNet's 1000 classes as small images ([1707.08819](https://arxiv.org/abs/1707.08819)).

    The training set has every image twice, the second time mirrored. The mean image is subtracted
    and the difference divided by 255; targets are one-hot.

    The directory `imagenet-SIZExSIZE` in `basepath` holds `mean.npy`, `train_data.npy`,
    `train_labels.npy`, `val_data.npy` and `val_labels.npy`: images `(n, size, size, 3)`, labels
    from 1 to 1000.

    Args:
        basepath: of the directory around it.
        size: int, height and width. Defaults to `32`.
        mmap: bool, whether to leave the images on disk and read them when they are asked for.
            Defaults to `False`.

    Raises:
        OSError: if a file is missing or cannot be read; names it.
        ValueError: if arrays do not fit together; names the file.
    """

    def __init__(self, basepath: AnyPath, size: int = 32, mmap: bool = False):
        base = directory(
            Path(basepath) / f"imagenet-{size}x{size}", "mean.npy, train_data.npy, ..."
        )
        self.reads_ahead = bool(mmap)
        self._train = _load_part(base, "train", size, mmap)
        self._val = _load_part(base, "val", size, mmap)
        mean = read_npy(base / "mean.npy")
        with naming(base / "mean.npy"):
            _check_pixels(mean)
        self.mean = mean.astype(np.float32)
        try:
            fits = np.broadcast_shapes(self.mean.shape, self.shape) == self.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"{base / 'mean.npy'} has shape {self.mean.shape}, which does not fit images of "
                f"shape {self.shape}."
            )

    def _rows(
        self, part: tuple[np.ndarray, np.ndarray], idxs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        images, labels = part
        idxs = np.asarray(idxs)
        rows, mirrored = idxs % len(images), idxs >= len(images)
        chosen = images[rows]
        if isinstance(images, np.memmap):
            # Left on disk, so that nobody has looked at them before.
            with naming(str(images.filename)):
                _check_pixels(chosen)
        x = chosen.astype(np.float32)
        x[mirrored] = x[mirrored][:, :, ::-1]
        x -= self.mean
        x /= 255
        y = np.zeros((len(idxs), _CLASSES), dtype=np.float32)
        y[np.arange(len(idxs)), labels[rows] - 1] = 1.0
        return x, y

    def _train_data(self, idxs: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._rows(self._train, idxs)

    def _train_size(self) -> int:
        return 2 * len(self._train[0])

    def _test_data(self, idxs: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._rows(self._val, idxs)

    def _test_size(self) -> int:
        return len(self._val[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self._train[0].shape[1:]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of a one-hot target."""
        return (_CLASSES,)

    @property
    def output_size(self) -> int:
        """Number of classes."""
        return _CLASSES


def _load_part(base: Path, part: str, size: int, mmap: bool) -> tuple[np.ndarray, np.ndarray]:
    path = base / f"{part}_data.npy"
    images = read_npy(path, mmap)
    if images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise ValueError(f"{path} has shape {images.shape}, expected (n, {size}, {size}, 3).")
    with naming(path):
        _check_pixels(images[:0] if isinstance(images, np.memmap) else images)
    path = base / f"{part}_labels.npy"
    labels = read_npy(path)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path} has {labels.dtype} of shape {labels.shape}, expected one integer for each of "
            f"the {len(images)} images."
        )
    if len(labels) and (labels.min() < 1 or labels.max() > _CLASSES):
        raise ValueError(
            f"{path} has labels from {labels.min()} to {labels.max()}, expected 1 to {_CLASSES}."
        )
    return images, labels.astype(np.int64)


def _check_pixels(images: np.ndarray) -> None:
    if images.dtype == np.uint8:
        return
    if images.dtype.kind not in "biuf":
        raise ValueError(f"expected pixels, got {images.dtype}.")
    # Nothing is true of NaN.
    if images.size and not (images.min() >= 0 and images.max() <= _BRIGHTEST):
        raise ValueError(
            f"expected pixels from 0 to {_BRIGHTEST}, got values from {images.min()} to "
            f"{images.max()}."
        )
