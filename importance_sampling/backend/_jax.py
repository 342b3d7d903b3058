"""JAX: `jax.jit` over explicit, donated state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import keras


def gradient(fn: Callable[..., Any], tensors: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Value of the scalar `fn(*tensors)` and its gradient for each tensor."""
    value, gradients = jax.value_and_grad(lambda args: fn(*args))(list(tensors))
    return value, gradients


def tapped_gradient(fn: Callable[[Callable[[Any], Any]], Any]) -> tuple[list[Any], list[Any]]:
    """Gradient of the scalar `fn(tap)` for every tensor that `fn` hands to `tap`.

    Returns:
        `(tensors, gradients)` in the order in which they were tapped.
    """
    shapes: list[Any] = []

    def record(tensor: Any) -> Any:
        shapes.append(jax.ShapeDtypeStruct(tensor.shape, tensor.dtype))
        return tensor

    jax.eval_shape(lambda: fn(record))

    def shifted(shifts: list[Any]) -> tuple[Any, list[Any]]:
        seen: list[Any] = []

        def tap(tensor: Any) -> Any:
            tensor = tensor + shifts[len(seen)]
            seen.append(tensor)
            return tensor

        return fn(tap), seen

    zeros = [jax.numpy.zeros(s.shape, s.dtype) for s in shapes]
    (_, seen), gradients = jax.value_and_grad(shifted, has_aux=True)(zeros)
    return seen, gradients


def sample_gradient_norms(fn: Callable[..., Any], inputs: Any, values: Sequence[Any]) -> Any:
    """Norm over `values` of the gradient of `fn(values, *row)`, one per row of `inputs`."""

    def norm(row: Any) -> Any:
        gradients = jax.grad(lambda v: fn(v, *row))(list(values))
        return jax.numpy.sqrt(sum(jax.numpy.sum(jax.numpy.square(g)) for g in gradients))

    return jax.vmap(norm)(inputs)


class Runtime:
    """Runs functions over one model's state, which lives outside the model while it trains.

    While state is outside, an instance attribute `jax_state_sync` on the model
    brings it back; Keras' own `Callback.model` calls it, and so do we before
    any user code looks.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self._state: tuple[list[Any], ...] | None = None
        self._visible: list[tuple[Any, Any]] = []
        # Whether functions are traced once, so that what they compute beside is nearly free.
        self.traces = bool(model.jit_compile and not model.run_eagerly)
        # Whether gradients are taken of functions, whose inner tensors must not leave them.
        self.functional_gradients = True
        # Whether calls return before the device is done.
        self.asynchronous = self.traces

    def _variables(self) -> tuple[list[Any], ...]:
        model = self.model
        return (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )

    def _current(self) -> tuple[list[Any], ...]:
        if self._state is not None:
            return self._state
        return tuple([v.value for v in group] for group in self._variables())

    @contextlib.contextmanager
    def _tracing(self, state: tuple[list[Any], ...]) -> Iterator[None]:
        previous = self._visible
        self._visible = [
            pair
            for group, values in zip(self._variables(), state, strict=True)
            for pair in zip(group, values, strict=True)
        ]
        try:
            yield
        finally:
            self._visible = previous

    def scope(self, values: Sequence[tuple[Any, Any]] = ()) -> keras.StatelessScope:
        """A scope in which the model reads the traced values and can change nothing."""
        own = self._visible or [
            # Keras reads regularized weights from the scope alone.
            (v, v.value)
            for v in self.model.trainable_variables
            if v.regularizer is not None
        ]
        return keras.StatelessScope(state_mapping=[*own, *values], collect_losses=True)

    def values(self, variables: Sequence[Any]) -> list[Any]:
        """What the traced function sees as the values of `variables`."""
        visible = {id(v): value for v, value in self._visible}
        return [visible[id(v)] for v in variables]

    def compile_train(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `step(run_train_step, *tensors)`, which may change the model's state."""

        def traced(state: tuple[list[Any], ...], tensors: tuple[Any, ...]) -> Any:
            after: list[Any] = []

            def run_train_step(data: Any) -> Any:
                logs, new_state = self.model.train_step(state, data)
                after.append(new_state)
                return logs

            with self._tracing(state):
                outputs = step(run_train_step, *tensors)
            return outputs, after[0]

        function = jax.jit(traced, donate_argnums=0) if self.traces else traced

        def call(*tensors: Any) -> Any:
            outputs, self._state = function(self._current(), tensors)
            return outputs

        return call

    def compile_pure(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `fn(*tensors)`, which reads the model and changes nothing."""

        def traced(state: tuple[list[Any], ...], tensors: tuple[Any, ...]) -> Any:
            with self._tracing(state):
                return fn(*tensors)

        function = jax.jit(traced) if self.traces else traced
        return lambda *tensors: function(self._current(), tensors)

    def to_device(self, array: Any) -> Any:
        """Leaves arrays to `jax.jit`, which moves them in one go with the call."""
        return array

    def sync(self) -> None:
        """Puts the state back into the model's variables."""
        if self._state is None:
            return
        state, self._state = self._state, None
        for group, values in zip(self._variables(), state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)

    def attach(self) -> None:
        """Prepares the model for training; `detach` undoes it."""
        model = self.model

        def jax_state_sync() -> None:
            self.sync()
            type(model).jax_state_sync(model)

        vars(model)["jax_state_sync"] = jax_state_sync

    def detach(self) -> None:
        """Puts all state back and leaves no trace on the model."""
        self.sync()
        vars(self.model).pop("jax_state_sync", None)

    def begin_epoch(self) -> None:
        """Nothing to do: JAX models have no training mode."""

    def end_epoch(self) -> None:
        """Nothing to do: JAX models have no training mode."""
