"""What commands refuse by their arguments alone, before Keras and its backend are loaded."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Container
from pathlib import Path

from . import registry, resume
from .hyperparams import parse
from .registry import Hyperparams
from .registry.general import MOMENTUM, OPTIMIZER, SEED

_PARTS = ("model", "wrapper", "sampler", "reweighting", "dataset")
# Arguments that count something, of all commands that build a network.
_COUNTS = (
    *("train_for", "validate_every", "snapshot_period", "checkpoint_every"),
    *("samples", "batch_size", "inner_batch_size", "sample_size"),
)


def named(options: argparse.Namespace) -> dict[str, str]:
    """The parts of an experiment that a command's arguments name.

    Args:
        options: the command's arguments.

    Returns:
        dict of what it is to its name.
    """
    return {part: getattr(options, part) for part in _PARTS if hasattr(options, part)}


def optimizer_of(hp: Hyperparams) -> str:
    """The name of the optimizer that hyper-parameters ask for.

    Args:
        hp: hyper-parameters.
    """
    return hp.get(OPTIMIZER.name, OPTIMIZER.default)


def at_least_1(options: argparse.Namespace, *names: str) -> None:
    """Refuses smaller numbers.

    Args:
        options: the command's arguments.
        *names: of those that must be at least 1; None, which stands for left out, is allowed.

    Raises:
        ValueError: names the argument.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")


def accept(options: argparse.Namespace) -> None:
    """Refuses nothing: of commands that look at their arguments where they use them.

    Args:
        options: the command's arguments.
    """


def check_demo(options: argparse.Namespace) -> None:
    """Refuses arguments of `demo` that cannot work.

    Args:
        options: the command's arguments.

    Raises:
        ValueError: says what is wrong with which.
    """
    if not 0 < options.seconds < math.inf:
        raise ValueError(f"--seconds must be above 0 and finite, got {options.seconds:g}.")
    at_least_1(options, "steps")
    SEED.but(name="--seed").check(options.seed)
    if options.data and options.dataset != "mnist":
        raise ValueError(
            f"--data is for --dataset mnist; the points of {options.dataset} are made up."
        )


def check_experiment(options: argparse.Namespace) -> None:
    """Refuses names, numbers and hyper-parameters of commands that build a network.

    Args:
        options: the command's arguments.

    Raises:
        ValueError: says what is wrong with which.
    """
    at_least_1(options, *(name for name in _COUNTS if hasattr(options, name)))
    if hasattr(options, "random_seed"):
        SEED.but(name="--random_seed").check(options.random_seed)
    check(named(options), parse(options.hyperparams))


def check_run(options: argparse.Namespace) -> None:
    """Refuses arguments of `run` that cannot work, and a directory that holds a run.

    Args:
        options: the command's arguments.

    Raises:
        ValueError: says what is wrong with which.
    """
    check_experiment(options)
    if not (options.resume or options.overwrite):
        resume.refuse_another(Path(options.output_directory))


def check_variance_reduction(options: argparse.Namespace) -> None:
    """Refuses arguments of `variance-reduction` that cannot work.

    Args:
        options: the command's arguments.

    Raises:
        ValueError: says what is wrong with which.
    """
    check_experiment(options)
    if "history" in options.score and options.earlier_weights is None:
        raise ValueError(
            "Draws by the history need --earlier_weights: the weights that the model had when the "
            "examples were last seen, some hundred steps before."
        )
    if options.earlier_weights is not None and "history" not in options.score:
        raise ValueError("--earlier_weights are for draws by the history: pass --score history.")


def check_compare(options: argparse.Namespace) -> None:
    """Refuses errors to compare by that no run can have.

    Args:
        options: the command's arguments.

    Raises:
        ValueError: says which.
    """
    for error in options.errors:
        # Not a number either.
        if not 0 <= error <= 100:
            raise ValueError(f"--errors are in percent, from 0 to 100, got {error:g}.")


def check(names: dict[str, str], hp: Hyperparams) -> None:
    """Refuses what cannot work, before anything that takes time or is written.

    Args:
        names: of "model", "wrapper", "sampler", "reweighting" and "dataset", or some of them.
        hp: hyper-parameters.

    Raises:
        ValueError: if a name is unknown or a value makes no sense for what was chosen.
    """
    _check_order(names)
    registry.NETWORKS.look_up(names["model"])
    registry.check_values({**names, "optimizer": optimizer_of(hp)}, hp)
    if "sampler" in names:
        _check_snapshots(names, hp)


def _check_order(names: dict[str, str]) -> None:
    """Refuses a name of another part by saying which one it is of."""
    known: dict[str, Container[str]] = {
        "model": registry.NETWORKS,
        "wrapper": registry.WRAPPERS,
        "sampler": registry.SAMPLER_NAMES,
        "reweighting": registry.REWEIGHTINGS,
        "dataset": registry.DATASETS,
    }
    for part, name in names.items():
        for other, table in known.items():
            if name in table and name not in known[part]:
                order = ", ".join(each for each in _PARTS if each in names)
                raise ValueError(
                    f"{name!r} is the name of a {other} and stands in the place of the {part}. The "
                    f"order is {order}."
                )


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
    if optimizer_of(hp) != "sgd" or hp.get(MOMENTUM.name):
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
        names: as for `check`; without a sampler nothing is trained, and the
            hyper-parameters of training have no effect either.
        hp: hyper-parameters.
    """
    chosen = {**names, "optimizer": optimizer_of(hp)} if "sampler" in names else names
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
