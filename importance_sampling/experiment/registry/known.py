"""All hyper-parameters, what they belong to, and which have no effect for what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .datasets import DATASETS
from .decorators import CONDITIONS, SMOOTHINGS
from .general import CHANGES, DECAY, NESTEROV, OF_EVERY_RUN, OPTIMIZERS, REDUCTIONS, WEIGHTS
from .reweightings import REWEIGHTINGS
from .rows import Hyperparameter, Hyperparams, Row, Table
from .sampler_names import find_sampler
from .samplers import SAMPLERS
from .scores import WRAPPERS

EVERY_RUN = "every run"
PRETRAINED = "pretrained networks"

_TABLES: tuple[Table, ...] = (
    OPTIMIZERS,
    REWEIGHTINGS,
    SAMPLERS,
    SMOOTHINGS,
    CONDITIONS,
    WRAPPERS,
    DATASETS,
)


def _gather() -> dict[str, dict[str, Hyperparameter]]:
    found: dict[str, dict[str, Hyperparameter]] = {}

    def add(one: Hyperparameter, user: str) -> None:
        found.setdefault(one.name, {})[user] = one

    for one in OF_EVERY_RUN:
        add(one, EVERY_RUN)
    for table in _TABLES:
        for row in table.values():
            for one in row.hyperparameters:
                add(one, row.name)
    add(WEIGHTS, PRETRAINED)
    return found


HYPERPARAMETERS = _gather()
"""Name of every hyper-parameter to the rows that have it, by name, with what it is for them."""


def users_of(name: str) -> str:
    """What a hyper-parameter belongs to, in words.

    Args:
        name: str, one of `HYPERPARAMETERS`.

    Returns:
        str, such as "model, lstm".
    """
    return ", ".join(HYPERPARAMETERS[name])


class Meaning(NamedTuple):
    """What a hyper-parameter is for some rows.

    Attributes:
        summary: str, one line of help.
        default: the value where it is not given; None where nothing is set then.
        users: names of the rows.
    """

    summary: str
    default: Any
    users: tuple[str, ...]


def meanings_of(name: str) -> list[Meaning]:
    """What a hyper-parameter is for the rows that have it; one entry where it is the same for all.

    Args:
        name: str, one of `HYPERPARAMETERS`.

    Returns:
        list of `Meaning`.
    """
    users: dict[tuple[str, Any], list[str]] = {}
    for user, one in HYPERPARAMETERS[name].items():
        users.setdefault((one.summary, one.default), []).append(user)
    return [Meaning(*key, tuple(found)) for key, found in users.items()]


def _rows(names: Mapping[str, str], hp: Hyperparams) -> list[Row]:
    """The rows chosen; of names that are left out, none."""
    rows: list[Row] = []
    if "sampler" in names:
        found = find_sampler(names["sampler"])
        rows += [found.base, *found.before]
    for key, table in (
        ("wrapper", WRAPPERS),
        ("reweighting", REWEIGHTINGS),
        ("dataset", DATASETS),
        ("optimizer", OPTIMIZERS),
    ):
        if key in names:
            rows.append(table.look_up(names[key]))
    return rows


def check_values(names: Mapping[str, str], hp: Hyperparams) -> None:
    """Refuses values that make no sense for what was chosen.

    Args:
        names: of what was chosen, some of "sampler", "wrapper", "reweighting", "dataset",
            "optimizer" and "model".
        hp: hyper-parameters.

    Raises:
        ValueError: if a name is unknown or a value out of range; names it.
    """
    for row in _rows(names, hp):
        for one in row.hyperparameters:
            if one.name in hp:
                one.check(hp[one.name])
    if WEIGHTS.name in hp and not _is_pretrained(names.get("model", "")):
        raise ValueError(
            f"The hyper-parameter 'weights' is for pretrained networks, not for {names['model']}; "
            "use --initial_weights."
        )


def _is_pretrained(model: str) -> bool:
    return "pre" in model


def without_effect(names: Mapping[str, str], hp: Hyperparams) -> dict[str, str]:
    """The hyper-parameters that change nothing for what was chosen.

    Args:
        names: of what was chosen, as for `check_values`. Without an "optimizer" nothing is trained.
        hp: hyper-parameters.

    Returns:
        dict of name to why it has no effect.
    """
    trains = "optimizer" in names
    used = {one.name for row in _rows(names, hp) for one in row.hyperparameters} | {WEIGHTS.name}
    if trains:
        used |= {one.name for one in OF_EVERY_RUN}
    reasons = {name: f"of {users_of(name)}" for name in hp if name not in used}
    if trains and not find_sampler(names["sampler"]).base.by_score and "k" in hp:
        reasons.setdefault("k", "draws are uniform")
    if trains and names["optimizer"] == "sgd" and hp.get(NESTEROV.name) and not hp.get("momentum"):
        reasons[NESTEROV.name] = "there is no momentum"
    if trains and names["sampler"] == "scsg" and hp.get("scsg_B") == 0 and "scsg_B_rate" in hp:
        reasons["scsg_B_rate"] = "scsg_B=i0 takes the whole training set"
    if has_own_schedule(hp):
        for name in (REDUCTIONS.name, CHANGES.name, "lr_targets"):
            if trains and name in hp:
                reasons[name] = f"{DECAY.name} sets the rate"
    return reasons


def has_own_schedule(hp: Hyperparams) -> bool:
    """Whether the optimizer changes its learning rate itself.

    Args:
        hp: hyper-parameters.

    Returns:
        bool.
    """
    return hp.get("opt") == "rmsprop" and bool(hp.get(DECAY.name))
