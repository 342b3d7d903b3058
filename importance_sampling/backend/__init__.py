"""The only place that names TensorFlow, JAX or PyTorch.

`base` says what a backend offers (`Backend`, `Runtime`); one file for each of the three offers it;
`get` finds the one that Keras runs on. `array_types` recognises arrays and data loaders of the
three, whichever Keras runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Backend

__all__ = ["get"]


def get() -> Backend:
    """The module that serves the backend Keras runs on; nothing of the other two is imported.

    Raises:
        RuntimeError: if Keras runs on a backend that cannot train.
    """
    # Here, because data sets recognise arrays with this package and need no Keras.
    import keras

    name = keras.backend.backend()
    if name == "tensorflow":
        from . import _tensorflow

        return _tensorflow
    if name == "jax":
        from . import _jax

        return _jax
    if name == "torch":
        from . import _torch

        return _torch
    raise RuntimeError(
        f"Importance sampling needs a backend that can train, but Keras runs on {name!r}. Set the "
        "environment variable KERAS_BACKEND to one of ['jax', 'tensorflow', 'torch'] before Keras "
        "is imported."
    )
