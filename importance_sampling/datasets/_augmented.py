"""Image data sets made larger by random changes."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.dataset import BaseDataset
from ._augmentation import ImageAugmentation
from .base import DecoratedDataset

_FACTOR = 10
"""How many times as large as the data set the augmented one is, unless told."""


class OntheflyAugmentedImages(DecoratedDataset):
    """Random changes of a data set's images, made when they are asked for.

    An index is always the same change of the same image, whatever was asked for before: image
    and change depend on `random_state` and the index alone, so that scores stored for an index
    stay true. Every image is used equally often, up to one. Test images are standardized, not
    changed.

    Args:
        dataset: a `BaseDataset` of images `(height, width, channels)`.
        augmentation_params: dict of arguments of Keras 2's `ImageDataGenerator`, such as
            `{"width_shift_range": 0.1, "horizontal_flip": True}`: `rotation_range`,
            `width_shift_range`, `height_shift_range`, `shear_range`, `zoom_range`,
            `channel_shift_range`, `brightness_range`, `horizontal_flip`, `vertical_flip`,
            `fill_mode`, `cval`, `rescale`, `preprocessing_function`, `interpolation_order`, and
            `featurewise_center`, `featurewise_std_normalization`, `samplewise_center`,
            `samplewise_std_normalization`, `zca_whitening`, `zca_epsilon`.
        N: int, size of the training set. Defaults to 10 times that of `dataset`.
        random_state: int, seed. Defaults to `0`.
        cache_size: int, how many images are kept, those used last. Defaults to as many as
            `dataset` has.

    Raises:
        ValueError: if the data set has no images or an augmentation is unknown or out of range.
        ImportError: if scipy, which moves the images, is not installed.
    """

    reads_ahead = True

    def __init__(
        self,
        dataset: BaseDataset,
        augmentation_params: Mapping[str, Any],
        N: int | None = None,
        random_state: int = 0,
        cache_size: int | None = None,
    ):
        if len(dataset.shape) != 3:
            raise ValueError(
                "Expected a data set of images (height, width, channels), got one of shape "
                f"{tuple(dataset.shape)}."
            )
        for name, value in (("N", N), ("cache_size", cache_size)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value!r}.")
        self.dataset = dataset
        self.N = _FACTOR * len(dataset.train_data) if N is None else N
        self.random_state = random_state
        self._augmentation = ImageAugmentation.from_params(augmentation_params)
        if self._augmentation.needs_fit:
            self._augmentation.fit(dataset.train_data[:][0])
        order = np.random.default_rng(random_state).permutation(len(dataset.train_data))
        self.idxs = np.resize(order, self.N)
        size = len(dataset.train_data) if cache_size is None else cache_size
        self._example = functools.lru_cache(maxsize=size)(self._make_example)

    def _make_example(self, idx: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = self.dataset.train_data[int(self.idxs[idx])]
        rng = np.random.default_rng([self.random_state, idx])
        image = self._augmentation.standardize(self._augmentation.change(x, rng))
        return np.ascontiguousarray(image), y

    def _train_data(self, idxs: Any) -> tuple[np.ndarray, np.ndarray]:
        if not len(idxs):
            x, y = self.dataset.train_data[idxs]
            return np.asarray(x, dtype=np.float32), y
        images, targets = zip(*(self._example(int(idx)) for idx in idxs), strict=True)
        return np.stack(images), np.stack(targets)

    def _train_size(self) -> int:
        return self.N

    def _test_data(self, idxs: Any) -> tuple[np.ndarray, Any]:
        x, y = self.dataset.test_data[idxs]
        return self._augmentation.standardize(x), y

    def _test_size(self) -> int:
        return len(self.dataset.test_data)


class AugmentedImages(DecoratedDataset):
    """Random changes of a data set's images, all made at once and kept in a temporary file.

    The same images as those of `OntheflyAugmentedImages`; the file takes N times 4 bytes for each
    value of an image in the directory for temporary files and vanishes with the data set.

    Args:
        dataset: a `BaseDataset` of images `(height, width, channels)`.
        augmentation_params: dict, as for `OntheflyAugmentedImages`.
        N: int, size of the training set. Defaults to 10 times that of `dataset`.
        random_state: keyword-only; int, seed. Defaults to `0`.
        verbose: keyword-only; bool, whether to show progress. Defaults to `False`.

    Raises:
        OSError: if there is not enough room for the file.
    """

    _chunk = 1024

    def __init__(
        self,
        dataset: BaseDataset,
        augmentation_params: Mapping[str, Any],
        N: int | None = None,
        *,
        random_state: int = 0,
        verbose: bool = False,
    ):
        source = OntheflyAugmentedImages(
            dataset, augmentation_params, N, random_state, cache_size=1
        )
        self.dataset, self._source, self.N = dataset, source, source.N
        size = 4 * self.N * int(np.prod(dataset.shape))
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if size > free:
            raise OSError(
                f"The augmented images need {size / 2**30:.1f} GiB in {folder}, which has "
                f"{free / 2**30:.1f} GiB left. Set TMPDIR to another directory, pass a smaller N "
                "or use OntheflyAugmentedImages."
            )
        # The mapping keeps the nameless file alive.
        with tempfile.TemporaryFile() as file:
            self._x = np.memmap(file, dtype=np.float32, shape=(self.N, *dataset.shape))
        targets = []
        bar = _progress(self.N) if verbose else None
        for start in range(0, self.N, self._chunk):
            rows = np.arange(start, min(start + self._chunk, self.N))
            self._x[rows], y = source.train_data[rows]
            targets.append(y)
            if bar is not None:
                bar.update(int(rows[-1]) + 1)
        self._y = np.concatenate(targets)

    def _train_data(self, idxs: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self._x[idxs]), self._y[idxs]

    def _train_size(self) -> int:
        return self.N

    def _test_data(self, idxs: Any) -> tuple[np.ndarray, Any]:
        return self._source.test_data[idxs]

    def _test_size(self) -> int:
        return len(self._source.test_data)


def _progress(target: int) -> Any:
    import keras

    return keras.utils.Progbar(target)
