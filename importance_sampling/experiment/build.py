"""The parts of one experiment, put together from its names."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from .. import models
from ..datasets import BaseDataset
from ..model_wrappers import OracleWrapper
from ..samplers import BaseSampler
from ..utils._hdf5 import check_weights_file, warn_unless_finite
from ..utils.keras_utils import load_weights_by_name
from . import registry
from .checks import check, optimizer_of
from .registry import Hyperparams
from .registry.general import BATCH_SIZE, CLIPNORM, RATE


class Experiment(NamedTuple):
    """What is trained, by what, on what."""

    dataset: BaseDataset
    model: keras.Model
    wrapper: OracleWrapper
    sampler: BaseSampler


def build_optimizer(hp: Hyperparams) -> keras.Optimizer:
    """The optimizer that the hyper-parameters name; Adam if they name none.

    Args:
        hp: hyper-parameters.

    Returns:
        A Keras optimizer.

    Raises:
        ValueError: if there is no such optimizer.
    """
    options = {
        "learning_rate": hp.get(RATE.name, RATE.default),
        "clipnorm": hp.get(CLIPNORM.name),
    }
    return registry.OPTIMIZERS.look_up(optimizer_of(hp)).make(hp, options)


def build_model(name: str, dataset: BaseDataset, hp: Hyperparams) -> keras.Model:
    """A network for the data set, compiled with its own loss and the optimizer asked for.

    Args:
        name: str, one of `models.names()`.
        dataset: a `BaseDataset`.
        hp: hyper-parameters.

    Returns:
        A compiled `keras.Model`.

    Raises:
        ValueError: if there is no such network or it does not fit the data.
    """
    builder = models.get(name)
    registry.check_values({"model": name}, hp)
    options = {}
    if "weights" in hp:
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

    Args:
        model: a `keras.Model`.
        path: the file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if nothing in it has a name of the model, or it is no file that Keras writes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path}.")
    if path.name.endswith(".weights.h5"):
        # The oldest Keras allowed follows what leads out of the file.
        check_weights_file(path)
        with warnings.catch_warnings():
            # That the optimizer begins anew is meant.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            try:
                model.load_weights(path)
            except ValueError:
                # A network of another kind may still share layers by name.
                pass
            except Exception as error:
                raise OSError(f"{path} cannot be read as weights: {error}") from error
            else:
                for weight in model.weights:
                    values = keras.ops.convert_to_numpy(weight.value)
                    warn_unless_finite(str(path), weight.path, values)
                return
    if not load_weights_by_name(path, model):
        raise ValueError(f"{path} has no weights with a name of the model's.")


def build_experiment(names: dict[str, str], hp: Hyperparams, seed: int) -> Experiment:
    """Builds all parts.

    Args:
        names: of "model", "wrapper", "sampler", "reweighting" and "dataset".
        hp: hyper-parameters.
        seed: of initial weights and draws.

    Returns:
        An `Experiment`.

    Raises:
        ValueError: if a name is unknown or parts do not go together.
    """
    check(names, hp)
    keras.utils.set_random_seed(seed)
    policy = registry.REWEIGHTINGS.look_up(names["reweighting"]).make(hp)
    dataset = registry.DATASETS.look_up(names["dataset"]).make(hp)
    batch_size = hp.get(BATCH_SIZE.name, BATCH_SIZE.default)
    if len(dataset.train_data) < batch_size:
        raise ValueError(
            f"`batch_size` {batch_size} is larger than the training set of "
            f"{len(dataset.train_data)} examples."
        )
    model = build_model(names["model"], dataset, hp)
    wrapper = registry.WRAPPERS.look_up(names["wrapper"]).make(hp, model, policy)
    wrapper.build(*dataset.train_data[np.arange(2)])
    sampler = registry.build_sampler(
        names["sampler"], dataset, policy, wrapper, hp, rng=np.random.default_rng(seed)
    )
    return Experiment(dataset, model, wrapper, sampler)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
