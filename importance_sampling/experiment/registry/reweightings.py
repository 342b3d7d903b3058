"""Reweighting policies: how much a drawn example counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .rows import Hyperparameter, Row, Table

K = Hyperparameter(
    "k", "f", "bias exponent: 1 is unbiased, below 1 favours the hard examples", 1.0, most=1
)


def _policy(name: str) -> Callable[..., Any]:
    def build(**arguments: Any) -> Any:
        from ... import reweighting

        return getattr(reweighting, name)(**arguments)

    return build


REWEIGHTINGS = Table(
    "reweighting",
    Row("unweighted", "every drawn example counts once", _policy("NoReweightingPolicy")),
    Row("predicted", "1/(N p), of the scores drawn by", _policy("BiasedReweightingPolicy"), (K,)),
    Row(
        "adjusted",
        "the same, of the scores that the training pass finds",
        _policy("AdjustedBiasedReweightingPolicy"),
        (K,),
    ),
    Row(
        "correcting",
        "as predicted, times predicted over actual score",
        _policy("CorrectingReweightingPolicy"),
        (K,),
    ),
)
"""The fourth argument of `run`; `build()`."""
