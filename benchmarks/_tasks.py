"""The tasks of the benchmarks by name, and for how many epochs each is trained."""

from __future__ import annotations

from collections.abc import Callable

from _plain_tasks import (
    canevet,
    cifar10,
    friedman,
    mnist_conv16,
    mnist_mlp,
    mnist_small_cnn,
    next_character,
)
from _rare_tasks import image_field, long_tailed_mnist, rare_positives
from _task import Task

TASKS: dict[str, Callable[[], Task]] = {
    "mnist_conv16": mnist_conv16,
    "mnist_small_cnn": mnist_small_cnn,
    "mnist_mlp": mnist_mlp,
    "canevet": canevet,
    "cifar10": cifar10,
    "friedman": friedman,
    "next_character": next_character,
    "long_tailed_mnist": long_tailed_mnist,
    "rare_positives": rare_positives,
    "image_field": image_field,
}

EPOCHS: dict[str, int] = {
    "mnist_conv16": 15,
    "mnist_small_cnn": 5,
    "mnist_mlp": 10,
    "canevet": 20,
    "cifar10": 15,
    "friedman": 20,
    "next_character": 6,
    "long_tailed_mnist": 30,
    "rare_positives": 10,
    "image_field": 40,
}
