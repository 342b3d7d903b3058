"""Data sets: where they are read from and what they hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .rows import Hyperparameter, Row, Table

_CHANGES = {"width_shift_range": 0.1, "height_shift_range": 0.1, "horizontal_flip": True}

DATA = Hyperparameter("data", "s", "a `.npz` file, or a folder that holds it")
POINTS = Hyperparameter("N", "i", "points along each side of the grid", 8192, least=2)
IMAGES = Hyperparameter("N", "i", "augmented images; ten times as many if left out", least=1)


def _kind(name: str) -> Any:
    # Read late: `--help` needs no data set.
    from ... import datasets

    return getattr(datasets, name)


def _canevet(smooth: float) -> Callable[..., Any]:
    return lambda N: _kind("CanevetICML2016")(N, smooth=smooth)


def _loaded(name: str) -> Callable[..., Any]:
    return lambda data: _kind(name)(path=data)


def _augmented(name: str) -> Callable[..., Any]:
    return lambda data, N: _kind("OntheflyAugmentedImages")(_kind(name)(path=data), _CHANGES, N)


def _whitened(name: str) -> Callable[..., Any]:
    def build(data: str | None, N: int) -> Any:
        white = _kind("ZCAWhitening")(_kind(name)(path=data))
        return _kind("OntheflyAugmentedImages")(white, _CHANGES, N)

    return build


def _place(key: str) -> Hyperparameter:
    return Hyperparameter(key, "s", f"where it lies; or the variable {key.upper()}")


def _found(key: str, given: str | None) -> str:
    """Where a data set lies, from its hyper-parameter or the environment variable of its name."""
    path = given or os.environ.get(key.upper())
    if not path:
        raise ValueError(
            f"Where the data set lies is not known. Set the environment variable {key.upper()} or "
            f"the hyper-parameter {key}=sPATH."
        )
    return path


def _imagenet(size: int) -> Callable[..., Any]:
    return lambda imagenet: _kind("ImageNetDownsampled")(_found("imagenet", imagenet), size=size)


def _triplets(casia: str | None, triplet_alpha: float, triplet_embedding: int) -> Any:
    return _kind("CASIAWebFace")(
        _found("casia", casia), alpha=triplet_alpha, embedding=triplet_embedding
    )


_OF_TRIPLETS = (
    Hyperparameter("triplet_alpha", "f", "margin between triplets", 0.2, least=0),
    Hyperparameter("triplet_embedding", "i", "size of an embedding", 128, least=1),
)


def _two_kinds(name: str, title: str) -> list[Row]:
    """An image data set, augmented and whitened."""
    whitened = IMAGES.but(default=15 * 10**5, summary="augmented images")
    changed = "moved by up to a tenth and mirrored"
    return [
        Row(f"{name}-augmented", f"{title}, {changed}", _augmented(title), (DATA, IMAGES)),
        Row(
            f"{name}-whitened-augmented",
            f"{title}, whitened, {changed}",
            _whitened(title),
            (DATA, whitened),
        ),
    ]


DATASETS = Table(
    "data set",
    Row("mnist", "images of digits", _loaded("MNIST"), (DATA,)),
    Row("cifar10", "small images of 10 classes", _loaded("CIFAR10"), (DATA,)),
    Row("cifar100", "small images of 100 classes", _loaded("CIFAR100"), (DATA,)),
    *_two_kinds("cifar10", "CIFAR10"),
    *_two_kinds("cifar100", "CIFAR100"),
    Row(
        "cifar-sanity-check",
        "two classes of CIFAR-10 and one image 30,000 times more",
        _loaded("CIFARSanityCheck"),
        (DATA,),
    ),
    Row("pixel-mnist", "MNIST as sequences of pixels", _loaded("PixelByPixelMNIST"), (DATA,)),
    Row("canevet-icml2016", "points, two classes divided by a curve", _canevet(40), (POINTS,)),
    Row("canevet-icml2016-jittered", "the same, a less sharp curve", _canevet(10), (POINTS,)),
    Row("canevet-icml2016-smooth", "the same, a very sharp curve", _canevet(15000), (POINTS,)),
    Row(
        "ptb",
        "words of the Penn treebank, 20 before the next one",
        lambda ptb: _kind("PennTreeBank")(20, ptb),
        (Hyperparameter("ptb", "s", "folder of the Penn treebank's text files"),),
    ),
    Row("imagenet-32x32", "ImageNet at 32 x 32", _imagenet(32), (_place("imagenet"),)),
    Row("imagenet-64x64", "ImageNet at 64 x 64", _imagenet(64), (_place("imagenet"),)),
    Row(
        "timit",
        "frames of speech and their phonemes",
        lambda timit: _kind("TIMIT")(20, _found("timit", timit)),
        (_place("timit"),),
    ),
    Row(
        "mit-67",
        "indoor scenes of 67 classes",
        lambda mit67: _kind("MIT67")(_found("mit67", mit67)),
        (_place("mit67"),),
    ),
    Row("casia", "triplets of faces", _triplets, (_place("casia"), *_OF_TRIPLETS)),
    Row(
        "casia-cls",
        "faces and whose they are",
        lambda casia: _kind("CASIAWebFace2")(_found("casia", casia)),
        (_place("casia"),),
    ),
)
"""The fifth argument of `run`; `build()`."""
