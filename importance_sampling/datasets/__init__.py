"""Named data sets, and the classes to make one of your own.

Those of the old papers, which are read from local files, lie in `papers` and are loaded when they
are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..data.dataset import BaseDataset
from ..data.indexed import IndexedExamples
from ..data.stream import StreamEnded
from ._augmented import AugmentedImages, OntheflyAugmentedImages
from ._files import CIFAR10, CIFAR100, MNIST
from ._variants import CIFARSanityCheck, PixelByPixelMNIST, ZCAWhitening, cifar_sanity_check
from .canevet import CanevetICML2016, canevet_icml2016_nn
from .generator import GeneratorDataset
from .memory import InMemoryDataset, InMemoryImageDataset

if TYPE_CHECKING:
    from .papers import (
        LFW,
        MIT67,
        TIMIT,
        CASIAWebFace,
        CASIAWebFace2,
        ImageNetDownsampled,
        PennTreeBank,
        convert_timit,
    )

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "LFW",
    "MIT67",
    "MNIST",
    "TIMIT",
    "AugmentedImages",
    "BaseDataset",
    "CASIAWebFace",
    "CASIAWebFace2",
    "CIFARSanityCheck",
    "CanevetICML2016",
    "GeneratorDataset",
    "ImageNetDownsampled",
    "InMemoryDataset",
    "InMemoryImageDataset",
    "IndexedExamples",
    "OntheflyAugmentedImages",
    "PennTreeBank",
    "PixelByPixelMNIST",
    "StreamEnded",
    "ZCAWhitening",
    "canevet_icml2016_nn",
    "cifar_sanity_check",
    "convert_timit",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(".papers", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
