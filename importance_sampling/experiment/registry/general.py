"""Hyper-parameters of every run: the batch, the learning rate, the optimizer, the network."""

from __future__ import annotations

from typing import Any

from .rows import Hyperparameter, Row, Table

BATCH_SIZE = Hyperparameter("batch_size", "i", "examples in a batch", 128, least=1)
SEED = Hyperparameter("seed", "i", "of all that is random", 0, least=0, most=2**32 - 1)
FORWARD_BATCH_SIZE = Hyperparameter(
    "forward_batch_size",
    "i",
    "examples scored or evaluated in one call; by the size of an example if left out",
    least=1,
)
RATE = Hyperparameter("lr", "f", "learning rate at the start", 1e-3, least=0)
REDUCTIONS = Hyperparameter(
    "lr_reductions", "I", "the rate is divided by 10 after each of these steps", least=0
)
CHANGES = Hyperparameter(
    "lr_changes", "I", "steps after which the rate becomes the one in `lr_targets`", least=0
)
TARGETS = Hyperparameter("lr_targets", "F", "rates, as many as `lr_changes` has steps", least=0)
CLIPNORM = Hyperparameter(
    "clipnorm", "f", "largest norm of a variable's gradient, others are scaled down", above=0
)
TIME_BASED = Hyperparameter(
    "time_based", "i", "1: `--train_for` and steps of the rate are seconds", 0, choices=(0, 1)
)
OPTIMIZER = Hyperparameter("opt", "s", "the optimizer", "adam")

MOMENTUM = Hyperparameter("momentum", "f", "momentum", 0.0, least=0, below=1)
NESTEROV = Hyperparameter("nesterov", "i", "1: Nesterov's momentum", 0, choices=(0, 1))
DECAY = Hyperparameter(
    "lr_decay", "f", "the rate is divided by 1 + `lr_decay` x steps, as in Keras 2", 0.0, least=0
)


def _adam(options: dict[str, Any]) -> Any:
    import keras

    return keras.optimizers.Adam(**options)


def _sgd(options: dict[str, Any], momentum: float, nesterov: int) -> Any:
    import keras

    return keras.optimizers.SGD(momentum=momentum, nesterov=bool(nesterov), **options)


def _rmsprop(options: dict[str, Any], momentum: float, lr_decay: float) -> Any:
    import keras

    if lr_decay:
        schedule = keras.optimizers.schedules.InverseTimeDecay
        options["learning_rate"] = schedule(options["learning_rate"], 1, lr_decay)
    return keras.optimizers.RMSprop(rho=0.9, momentum=momentum, **options)


OPTIMIZERS = Table(
    "optimizer",
    Row("adam", "Adam", _adam),
    Row("sgd", "stochastic gradient descent", _sgd, (MOMENTUM, NESTEROV)),
    Row("rmsprop", "RMSprop with a decay of 0.9", _rmsprop, (MOMENTUM, DECAY)),
)
"""`--hyperparams opt=sNAME`; `build(options)`, keyword arguments of every optimizer first."""

OF_EVERY_RUN = (
    BATCH_SIZE,
    SEED,
    OPTIMIZER,
    RATE,
    REDUCTIONS,
    CHANGES,
    TARGETS,
    CLIPNORM,
    TIME_BASED,
    FORWARD_BATCH_SIZE,
)
"""What has a meaning whatever is trained, by whatever sampler."""

WEIGHTS = Hyperparameter(
    "weights", "s", "weights of a pretrained network: imagenet, none or a file", "imagenet"
)
"""Of networks with "pre" in their name."""
