"""Programs as users write them: each trains with `model.fit`, and with one line changed.

A program is a function that returns a compiled model and the arguments of `fit`, both made afresh
at each call, registered with `program`. `run` trains it in one of the ways below.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
from keras import tree
from spread import BACKENDS, SMALL_NETWORKS, full, one_backend

from importance_sampling import HistoryImportanceTraining, ImportanceTraining

MODULES = (
    "images",
    "pairs",
    "vision",
    "tabular",
    "mixed_inputs",
    "timeseries",
    "text",
    "tagging",
    "speech",
    "streams",
    "own_losses",
    "own_layers",
    "compiling",
    "steps_tensorflow",
    "steps_jax",
    "steps_torch",
)

# The one line that changes.
WAYS: dict[str, Callable[[keras.Model], Any]] = {
    "off": lambda model: ImportanceTraining(model, tau_th=1e9, seed=0),
    "on": lambda model: ImportanceTraining(model, tau_th=0.0, seed=0),
    "auto": lambda model: ImportanceTraining(model, presample="auto", seed=0),
    "history": lambda model: HistoryImportanceTraining(model, seed=0),
}
STREAM = {"history": "a stream has no examples to come back to"}
WHOLE_BATCH = "compares the examples of a batch with each other"
SCALAR = f"{WHOLE_BATCH}|the loss function reduces over the batch"
# The training names the layer whose last activation it does not know.
FALLBACK = "score='gnorm'.*is not known"
DROPOUT = {"torch": "dropout draws from PyTorch's global state, and Keras' own loader does so too"}
REFUSALS = (ValueError, TypeError, NotImplementedError)


@dataclass
class Program:
    """One program.

    Args:
        build: Returns the model and the arguments of `fit`; a third item, if there is one, is
            a function that compiles the trained model again and returns the next arguments.
        backends: Those it can run on with `model.fit`.
        not_exact: By backend, why a training cannot repeat `model.fit` bit by bit, if it cannot.
        miscounted: By backend, why Keras' optimizer counts other steps than were taken.
        refused: What every training must say, before any weight changes.
        refused_ways: What one training must say, where the others work.
        warns: What a training may warn of, though `model.fit` does not.
        falls: Whether the loss of the last epoch is below the first's.
    """

    name: str
    module: str
    build: Callable[[], tuple[Any, ...]]
    backends: tuple[str, ...] = BACKENDS
    not_exact: dict[str, str] = field(default_factory=dict)
    miscounted: dict[str, str] = field(default_factory=dict)
    refused: str = ""
    refused_ways: dict[str, str] = field(default_factory=dict)
    warns: tuple[str, ...] = ()
    falls: bool = True

    def refusal(self, way: str) -> str:
        """What a training in this way must say, or nothing."""
        return self.refused or self.refused_ways.get(way, "")


PROGRAMS: dict[str, Program] = {}


def program(**kwargs: Any) -> Callable[..., Any]:
    """Registers a program under its function's name."""

    def register(build: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
        name = build.__name__
        assert name not in PROGRAMS, name
        module = build.__module__.rsplit(".", 1)[-1]
        PROGRAMS[name] = Program(name, module, build, **kwargs)
        return build

    return register


def load() -> dict[str, Program]:
    """All programs."""
    for module in MODULES:
        importlib.import_module(f"programs.{module}")
    return PROGRAMS


def cells(backend: str) -> list[tuple[str, str]]:
    """Pairs of program and way to run on this backend.

    Every pair runs on one backend: `off`, which is compared with Keras step by step, on each of
    them, other ways and what is refused most often on the fastest. Of a step that each backend
    has a variant of, `off` runs for all of them, be it refused or not, and each other way for one.
    CI_FULL=1 asks for every pair everywhere.
    """
    found = []
    for one in load().values():
        for way in WAYS:
            if backend in _backends(one, way):
                found.append((one.name, way))
    return found


def variants(one: Program) -> dict[str, Program]:
    """The programs that say the same to each backend in its own words, by backend."""
    if len(one.backends) > 1:
        return dict.fromkeys(one.backends, one)
    step = one.name.split("_", 1)[1]
    alike = (p for p in load().values() if p.name.split("_", 1)[1:] == [step])
    return {p.backends[0]: p for p in alike if len(p.backends) == 1}


def _backends(one: Program, way: str) -> set[str]:
    if full():
        return set(one.backends)
    if way == "off" and (not one.refused or len(one.backends) == 1):
        # Twice as often where it takes a fraction of the time.
        return {one_backend(f"{one.name}-{way}", one.backends, (*BACKENDS, "torch"))}
    if len(one.backends) > 1:
        return {one_backend(f"{one.name}-{way}", one.backends, SMALL_NETWORKS)}
    # The same name for all variants, so that one of them is chosen; each backend has its share of
    # what is written for it.
    step = one.name.split("_", 1)[1]
    return {one_backend(f"{step}-{way}", variants(one))} & set(one.backends)


def alone(backend: str) -> list[str]:
    """Programs to run with `model.fit` for itself: those that no training takes."""
    refused = [one for one in load().values() if one.refused]
    return [
        one.name
        for one in refused
        if backend in (one.backends if full() else [one_backend(one.name, one.backends)])
    ]


class Counter(keras.callbacks.Callback):
    """Counts the batches of each epoch."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.batches[-1] += 1


@dataclass
class Run:
    """What a training left behind: a `fit` or two of the same model."""

    model: keras.Model
    logs: list[dict[str, list[float]]] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    updates: list[int] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    warnings: set[str] = field(default_factory=set)


def _first_line(message: Any) -> str:
    """Without the numbers that Keras counts names with."""
    return re.sub(r"_\d+\b", "", str(message).strip().split("\n")[0])


def train(one: Program, fit: Callable[[keras.Model], Callable[..., Any]]) -> Run:
    """Builds the program and trains its model by what `fit` gives for it."""
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(7)
    try:
        model, arguments, *stages = one.build()
        run = Run(model)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            while arguments is not None:
                counter = Counter()
                callbacks = [*arguments.pop("callbacks", []), counter]
                logs = fit(model)(**{"verbose": 0} | arguments, callbacks=callbacks).history
                run.logs.append(logs)
                run.batches.append(counter.batches)
                run.updates.append(int(model.optimizer.iterations))
                arguments = stages.pop(0)(model) if stages else None
        run.warnings = {_first_line(warning.message) for warning in seen}
        run.weights = weights_of(model)
    finally:
        keras.config.set_dtype_policy(policy)
    return run


def weights_of(model: keras.Model) -> list[np.ndarray]:
    """Copies, in float32."""
    return [np.array(weight, "float32") for weight in model.get_weights()]


_REFERENCES: dict[str, Run] = {}


def reference(one: Program) -> Run:
    """The run with `model.fit`, once per process."""
    if one.name not in _REFERENCES:
        run = train(one, lambda model: model.fit)
        run.model = None
        _REFERENCES[one.name] = run
    return _REFERENCES[one.name]


def check_reference(one: Program) -> None:
    """The program itself is right: `model.fit` trains it."""
    run = reference(one)
    for logs in run.logs:
        for name, values in logs.items():
            assert np.isfinite(values).all(), name
        if one.falls:
            assert logs["loss"][-1] < logs["loss"][0]


def check_refusal(one: Program, way: str) -> None:
    """The training says what is missing, and leaves the weights as they were."""
    keras.utils.set_random_seed(7)
    model, arguments, *_ = one.build()
    before = weights_of(model) if model.built else None
    with pytest.raises(REFUSALS, match=one.refusal(way)):
        WAYS[way](model).fit(**{"verbose": 0} | arguments)
    assert int(model.optimizer.iterations) == 0
    if before is not None:
        tree.map_structure(np.testing.assert_array_equal, before, weights_of(model))


def check(one: Program, way: str) -> None:
    """Runs a program in one way and compares it with `model.fit`."""
    if one.refusal(way):
        check_refusal(one, way)
        return
    expected = reference(one)
    check_reference(one)
    run = train(one, lambda model: WAYS[way](model).fit)
    assert run.batches == expected.batches
    backend = keras.backend.backend()
    if backend in one.miscounted:
        assert run.updates == [sum(run.batches[0])]
    else:
        assert run.updates == expected.updates
    for logs, wanted in zip(run.logs, expected.logs, strict=True):
        assert set(wanted) <= set(logs)
        for name in wanted:
            assert len(logs[name]) == len(wanted[name]), name
            assert np.isfinite(logs[name]).all(), name
    if way == "off":
        assert all(not any(logs["importance_sampling"]) for logs in run.logs)
    if way == "off" and not {backend} & {*one.not_exact, *one.miscounted}:
        for a, b in zip(run.weights, expected.weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        for logs, wanted in zip(run.logs, expected.logs, strict=True):
            for name, values in wanted.items():
                np.testing.assert_allclose(logs[name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    if way == "on":
        for logs in run.logs:
            assert logs["importance_sampling"][-1] > 0
            if one.falls:
                assert logs["loss"][-1] < logs["loss"][0]
    check_warnings(one, run.warnings - expected.warnings)


def check_warnings(one: Program, more: set[str]) -> None:
    """A training warns of nothing that `model.fit` does not, but for what is listed."""
    unexpected = {m for m in more if not any(re.search(known, m) for known in one.warns)}
    assert not unexpected, unexpected
