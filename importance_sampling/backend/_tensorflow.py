"""TensorFlow: `tf.function` over the model's own variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def _dense(gradient: Any, like: Any) -> Any:
    return tf.zeros_like(like) if gradient is None else tf.convert_to_tensor(gradient)


def gradient(fn: Callable[..., Any], tensors: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Value of the scalar `fn(*tensors)` and its gradient for each tensor."""
    # Identity gives each tensor a life of its own, so that nothing an outer
    # tape or a cached attribute (Keras keeps logits on tensors) reaches it.
    tensors = [tf.identity(t) for t in tensors]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = fn(*tensors)
    gradients = tape.gradient(value, tensors)
    return value, [_dense(g, t) for g, t in zip(gradients, tensors, strict=True)]


def tapped_gradient(fn: Callable[[Callable[[Any], Any]], Any]) -> tuple[list[Any], list[Any]]:
    """Gradient of the scalar `fn(tap)` for every tensor that `fn` hands to `tap`.

    Returns:
        `(tensors, gradients)` in the order in which they were tapped.
    """
    seen: list[Any] = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def tap(tensor: Any) -> Any:
            tensor = tf.identity(tensor)
            tape.watch(tensor)
            seen.append(tensor)
            return tensor

        value = fn(tap)
    gradients = tape.gradient(value, seen)
    return seen, [_dense(g, t) for g, t in zip(gradients, seen, strict=True)]


def sample_gradient_norms(fn: Callable[..., Any], inputs: Any, values: Sequence[Any]) -> Any:
    """Norm over `values` of the gradient of `fn(values, *row)`, one per row of `inputs`."""
    values = [tf.convert_to_tensor(v) for v in values]

    def norm(row: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss = fn(values, *row)
        gradients = tape.gradient(loss, values)
        squares = [
            tf.reduce_sum(tf.square(_dense(g, v))) for g, v in zip(gradients, values, strict=True)
        ]
        return tf.sqrt(tf.add_n(squares))

    return tf.vectorized_map(norm, inputs)


# Shapes that are looked up here; for more, TensorFlow makes a function that takes them all.
_MOST_SHAPES = 8


def _dispatched(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compiles `fn`, and calls it by looking up what was traced for the tensors' shapes and types.

    `tf.function` finds that out with Python for every call, which steps of a few milliseconds
    feel; so do arguments that are None or nested, which is why what is traced takes a flat list
    of tensors. As in Keras one trace serves batches of all sizes, where the model allows that.

    Args:
        fn: a function of tensors, None, and structures of them.
        options: arguments of `tf.function`.
    """
    function = tf.function(fn, **options)
    traced: dict[tuple[Any, ...], Any] = {}

    def trace(tensors: Sequence[Any], specs: Sequence[Any]) -> Any:
        there = [spec is not None for spec in specs]
        # Without the tensors, which would be kept as long as what is traced.
        structure = tf.nest.map_structure(lambda _: 0, tensors)

        def flat_fn(*present: Any) -> Any:
            rest = iter(present)
            flat = [next(rest) if is_there else None for is_there in there]
            return fn(*tf.nest.pack_sequence_as(structure, flat))

        return tf.function(flat_fn, **options).get_concrete_function(
            *[spec for spec in specs if spec is not None]
        )

    def call(*tensors: Any) -> Any:
        flat = tensors
        if not all(t is None or isinstance(t, tf.Tensor) for t in tensors):
            flat = tf.nest.flatten(tensors)
            if not all(t is None or isinstance(t, tf.Tensor) for t in flat):
                return function(*tensors)
        rows = _rows(flat)
        key = tuple([None if t is None else _key(t, rows) for t in flat])
        known = traced.get(key)
        if known is None:
            if len(traced) == _MOST_SHAPES:
                return function(*tensors)
            try:
                known = trace(tensors, [_any_rows(t, rows) for t in flat])
            except Exception:  # noqa: BLE001 - whatever a model says to a batch of unknown size
                key = tuple(None if t is None else (t.dtype, tuple(t.shape)) for t in flat)
                known = traced.get(key) or trace(tensors, flat)
            traced[key] = known
        return known(*[t for t in flat if t is not None])

    return call


def _rows(flat: Sequence[Any]) -> int | None:
    """The size of the batch: rows of the first tensor."""
    first = next((t for t in flat if t is not None), None)
    return None if first is None or not first.shape.rank else first.shape[0]


def _key(tensor: Any, rows: int | None) -> tuple[Any, ...]:
    shape = tuple(tensor.shape)
    return (tensor.dtype, None, *shape[1:]) if shape[:1] == (rows,) else (tensor.dtype, *shape)


def _any_rows(tensor: Any, rows: int | None) -> Any:
    """What to trace for: tensors of the batch with any number of rows, others as they are."""
    if tensor is None or tuple(tensor.shape)[:1] != (rows,):
        return tensor
    return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype)


class Runtime:
    """Runs functions over one model's state, which stays in its variables."""

    def __init__(self, model: keras.Model):
        self.model = model
        # Whether functions are traced once, so that what they compute beside is nearly free.
        self.traces = not model.run_eagerly
        # Whether gradients are taken of functions, whose inner tensors must not leave them.
        self.functional_gradients = False
        # Whether calls return before the device is done.
        self.asynchronous = bool(tf.config.list_logical_devices("GPU"))
        strategy = getattr(model, "distribute_strategy", None)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "The model was built under a tf.distribute strategy with "
                f"{strategy.num_replicas_in_sync} replicas, which importance sampling does not "
                "support yet. Build and compile the model outside `strategy.scope()`."
            )

    def scope(self, values: Sequence[tuple[Any, Any]] = ()) -> keras.StatelessScope:
        """A scope in which the model can be read and nothing of it be changed."""
        # Keras reads regularized weights from the scope alone.
        own = [(v, v.value) for v in self.model.trainable_variables if v.regularizer is not None]
        return keras.StatelessScope(state_mapping=[*own, *values], collect_losses=True)

    def values(self, variables: Sequence[Any]) -> list[Any]:
        """The present values of `variables`."""
        return [tf.convert_to_tensor(v.value) for v in variables]

    def _compile(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        if self.model.run_eagerly:
            return fn
        return _dispatched(
            fn, reduce_retracing=True, jit_compile=self.model.jit_compile, autograph=False
        )

    def compile_train(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `step(run_train_step, *tensors)`, which may change the model's state."""
        return self._compile(lambda *tensors: step(self.model.train_step, *tensors))

    def compile_pure(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `fn(*tensors)`, which reads the model and changes nothing."""
        return self._compile(fn)

    def to_device(self, array: Any) -> Any:
        """An array as a tensor, so that a changed value is never taken for a new function."""
        return tf.convert_to_tensor(array)

    def sync(self) -> None:
        """Nothing to do: the state never leaves the model."""

    def attach(self) -> None:
        """Nothing to do: the state never leaves the model."""

    def detach(self) -> None:
        """Nothing to do: the state never leaves the model."""

    def begin_epoch(self) -> None:
        """Nothing to do: TensorFlow models have no training mode."""

    def end_epoch(self) -> None:
        """Nothing to do: TensorFlow models have no training mode."""
