"""Known data sets made harder, longer or rounder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._files import AnyPath
from ..data.dataset import BaseDataset
from ._augmentation import ImageAugmentation
from ._files import load_arrays
from .memory import InMemoryDataset, InMemoryImageDataset


class cifar_sanity_check:
    """What `CIFARSanityCheck` is made of, for `from_loadable`; see there for the arguments."""

    def __init__(
        self,
        classes: Sequence[int] = (3, 5),
        replicate: int = 30000,
        replicate_idx: int = 42,
        *,
        path: AnyPath | None = None,
    ):
        self.classes = np.asarray(classes)
        if self.classes.ndim != 1 or not 2 <= len(np.unique(classes)) == len(classes):
            raise ValueError(f"`classes` must be at least two different ones, got {classes!r}.")
        if replicate < 0:
            raise ValueError(f"`replicate` must be at least 0, got {replicate!r}.")
        self.replicate, self.replicate_idx, self.path = replicate, replicate_idx, path

    def load_data(self) -> Any:
        """`(x_train, y_train), (x_test, y_test)`; classes are numbered in the order given."""
        x_train, y_train, x_test, y_test = load_arrays("cifar10", self.path)
        x_train, y_train = _only(self.classes, x_train, y_train)
        if not -len(x_train) <= self.replicate_idx < len(x_train):
            raise IndexError(
                f"`replicate_idx` is {self.replicate_idx!r}, but there are {len(x_train)} images "
                f"of the classes {self.classes.tolist()}."
            )
        copied = self.replicate_idx % len(x_train)
        rows = np.append(np.arange(len(x_train)), np.full(self.replicate, copied))
        return (x_train[rows], y_train[rows]), _only(self.classes, x_test, y_test)


class CIFARSanityCheck(InMemoryImageDataset):
    """Some classes of CIFAR-10, and one image a great many times.

    Made for importance sampling: what the copies teach is learnt at once, so that uniform
    sampling wastes most of its time on them.

    Args:
        classes: the classes of CIFAR-10 to keep, at least two. Defaults to `(3, 5)`, cats and
            dogs.
        replicate: int, how many copies are added. Defaults to `30000`.
        replicate_idx: int, which of the kept training images is copied. Defaults to `42`.
        path: keyword-only; a `.npz` file or folder to load from instead of `keras.datasets`.
    """

    def __init__(
        self,
        classes: Sequence[int] = (3, 5),
        replicate: int = 30000,
        replicate_idx: int = 42,
        *,
        path: AnyPath | None = None,
    ):
        loadable = cifar_sanity_check(classes, replicate, replicate_idx, path=path)
        (x, y), (x_test, y_test) = loadable.load_data()
        super().__init__(x, y, x_test, y_test)


def _only(classes: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The examples of the classes, which are numbered anew in the order given."""
    found, label = np.nonzero(np.asarray(y).reshape(-1, 1) == classes)
    return x[found], label


class PixelByPixelMNIST(InMemoryDataset):
    """MNIST as sequences of 784 pixels, in one order drawn at random for all.

    Args:
        permutation_seed: int, of the order. Defaults to `0`.
        path: keyword-only; a `.npz` file or folder to load from instead of `keras.datasets`.
    """

    def __init__(self, permutation_seed: int = 0, *, path: AnyPath | None = None):
        x_train, y_train, x_test, y_test = load_arrays("mnist", path)
        size = int(np.prod(x_train.shape[1:]))
        # The order that the original drew with this seed.
        order = np.random.RandomState(permutation_seed).permutation(size)

        def sequences(images: np.ndarray) -> np.ndarray:
            return images.reshape(-1, size)[:, order, None].astype(np.float32) / np.float32(255)

        super().__init__(sequences(x_train), y_train, sequences(x_test), y_test)


class ZCAWhitening(InMemoryDataset):
    r"""A copy of an image data set whose pixels are uncorrelated and of variance one.

    With $\mu$ the mean of each channel over the training set and
    $U S U^\top$ the eigenvalues of the covariance of the centred training images, images become
    $(x - \mu)\,U (S + \epsilon)^{-1/2} U^\top$ with $\epsilon = 10^{-6}$ ("zero-phase component
    analysis", Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009).

    Args:
        dataset: a `BaseDataset` of images `(height, width, channels)`.
    """

    def __init__(self, dataset: BaseDataset):
        if len(dataset.shape) != 3:
            raise ValueError(
                "ZCAWhitening takes images of shape (height, width, channels), got a data set of "
                f"shape {tuple(dataset.shape)}."
            )
        x, y = dataset.train_data[:]
        x_test, y_test = dataset.test_data[:]
        whitening = ImageAugmentation(zca_whitening=True)
        whitening.fit(x)
        white, white_test = whitening.standardize(x), whitening.standardize(x_test)
        super().__init__(white, y, white_test, y_test, categorical=False)
