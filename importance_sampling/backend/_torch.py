"""PyTorch: eager, with `torch.compile` where the model asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch


def gradient(fn: Callable[..., Any], tensors: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Value of the scalar `fn(*tensors)` and its gradient for each tensor."""
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in tensors]
        # Clones, because Keras multiplies masks into weights in place.
        value = fn(*[leaf.clone() for leaf in leaves])
        gradients = _gradients(value, leaves)
    return value.detach(), gradients


def _gradients(value: Any, leaves: list[Any]) -> list[Any]:
    if not value.requires_grad:
        return [torch.zeros_like(t) for t in leaves]
    return list(torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True))


def tapped_gradient(fn: Callable[[Callable[[Any], Any]], Any]) -> tuple[list[Any], list[Any]]:
    """Gradient of the scalar `fn(tap)` for every tensor that `fn` hands to `tap`.

    Returns:
        `(tensors, gradients)` in the order in which they were tapped.
    """
    seen: list[Any] = []

    def tap(tensor: Any) -> Any:
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


def sample_gradient_norms(fn: Callable[..., Any], inputs: Any, values: Sequence[Any]) -> Any:
    """Norm over `values` of the gradient of `fn(values, *row)`, one per row of `inputs`."""
    values = tuple(v.detach() for v in values)

    def norm(row: Any) -> Any:
        gradients = torch.func.grad(lambda v: fn(v, *row))(values)
        return torch.sqrt(sum(torch.sum(torch.square(g)) for g in gradients))

    with _AnyLayout():
        try:
            return torch.func.vmap(norm)(inputs)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
        # Some operation looks at its values (in Keras before 3.14, one_hot does): row by row.
        rows = len(keras.tree.flatten(inputs)[0])
        return torch.stack(
            [norm(keras.tree.map_structure(lambda t, i=i: t[i], inputs)) for i in range(rows)]
        )


class Runtime:
    """Runs functions over one model's state, which stays in its variables."""

    def __init__(self, model: keras.Model):
        self.model = model
        # Nothing is traced: every operation of a step costs, and tensors stay valid after it.
        self.traces = False
        # Whether gradients are taken of functions, whose inner tensors must not leave them.
        self.functional_gradients = False
        # Whether calls return before the device is done.
        self.asynchronous = self.to_device(0.0).device.type != "cpu"

    def scope(self, values: Sequence[tuple[Any, Any]] = ()) -> keras.StatelessScope:
        """A scope in which the model can be read and nothing of it be changed."""
        # Keras reads regularized weights from the scope alone.
        own = [(v, v.value) for v in self.model.trainable_variables if v.regularizer is not None]
        return keras.StatelessScope(state_mapping=[*own, *values], collect_losses=True)

    def values(self, variables: Sequence[Any]) -> list[Any]:
        """The present values of `variables`."""
        return [v.value for v in variables]

    def compile_train(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles `step(run_train_step, *tensors)`, which may change the model's state."""
        run = self.model.train_step
        if self.model.jit_compile:
            run = torch.compile(run)
        # Weights that came after the model was built, as those of `enable_lora`, are not among the
        # module's parameters, so that its `zero_grad` would let their gradients add up.
        zeroed = {id(parameter) for parameter in self.model.parameters()}
        others = [v for v in self.model.trainable_variables if id(v.value) not in zeroed]

        def call(*tensors: Any) -> Any:
            for variable in others:
                variable.value.grad = None
            return step(run, *tensors)

        return call

    def compile_pure(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Prepares `fn(*tensors)`, which reads the model and changes nothing."""

        def call(*tensors: Any) -> Any:
            with torch.no_grad():
                return fn(*tensors)

        return call

    def to_device(self, array: Any) -> Any:
        """An array as a tensor on the device Keras uses."""
        return keras.ops.convert_to_tensor(array)

    def sync(self) -> None:
        """Nothing to do: the state never leaves the model."""

    def attach(self) -> None:
        """Nothing to do: the state never leaves the model."""

    def detach(self) -> None:
        """Back to inference mode, also after an interruption."""
        self.model.eval()

    def begin_epoch(self) -> None:
        """Tells plain PyTorch modules inside the model that training runs."""
        self.model.train()

    def end_epoch(self) -> None:
        """Tells plain PyTorch modules inside the model that training pauses."""
        self.model.eval()
