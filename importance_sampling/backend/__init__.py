"""The only place that names TensorFlow, JAX or PyTorch.

Each backend file offers the same small interface:

* `gradient(fn, tensors)`: value and gradients of a scalar function, to be
  called inside a traced function;
* `sample_gradient_norms(fn, inputs, values)`: exact per-sample gradient
  norms, vectorised over the samples;
* `tapped_gradient(fn)`: gradients with respect to tensors that are only met
  while `fn` runs;
* `Runtime(model)`: compiled functions over the state of one model.

`array_types` recognises arrays and data loaders of the three, whichever Keras runs on.
"""

from __future__ import annotations

import importlib
from types import ModuleType

_FILES = {
    "tensorflow": "importance_sampling.backend._tensorflow",
    "jax": "importance_sampling.backend._jax",
    "torch": "importance_sampling.backend._torch",
}


def get() -> ModuleType:
    """Returns the module that serves the backend Keras runs on.

    Raises:
        RuntimeError: if Keras runs on a backend that cannot train.
    """
    import keras

    name = keras.backend.backend()
    if name not in _FILES:
        raise RuntimeError(
            f"Importance sampling needs a backend that can train, but Keras runs on {name!r}. "
            f"Set the environment variable KERAS_BACKEND to one of {sorted(_FILES)} before Keras "
            "is imported."
        )
    return importlib.import_module(_FILES[name])
