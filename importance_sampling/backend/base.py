"""What a backend offers: three functions that differentiate, and a runtime for one model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import keras
import numpy as np
from numpy.typing import ArrayLike

from .._arrays import Nested, map_arrays
from .processes import Processes, Share

Tensor: TypeAlias = Any
"""A tensor of the backend in use; the three have no common type."""


# Memory for the gradients of single samples that are held at one time.
_BYTES = 2**28


def samples_at_once(values: Sequence[Tensor]) -> int:
    """Of how many samples the gradients may be held at one time.

    Args:
        values: tensors or variables that are differentiated by.
    """
    size = sum(4 * math.prod(value.shape) for value in values)
    return max(1, min(1024, _BYTES // max(size, 1)))


def free_host_memory() -> int | None:
    """Bytes of the host's memory that programs may still ask for; None where nobody says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = dict(line.split(":", 1) for line in lines)
        return 1024 * int(found["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        # Only Linux has it.
        return None


Joining: TypeAlias = Literal["rows", "sum", "first", "logs"] | tuple["Joining", ...]
"""How results of the parts of a batch make one: rows one after the other, their sum, those of the
first part where all have the same, or the metrics of all; a tuple for the parts of a tuple."""


class ReplicaShare(Protocol):
    """The rows of a batch that one of several replicas works on, inside a function they share.

    Keras divides means over these rows, and what regularizers add, by the number of replicas;
    gradients are added up.

    Attributes:
        n: rows of the whole batch.
        rows: slice, which of them these are.
    """

    n: Any
    rows: slice

    def scale(self, summed: bool) -> Tensor:
        """What losses are multiplied by so that their sum over the replicas is that of the batch.

        Args:
            summed: bool, whether they are sums over the rows, instead of means.
        """

    def mean(self, rows: Tensor) -> Tensor:
        """The mean over all rows of the batch.

        Args:
            rows: `(count, ...)` of these rows.
        """

    def gather(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """What all replicas together know of the rows of the batch, in its order.

        Args:
            parts: tensors `(count, ...)` of these rows.
        """


AnyShare: TypeAlias = Share | ReplicaShare
"""A part of a batch: a process', or a replica's."""


class Runtime:
    """Runs functions over one model's state.

    This class is the runtime of a backend that computes eagerly and keeps state in the model's
    variables, so that a training loop need not tell it anything. A backend overrides what it does
    differently. `Runtime(None)` serves a model that nothing is known of, but only for the methods
    that a training loop calls: `attach`, `begin_epoch`, `end_epoch`, `sync` and `detach`.

    Args:
        model: the compiled model.

    Attributes:
        model: the compiled model.
        traces: bool, whether functions are traced once and then run as compiled. What a compiled
            function computes beside is nearly free; in an eager one every operation costs.
        functional_gradients: bool, whether training differentiates a function, so that tensors
            made inside it must not be kept.
        asynchronous: bool, whether calls return before the device is done.
        replicas: int, how many replicas of the model work on parts of a batch, each in a thread of
            its own.
        loops_slow_convolutions: bool, whether a loop inside a compiled function makes convolutions
            much slower.
        restored: bool, whether the training loop has put the model back to the middle of a
            training, so that there is something to finalize whatever steps follow.
        reads_logs: bool, whether the metrics' results are read after each step. Where computing
            them costs something and nobody does, it waits until somebody asks.
        processes: those that make each step together while a training loop runs; None where this
            one is alone.
        share: the part of the batch that is being computed, this process' or replica's; None for
            all of it.
    """

    traces = False
    functional_gradients = False
    asynchronous = False
    replicas = 1
    loops_slow_convolutions = False

    def __init__(self, model: keras.Model):
        self.model = model
        self.restored = False
        self.reads_logs = True
        self.processes: Processes | None = None
        self.share: AnyShare | None = None

    # -- functions of the model ---------------------------------------------------------------

    def compile_train(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a training step.

        Args:
            step: called as `step(run_train_step, *tensors)`, where `run_train_step(data)` runs
                the model's own `train_step`. It may change the model's state.

        Returns:
            A function of the tensors.
        """
        run_train_step = self.model.train_step
        return lambda *tensors: step(run_train_step, *tensors)

    def compile_train_many(self, step: Callable[..., Any]) -> Callable[..., Any] | None:
        """Compiles several training steps, one after the other, into one function.

        Args:
            step: as for `compile_train`; returns `(logs, values)`.

        Returns:
            A function `(count, held, *tensors)` of the number of steps to make and of tensors that
            hold a step's in each row, as many or more. `held` is None, or the whole of the data,
            `(x, y, sample_weight)` as `hold` returns it: then the first tensor holds indices, and
            their rows take its place. It returns `(logs, all_logs, values)`: the logs of the last
            step, and those and the values of all steps, a row for each. None where nothing is
            gained by it.
        """
        return None

    # -- data that stays on the device --------------------------------------------------------

    def hold(self, data: Nested) -> Nested:
        """Arrays as tensors that stay on the device, for rows of them to be taken there.

        Args:
            data: numpy arrays.
        """
        return map_arrays(self.to_device, data)

    def gather(self, held: Nested, idxs: np.ndarray) -> Nested:
        """Rows of what `hold` returned, gathered on the device.

        Args:
            held: tensors with n rows each.
            idxs: `(b,)` int32 indices.
        """
        found = keras.ops.convert_to_tensor(idxs)
        return map_arrays(lambda tensor: keras.ops.take(tensor, found, axis=0), held)

    @property
    def spreads_rows(self) -> bool:
        """Whether the rows of a batch are spread over several devices."""
        return self.replicas > 1

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the CPU, so that its memory is the host's."""
        return True

    def free_memory(self) -> int | None:
        """Bytes of the device's memory that are free now; None where nobody says."""
        return free_host_memory()

    def compile_pure(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function of tensors that reads the model and changes nothing."""
        return function

    def spread(
        self, function: Callable[..., Any], rows: slice, joining: Joining
    ) -> Callable[..., Any]:
        """A function, to be compiled, that replicas share: each runs it on a part of the rows.

        What is not spread runs on one device. By default there is one, so that nothing is to be
        done.

        Args:
            function: the function.
            rows: which of its arguments have a row for each example.
            joining: how the replicas' results make one.
        """
        return function

    @property
    def replica_share(self) -> ReplicaShare | None:
        """The part of the batch, where it is a replica's: what Keras adds up, it has divided."""
        found: Any = self.share if self.replicas > 1 else None
        return found

    @property
    def process_share(self) -> Share | None:
        """The part of the batch, where it is a process'."""
        found: Any = self.share if self.replicas == 1 else None
        return found

    @property
    def loss_divisor(self) -> int:
        """By what Keras divides mean losses at present, for the sake of several replicas."""
        return 1

    def building(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which variables of the model may be made."""
        return contextlib.nullcontext()

    def to_device(self, array: ArrayLike) -> Tensor:
        """An array in the form in which compiled functions take it."""
        return keras.ops.convert_to_tensor(array)

    def scope(self, values: Sequence[tuple[Any, Tensor]] = ()) -> keras.StatelessScope:
        """A scope in which the model can be read and nothing of it is changed.

        Args:
            values: pairs of a variable and the value that the model sees in its place.
        """
        mapping = [*self._visible_values(), *values]
        return keras.StatelessScope(state_mapping=mapping, collect_losses=True)

    def same_draws(self) -> contextlib.AbstractContextManager[None]:
        """A block after which random draws of layers begin where they began in it.

        Keras' seeds are variables, whose changes a `scope` discards; so by default there is
        nothing to do.
        """
        return contextlib.nullcontext()

    def own_draws(self) -> contextlib.AbstractContextManager[None]:
        """A block in which the layers of each process draw other random numbers.

        Afterwards all processes are at the same place again, however many were drawn.
        """
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def sharing(self, share: Share) -> Iterator[None]:
        """A block in which the rows that are computed are a part of a batch.

        Args:
            share: which part.
        """
        before, self.share = self.share, share
        try:
            yield
        finally:
            self.share = before

    def buffers(self) -> list[Tensor]:
        """What the model keeps that is no variable of Keras', to be overwritten in place."""
        return []

    def values(self, variables: Sequence[Any]) -> list[Tensor]:
        """The present values of variables, to differentiate by."""
        return [variable.value for variable in variables]

    def _visible_values(self) -> list[tuple[Any, Tensor]]:
        """Values that a scope must hold: Keras reads regularized weights from the scope alone."""
        variables = self.model.trainable_variables
        return [(v, v.value) for v in variables if v.regularizer is not None]

    # -- what a training loop tells it --------------------------------------------------------

    def attach(self) -> None:
        """A training loop begins."""

    def begin_epoch(self) -> None:
        """The steps of an epoch begin."""

    def sync(self) -> None:
        """Code of the user's is about to look at the model: its variables must be up to date."""

    def protected(self, rows: Sequence[int] = ()) -> contextlib.AbstractContextManager[None]:
        """A context in which Keras evaluates the model, which an interruption leaves as it was.

        Args:
            rows: how many rows batches have, as far as that is known.
        """
        return contextlib.nullcontext()

    def end_epoch(self) -> None:
        """The steps of an epoch are over."""

    def detach(self) -> None:
        """The training loop is over, or was interrupted: nothing of it may stay on the model."""


class Backend(Protocol):
    """What each backend's module offers."""

    @property
    def Runtime(self) -> type[Runtime]:
        """The backend's `Runtime`, made with a model."""

    def gradient(
        self, fn: Callable[..., Tensor], tensors: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Differentiates a scalar function; may be called inside a traced function.

        Args:
            fn: a function of the tensors that returns a scalar.
            tensors: where to take the gradient.

        Returns:
            The value of `fn(*tensors)` and its gradient for each tensor.
        """

    def tapped_gradient(
        self, fn: Callable[[Callable[[Tensor], Tensor]], Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Differentiates a scalar function by tensors that are met only while it runs.

        Args:
            fn: called as `fn(tap)`; hands each such tensor to `tap`, goes on with the tensor that
                `tap` returns, and returns a scalar.

        Returns:
            The tensors in the order in which they were tapped, and the gradient for each.
        """

    def sample_gradient_norms(
        self, fn: Callable[..., Tensor], inputs: Sequence[Tensor], values: Sequence[Tensor]
    ) -> Tensor:
        """Norm of each sample's own gradient, vectorised over `samples_at_once` samples.

        Args:
            fn: called as `fn(values, *row)` with one row of each input; returns a scalar.
            inputs: tensors `(n, ...)`.
            values: where to take the gradient.

        Returns:
            `(n,)` norms over all `values` together.
        """
