"""Steps that were made and not yet observed, as a state holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model_wrappers import StepResult
from ..proposal import Kind, Proposal, StepRecord
from ..protocols import Dataset
from ..samplers.saved_rows import restored_rows, saved_rows

_ARRAYS = ("idxs", "weights", "scores", "metric_weights", "pool_scores")
_FLAGS = ("reads_scores", "decided_uniformly")


def saved_step(record: StepRecord, dataset: Dataset, wants_scores: bool) -> dict[str, Any]:
    """A step as numbers and arrays; waits for its scores.

    Args:
        record: the step.
        dataset: the data set that its rows are of.
        wants_scores: bool, whether its scores will be read.
    """
    proposal = record.proposal
    arrays = {name: getattr(proposal, name) for name in _ARRAYS}
    outcome = None
    if wants_scores:
        # Scores first: fetched together with the losses they may differ in the last digit.
        scores = np.array(record.outcome.scores)
        outcome = [np.array(record.outcome.weighted_losses), scores]
    return {
        **{name: None if array is None else np.array(array) for name, array in arrays.items()},
        **{name: bool(getattr(proposal, name)) for name in _FLAGS},
        "kind": proposal.kind.value,
        "number": proposal.number,
        "rows": saved_rows(dataset, proposal.rows),
        "outcome": outcome,
        "step": record.step,
        "seconds": record.seconds,
        "steps_in_call": record.steps_in_call,
        "timed": record.timed,
    }


def restored_step(state: dict[str, Any], dataset: Dataset) -> StepRecord:
    """The step of which `saved_step` was taken.

    Args:
        state: what `saved_step` returned.
        dataset: the data set, which is read for the rows.
    """
    arrays = {name: state[name] for name in _ARRAYS}
    proposal = Proposal(
        rows=restored_rows(dataset, state["idxs"], state["rows"]),
        kind=Kind(state["kind"]),
        number=int(state["number"]),
        **arrays,
        **{name: state[name] for name in _FLAGS},
    )
    losses, scores = state["outcome"] or (np.zeros(0), np.zeros(0))
    outcome = StepResult({}, lambda: (losses, scores))
    numbers = {name: state[name] for name in ("step", "seconds", "steps_in_call", "timed")}
    return StepRecord(proposal, outcome, **numbers)
