"""Typed hyper-parameters in one string: `batch_size=i128;lr=f0.003;lr_reductions=I10000`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._names import unknown
from .registry import HYPERPARAMETERS, Hyperparams
from .registry.general import RATE

_TYPES: dict[str, Callable[[str], Any]] = {"s": str, "f": float, "i": int}

KNOWN = {name: next(iter(users.values())).letter for name, users in HYPERPARAMETERS.items()}
"""Every hyper-parameter with the letter of its type; capitals are lists."""


# What people put between hyper-parameters, or between the values of a list, by mistake.
_ELSEWHERE = ",:&| "


def _check_separators(key: str, text: str) -> None:
    """Refuses what is divided otherwise, which would be taken for a part of the value."""
    for separator in _ELSEWHERE:
        first, *others = text.split(separator)
        if any(other.strip().partition("=")[0] in KNOWN and "=" in other for other in others):
            joined = ";".join([f"{key}={first}", *(other.strip() for other in others)])
            raise ValueError(
                f"Hyper-parameters are joined by ';', not by {separator!r}: "
                f"--hyperparams '{joined}'."
            )
        if others and KNOWN[key].isupper() and text[:1] == KNOWN[key]:
            values = "!".join(other.strip() for other in [first, *others])
            raise ValueError(
                f"The values of a list are divided by '!', not by {separator!r}: {key}={values}."
            )


def _value(key: str, text: str) -> Any:
    _check_separators(key, text)
    letter, rest = text[:1], text[1:]
    convert = _TYPES.get(letter.lower())
    if convert is None:
        raise ValueError(
            f"The hyper-parameter {key!r} has the value {text!r}; a value begins with the letter "
            "of its type: s, f or i for one string, float or integer, S, F or I for a list "
            f"divided by '!'. Try {key}={KNOWN[key]}{text}."
        )
    if letter.lower() != KNOWN[key].lower() and not (letter.lower(), KNOWN[key].lower()) == (
        "i",
        "f",
    ):
        raise ValueError(
            f"The hyper-parameter {key!r} is of type {KNOWN[key]!r}, got {text!r} of type "
            f"{letter!r}."
        )
    if letter.islower() != KNOWN[key].islower():
        what = "a single value" if KNOWN[key].islower() else "a list"
        raise ValueError(f"The hyper-parameter {key!r} is {what}, got {text!r}.")
    try:
        return [convert(part) for part in rest.split("!")] if letter.isupper() else convert(rest)
    except ValueError:
        kind = {"f": "numbers", "i": "integers"}[letter.lower()]
        raise ValueError(
            f"The hyper-parameter {key!r} has the value {text!r}, but {letter!r} stands for {kind}."
        ) from None


def parse(text: str) -> dict[str, Any]:
    """Parses `key=TVALUE` joined by `;`.

    Args:
        text: the string; T is one of s, f, i (one value) and S, F, I (`!`-separated list).

    Returns:
        The values by name.

    Raises:
        ValueError: if it is malformed, a name is unknown or a value makes no sense, such as NaN;
            says which part.
    """
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(
                f"The hyper-parameters have the part {part!r}; expected key=TVALUE, such as "
                "batch_size=i128."
            )
        if key not in KNOWN:
            raise unknown("hyper-parameter", key, KNOWN)
        if key in values:
            raise ValueError(f"The hyper-parameter {key!r} is given twice.")
        values[key] = _value(key, value)
    _check(values)
    return values


def _check(values: Hyperparams) -> None:
    for name, value in values.items():
        _check_one(name, value)
    changes, targets = values.get("lr_changes", []), values.get("lr_targets", [])
    if len(changes) != len(targets):
        raise ValueError(
            f"`lr_changes` has {len(changes)} steps and `lr_targets` {len(targets)} rates; they "
            "must be as many."
        )
    for name in ("lr_changes", "lr_reductions"):
        if values.get(name, []) != sorted(values.get(name, [])):
            raise ValueError(f"`{name}` must be in ascending order, got {values[name]}.")


def _check_one(name: str, value: Any) -> None:
    """Refuses what makes no sense for any row that has a hyper-parameter of this name."""
    errors = []
    for one in HYPERPARAMETERS[name].values():
        try:
            one.check(value)
        except ValueError as error:
            errors.append(error)
        else:
            return
    raise errors[0]


def learning_rate(values: Hyperparams, progress: float) -> float:
    """The learning rate after `progress` steps (or seconds, with `time_based`).

    It starts at `lr`, becomes `lr_targets[i]` after `lr_changes[i]`, and is divided by ten after
    each of `lr_reductions`.

    Args:
        values: hyper-parameters.
        progress: steps taken, or seconds.

    Returns:
        float.
    """
    rate = values.get(RATE.name, RATE.default)
    for change, target in zip(
        values.get("lr_changes", []), values.get("lr_targets", []), strict=True
    ):
        if progress >= change:
            rate = target
    reductions = sum(progress >= step for step in values.get("lr_reductions", []))
    return rate * 10.0**-reductions
