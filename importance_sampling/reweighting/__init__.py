"""How much each drawn example counts: a numpy side for samplers, a Keras layer for the graph."""

from .._requirements import check_backend

# Before Keras, whose own error does not say what to install.
check_backend()

from ._layers import AdjustedBiasedReweighting, CorrectingReweighting, ExternalReweighting
from ._policies import (
    UNBIASED,
    UNWEIGHTED,
    AdjustedBiasedReweightingPolicy,
    BiasedReweightingPolicy,
    CorrectingReweightingPolicy,
    NoReweightingPolicy,
    ReweightingPolicy,
)

__all__ = [
    "UNBIASED",
    "UNWEIGHTED",
    "AdjustedBiasedReweighting",
    "AdjustedBiasedReweightingPolicy",
    "BiasedReweightingPolicy",
    "CorrectingReweighting",
    "CorrectingReweightingPolicy",
    "ExternalReweighting",
    "NoReweightingPolicy",
    "ReweightingPolicy",
]
