"""PyTorch: eager, with `torch.compile` where the model asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import ArrayLike

from .._arrays import Nested, map_arrays
from . import base, processes
from .base import Tensor

# Types of arrays that tensors have as well: of others Keras makes what comes next.
_SAME_TYPES = frozenset(
    np.dtype(kind) for kind in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "bool")
)


def gradient(fn: Callable[..., Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Differentiates a scalar function of tensors; see `base.Backend.gradient`.

    Args:
        fn: a function of the tensors that returns a scalar.
        tensors: where to take the gradient.

    Returns:
        The value of `fn(*tensors)` and its gradient for each tensor.
    """
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in tensors]
        # Clones, because Keras multiplies masks into weights in place.
        value = fn(*[leaf.clone() for leaf in leaves])
        gradients = _gradients(value, leaves)
    return value.detach(), gradients


def _gradients(value: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(t) for t in leaves]
    return list(torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True))


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

    def tap(tensor: Tensor) -> Tensor:
        # Detaching the first one frees the network below it: only what lies
        # above is differentiated.
        if not seen or not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_()
        seen.append(tensor)
        return tensor

    with torch.enable_grad():
        value = fn(tap)
        gradients = _gradients(value, seen)
    return seen, gradients


class _AnyLayout(torch.overrides.TorchFunctionMode):
    """Leaves out changes of memory layout, which `torch.func.vmap` does not know.

    They make convolutions faster and change no value.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.contiguous and kwargs:
            return args[0]
        return func(*args, **(kwargs or {}))


def sample_gradient_norms(
    fn: Callable[..., Tensor], inputs: Sequence[Tensor], values: Sequence[Tensor]
) -> Tensor:
    """Norms of single samples' gradients, by `torch.func.vmap`; see `base.Backend`.

    Args:
        fn: called as `fn(values, *row)` with one row of each input; returns a scalar.
        inputs: tensors `(n, ...)`.
        values: where to take the gradient.

    Returns:
        `(n,)` norms over all `values` together.
    """
    values = tuple(v.detach() for v in values)

    def norm(row: Nested) -> Tensor:
        gradients = torch.func.grad(lambda v: fn(v, *row))(values)
        squares = [torch.sum(torch.square(g)) for g in gradients]
        return torch.sqrt(sum(squares[1:], squares[0]))

    with _AnyLayout():
        try:
            return torch.func.vmap(norm, chunk_size=base.samples_at_once(values))(inputs)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
        # Some operation looks at its values (in Keras before 3.14, one_hot does): row by row.
        n = len(keras.tree.flatten(inputs)[0])
        return torch.stack(
            [norm(keras.tree.map_structure(lambda t, i=i: t[i], inputs)) for i in range(n)]
        )


class Runtime(base.Runtime):
    """Runs functions as they are, over state that stays in the model's variables."""

    def __init__(self, model: keras.Model):
        super().__init__(model)
        # The device of a training loop, while one runs.
        self._device: torch.device | None = None
        self.asynchronous = self.to_device(0.0).device.type != "cpu"

    def to_device(self, array: ArrayLike) -> Tensor:
        """An array as a tensor of its own, which the model may change in place.

        Keras' conversion comes to the same; but while it goes through all that an array might be,
        a small network makes a tenth of a step.
        """
        if self._device is None or type(array) is not np.ndarray or array.dtype not in _SAME_TYPES:
            return keras.ops.convert_to_tensor(array)
        tensor = torch.from_numpy(np.array(array))
        return tensor if self._device.type == "cpu" else tensor.to(self._device)

    def hold(self, data: Nested) -> Nested:
        """See `base.Runtime.hold`; on a CPU the arrays' own memory."""
        device = keras.ops.convert_to_tensor(0.0).device

        def held(array: np.ndarray) -> Tensor:
            if array.dtype not in _SAME_TYPES or not array.flags.writeable:
                return keras.ops.convert_to_tensor(array)
            if min(array.strides, default=0) < 0:
                # A view that runs backwards, as `x[::-1]`, which no tensor can share.
                array = array.copy()
            return torch.from_numpy(array).to(device)

        return map_arrays(held, data)

    def gather(self, held: Nested, idxs: np.ndarray) -> Nested:
        """See `base.Runtime.gather`."""
        places: dict[torch.device, Tensor] = {}

        def rows(tensor: Tensor) -> Tensor:
            if tensor.device not in places:
                places[tensor.device] = torch.from_numpy(idxs).to(tensor.device)
            return torch.index_select(tensor, 0, places[tensor.device])

        return map_arrays(rows, held)

    @property
    def on_cpu(self) -> bool:
        """See `base.Runtime.on_cpu`."""
        return keras.ops.convert_to_tensor(0.0).device.type == "cpu"

    def free_memory(self) -> int | None:
        """See `base.Runtime.free_memory`."""
        device = keras.ops.convert_to_tensor(0.0).device
        if device.type == "cpu":
            return super().free_memory()
        return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None

    def attach(self) -> None:
        """Takes the device that Keras computes on now for that of the whole training.

        From now on steps are made together with other processes, where there are any.
        """
        self._device = keras.ops.convert_to_tensor(0.0).device
        self.processes = processes.current()

    def compile_train(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Prepares a training step; with `jit_compile`, the model's own part is compiled."""
        run_train_step = self.model.train_step
        if self.model.jit_compile:
            run_train_step = torch.compile(run_train_step)
        # Weights that came after the model was built, as those of `enable_lora`, are not among the
        # module's parameters, so that its `zero_grad` would let their gradients add up.
        zeroed = {id(parameter) for parameter in self.model.parameters()}
        others = [v for v in self.model.trainable_variables if id(v.value) not in zeroed]

        def call(*tensors: Any) -> Any:
            for variable in others:
                variable.value.grad = None
            return step(run_train_step, *tensors)

        return call

    def compile_pure(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, run without keeping what a backward pass would need."""

        def call(*tensors: Any) -> Any:
            with torch.no_grad():
                return function(*tensors)

        return call

    @contextlib.contextmanager
    def same_draws(self) -> Iterator[None]:
        """Goes back to where PyTorch's own generators were, of which unseeded dropout draws."""
        device = self.to_device(0.0).device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            yield

    @contextlib.contextmanager
    def own_draws(self) -> Iterator[None]:
        """Unseeded dropout draws by a seed of the step's and the process' own."""
        if self.processes is None:
            yield
            return
        # Of the generator that is at the same place everywhere.
        seed = int(torch.randint(2**62, ())) + self.processes.rank
        with self.same_draws():
            # Not `torch.manual_seed`, which formats a stack for each kind of device.
            torch.default_generator.manual_seed(seed)
            if self.asynchronous and torch.cuda.is_available():
                torch.cuda.manual_seed(seed)
            yield

    def buffers(self) -> list[Tensor]:
        """Statistics of plain PyTorch modules inside the model."""
        return list(self.model.buffers())

    def begin_epoch(self) -> None:
        """Tells plain PyTorch modules inside the model that training runs."""
        self.model.train()

    def end_epoch(self) -> None:
        """Tells plain PyTorch modules inside the model that training pauses."""
        self.model.eval()

    def detach(self) -> None:
        """Back to inference mode, also after an interruption; the process is alone again."""
        self._device = None
        self.processes = None
        self.model.eval()
