"""JAX: `jax.jit` over explicit, donated state."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np
from numpy.typing import ArrayLike

from .. import _interrupts
from .._arrays import Nested, map_arrays
from . import _jax_layout, base
from .base import Tensor


def gradient(fn: Callable[..., Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Differentiates a scalar function of tensors; see `base.Backend.gradient`.

    Args:
        fn: a function of the tensors that returns a scalar.
        tensors: where to take the gradient.

    Returns:
        The value of `fn(*tensors)` and its gradient for each tensor.
    """
    value, gradients = jax.value_and_grad(lambda args: fn(*args))(list(tensors))
    return value, gradients


def tapped_gradient(
    fn: Callable[[Callable[[Tensor], Tensor]], Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Differentiates by tensors that are met while `fn` runs; see `base.Backend.tapped_gradient`.

    Args:
        fn: called as `fn(tap)`; returns a scalar.

    Returns:
        The tensors in the order in which they were tapped, and the gradient for each.
    """
    shapes: list[Any] = []

    def record(tensor: Tensor) -> Tensor:
        shapes.append(jax.ShapeDtypeStruct(tensor.shape, tensor.dtype))
        return tensor

    jax.eval_shape(lambda: fn(record))

    def shifted(shifts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        seen: list[Tensor] = []

        def tap(tensor: Tensor) -> Tensor:
            tensor = tensor + shifts[len(seen)]
            seen.append(tensor)
            return tensor

        return fn(tap), seen

    zeros = [jax.numpy.zeros(s.shape, s.dtype) for s in shapes]
    (_, seen), gradients = jax.value_and_grad(shifted, has_aux=True)(zeros)
    return seen, gradients


def sample_gradient_norms(
    fn: Callable[..., Tensor], inputs: Sequence[Tensor], values: Sequence[Tensor]
) -> Tensor:
    """Norms of single samples' gradients, by `jax.vmap`; see `base.Backend`.

    Args:
        fn: called as `fn(values, *row)` with one row of each input; returns a scalar.
        inputs: tensors `(n, ...)`.
        values: where to take the gradient.

    Returns:
        `(n,)` norms over all `values` together.
    """

    def norm(row: Sequence[Tensor]) -> Tensor:
        gradients = jax.grad(lambda v: fn(v, *row))(list(values))
        return jax.numpy.sqrt(sum(jax.numpy.sum(jax.numpy.square(g)) for g in gradients))

    # Parts come one after the other, where there are more than may be held.
    size = min(base.samples_at_once(values), len(inputs[0]))
    return jax.lax.map(norm, list(inputs), batch_size=size)


def _take(held: Any, idxs: Tensor) -> Any:
    """Rows of tensors, at indices that are known to be theirs."""
    return jax.tree_util.tree_map(
        lambda tensor: tensor.at[idxs].get(mode="promise_in_bounds"), held
    )


def _loop(stateless: Callable[..., Any], state: Any, count: Tensor, held: Any, tensors: Any) -> Any:
    """Makes `count` steps; a loop and no scan, so that what is compiled serves any number."""
    tree = jax.tree_util

    def row(i: Any) -> Any:
        at = tree.tree_map(lambda t: jax.lax.dynamic_index_in_dim(t, i, 0, False), tensors)
        return at if held is None else (*_take(held, at[0]), *at[1:])

    def in_place_of(new: Tensor, old: Tensor) -> Tensor:
        # A Python number in the state would be of another type after the first step.
        return jax.lax.convert_element_type(new, old.dtype)

    def body(carry: Any) -> Any:
        i, state, found = carry
        outputs, new = stateless(state, row(i))
        found = tree.tree_map(
            lambda kept, value: jax.lax.dynamic_update_index_in_dim(kept, value, i, 0),
            found,
            outputs,
        )
        return i + 1, tree.tree_map(in_place_of, new, state), found

    most = len(tree.tree_leaves(tensors)[0])
    shapes, _ = jax.eval_shape(stateless, state, row(0))
    found = tree.tree_map(lambda s: jax.numpy.zeros((most, *s.shape), s.dtype), shapes)
    carry = (jax.numpy.int32(0), state, found)
    _, state, found = jax.lax.while_loop(lambda carry: carry[0] < count, body, carry)
    last = tree.tree_map(lambda kept: kept[count - 1], found[0])
    return (last, *found), state


class Runtime(base.Runtime):
    """Runs compiled functions over explicit state, which is outside the model while it trains.

    While state is outside, an instance attribute `jax_state_sync` on the model brings it back.
    Keras' own `Callback.model` calls it, and the training loop calls `sync` before it runs code
    of the user's.
    """

    functional_gradients = True

    def __init__(self, model: keras.Model):
        super().__init__(model)
        self.traces = bool(model.jit_compile and not model.run_eagerly)
        self.asynchronous = self.traces
        # On a CPU XLA has fast convolutions outside of loops alone: inside, they take six times
        # as long.
        self.loops_slow_convolutions = jax.default_backend() == "cpu"
        self._distribution = _jax_layout.distribution()
        self._state: tuple[list[Tensor], ...] | None = None
        self._visible: list[tuple[Any, Tensor]] = []

    def _variables(self) -> tuple[list[Any], ...]:
        model = self.model
        return (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )

    def _current(self) -> tuple[list[Tensor], ...]:
        if self._state is not None:
            return self._state
        # Averaged weights that were put in place share a buffer with their averages, and none can
        # be donated twice.
        seen: set[int] = set()

        def own(value: Tensor) -> Tensor:
            if id(value) in seen:
                return jax.numpy.copy(value)
            seen.add(id(value))
            return value

        return tuple([own(v.value) for v in group] for group in self._variables())

    @contextlib.contextmanager
    def _tracing(self, state: tuple[list[Tensor], ...]) -> Iterator[None]:
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

    def _visible_values(self) -> list[tuple[Any, Tensor]]:
        return self._visible or super()._visible_values()

    def values(self, variables: Sequence[Any]) -> list[Tensor]:
        """The values of variables that the traced function is given."""
        visible = {id(v): value for v, value in self._visible}
        return [visible[id(v)] for v in variables]

    def _stateless(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """A training step as a function from `(state, tensors)` to `(outputs, state)`."""
        shardings = _jax_layout.places(self._current()) if self._distribution else None

        def stateless(state: tuple[list[Tensor], ...], tensors: tuple[Any, ...]) -> Any:
            after: list[Any] = []

            def run_train_step(data: Any) -> Any:
                logs, new_state = self.model.train_step(state, data)
                after.append(new_state)
                return logs

            with self._tracing(state):
                outputs = step(run_train_step, *tensors)
            outputs = _jax_layout.whole_everywhere(self._distribution, outputs)
            if shardings is not None:
                return outputs, _jax_layout.keep_in_place(after[0], shardings)
            return outputs, after[0]

        return stateless

    def compile_train(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """See `base.Runtime.compile_train`."""
        stateless = self._stateless(step)
        function = jax.jit(stateless, donate_argnums=0) if self.traces else stateless

        def call(*tensors: Any) -> Any:
            outputs, self._state = function(self._current(), tensors)
            return outputs

        return call

    def compile_train_many(self, step: Callable[..., Any]) -> Callable[..., Any] | None:
        """See `base.Runtime.compile_train_many`; a loop over the donated state."""
        if not self.traces or self._distribution:
            # What is stacked has its rows along the second axis.
            return None
        stateless = self._stateless(step)
        function = jax.jit(functools.partial(_loop, stateless), donate_argnums=0)

        def call(count: int, held: Any, *tensors: Any) -> Any:
            outputs, self._state = function(self._current(), count, held, tensors)
            return outputs

        return call

    def compile_pure(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function that reads the model by `jax.jit`; its state is kept."""

        def traced(state: tuple[list[Tensor], ...], tensors: tuple[Any, ...]) -> Any:
            with self._tracing(state):
                outputs = function(*tensors)
            return _jax_layout.whole_everywhere(self._distribution, outputs)

        compiled = jax.jit(traced) if self.traces else traced
        return lambda *tensors: compiled(self._current(), tensors)

    def to_device(self, array: ArrayLike) -> Any:
        """The array as it is, for `jax.jit` moves arrays in one go with the call.

        Where Keras has a distribution, the rows are split among its devices.
        """
        return _jax_layout.lay_out_rows(self._distribution, array) if self._distribution else array

    def hold(self, data: Nested) -> Nested:
        """See `base.Runtime.hold`; a copy on a CPU as well, for the arrays may be changed."""
        return map_arrays(jax.numpy.array, data)

    def gather(self, held: Nested, idxs: np.ndarray) -> Nested:
        """See `base.Runtime.gather`."""
        return self._gather(held, idxs)

    @functools.cached_property
    def _gather(self) -> Callable[..., Any]:
        return jax.jit(_take)

    @property
    def spreads_rows(self) -> bool:
        """See `base.Runtime.spreads_rows`."""
        return bool(self._distribution)

    @property
    def on_cpu(self) -> bool:
        """See `base.Runtime.on_cpu`."""
        return jax.default_backend() == "cpu"

    def free_memory(self) -> int | None:
        """See `base.Runtime.free_memory`."""
        if self.on_cpu:
            return super().free_memory()
        found = jax.local_devices()[0].memory_stats() or {}
        if "bytes_limit" not in found:
            return None
        return found["bytes_limit"] - found.get("bytes_in_use", 0)

    def attach(self) -> None:
        """Lets Keras' callbacks bring the state back."""
        model = self.model

        def jax_state_sync() -> None:
            self.sync()
            type(model).jax_state_sync(model)

        vars(model)["jax_state_sync"] = jax_state_sync

    def sync(self) -> None:
        """Puts the state back into the model's variables."""
        if self._state is None:
            return
        with _interrupts.section():
            for group, values in zip(self._variables(), self._state, strict=True):
                for variable, value in zip(group, values, strict=True):
                    variable.assign(value)
            self._state = None

    @contextlib.contextmanager
    def protected(self, rows: Sequence[int] = ()) -> Iterator[None]:
        """Puts copies of the variables back if Keras is interrupted while it has their values.

        Keras' own loops take the values away from the variables and donate them.

        Args:
            rows: how many rows batches have, as far as that is known.
        """
        model = self.model
        groups = model.trainable_variables, model.non_trainable_variables, model.metrics_variables
        kept = [(v, jax.numpy.copy(v.value)) for group in groups for v in group]
        try:
            with _jax_layout.any_data(self._distribution, rows):
                yield
        except BaseException:
            with _interrupts.section():
                # What Keras still holds it would put into the variables at some later time.
                with contextlib.suppress(Exception):
                    type(model).jax_state_sync(model)
                for variable, value in kept:
                    variable.assign(value)
            raise

    def detach(self) -> None:
        """Puts the state back and removes what `attach` placed on the model."""
        self.sync()
        vars(self.model).pop("jax_state_sync", None)
