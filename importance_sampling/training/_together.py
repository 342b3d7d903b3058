"""What a `fit` settles with the other processes that call it: torchrun starts a program many times.

Every process goes through the same loop with the same draws. What could make them differ is either
checked here, before the first step, or taken from the first process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from .._arrays import flatten
from ..backend.base import Runtime
from ..backend.processes import Processes, told
from ..model_wrappers import OracleWrapper
from ..model_wrappers.signals import is_heard
from ..samplers import BaseSampler
from ..samplers.conditions import Condition
from ._arguments import Callbacks, Verbose, short
from .backup import Restorer

# Callbacks of Keras' that write or print, which one process does for all.
_WRITERS = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
    # Not there in older releases.
    *filter(None, [getattr(keras.callbacks, "OrbaxCheckpoint", None)]),
)

# Classes of Keras' that users derive their own callbacks from, and what only takes notes.
_NEUTRAL = ("Callback", "LambdaCallback", "MonitorCallback", "History")


def check_supported(processes: Processes, wrapper: Any) -> None:
    """Raises if a model cannot be trained by several processes.

    Args:
        processes: those that train together.
        wrapper: the wrapped model, built.

    Raises:
        NotImplementedError: says what cannot be done, and what can.
    """
    together = f"{processes.size} processes train together, and"
    if not isinstance(wrapper, OracleWrapper):
        raise NotImplementedError(
            f"{together} {type(wrapper).__name__} is a wrapper of your own, whose steps nobody can "
            "share among them. Derive it from OracleWrapper."
        )
    model: Any = wrapper.model
    if keras.backend.backend() == "jax":
        if model.run_eagerly or not model.jit_compile:
            raise NotImplementedError(
                f"{together} the model runs eagerly or with jit_compile=False, so that no compiled "
                "program shares the work. Leave both arguments of `model.compile` as they are."
            )
    elif model.jit_compile:
        raise NotImplementedError(
            f"{together} the model is compiled with jit_compile=True, which leaves no place "
            "between the gradient and the optimizer. Use `model.compile(..., jit_compile=False)`."
        )
    size = wrapper.fixed_batch_size
    if size is not None:
        raise NotImplementedError(
            f"{together} the model was built for batches of {size}, of which no part can be "
            "computed. Build it without `batch_size`."
        )


def share_generator(processes: Processes | None, rng: np.random.Generator) -> None:
    """Puts a generator where that of the first process is.

    Args:
        processes: those that train together, or None.
        rng: changed in place.
    """
    if processes is not None:
        mine = json.dumps(rng.bit_generator.state, default=np.ndarray.tolist)
        with told():
            rng.bit_generator.state = json.loads(processes.texts(mine, "the beginning of `fit`")[0])


def check_same(processes: Processes, arguments: dict[str, Any], rows: tuple[Any, ...]) -> None:
    """Raises in all processes if one of them was given other data or arguments.

    Args:
        processes: those that train together.
        arguments: what must be the same, as JSON has it.
        rows: a few rows of the data, which must be the same, too.

    Raises:
        ValueError: names what differs, and the process in which it does.
    """
    found = hashlib.sha256()
    for array in flatten(rows):
        found.update(np.ascontiguousarray(array).tobytes())
    heard = is_heard("is.training")
    mine = {**arguments, "a few rows of the data": found.hexdigest()[:16], "is.training": heard}
    all_said = processes.texts(json.dumps(mine, default=str), "the arguments of `fit`")
    first, *others = map(json.loads, all_said)
    for rank, other in enumerate(others, 1):
        differ = [name for name in {**first, **other} if other.get(name) != first.get(name)]
        if differ:
            told = "; ".join(
                f"{name}: {short(first.get(name))} in process 0, {short(other.get(name))} there"
                for name in differ
            )
            raise ValueError(
                f"Process {rank} of {processes.size} (counted from 0) calls `fit` with other data "
                f"or arguments than process 0 ({told}). Give every process the whole of the data "
                "and the same arguments: a batch is drawn once for all, and split among them."
            )


def settings_of(part: BaseSampler | Condition) -> dict[str, Any]:
    """Numbers and words of a sampler that has drawn nothing yet, by which it draws.

    Args:
        part: the sampler, whose inner ones are looked at as well.
    """
    found: dict[str, Any] = {}
    for name, value in vars(part).items():
        if isinstance(value, BaseSampler | Condition):
            found |= settings_of(value)
        elif isinstance(value, int | float | str):
            found[f"{type(part).__name__}.{name}"] = value
    return found


@contextlib.contextmanager
def surely(processes: Processes | None, sure: bool) -> Iterator[None]:
    """A block in which it is known, or not, that processes are at the same place.

    Args:
        processes: those that train together, or None.
        sure: bool; see `Processes.sure`.
    """
    if processes is None:
        yield
        return
    before, processes.sure = processes.sure, sure
    try:
        yield
    finally:
        processes.sure = before


def shared_callbacks(callbacks: Callbacks) -> list[str]:
    """Names of the callbacks that every process must have: those that save, restore or change it.

    Not those that one process calls for all, nor the user's own, of which nobody knows what they
    do.

    Args:
        callbacks: as `fit` was given them.
    """
    found = getattr(callbacks, "callbacks", callbacks) or ()
    return sorted(type(callback).__name__ for callback in found if _is_shared(callback))


def _is_shared(callback: keras.callbacks.Callback) -> bool:
    if isinstance(callback, Restorer | keras.callbacks.BackupAndRestore):
        return True
    kinds = (kind for kind in type(callback).__mro__ if kind.__module__.startswith("keras."))
    kind = next(kinds, keras.callbacks.Callback)
    return kind.__name__ not in _NEUTRAL and not isinstance(callback, _WRITERS)


def callbacks_here(
    processes: Processes | None, callbacks: Callbacks, verbose: Verbose
) -> tuple[Callbacks, Verbose]:
    """The callbacks that this process has to call, and what it shows.

    Args:
        processes: those that train together, or None.
        callbacks: as `fit` was given them.
        verbose: likewise.

    Returns:
        Both as they are in the first process; in the others without those of Keras' that write.
    """
    if processes is None or processes.rank == 0:
        return callbacks, verbose
    given: Sequence[Any] = getattr(callbacks, "callbacks", callbacks) or ()
    return [callback for callback in given if not isinstance(callback, _WRITERS)], 0


def begin_as_first(runtime: Runtime, epoch: int) -> int:
    """Puts the model where that of the first process is.

    Args:
        runtime: the model's.
        epoch: int, the epoch to begin with.

    Returns:
        The epoch that the first process begins with.
    """
    processes = runtime.processes
    if processes is None:
        return epoch
    model: Any = runtime.model
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    processes.copy_first([*(v.value for v in variables), *runtime.buffers()])
    return int(processes.first([epoch], "the first epoch")[0])


def agree_to_stop(processes: Processes | None, model: keras.Model, where: str) -> None:
    """Stops in all processes if a callback of any of them wants to.

    Args:
        processes: those that train together, or None.
        model: the model, whose `stop_training` callbacks set.
        where: where they are, for the error of processes that are not at the same place.
    """
    if processes is not None:
        wanted = keras.ops.convert_to_tensor([float(model.stop_training)])
        model.stop_training = bool(float(processes.sum([wanted], what=where)[0][0]) > 0)


def logs_of_first(processes: Processes | None, logs: dict[str, Any]) -> dict[str, Any]:
    """The numbers that the first process has found, which may differ in the last digit.

    Args:
        processes: those that train together, or None.
        logs: numbers or arrays, with the same names and shapes in every process.
    """
    if processes is None or not logs:
        return logs
    arrays = [np.asarray(value) for value in logs.values()]
    mine = [float(n) for array in arrays for n in array.ravel()]
    numbers = iter(processes.first(mine, "the results of validation"))
    found = [np.array([next(numbers) for _ in range(a.size)]).reshape(a.shape) for a in arrays]
    pairs = zip(arrays, found, strict=True)
    values = [new.astype(old.dtype) if old.ndim else float(new) for old, new in pairs]
    return dict(zip(logs, values, strict=True))
