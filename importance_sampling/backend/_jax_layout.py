"""Where arrays lie among several devices, as `keras.distribution` has it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np

from .._pending_rows import read_rows
from .base import Tensor


def distribution() -> Any:
    """Keras' present distribution; None where there is one device.

    Raises:
        NotImplementedError: if it splits the weights among several processes.
    """
    found = keras.distribution.distribution()
    several = found is not None and jax.process_count() > 1
    if several and not isinstance(found, keras.distribution.DataParallel):
        raise NotImplementedError(
            f"Keras' {type(found).__name__} spans {jax.process_count()} processes, of which none "
            "holds all of the weights. Importance sampling supports DataParallel over several "
            "processes, and others over the devices of one."
        )
    return found


def lay_out_rows(found: Any, array: Any) -> Any:
    """Rows split among the devices, as the distribution splits data; as they are if they cannot be.

    Args:
        found: Keras' distribution.
        array: `(n, ...)`, an array or `PendingRows`; a number of rows that the devices cannot share
            evenly, as the last batch of a pass may have, is left to each of them as a whole.
    """
    if not getattr(array, "shape", ()):
        return array
    layout = found.get_data_layout(array.shape)
    if array.shape[0] % _parts(layout):
        return read_rows(array)
    if jax.process_count() > 1:
        # A process sends its own devices their rows, and no others, nor does it read others.
        def part(own: tuple[slice, ...]) -> np.ndarray:
            return np.asarray(array[own[0]])[(slice(None), *own[1:])]

        return jax.make_array_from_callback(array.shape, layout.backend_layout, part)
    return keras.distribution.distribute_tensor(read_rows(array), layout)


def _parts(layout: Any) -> int:
    """Into how many pieces a layout cuts the rows."""
    mesh, names = layout.device_mesh, layout.axes[0]
    parts = 1
    for name in [names] if isinstance(names, str) else names or ():
        parts *= mesh.shape[mesh.axis_names.index(name)]
    return parts


def whole_everywhere(found: Any, outputs: Any) -> Any:
    """What a traced function returns, gathered in every process where there are several.

    Args:
        found: Keras' distribution, or None.
        outputs: tensors, in any structure.
    """
    if found is None or jax.process_count() == 1:
        return outputs
    everywhere = jax.sharding.NamedSharding(
        found.device_mesh.backend_mesh, jax.sharding.PartitionSpec()
    )
    return jax.tree_util.tree_map(
        lambda t: jax.lax.with_sharding_constraint(t, everywhere), outputs
    )


@contextlib.contextmanager
def any_data(found: Any, rows: Sequence[int]) -> Iterator[None]:
    """A block in which Keras' own loops take data that they would refuse.

    Keras would have data of several processes as a `tf.data.Dataset`, to give each a part of it.
    With the whole in every process, all rows count as often, so that means are the same. In one
    process it lays all batches out as the first; if the devices cannot share them evenly, each of
    them is given the whole.

    Args:
        found: Keras' distribution, or None.
        rows: how many rows batches have, as far as that is known.
    """
    if found is None:
        yield
    elif jax.process_count() > 1:
        before, found.auto_shard_dataset = found.auto_shard_dataset, False
        try:
            yield
        finally:
            found.auto_shard_dataset = before
    elif any(n % _parts(found.get_data_layout((n,))) for n in rows):

        def whole(shape: tuple[int, ...]) -> Any:
            return keras.distribution.TensorLayout([None] * len(shape), found.device_mesh)

        found.get_data_layout = whole
        try:
            yield
        finally:
            del found.get_data_layout
    else:
        yield


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
