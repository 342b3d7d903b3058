"""What a run of training did and what it gained by drawing as it drew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import dataset_length
from .._files import write_whole
from ..proposal import Kind, Proposal
from ..samplers import BaseSampler
from ..samplers.step_times import StepTimes
from ._course import Course
from ._report_text import describe

# Batches whose draws are counted together.
_COUNTED_AT_ONCE = 64


class TrainingReport:
    """What a run of training did: returned by `training.report()`.

    Args:
        n: number of examples of the data set; None for a stream.
        batch_size: int, the size that was asked for.

    Attributes:
        steps: dict of how batches were drawn (`"uniform"`, `"pool"`, `"history"`) to steps.
        seconds: the same, to seconds of these steps; callbacks and validation are left out.
        drawing_seconds: float, the part of `seconds` spent drawing: fetching a pool, scoring it
            and choosing from it.
        variance_reduction: float, mean estimate over the steps drawn by score; 1.0 without any.
        examples: int, examples trained on, each time they were.
        relative_noise: float, mean of the gradient's estimated variance in units of that of a
            uniform batch of the size asked for, over the steps drawn by score; 1.0 without any.
        effective_sample_size: float in (0, 1], mean of (sum w)^2 / (b sum w^2) over the steps
            drawn by score: the share of the batch that as many equal weights would be.
        choices: list of dicts, the decisions of `presample="auto"`, first to last.
    """

    def __init__(self, n: int | None, batch_size: int):
        self.batch_size = batch_size
        self.steps: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.drawing_seconds = 0.0
        self._draws = None if n is None else np.zeros(n, np.int32)
        self._uncounted: list[np.ndarray] = []
        self.choices: list[dict[str, Any]] = []
        self.examples = 0
        # Steps and times of each kind and size of batch.
        self._counts: dict[tuple[str, int], int] = {}
        self._times = StepTimes[tuple[str, int]]()
        self._noise = 0.0
        self._gains = 0.0
        self._reductions = 0.0
        self._sizes = 0.0
        self._course = Course(
            ("variance_reduction", "effective_sample_size", "by_score", "batch_size")
        )

    @classmethod
    def of(cls, sampler: BaseSampler, batch_size: int) -> TrainingReport:
        """An empty report for what a sampler will draw.

        Args:
            sampler: the sampler.
            batch_size: int, the size of batches that was asked for.

        Returns:
            A `TrainingReport`.
        """
        report = cls(dataset_length(sampler.dataset), batch_size)
        report.choices = getattr(sampler, "choices", report.choices)
        return report

    def add(self, proposal: Proposal, seconds: float, drawing: float, reduction: float) -> None:
        """Counts a step in.

        Args:
            proposal: what was drawn.
            seconds: how long the step took in all.
            drawing: how long the draw took.
            reduction: the present estimate of the variance reduction.
        """
        kind = proposal.kind.value
        self.steps[kind] = self.steps.get(kind, 0) + 1
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
        self.drawing_seconds += drawing
        size = len(proposal.idxs)
        self.examples += size
        self._counts[kind, size] = self._counts.get((kind, size), 0) + 1
        self._times.add((kind, size), seconds)
        effective = 1.0
        if proposal.by_score:
            w = proposal.importance_weights
            effective = float(w.sum() ** 2 / (len(w) * (w**2).sum()))
            self._reductions += reduction
            self._noise += self.batch_size / (size * reduction**2)
            self._gains += reduction * (size / self.batch_size) ** 0.5
            self._sizes += effective
        if self._draws is not None:
            self._uncounted.append(proposal.idxs)
            if len(self._uncounted) == _COUNTED_AT_ONCE:
                self._count()
        self._course.add(reduction, effective, float(proposal.by_score), size)

    def _count(self) -> None:
        if self._draws is not None and self._uncounted:
            idxs = np.concatenate(self._uncounted)
            if 8 * len(idxs) > len(self._draws):
                self._draws += np.bincount(idxs, minlength=len(self._draws)).astype(np.int32)
            else:
                np.add.at(self._draws, idxs, 1)
            self._uncounted = []

    @property
    def draws(self) -> np.ndarray | None:
        """How often each example was drawn, `(N,)`; None for a stream."""
        self._count()
        return self._draws

    @property
    def steps_on(self) -> int:
        """Steps whose batch was drawn by score."""
        return sum(self.steps.values()) - self.steps_off

    @property
    def steps_off(self) -> int:
        """Steps whose batch was drawn uniformly."""
        return self.steps.get(Kind.UNIFORM.value, 0)

    @property
    def variance_reduction(self) -> float:
        """Mean estimate of the variance reduction over the steps by score; 1.0 without any."""
        return self._reductions / self.steps_on if self.steps_on else 1.0

    @property
    def effective_sample_size(self) -> float:
        """Mean share of the batch that as many equal weights would be, over the steps by score."""
        return self._sizes / self.steps_on if self.steps_on else 1.0

    @property
    def relative_noise(self) -> float:
        """Mean variance of the gradient over the steps by score; 1.0 is a whole uniform batch."""
        return self._noise / self.steps_on if self.steps_on else 1.0

    @property
    def relative_time(self) -> float | None:
        """Time of all steps in units of as many uniform ones of whole batches; None if not known.

        Times are medians of the last steps of each kind and size, so that neither compiling nor a
        hiccup counts.
        """
        if not self.steps_on:
            return 1.0
        uniform = (Kind.UNIFORM.value, self.batch_size)
        # A few steps of a size that hardly occurs count as the others.
        known = {k: n for k, n in self._counts.items() if self._times.known(k, 1)}
        if uniform not in known or sum(known.values()) < 0.9 * sum(self._counts.values()):
            return None
        seconds = sum(n * self._times.median(key) for key, n in known.items())
        return seconds / (sum(known.values()) * self._times.median(uniform))

    @property
    def gain(self) -> float | None:
        r"""Variance reduction per second, in units of uniform training's; None if not known.

        A step by score counts for $\tau$ uniform ones, the measure that `tau_th` compares with
        the cost, a smaller batch of b' for $\tau \sqrt{b'/b}$. It is an estimate of what was
        gained in gradient noise per second, not of what is gained in accuracy.
        """
        time = self.relative_time
        total = self.steps_on + self.steps_off
        return None if time is None else (self.steps_off + self._gains) / max(total * time, 1e-12)

    def most_drawn(self, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The examples drawn most often.

        Args:
            count: int, how many.

        Returns:
            Indices and draws, `(count,)` each.
        """
        order, draws = self._order()
        idxs = order[::-1][:count]
        return idxs, draws[idxs]

    def least_drawn(self, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The examples drawn least often.

        Args:
            count: int, how many.

        Returns:
            Indices and draws, `(count,)` each.
        """
        order, draws = self._order()
        idxs = order[:count]
        return idxs, draws[idxs]

    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """The examples, those drawn least often first, and how often each was drawn."""
        draws = self.draws
        if draws is None:
            raise ValueError("The examples of a stream have no indices to count draws for.")
        return np.argsort(draws, kind="stable"), draws

    def course(self) -> dict[str, list[float]]:
        """How variance reduction, effective sample size and the share of steps by score went.

        Returns:
            dict of lists of equal length, with `"step"` for the last step of each point.
        """
        return self._course.columns()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the draws of each example, as plain numbers."""
        found = {
            "steps": dict(self.steps),
            "steps_on": self.steps_on,
            "steps_off": self.steps_off,
            "seconds": dict(self.seconds),
            "drawing_seconds": self.drawing_seconds,
            "variance_reduction": self.variance_reduction,
            "effective_sample_size": self.effective_sample_size,
            "batch_size": self.batch_size,
            "examples": self.examples,
            "relative_noise": self.relative_noise,
            "relative_time": self.relative_time,
            "gain": self.gain,
            "choices": list(self.choices),
            "course": self.course(),
        }
        if self.draws is not None:
            for name, (idxs, draws) in (
                ("most_drawn", self.most_drawn()),
                ("least_drawn", self.least_drawn()),
            ):
                found[name] = {"indices": idxs.tolist(), "draws": draws.tolist()}
        # Through JSON and back: whatever numpy scalars samplers report become plain numbers.
        return json.loads(json.dumps(found, default=float))

    def __str__(self) -> str:
        return describe(self.to_dict())

    def plot(self, path: str | os.PathLike, x: ArrayLike | None = None) -> Path:
        """Draws the report as a picture.

        Args:
            path: the file to write; its ending (png, svg, pdf) says the kind.
            x: the training inputs; where they are images, those drawn most and least often are
                shown.

        Returns:
            The path.
        """
        # Here, because a training that is not drawn needs no matplotlib.
        from ..plots import training_report

        return write_whole(Path(path), lambda target: training_report(self, x).savefig(target))
