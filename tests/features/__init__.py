"""One table of what `fit` can do and what it refuses; every row trains and checks an effect.

A row is a function `(cell) -> None`, registered with `works` or `refused`. The table in
docs/features.md is made of the same rows: `PYTHONPATH=tests python -m features`.
"""

from __future__ import annotations

import importlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest

from importance_sampling import (
    ApproximateImportanceTraining,
    BiasedImportanceTraining,
    ConstantTimeImportanceTraining,
    ConstantVarianceImportanceTraining,
    HistoryImportanceTraining,
    ImportanceTraining,
    InfoBatchTraining,
    RobustImportanceTraining,
    SelectiveBackpropTraining,
)

BACKENDS = ("tensorflow", "jax", "torch")
MODULES = ("arguments", "data", "shapes", "compiling", "models", "own", "callbacks", "again")

# Settings under which each training soon draws by score. `on` says whether it surely does.
TRAININGS: dict[str, Callable[..., Any]] = {
    "importance": lambda model, **k: ImportanceTraining(model, tau_th=0.0, **k),
    "biased": lambda model, **k: BiasedImportanceTraining(model, presample=32, **k),
    "constant-variance": lambda model, **k: ConstantVarianceImportanceTraining(
        model, backward_time=20.0, extra_samples=0.0, **k
    ),
    "constant-time": ConstantTimeImportanceTraining,
    "approximate": lambda model, **k: ApproximateImportanceTraining(model, presample=32, **k),
    "history": HistoryImportanceTraining,
    "robust": RobustImportanceTraining,
    "same-noise": lambda model, **k: HistoryImportanceTraining(
        model, constant="variance", min_batch_size=4, **k
    ),
    "auto": lambda model, **k: ImportanceTraining(model, presample="auto", **k),
    "reuse": lambda model, **k: ImportanceTraining(
        model, presample=2.5, tau_th=0.0, reuse=2, resampling="systematic", **k
    ),
    # So that the second epoch already leaves examples out.
    "infobatch": lambda model, **k: InfoBatchTraining(model, anneal=1.0, **k),
    "selective-backprop": SelectiveBackpropTraining,
}
# Trainings that share all code but their sampler's with another column have rows only where
# samplers matter.
SECTIONS = {
    "approximate": ("arguments", "data", "shapes", "again"),
    "biased": ("arguments", "data", "shapes", "again"),
    "constant-time": ("arguments", "data", "shapes", "again"),
    "robust": ("data", "shapes"),
    "same-noise": ("arguments", "shapes", "compiling", "own", "again"),
    "auto": ("arguments", "data", "shapes", "again"),
    "reuse": ("data", "shapes", "again"),
    "infobatch": ("data", "shapes"),
    "selective-backprop": ("data", "shapes"),
}
SURELY_ON = ("importance", "biased", "approximate", "selective-backprop")
# An epoch of these has fewer steps than one of uniform training, at least one.
FEWER_STEPS = ("infobatch", "selective-backprop")
# Predictions never reach zero, and mixtures draw everything now and then.
NEVER_ZERO = ("approximate", "history", "robust", "same-noise", "auto")
# What a training that keeps something for every example, or predicts by class, cannot take.
_NO_STREAM = {"stream": "a stream has no examples to come back to"}
REFUSED_KINDS = {
    "approximate": _NO_STREAM | {"targets": "This sampler (needs classes|predicts by class)"},
    "history": _NO_STREAM,
    "robust": _NO_STREAM,
    "same-noise": _NO_STREAM | {"sum": "reduction='sum'"},
    "infobatch": _NO_STREAM,
}
CLASS_NAMES = {
    "approximate": "ApproximateImportanceTraining",
    "history": "HistoryImportanceTraining",
    "robust": "RobustImportanceTraining",
    "infobatch": "InfoBatchTraining",
}


@dataclass
class Feature:
    """A row of the table."""

    section: str
    name: str
    note: str
    check: Callable[[Cell], None]
    error: str | None = None
    backends: tuple[str, ...] = BACKENDS
    instead: dict[str, str] = field(default_factory=dict)
    kind: str = ""


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

    def wrap(self, model: keras.Model, **kwargs: Any) -> Any:
        """The training around a model."""
        return TRAININGS[self.training](model, **{"seed": 0, **kwargs})

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
        if self.training in SURELY_ON and epochs > 1:
            assert history["importance_sampling"][-1] > 0
        if before is not None:
            after = model.get_weights()
            assert any((a != b).any() for a, b in zip(before, after, strict=True))
        return history

    def check_steps(self, sizes: list[int], epochs: int, steps: int) -> None:
        """Checks that there were as many steps as uniform training has, or fewer by intent."""
        if self.training in FEWER_STEPS:
            assert epochs <= len(sizes) < epochs * steps
        else:
            assert len(sizes) == epochs * steps


def load() -> dict[str, Feature]:
    """All rows."""
    for module in MODULES:
        importlib.import_module(f"features.{module}")
    return FEATURES


def cells(backend: str) -> list[tuple[str, str]]:
    """Pairs of row and training to run on this backend.

    Every row runs with `ImportanceTraining` on all backends that it has something to say of, with
    each further training on one of them, spread by a hash that is the same in every run.
    CI_FULL=1 asks for every pair everywhere.
    """
    full = os.environ.get("CI_FULL") == "1"
    found = []
    for name, row in load().items():
        where = [b for b in BACKENDS if b in row.backends or b in row.instead]
        for column, training in enumerate(TRAININGS):
            if row.section not in SECTIONS.get(training, MODULES):
                continue
            spot = zlib.crc32(f"{name}-{training}".encode()) % len(where)
            if backend in where if full or column == 0 else where[spot] == backend:
                found.append((name, training))
    return found


def run(feature: Feature, cell: Cell) -> None:
    """Checks one cell of the table on the backend that is set."""
    backend = keras.backend.backend()
    error = feature.error
    if backend not in feature.backends:
        error = feature.instead[backend]
    if error is None and cell.training in REFUSED_KINDS:
        error = REFUSED_KINDS[cell.training].get(feature.kind)
    if error is None:
        feature.check(cell)
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
