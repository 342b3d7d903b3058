"""The columns of the table: the trainings that each row is tried with.

Each is so set that it draws by score within the two short epochs of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from importance_sampling import (
    SVRG,
    ApproximateImportanceTraining,
    BiasedImportanceTraining,
    ConstantTimeImportanceTraining,
    ConstantVarianceImportanceTraining,
    HistoryImportanceTraining,
    ImportanceTraining,
    InfoBatchTraining,
    RobustImportanceTraining,
    SelectiveBackpropTraining,
)
from importance_sampling.proposal import StepRecord

MAIN = "importance"
# Steps after which a measurement has been decided by, on data of some hundred rows.
_MOST_STEPS = 300


class _ConstantTime(ConstantTimeImportanceTraining):
    """Begins where an estimate of the variance reduction is above its threshold of two.

    A small network that has not learnt yet scores all rows nearly alike. The estimate is a moving
    average, which keeps what it was told for some twenty steps.
    """

    def make_sampler(self, *args: Any) -> Any:
        sampler = super().make_sampler(*args)
        # One of a hundred examples has all of the gradient: a variance reduction of ten.
        idxs = np.arange(100)
        sampler.update(idxs, (idxs == 0).astype("float64"))
        return sampler


class _Auto(ImportanceTraining):
    """`presample="auto"` that has seen enough steps to choose, in a training that is long.

    It decides by measured times and scores of some dozens of steps. Here its sampler is told of
    such steps beforehand, by what the loop calls: all of them took equally long, and one example in
    eight is much harder than the others.
    """

    def make_sampler(self, dataset: Any, batch_size: int, *steps: Any) -> Any:
        sampler = super().make_sampler(dataset, batch_size, 10**6, 10**3)
        for step in range(1, _MOST_STEPS):
            proposal = sampler.propose(batch_size)
            outcome = SimpleNamespace(scores=np.where(proposal.idxs % 8 == 0, 12.0, 1.0))
            sampler.observe(StepRecord(proposal, outcome, step, seconds=1.0))
            if sampler.choices:
                break
        return sampler


TRAININGS: dict[str, Callable[..., Any]] = {
    MAIN: lambda model, **k: ImportanceTraining(model, tau_th=0.0, **k),
    "biased": lambda model, **k: BiasedImportanceTraining(model, presample=32, **k),
    # Any variance reduction pays where a backward pass takes so much longer than a forward one.
    "constant-variance": lambda model, **k: ConstantVarianceImportanceTraining(
        model, backward_time=1e6, extra_samples=0.0, **k
    ),
    "constant-time": _ConstantTime,
    "approximate": lambda model, **k: ApproximateImportanceTraining(model, presample=32, **k),
    "history": HistoryImportanceTraining,
    "robust": RobustImportanceTraining,
    "same-noise": lambda model, **k: HistoryImportanceTraining(
        model, constant="variance", min_batch_size=4, **k
    ),
    "auto": lambda model, **k: _Auto(model, presample="auto", **k),
    "reuse": lambda model, **k: ImportanceTraining(
        model, presample=2.5, tau_th=0.0, reuse=2, resampling="systematic", **k
    ),
    # So that the second epoch already leaves examples out.
    "infobatch": lambda model, **k: InfoBatchTraining(model, anneal=1.0, **k),
    "selective-backprop": SelectiveBackpropTraining,
    # With a snapshot in each of the short epochs.
    "svrg": lambda model, **k: SVRG(model, B=2.0, B_over_b=2, **k),
}
# Trainings that share all code but their sampler's with another column have rows only where
# samplers matter.
SECTIONS = {
    "approximate": ("arguments", "data", "shapes", "again"),
    "biased": ("arguments", "data", "shapes", "again"),
    "constant-time": ("arguments", "data", "shapes", "again"),
    "robust": ("data", "shapes"),
    "same-noise": ("arguments", "shapes", "compiling", "own", "again"),
    "auto": ("arguments", "data", "shapes", "again"),
    "reuse": ("data", "shapes", "again"),
    "infobatch": ("data", "shapes"),
    "selective-backprop": ("data", "shapes"),
}
# Those with a network of their own, which takes seconds to compile: test_approximate.py does so.
ON_TORCH = ("approximate",)
# Those that never draw by score, and correct the gradient by a snapshot instead.
BY_SNAPSHOT = ("svrg",)
# Those that draw by score from the second step on, whatever the scores are.
SURELY_ON = (MAIN, "biased", "approximate", "selective-backprop")
# Those whose first pass over the data is uniform.
FIRST_PASS = ("history", "robust", "same-noise", "infobatch")
# An epoch of these has fewer steps than one of uniform training, at least one.
FEWER_STEPS = ("infobatch", "selective-backprop")
# Steps by score of these are smaller than uniform ones.
SMALLER_STEPS = ("constant-variance", "constant-time", "same-noise", "auto")
# Predictions never reach zero, and mixtures draw everything now and then.
NEVER_ZERO = ("approximate", "history", "robust", "same-noise", "auto")
# What a training that keeps something for every example, or predicts by class, cannot take.
_NO_STREAM = {"stream": "a stream has no examples to come back to"}
REFUSED_KINDS = {
    "approximate": _NO_STREAM | {"targets": "This sampler (needs classes|predicts by class)"},
    "history": _NO_STREAM,
    "robust": _NO_STREAM,
    "same-noise": _NO_STREAM | {"sum": "reduction='sum'"},
    "infobatch": _NO_STREAM,
    "svrg": {"sum": "reduction='sum'", "held": "needs steps that take their rows from one device"},
}
CLASS_NAMES = {
    "approximate": "ApproximateImportanceTraining",
    "history": "HistoryImportanceTraining",
    "robust": "RobustImportanceTraining",
    "infobatch": "InfoBatchTraining",
    "svrg": "SVRG",
}
