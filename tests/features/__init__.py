"""One table of what `fit` can do and what it refuses; every row trains and checks an effect.

A row is a function `(cell) -> None`, registered with `works` or `refused`. The table in
docs/features.md is made of the same rows: `PYTHONPATH=tests python -m features`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
from spread import BACKENDS, SMALL_NETWORKS, full, one_backend, two_backends

from .columns import (
    BY_SNAPSHOT,
    CLASS_NAMES,
    FEWER_STEPS,
    MAIN,
    ON_TORCH,
    REFUSED_KINDS,
    SECTIONS,
    SMALLER_STEPS,
    SURELY_ON,
    TRAININGS,
)

MODULES = ("arguments", "data", "shapes", "compiling", "models", "own", "callbacks", "again")


@dataclass
class Feature:
    """A row of the table.

    Args:
        section: The module it stands in.
        name: What it is about.
        note: Remarks.
        check: Tries it, and checks an effect.
        error: What the error says, where it is refused.
        backends: Those on which it works.
        instead: What the error says on others.
        kind: What trainings of `REFUSED_KINDS` refuse.
        uniform: Why nothing in it can be drawn by score, by column; "" stands for all of them.
        once: Backends on which it runs with the main training alone.
        everywhere: Whether it leans on what backends do each in their own way: how a step is
            traced and compiled, where the state lies while it runs, what tensors they take. The
            main training then runs on all of them.
    """

    section: str
    name: str
    note: str
    check: Callable[[Cell], None]
    error: str | None = None
    backends: tuple[str, ...] = BACKENDS
    instead: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    uniform: dict[str, str] = field(default_factory=dict)
    once: tuple[str, ...] = ()
    everywhere: bool = False

    def stays_uniform(self, training: str) -> bool:
        """Whether no step of this training can be drawn by score."""
        return training in BY_SNAPSHOT or "" in self.uniform or training in self.uniform


FEATURES: dict[str, Feature] = {}


def _register(check: Callable[[Cell], None], name: str, **kwargs: Any) -> Callable[[Cell], None]:
    section = (check.__module__ or "").rsplit(".", 1)[-1]
    assert name not in FEATURES, name
    FEATURES[name] = Feature(section, name, check=check, **kwargs)
    return check


def works(name: str, note: str = "", **kwargs: Any) -> Callable[..., Any]:
    """Registers a row of what works."""
    return lambda check: _register(check, name, note=note, **kwargs)


def refused(name: str, error: str, note: str = "", **kwargs: Any) -> Callable[..., Any]:
    """Registers a row of what ends in a ValueError or TypeError that matches `error`."""
    return lambda check: _register(check, name, note=note, error=error, **kwargs)


@dataclass
class Cell:
    """One row under one training class."""

    training: str
    tmp_path: Any = None
    uniform: bool = False
    drew_by_score: bool = False
    trainings: list[Any] = field(default_factory=list)

    @property
    def main(self) -> bool:
        """Whether this is the training that every row is tried with on two backends or more."""
        return self.training == MAIN

    def wrap(self, model: keras.Model, **kwargs: Any) -> Any:
        """The training around a model."""
        training = TRAININGS[self.training](model, **{"seed": 0, **kwargs})
        self.trainings.append(training)
        return training

    def fit(self, model: keras.Model, *data: Any, **kwargs: Any) -> Any:
        """Trains for two short epochs and checks what must hold for every training."""
        training = kwargs.pop("training", None) or self.wrap(model)
        kwargs = {"epochs": 2, "verbose": 0} | kwargs
        if not hasattr(data[0], "__next__") and len(data) > 1:
            kwargs = {"batch_size": 16} | kwargs
        before = model.get_weights() if model.built else None
        history = training.fit(*data, **kwargs).history
        epochs = kwargs["epochs"] - kwargs.get("initial_epoch", 0)
        assert len(history["loss"]) == epochs
        assert np.isfinite(history["loss"]).all()
        assert self.uniform != (training.report().steps_on > 0)
        self.drew_by_score |= training.report().steps_on > 0
        if self.training in SURELY_ON and epochs > 1:
            assert history["importance_sampling"][-1] > 0
        if before is not None:
            after = model.get_weights()
            assert any((a != b).any() for a, b in zip(before, after, strict=True))
        return history

    def fit_alike(self, make: Callable[[], keras.Model], *cases: Any, **kwargs: Any) -> None:
        """Trains a model for each of the `cases`, `(data, arguments)`, to the same weights.

        Args:
            make: Makes the model; a case may have one of its own as a third item.
            cases: What must not make a difference.
            kwargs: Arguments of `fit`.
        """
        weights: list[Any] = []
        for data, arguments, *own in cases:
            net = (own[0] if own else make)()
            if weights:
                net.set_weights(weights[0])
            else:
                weights.append(net.get_weights())
            self.fit(net, *data, **kwargs, **arguments)
            weights.append(net.get_weights())
        for found in weights[2:]:
            for a, b in zip(weights[1], found, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    def check_steps(self, sizes: list[int], epochs: int, steps: int) -> None:
        """Checks that there were as many steps as uniform training has, or fewer by intent."""
        if self.training in FEWER_STEPS:
            assert epochs <= len(sizes) < epochs * steps
        else:
            assert len(sizes) == epochs * steps

    def check_sizes(self, sizes: list[int], size: int) -> None:
        """Checks that steps had the rows of uniform training, or fewer by intent."""
        if self.training in SMALLER_STEPS:
            assert 0 < min(sizes) <= max(sizes) <= size
        else:
            assert max(sizes) == size

    def check_draws(self) -> None:
        """Checks that steps were drawn by score, also where a row calls `fit` itself."""
        ran = [training for training in self.trainings if training.history is not None]
        by_score = self.drew_by_score or any(training.report().steps_on for training in ran)
        assert by_score != self.uniform
        if self.training in BY_SNAPSHOT:
            assert all(training.model.has_snapshot for training in ran)


def load() -> dict[str, Feature]:
    """All rows."""
    for module in MODULES:
        importlib.import_module(f"features.{module}")
    return FEATURES


def cells(backend: str) -> list[tuple[str, str]]:
    """Pairs of row and training to run on this backend.

    The main training runs on PyTorch and on TensorFlow or JAX, which compile, or on all three
    where a row asks for it; each further training on one of them, most often on the fastest.
    CI_FULL=1 asks for every pair everywhere.
    """
    return [
        (name, training)
        for name, row in load().items()
        for training in TRAININGS
        if backend in _backends(name, row, training)
    ]


def _backends(name: str, row: Feature, training: str) -> list[str]:
    if row.section not in SECTIONS.get(training, MODULES):
        return []
    where = [b for b in BACKENDS if b in row.backends or b in row.instead]
    if training != MAIN:
        on = [b for b in where if b not in row.once]
        if full():
            return on
        spread = ["torch"] if training in ON_TORCH else on
        return [one_backend(f"{name}-{training}", spread, SMALL_NETWORKS)]
    if full() or row.everywhere or "torch" not in where:
        return where
    return two_backends(f"{name}-{training}", where)


def run(feature: Feature, cell: Cell) -> None:
    """Checks one cell of the table on the backend that is set."""
    backend = keras.backend.backend()
    error = feature.error
    if backend not in feature.backends:
        error = feature.instead[backend]
    if error is None and cell.training in REFUSED_KINDS:
        error = REFUSED_KINDS[cell.training].get(feature.kind)
    if error is None:
        cell.uniform = feature.stays_uniform(cell.training)
        feature.check(cell)
        cell.check_draws()
        return
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=error):
        feature.check(cell)


def markdown() -> str:
    """The table as it stands in the documents."""
    lines = []
    for section in MODULES:
        lines += [f"\n## {TITLES[section]}\n", "| feature | works | remarks |", "|---|---|---|"]
        for feature in FEATURES.values():
            if feature.section != section:
                continue
            state = "yes" if feature.error is None else "refused"
            if feature.error is None and feature.backends != BACKENDS:
                state = f"on {', '.join(NAMES[b] for b in feature.backends)}"
            if feature.error is None and feature.kind:
                refusing = [t for t, kinds in REFUSED_KINDS.items() if feature.kind in kinds]
                # Columns without a name are a setting of another's class.
                names = [f"`{CLASS_NAMES[t]}`" for t in refusing if t in CLASS_NAMES]
                before = f"{', '.join(names[:-1])} and " if names[1:] else ""
                state += f", but for {before}{names[-1]}" if names else ""
            lines.append(f"| {feature.name} | {state} | {feature.note} |")
    return "\n".join(lines).strip() + "\n"


NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
TITLES = {
    "arguments": "Arguments of `fit`",
    "data": "Data",
    "shapes": "Sizes and shapes",
    "compiling": "What was compiled",
    "models": "Models",
    "own": "Losses and steps of your own",
    "callbacks": "Callbacks",
    "again": "Twice and nested",
}
