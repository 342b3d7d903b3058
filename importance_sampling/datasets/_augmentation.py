"""Random changes of an image under the names of Keras 2's `ImageDataGenerator`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._names import unknown
from .._requirements import require

_FILL_MODES = ("constant", "nearest", "reflect", "wrap")


def zca_matrix(centred: np.ndarray, epsilon: float) -> np.ndarray:
    """The symmetric matrix that whitens rows, `(d, d)` in float32.

    Args:
        centred: `(n, ...)` images whose mean is subtracted; a row is an image with its d values.
        epsilon: float, added to the eigenvalues of the covariance.
    """
    rows = centred.reshape(len(centred), -1)
    covariance = np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), 4096):
        # In float64 a part at a time: the whole copy would be larger than the data.
        part = rows[start : start + 4096].astype(np.float64)
        covariance += part.T @ part
    values, vectors = np.linalg.eigh(covariance / len(rows))
    scale = 1.0 / np.sqrt(np.maximum(values, 0.0) + epsilon)
    return ((vectors * scale) @ vectors.T).astype(np.float32)


@dataclasses.dataclass
class ImageAugmentation:
    """Draws a change of an image, and standardizes images by what `fit` saw.

    Args:
        featurewise_center: subtract the training set's mean of each channel.
        samplewise_center: subtract the image's own mean.
        featurewise_std_normalization: divide by the training set's deviation of each channel.
        samplewise_std_normalization: divide by the image's own deviation.
        zca_whitening: make pixels uncorrelated over the training set.
        zca_epsilon: added to the eigenvalues.
        rotation_range: degrees, in either direction.
        width_shift_range: fraction of the width if below 1, else pixels, in either direction; or
            a list of pixels to choose from.
        height_shift_range: the same for the height.
        brightness_range: pair of factors.
        shear_range: degrees, in either direction.
        zoom_range: pair of factors, or z for [1 - z, 1 + z].
        channel_shift_range: what is added to each channel, in either direction.
        fill_mode: "nearest", "constant", "reflect" or "wrap".
        cval: the constant.
        horizontal_flip: flip every other image, on average.
        vertical_flip: the same upside down.
        rescale: a factor, after the changes.
        preprocessing_function: called with each image, after the changes.
        interpolation_order: of the spline between pixels. 0 is the nearest, 1 linear.
    """

    featurewise_center: bool = False
    samplewise_center: bool = False
    featurewise_std_normalization: bool = False
    samplewise_std_normalization: bool = False
    zca_whitening: bool = False
    zca_epsilon: float = 1e-6
    rotation_range: float = 0.0
    width_shift_range: Any = 0.0
    height_shift_range: Any = 0.0
    brightness_range: tuple[float, float] | None = None
    shear_range: float = 0.0
    zoom_range: Any = 0.0
    channel_shift_range: float = 0.0
    fill_mode: str = "nearest"
    cval: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rescale: float | None = None
    preprocessing_function: Callable[[np.ndarray], np.ndarray] | None = None
    interpolation_order: int = 1

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> ImageAugmentation:
        """Makes one, refusing names that it does not know."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in params:
            if name not in known:
                raise unknown("augmentation", name, known)
        return cls(**params)

    def __post_init__(self) -> None:
        if self.fill_mode not in _FILL_MODES:
            raise ValueError(
                f"`fill_mode` must be one of {list(_FILL_MODES)}, got {self.fill_mode!r}."
            )
        zoom = np.asarray(self.zoom_range, dtype=np.float64)
        self._zoom = (1 - zoom, 1 + zoom) if zoom.ndim == 0 else tuple(zoom)
        if len(self._zoom) != 2 or min(self._zoom) <= 0:
            raise ValueError(
                "`zoom_range` must be below 1 or a pair of factors above 0, got "
                f"{self.zoom_range!r}."
            )
        if self.brightness_range is not None and len(self.brightness_range) != 2:
            raise ValueError(
                f"`brightness_range` must be a pair of factors, got {self.brightness_range!r}."
            )
        self._mean: np.ndarray | None = None
        self._deviation: np.ndarray | None = None
        self._whitening: np.ndarray | None = None
        self._moves = any(
            np.any(value)
            for value in (
                self.rotation_range,
                self.width_shift_range,
                self.height_shift_range,
                self.shear_range,
                np.asarray(self._zoom) - 1,
            )
        )
        if self._moves:
            require("scipy.ndimage", "images", "Moving images")

    @property
    def needs_fit(self) -> bool:
        """Whether the training set's statistics are used."""
        centred = self.featurewise_center or self.zca_whitening
        return centred or self.featurewise_std_normalization

    def fit(self, images: np.ndarray) -> None:
        """Takes the statistics that are needed from `(n, height, width, channels)`."""
        if not self.needs_fit:
            return
        images = np.asarray(images, dtype=np.float32)
        axes = (0, 1, 2)
        if self.featurewise_center or self.zca_whitening:
            self._mean = images.mean(axes, dtype=np.float64).astype(np.float32)
            images = images - self._mean
        if self.featurewise_std_normalization:
            deviation = images.std(axes, dtype=np.float64) + 1e-6
            self._deviation = deviation.astype(np.float32)
            images = images / self._deviation
        if self.zca_whitening:
            self._whitening = zca_matrix(images, self.zca_epsilon)

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One random change of an image.

        Args:
            image: `(height, width, channels)`.
            rng: the generator that all of it is drawn from.

        Returns:
            float32 array of the same shape.
        """
        image = np.asarray(image, dtype=np.float32)
        if self._moves:
            image = self._move(image, rng)
        if self.channel_shift_range:
            low, high = image.min(), image.max()
            most = self.channel_shift_range
            shift = rng.uniform(-most, most, size=(image.shape[-1],))
            image = np.clip(image + shift.astype(np.float32), low, high)
        if self.horizontal_flip and rng.random() < 0.5:
            image = image[:, ::-1]
        if self.vertical_flip and rng.random() < 0.5:
            image = image[::-1]
        if self.brightness_range is not None:
            # As images are: up to 1 or up to 255.
            white = 1.0 if image.max() <= 1.0 else 255.0
            image = np.clip(image * np.float32(rng.uniform(*self.brightness_range)), 0.0, white)
        return image

    def _move(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rotation, shift, shear and zoom about the middle, as one interpolation."""
        ndimage = require("scipy.ndimage", "images", "Moving images")
        height, width = image.shape[:2]
        angle = np.deg2rad(rng.uniform(-self.rotation_range, self.rotation_range))
        shear = np.deg2rad(rng.uniform(-self.shear_range, self.shear_range))
        shift = (
            _shift(self.height_shift_range, height, rng),
            _shift(self.width_shift_range, width, rng),
        )
        smallest, largest = self._zoom
        zoom = rng.uniform(smallest, largest, size=2)
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.array([[cos, -sin], [sin, cos]])
        matrix = matrix @ np.array([[1.0, -np.sin(shear)], [0.0, np.cos(shear)]]) @ np.diag(zoom)
        middle = np.array([(height - 1) / 2, (width - 1) / 2])
        offset = middle - matrix @ middle + np.array([[cos, -sin], [sin, cos]]) @ shift
        moved = np.empty_like(image)
        for channel in range(image.shape[-1]):
            ndimage.affine_transform(
                image[..., channel],
                matrix,
                offset,
                output=moved[..., channel],
                order=self.interpolation_order,
                mode=self.fill_mode,
                cval=self.cval,
            )
        return moved

    def standardize(self, images: np.ndarray) -> np.ndarray:
        """What is done to all images, changed or not: `(..., height, width, channels)`."""
        axes = (-3, -2, -1)
        images = np.asarray(images, dtype=np.float32)
        if self.preprocessing_function is not None:
            function = self.preprocessing_function
            single = images.ndim == 3
            images = function(images) if single else np.stack([function(i) for i in images])
        if self.rescale is not None:
            images = images * np.float32(self.rescale)
        if self.samplewise_center:
            images = images - images.mean(axes, keepdims=True)
        if self.samplewise_std_normalization:
            images = images / (images.std(axes, keepdims=True) + np.float32(1e-6))
        if self._mean is not None:
            images = images - self._mean
        if self._deviation is not None:
            images = images / self._deviation
        if self._whitening is not None:
            shape = images.shape
            images = (images.reshape(-1, len(self._whitening)) @ self._whitening).reshape(shape)
        return images.astype(np.float32, copy=False)


def _shift(shift_range: Any, size: int, rng: np.random.Generator) -> float:
    if np.ndim(shift_range):
        return float(rng.choice(shift_range) * rng.choice([-1, 1]))
    shift = rng.uniform(-shift_range, shift_range)
    return float(shift * size if shift_range < 1 else shift)
