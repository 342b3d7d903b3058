"""Generators that belong to no model: PyTorch's own, by which Keras' dropout draws there."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np


def global_state() -> dict[str, np.ndarray]:
    """The state of the backend's global generators, by device; empty where it has none.

    TensorFlow and JAX draw by Keras' `SeedGenerator`s alone, whose state is among a model's
    variables.
    """
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return {name: state.numpy() for name, state in states.items()}


def load_global_state(states: Mapping[str, np.ndarray]) -> None:
    """Goes back to where `global_state` was taken, on the devices that are there.

    Args:
        states: what `global_state` returned.
    """
    present = global_state()
    for name in present.keys() & states.keys():
        import torch

        state = torch.from_numpy(np.array(states[name], dtype=np.uint8))
        if name == "cpu":
            torch.set_rng_state(state)
        elif name == "mps":
            torch.mps.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, name)
