"""Where examples are, and how to index or stream them."""

from ._augmented import AugmentedImages, OntheflyAugmentedImages
from ._base import BaseDataset
from ._buffer import StreamEnded
from ._canevet import CanevetICML2016, canevet_icml2016_nn
from ._faces import CASIAWebFace, CASIAWebFace2
from ._files import CIFAR10, CIFAR100, MNIST
from ._generator import GeneratorDataset
from ._imagenet import ImageNetDownsampled
from ._lfw import LFW
from ._memory import InMemoryDataset, InMemoryImageDataset
from ._scenes import MIT67
from ._text import PennTreeBank
from ._timit import TIMIT, convert_timit
from ._variants import CIFARSanityCheck, PixelByPixelMNIST, ZCAWhitening, cifar_sanity_check

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
    "OntheflyAugmentedImages",
    "PennTreeBank",
    "PixelByPixelMNIST",
    "StreamEnded",
    "ZCAWhitening",
    "canevet_icml2016_nn",
    "cifar_sanity_check",
    "convert_timit",
]
