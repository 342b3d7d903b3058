"""The parts of one experiment, put together from its names."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from .. import models
from .._names import unknown
from ..utils.keras_utils import load_weights_by_name
from . import _registry as registry
from ._hyperparams import Hyperparams

_OPTIMIZERS = ("adam", "sgd", "rmsprop")


class Experiment(NamedTuple):
    """What is trained, by what, on what."""

    dataset: Any
    model: keras.Model
    wrapper: Any
    sampler: Any


def build_optimizer(hp: Hyperparams) -> keras.Optimizer:
    """The optimizer that the hyper-parameters name; Adam if they name none."""
    name = hp.get("opt", "adam")
    if name not in _OPTIMIZERS:
        raise unknown("optimizer", name, _OPTIMIZERS)
    options: dict[str, Any] = {"learning_rate": hp.get("lr", 1e-3), "clipnorm": hp.get("clipnorm")}
    if name == "sgd":
        options |= {
            "momentum": hp.get("momentum", 0.0),
            "nesterov": bool(hp.get("nesterov", 0)),
        }
    elif name == "rmsprop":
        options["rho"] = 0.9
        options["momentum"] = hp.get("momentum", 0.0)
        if hp.get("lr_decay"):
            options["learning_rate"] = keras.optimizers.schedules.InverseTimeDecay(
                options["learning_rate"], 1, hp["lr_decay"]
            )
    kinds = {"adam": "Adam", "sgd": "SGD", "rmsprop": "RMSprop"}
    return getattr(keras.optimizers, kinds[name])(**options)


def build_model(name: str, dataset: Any, hp: Hyperparams) -> keras.Model:
    """A network for the data set, compiled with its own loss and the optimizer asked for.

    Raises:
        ValueError: if there is no such network or it does not fit the data.
    """
    builder = models.get(name)
    options = {}
    if "weights" in hp:
        if "pre" not in name:
            raise ValueError(
                f"The hyper-parameter 'weights' is for pretrained networks, not for {name}; use "
                "--initial_weights."
            )
        options["weights"] = None if hp["weights"] == "none" else hp["weights"]
    try:
        model = builder(dataset.shape, dataset.output_size, **options)
    except (OSError, RuntimeError):
        raise
    except Exception as error:
        raise ValueError(
            f"The model {name!r} does not fit the data: inputs of shape {dataset.shape}, "
            f"{dataset.output_size} outputs ({_first_line(error)})."
        ) from error
    compiled = keras.saving.deserialize_keras_object(model.get_compile_config())
    compiled["optimizer"] = build_optimizer(hp)
    model.compile(**compiled)
    return model


def load_initial_weights(model: keras.Model, path: Path) -> None:
    """Loads weights of the same network, or what fits by name of another file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if nothing in it has a name of the model.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path}.")
    if path.name.endswith(".weights.h5"):
        # A network of another kind is refused here, but may still share layers by name.
        with contextlib.suppress(ValueError), warnings.catch_warnings():
            # That the optimizer begins anew is meant.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            model.load_weights(path)
            return
    if not load_weights_by_name(path, model):
        raise ValueError(f"{path} has no weights with a name of the model's.")


def build(names: dict[str, str], hp: Hyperparams, seed: int) -> Experiment:
    """Builds all parts.

    Args:
        names: of "model", "wrapper", "sampler", "reweighting" and "dataset".
        hp: hyper-parameters.
        seed: of initial weights and draws.

    Raises:
        ValueError: if a name is unknown or parts do not go together.
    """
    check_names(names)
    keras.utils.set_random_seed(seed)
    policy = registry.REWEIGHTINGS[names["reweighting"]](hp)
    dataset = registry.DATASETS[names["dataset"]](hp)
    batch_size = hp.get("batch_size", 128)
    if len(dataset.train_data) < batch_size:
        raise ValueError(
            f"`batch_size` {batch_size} is larger than the training set of "
            f"{len(dataset.train_data)} examples."
        )
    model = build_model(names["model"], dataset, hp)
    wrapper = registry.build_wrapper(names["wrapper"], model, policy)
    wrapper.build(*dataset.train_data[np.arange(2)])
    sampler = registry.build_sampler(
        names["sampler"], dataset, policy, wrapper, hp, rng=np.random.default_rng(seed)
    )
    return Experiment(dataset, model, wrapper, sampler)


def check_names(names: dict[str, str]) -> None:
    """Raises if a name is unknown, before anything that takes time."""
    models.get(names["model"])
    registry.check_wrapper(names["wrapper"])
    registry.check_sampler(names["sampler"])
    registry.look_up("reweighting", registry.REWEIGHTINGS, names["reweighting"])
    registry.look_up("data set", registry.DATASETS, names["dataset"])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
