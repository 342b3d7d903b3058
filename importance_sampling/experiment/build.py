"""The parts of one experiment, put together from its names."""

from __future__ import annotations

import sys
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
from .registry import Hyperparams
from .registry.general import BATCH_SIZE, CLIPNORM, MOMENTUM, OPTIMIZER, RATE


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
    return registry.OPTIMIZERS.look_up(_optimizer(hp)).make(hp, options)


def _optimizer(hp: Hyperparams) -> str:
    return hp.get(OPTIMIZER.name, OPTIMIZER.default)


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


def check(names: dict[str, str], hp: Hyperparams) -> None:
    """Refuses what cannot work, before anything that takes time or is written.

    Args:
        names: as for `build_experiment`, or some of them.
        hp: hyper-parameters.

    Raises:
        ValueError: if a name is unknown or a value makes no sense for what was chosen.
    """
    models.get(names["model"])
    registry.check_values({**names, "optimizer": _optimizer(hp)}, hp)
    if "sampler" in names:
        _check_snapshots(names, hp)


def _check_snapshots(names: dict[str, str], hp: Hyperparams) -> None:
    """Refuses parts of which one takes snapshots and another cannot work with them."""
    wrapper = registry.WRAPPERS.look_up(names["wrapper"])
    sampler = registry.find_sampler(names["sampler"]).base
    if wrapper.takes_snapshots != sampler.takes_snapshots:
        wrappers = [row.name for row in registry.WRAPPERS.values() if row.takes_snapshots]
        samplers = [row.name for row in registry.SAMPLERS.values() if row.takes_snapshots]
        raise ValueError(
            f"The wrapper {names['wrapper']!r} and the sampler {names['sampler']!r} do not go "
            f"together: the wrappers {', '.join(wrappers)} need a sampler that has them take "
            f"snapshots ({', '.join(samplers)}), and that sampler needs one of them."
        )
    if not wrapper.takes_snapshots:
        return
    if names["reweighting"] in ("adjusted", "correcting"):
        raise ValueError(
            f"The wrapper {names['wrapper']!r} does not work with the reweighting "
            f"{names['reweighting']!r}, whose weights depend on the scores of the step itself. Use "
            "unweighted; draws are uniform."
        )
    if not wrapper.plain_sgd:
        return
    if _optimizer(hp) != "sgd" or hp.get(MOMENTUM.name):
        raise ValueError(
            f"The wrapper {names['wrapper']!r} has an update rule of its own, for SGD without "
            "momentum: pass opt=ssgd, and leave `momentum` out."
        )
    shares = wrapper.values(hp)
    if sum(shares.values()) > 1:
        listed = ", ".join(f"{name}={value:g}" for name, value in shares.items())
        raise ValueError(f"The weights of {names['wrapper']} are above 1 together: {listed}.")


def warn_without_effect(names: dict[str, str], hp: Hyperparams) -> None:
    """Says in one line on standard error which hyper-parameters change nothing.

    Args:
        names: as for `build_experiment`; without a sampler nothing is trained, and the
            hyper-parameters of training have no effect either.
        hp: hyper-parameters.
    """
    chosen = {**names, "optimizer": _optimizer(hp)} if "sampler" in names else names
    reasons = registry.without_effect(chosen, hp)
    if reasons:
        say_without_effect(reasons)


def say_without_effect(reasons: dict[str, str]) -> None:
    """Says in one line on standard error what changes nothing.

    Args:
        reasons: what it is, with the reason.
    """
    listed = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    print(f"importance-sampling: without effect here: {listed}", file=sys.stderr)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
