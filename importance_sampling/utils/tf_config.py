"""The seed of everything that draws random numbers in a script, under its name of 0.10."""

from __future__ import annotations


def set_random_seed(seed: int) -> None:
    """Seeds Python, numpy and the backend; trainings draw by their own `seed`.

    Args:
        seed: int.
    """
    import keras

    keras.utils.set_random_seed(seed)
