"""What is tried before several replicas share the steps of a model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
from keras import ops, tree

from .._arrays import Nested
from ..backend.array_types import tensor_to_numpy
from ..backend.base import Tensor
from ._objective import Objective
from .introspection import input_shapes


def check_batch_size(model: keras.Model, replicas: int) -> None:
    """Raises if the inputs of a model that replicas share have a fixed number of rows.

    Args:
        model: the model.
        replicas: int, how many there are.

    Raises:
        ValueError: if they have.
    """
    sizes = {shape[0] for shape in (input_shapes(model) or {}).values()}
    fixed = [size for size in sizes if size is not None]
    if fixed:
        raise ValueError(
            f"The inputs of {model.name!r} have a fixed number of rows, {fixed}, but its "
            f"{replicas} replicas share batches and pools of any size. Leave the first axis open: "
            "`keras.Input(shape)` without `batch_size`."
        )


def check_scaling(objective: Objective, x: Nested, y: Nested, weight: Nested) -> None:
    """Raises if a loss of the user's own does not divide by the number of replicas.

    Gradients of the replicas are added up, so that a mean over the part of one replica must be
    divided by how many there are, as Keras' own losses are.

    Args:
        objective: what the model minimises.
        x: inputs, a few rows as tensors.
        y: targets, likewise.
        weight: the user's own weights, likewise; or None.

    Raises:
        ValueError: if the loss is not divided so.
    """
    runtime, loss = objective.runtime, objective.loss

    def losses(x: Nested, y: Nested, weight: Nested) -> Tensor:
        with runtime.scope():
            outputs = loss.forward(x)
        return objective.measure(x, y, outputs, weight, loss.masks(outputs))[0]

    # As many rows as replicas at least, which else had all of them.
    count = runtime.replicas
    x, y, weight = tree.map_structure(
        lambda a: None if a is None else ops.concatenate([a] * count, axis=0), (x, y, weight)
    )
    # In another thread, which is in no strategy's scope.
    with ThreadPoolExecutor(1) as thread:
        alone = tensor_to_numpy(thread.submit(losses, x, y, weight).result())
    shared = tensor_to_numpy(
        runtime.compile_pure(runtime.spread(losses, slice(3), joining="rows"))(x, y, weight)
    )
    if np.allclose(alone, shared, rtol=1e-2, atol=1e-6) or not np.isfinite(alone).all():
        return
    raise ValueError(
        f"The `compute_loss` of {loss.model.name!r} gives, in one of {count} replicas, "
        f"{float(np.mean(shared) / np.mean(alone)):.3g} times the loss that it gives alone. Their "
        "gradients are added up, so that a mean over the batch must be divided by the number of "
        "replicas: let `super().compute_loss(...)` or a loss of `keras.losses` reduce it, or "
        "divide by `tf.distribute.get_strategy().num_replicas_in_sync`."
    )
