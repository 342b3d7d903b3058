"""Where examples are, and how to index or stream them."""

from ._base import BaseDataset
from ._buffer import StreamEnded
from ._canevet import CanevetICML2016
from ._files import CIFAR10, CIFAR100, MNIST
from ._generator import GeneratorDataset
from ._memory import InMemoryDataset, InMemoryImageDataset

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "BaseDataset",
    "CanevetICML2016",
    "GeneratorDataset",
    "InMemoryDataset",
    "InMemoryImageDataset",
    "StreamEnded",
]
