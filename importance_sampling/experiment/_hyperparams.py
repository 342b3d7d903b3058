"""Typed hyper-parameters in one string: `batch_size=i128;lr=f0.003;lr_reductions=I10000`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._names import unknown

Hyperparams = Mapping[str, Any]

_TYPES: dict[str, Callable[[str], Any]] = {"s": str, "f": float, "i": int}

KNOWN: dict[str, str] = {
    "batch_size": "i",
    "lr": "f",
    "lr_reductions": "I",
    "lr_changes": "I",
    "lr_targets": "F",
    "opt": "s",
    "momentum": "f",
    "nesterov": "i",
    "lr_decay": "f",
    "clipnorm": "f",
    "seed": "i",
    "k": "f",
    "presample": "i",
    "smooth": "f",
    "warmup": "i",
    "exp_th": "f",
    "tv_th": "f",
    "vr_th": "f",
    "lstm_log": "i",
    "lstm_comparison": "i",
    "alpha": "f",
    "steps_per_epoch": "i",
    "obs_recompute": "i",
    "obs_se0": "f",
    "obs_seend": "f",
    "obs_epochs": "i",
    "history_recompute": "i",
    "mix": "f",
    "radius": "f",
    "refresh": "f",
    "staleness": "i",
    "cache_prob": "f",
    "scsg_B": "i",
    "scsg_B_over_b": "i",
    "scsg_B_rate": "f",
    "kat_t1": "f",
    "kat_t2": "f",
    "time_based": "i",
    "forward_batch_size": "i",
    "N": "i",
    "data": "s",
    "ptb": "s",
    "imagenet": "s",
    "timit": "s",
    "mit67": "s",
    "casia": "s",
    "triplet_alpha": "f",
    "triplet_embedding": "i",
    "weights": "s",
}
"""Every hyper-parameter with the letter of its type; capitals are lists."""


def _value(key: str, text: str) -> Any:
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
        ValueError: if it is malformed or a name is unknown; says which part.
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
    changes, targets = values.get("lr_changes", []), values.get("lr_targets", [])
    if len(changes) != len(targets):
        raise ValueError(
            f"`lr_changes` has {len(changes)} steps and `lr_targets` {len(targets)} rates; they "
            "must be as many."
        )
    for name in ("lr_changes", "lr_reductions"):
        if values.get(name, []) != sorted(values.get(name, [])):
            raise ValueError(f"`{name}` must be in ascending order, got {values[name]}.")
    if values.get("batch_size", 1) < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {values['batch_size']}.")


def learning_rate(values: Hyperparams, progress: float) -> float:
    """The learning rate after `progress` steps (or seconds, with `time_based`).

    It starts at `lr` (0.001), becomes `lr_targets[i]` after `lr_changes[i]`, and is divided by ten
    after each of `lr_reductions`.
    """
    rate = values.get("lr", 1e-3)
    for change, target in zip(
        values.get("lr_changes", []), values.get("lr_targets", []), strict=True
    ):
        if progress >= change:
            rate = target
    reductions = sum(progress >= step for step in values.get("lr_reductions", []))
    return rate * 10.0**-reductions
