"""Where arrays lie among several devices, as `keras.distribution` has it."""

from __future__ import annotations

from typing import Any

import jax
import keras
from numpy.typing import ArrayLike

from .base import Tensor


def distribution() -> Any:
    """Keras' present distribution; None where there is one device.

    Raises:
        NotImplementedError: if several processes take part.
    """
    found = keras.distribution.distribution()
    if found is not None and jax.process_count() > 1:
        raise NotImplementedError(
            f"Keras' distribution spans {jax.process_count()} processes, which importance sampling "
            "does not support: use the devices of one process."
        )
    return found


def lay_out_rows(found: Any, array: ArrayLike) -> Any:
    """Rows split among the devices, as the distribution splits data; as they are if they cannot be.

    Args:
        found: Keras' distribution.
        array: `(n, ...)`; a number of rows that the devices cannot share evenly, as the last batch
            of a pass may have, is left to each of them as a whole.
    """
    shape = jax.numpy.shape(array)
    if not shape:
        return array
    layout = found.get_data_layout(shape)
    mesh = layout.device_mesh
    names = layout.axes[0]
    parts = 1
    for name in [names] if isinstance(names, str) else names or ():
        parts *= mesh.shape[mesh.axis_names.index(name)]
    return array if shape[0] % parts else keras.distribution.distribute_tensor(array, layout)


def keep_in_place(state: Any, shardings: Any) -> Any:
    """New state laid out as the old one was, whatever the compiler would choose.

    Args:
        state: lists of tensors, inside a traced function.
        shardings: the same of shardings, as of `places`.
    """
    return jax.tree_util.tree_map(jax.lax.with_sharding_constraint, state, shardings)


def places(groups: tuple[list[Tensor], ...]) -> tuple[list[Any], ...]:
    """Where the values of variables lie.

    Args:
        groups: lists of arrays.
    """
    return tuple([value.sharding for value in values] for values in groups)
