"""Clear words where something is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

from ._names import nearest

_BACKENDS = ("tensorflow", "jax", "torch")
# Of Keras as well, and good for reading what was trained elsewhere.
_WITHOUT_TRAINING = ("numpy", "openvino")


def configured_backend() -> str:
    """The backend Keras will run on: KERAS_BACKEND, Keras' configuration file, or its default."""
    name = os.environ.get("KERAS_BACKEND")
    if name:
        return name
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        return json.loads((home / "keras.json").read_text())["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def check_backend() -> None:
    """Raises an ImportError, with what to do, if Keras' backend is unknown or not installed."""
    name = configured_backend()
    if name not in (*_BACKENDS, *_WITHOUT_TRAINING):
        raise ImportError(
            f"Keras is set to run on {name!r}, which is no backend.{nearest(name, _BACKENDS)} Set "
            f"KERAS_BACKEND to {', '.join(_BACKENDS[:-1])} or {_BACKENDS[-1]}."
        )
    if name not in _BACKENDS or _installed(name):
        return
    others = [b for b in _BACKENDS if _installed(b)]
    hint = f" Or set KERAS_BACKEND={others[0]}, which is installed." if others else ""
    raise ImportError(
        f"Keras is set to run on {name}, which is not installed. Run\n\n"
        f'    pip install "keras-importance-sampling[{name}]"\n\n'
        f"(backends: {', '.join(_BACKENDS)}).{hint}"
    )


def check_trains() -> None:
    """As `check_backend`; also if Keras' backend computes no gradients."""
    check_backend()
    name = configured_backend()
    if name in _WITHOUT_TRAINING:
        raise ImportError(
            f"Keras is set to run on {name}, which cannot train. Set KERAS_BACKEND to "
            f"{', '.join(_BACKENDS[:-1])} or {_BACKENDS[-1]}."
        )


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Imports an optional module, or raises an ImportError with the command to run.

    Args:
        module: str, the module's full name.
        extra: str, the extra of this package that brings it.
        purpose: str, what it is needed for; the error begins with it.

    Returns:
        The module.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{purpose} needs {error.name}, which is not installed. Run\n\n"
            f'    pip install "keras-importance-sampling[{extra}]"\n'
        ) from error
