"""TensorFlow: `tf.function` over the model's own variables."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from .._arrays import Nested, map_arrays
from . import base
from ._tensorflow_replicas import Replicas, strategy_of
from .base import Tensor


def _dense(gradient: Tensor | None, like: Tensor) -> Tensor:
    return tf.zeros_like(like) if gradient is None else tf.convert_to_tensor(gradient)


def gradient(fn: Callable[..., Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Differentiates a scalar function of tensors; see `base.Backend.gradient`.

    Args:
        fn: a function of the tensors that returns a scalar.
        tensors: where to take the gradient.

    Returns:
        The value of `fn(*tensors)` and its gradient for each tensor.
    """
    # Identity gives each tensor a life of its own, so that nothing an outer
    # tape or a cached attribute (Keras keeps logits on tensors) reaches it.
    tensors = [tf.identity(t) for t in tensors]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = fn(*tensors)
    gradients = tape.gradient(value, tensors)
    return value, [_dense(g, t) for g, t in zip(gradients, tensors, strict=True)]


def tapped_gradient(
    fn: Callable[[Callable[[Tensor], Tensor]], Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Differentiates by tensors that are met while `fn` runs; see `base.Backend.tapped_gradient`.

    Args:
        fn: called as `fn(tap)`; returns a scalar.

    Returns:
        The tensors in the order in which they were tapped, and the gradient for each.
    """
    seen: list[Tensor] = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def tap(tensor: Tensor) -> Tensor:
            tensor = tf.identity(tensor)
            tape.watch(tensor)
            seen.append(tensor)
            return tensor

        value = fn(tap)
    gradients = tape.gradient(value, seen)
    return seen, [_dense(g, t) for g, t in zip(gradients, seen, strict=True)]


def sample_gradient_norms(
    fn: Callable[..., Tensor], inputs: Sequence[Tensor], values: Sequence[Tensor]
) -> Tensor:
    """Norms of single samples' gradients, by `tf.vectorized_map`; see `base.Backend`.

    Args:
        fn: called as `fn(values, *row)` with one row of each input; returns a scalar.
        inputs: tensors `(n, ...)`.
        values: where to take the gradient.

    Returns:
        `(n,)` norms over all `values` together.
    """
    values = [tf.convert_to_tensor(v) for v in values]

    def norm(row: Sequence[Tensor]) -> Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss = fn(values, *row)
        gradients = tape.gradient(loss, values)
        squares = [
            tf.reduce_sum(tf.square(_dense(g, v))) for g, v in zip(gradients, values, strict=True)
        ]
        return tf.sqrt(tf.add_n(squares))

    n, most = inputs[0].shape[0], base.samples_at_once(values)
    if n is not None and n <= most:
        return _vectorised(norm, inputs, values[0].dtype)
    n = tf.shape(inputs[0])[0] if n is None else n
    size = tf.minimum(most, n)

    def part(start: Tensor) -> Tensor:
        # The last part is as large as the others, so that all have one shape.
        idxs = tf.minimum(start + tf.range(size), n - 1)
        return _vectorised(norm, [tf.gather(t, idxs) for t in inputs], values[0].dtype)

    signature = tf.TensorSpec((None,), values[0].dtype)
    parts = tf.map_fn(
        part, tf.range(0, n, size), fn_output_signature=signature, parallel_iterations=1
    )
    return tf.reshape(parts, (-1,))[:n]


def _vectorised(function: Callable[..., Tensor], inputs: Sequence[Tensor], dtype: Any) -> Tensor:
    """Maps a function of one row, row by row where TensorFlow cannot vectorise it.

    So it is with recurrent layers above others with weights.
    """
    logger = tf.get_logger()
    level = logger.level
    # It writes pages for what is no error here.
    logger.setLevel("CRITICAL")
    try:
        return tf.vectorized_map(function, list(inputs))
    except Exception:  # noqa: BLE001 - whatever an operation says that it knows no rule for
        return tf.map_fn(function, list(inputs), fn_output_signature=dtype, parallel_iterations=1)
    finally:
        logger.setLevel(level)


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


def _with_rows(shape: tf.TensorShape, rows: int | None) -> tf.TensorShape:
    """The shape with the size of the batch where a number of rows is not known."""
    if shape.rank is None:
        return shape
    return tf.TensorShape([rows if size is None else size for size in shape])


def _loop(step: Callable[..., Any], count: Tensor, held: Any, tensors: Sequence[Any]) -> Any:
    """Makes `count` steps with the rows of tensors, in a loop inside the traced function."""
    first = next(t for t in tf.nest.flatten(tensors) if t is not None)
    # Not known to what was traced for many shapes.
    room = tf.shape(first)[0] if first.shape[0] is None else first.shape[0]
    whole: list[Tensor] = []
    arguments = tensors
    if held is not None:
        idxs, *tensors = tensors
        arguments = (*held, *tensors)
        whole = [t for t in tf.nest.flatten(held) if t is not None]
    flat = tf.nest.flatten(arguments)
    stacked = [t for t in tf.nest.flatten(tensors) if t is not None]
    specs = [tf.TensorSpec((idxs.shape[1], *t.shape[1:]), t.dtype) for t in whole]
    specs += [tf.TensorSpec(t.shape[1:], t.dtype) for t in stacked]

    def row(i: Tensor) -> list[Tensor]:
        return [tf.gather(t, idxs[i]) for t in whole] + [t[i] for t in stacked]

    made_of: list[Any] = []

    def flat_step(*row: Any) -> list[Tensor]:
        rest = iter(row)
        parts = [None if t is None else next(rest) for t in flat]
        outputs = step(*tf.nest.pack_sequence_as(arguments, parts))
        made_of[:] = [tf.nest.map_structure(lambda value: value is not None, outputs)]
        return [tf.convert_to_tensor(v) for v in tf.nest.flatten(outputs) if v is not None]

    # Traced before the loop is, which must know what it collects; for any number of rows where
    # that works, as single steps are: Keras weighs some means by rows if it knows their number.
    traced = tf.function(flat_step, autograph=False).get_concrete_function
    rows = _rows(specs)
    try:
        one = traced(*[_any_rows(spec, rows) for spec in specs])
    except Exception:  # noqa: BLE001 - whatever a model says to a batch of unknown size
        one = traced(*specs)
    kept = [
        tf.TensorArray(v.dtype, room, element_shape=_with_rows(v.shape, rows))
        for v in one.structured_outputs
    ]

    def body(i: Tensor, *kept: Any) -> tuple[Any, ...]:
        outputs = one(*row(i))
        return i + 1, *[array.write(i, v) for array, v in zip(kept, outputs, strict=True)]

    _, *kept = tf.while_loop(
        lambda i, *_: i < count, body, (0, *kept), parallel_iterations=1, maximum_iterations=room
    )
    found = iter([array.stack() for array in kept])
    logs, values = tf.nest.map_structure(
        lambda is_there: next(found) if is_there else None, made_of[0]
    )
    return tf.nest.map_structure(lambda steps: steps[count - 1], logs), logs, values


class Runtime(base.Runtime):
    """Runs functions compiled by `tf.function` over state that stays in the model's variables."""

    def __init__(self, model: keras.Model):
        self._in_thread = threading.local()
        super().__init__(model)
        strategy = strategy_of(model)
        self._replicas = None if strategy is None else Replicas(strategy, self)
        self.replicas = 1 if self._replicas is None else self._replicas.count
        # What a replica says cannot be computed later, outside of it.
        self.traces = not model.run_eagerly or self.replicas > 1
        self.asynchronous = bool(tf.config.list_logical_devices("GPU"))

    @property
    def share(self) -> base.AnyShare | None:
        """Each replica's own, in its thread; see `base.Runtime`."""
        return getattr(self._in_thread, "share", None)

    @share.setter
    def share(self, share: base.AnyShare | None) -> None:
        self._in_thread.share = share

    @property
    def loss_divisor(self) -> int:
        """Also in the scope of a strategy, outside of its replicas; see `base.Runtime`."""
        return tf.distribute.get_strategy().num_replicas_in_sync

    def building(self) -> contextlib.AbstractContextManager[Any]:
        """The scope of the model's strategy, in which variables have a copy on each device."""
        if self._replicas is None:
            return contextlib.nullcontext()
        return self._replicas.strategy.scope()

    def spread(
        self, function: Callable[..., Any], rows: slice, joining: base.Joining
    ) -> Callable[..., Any]:
        """See `base.Runtime.spread`."""
        if self._replicas is None:
            return function
        return self._replicas.spread(function, rows, joining)

    def compile_train(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a training step by `tf.function`, unless the model runs eagerly."""
        return self.compile_pure(super().compile_train(step))

    def compile_train_many(self, step: Callable[..., Any]) -> Callable[..., Any] | None:
        """See `base.Runtime.compile_train_many`; a loop inside the `tf.function`."""
        if not self.traces or self.replicas > 1:
            return None
        one = super().compile_train(step)
        # With the number of steps first, all shapes are taken as they are.
        function = self.compile_pure(lambda count, held, *tensors: _loop(one, count, held, tensors))
        return lambda count, *tensors: function(tf.constant(count), *tensors)

    def gather(self, held: Nested, idxs: np.ndarray) -> Nested:
        """See `base.Runtime.gather`."""
        found = tf.convert_to_tensor(idxs)
        return map_arrays(lambda tensor: tf.gather(tensor, found), held)

    @property
    def on_cpu(self) -> bool:
        """See `base.Runtime.on_cpu`."""
        return not self.asynchronous

    def free_memory(self) -> int | None:
        """See `base.Runtime.free_memory`; of other devices TensorFlow does not say."""
        return super().free_memory() if self.on_cpu else None

    def compile_pure(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function of tensors by `tf.function`, unless the model runs eagerly."""
        if self.model.run_eagerly:
            return function
        return _dispatched(
            function, reduce_retracing=True, jit_compile=self.model.jit_compile, autograph=False
        )

    def to_device(self, array: ArrayLike) -> Tensor:
        """An array as a tensor: for other changed values `tf.function` would trace anew."""
        if self._replicas is not None:
            with tf.device("CPU:0"):
                return tf.convert_to_tensor(array)
        return tf.convert_to_tensor(array)

    def values(self, variables: Sequence[Any]) -> list[Tensor]:
        """The present values of variables as tensors, to differentiate by."""
        return [tf.convert_to_tensor(v.value) for v in variables]
