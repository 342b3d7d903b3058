"""What pictures and tables call tasks."""

from __future__ import annotations

_TASKS = {
    "mnist_conv16": "MNIST, two convolutions",
    "mnist_small_cnn": "MNIST, `small_cnn`",
    "mnist_mlp": "MNIST, 512-512",
    "canevet": "points in the plane",
    "cifar10": "CIFAR-10, 10,000 images",
    "friedman": "Friedman's function",
    "next_character": "the next character",
    "long_tailed_mnist": "long-tailed MNIST",
    "rare_positives": "one positive in a hundred",
    "image_field": "an image as a field",
}


def task_name(task: str, code: bool = False) -> str:
    """A task in words; names of the library's as code, where that is wanted."""
    words = _TASKS.get(task, task)
    return words if code else words.replace("`", "")
