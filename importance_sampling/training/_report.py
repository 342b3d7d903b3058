"""What a run of training did and what it gained by drawing as it drew."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .._arrays import dataset_length
from .._files import Allocate, write_whole
from ..data.arrays import ArraysOnDevice
from ..proposal import Kind, Proposal
from ..samplers import BaseSampler
from ._course import Course
from ._draw_counts import DrawCounts
from ._report_text import FIELDS, as_html, as_text
from ._step_costs import StepCosts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _effective_shares(weights: np.ndarray) -> Any:
    """Effective sample sizes over the last axis, as a share of the batch."""
    total, squares = np.add.reduce(weights, axis=-1), np.add.reduce(weights**2, axis=-1)
    return total**2 / (weights.shape[-1] * squares)


def _kind_and_size(proposal: Proposal) -> tuple[Any, ...]:
    return proposal.kind, proposal.by_score, len(proposal.idxs), proposal.reads_scores


class TrainingReport:
    """What a run of training did: returned by `training.report()`, and shown by printing it.

    Args:
        n: number of examples of the data set; None for a stream.
        batch_size: int, the size that was asked for.

    Attributes:
        steps: dict of how batches were drawn (`"uniform"`, `"pool"`, `"history"`) to steps.
        seconds: the same, to seconds of these steps, compiling included; callbacks and validation
            are left out.
        drawing_seconds: float, the part of `seconds` spent drawing: fetching a pool, scoring it
            and choosing from it.
        possible_variance_reduction: float, the last estimate of what draws by score have or, while
            they are uniform, would have.
        threshold: float, the variance reduction above which draws are by score; None if nothing
            goes by it.
        why_uniform: str, why the last draws were uniform; None if they were not, or if nobody
            knows.
        examples: int, examples trained on, each time they were.
        choices: list of dicts, the decisions of `presample="auto"`, first to last.
        estimated: bool, whether there was an estimate of the variance reduction of draws by score;
            without one that is told as 1.0.
        rows_read: str, where steps read their rows: on the `"host"`, or on the `"device"`, where
            `device_data` keeps the training set.
    """

    def __init__(self, n: int | None, batch_size: int, allocate: Allocate = np.zeros):
        self.batch_size = batch_size
        self.steps: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.drawing_seconds = 0.0
        self.possible_variance_reduction = 1.0
        self.threshold: float | None = None
        self.why_uniform: str | None = None
        self.examples = 0
        self.choices: list[dict[str, Any]] = []
        self.rows_read: Literal["host", "device"] = "host"
        self.estimated = False
        self._draws = None if n is None else DrawCounts(n, allocate)
        self._costs = StepCosts(batch_size)
        self._noise = 0.0
        self._gains = 0.0
        self._reductions = 0.0
        self._sizes = 0.0
        self._course = Course(
            (
                "variance_reduction",
                "possible_variance_reduction",
                "effective_sample_size",
                "by_score",
                "batch_size",
            )
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
        report = cls(dataset_length(sampler.dataset), batch_size, sampler.allocate)
        report.choices = getattr(sampler, "choices", report.choices)
        if isinstance(sampler.dataset, ArraysOnDevice):
            report.rows_read = "device"
        return report

    def add(self, proposal: Proposal, seconds: float, drawing: float, reduction: float) -> None:
        """Counts a step in.

        Args:
            proposal: what was drawn.
            seconds: how long the step took in all.
            drawing: how long the draw took.
            reduction: the present estimate of the variance reduction of draws by score.
        """
        self.add_call([proposal], seconds, drawing, reduction)

    def add_call(
        self,
        proposals: Sequence[Proposal],
        seconds: float,
        drawing: float,
        reduction: float,
        timed: bool = True,
    ) -> None:
        """Counts the steps of one call of the device in.

        Args:
            proposals: what was drawn, step by step.
            seconds: how long each step took in all.
            drawing: how long each draw took.
            reduction: as for `add`.
            timed: whether `seconds` has what the device did; it is compared with others then.
        """
        for _, alike in itertools.groupby(proposals, _kind_and_size):
            self._add_alike(list(alike), seconds, drawing, reduction, timed)

    def _add_alike(
        self,
        proposals: Sequence[Proposal],
        seconds: float,
        drawing: float,
        reduction: float,
        timed: bool,
    ) -> None:
        first, count = proposals[0], len(proposals)
        kind, size = first.kind.value, len(first.idxs)
        self.steps[kind] = self.steps.get(kind, 0) + count
        self.seconds[kind] = self.seconds.get(kind, 0.0) + count * seconds
        self.drawing_seconds += count * drawing
        self.possible_variance_reduction = reduction
        # 1.0 to the last digit stands for no estimate.
        self.estimated = self.estimated or reduction != 1.0
        self.examples += count * size
        self._costs.add(first, seconds if timed else None, count)
        used, effective = 1.0, [1.0] * count
        if first.by_score:
            weights = np.stack([proposal.importance_weights for proposal in proposals])
            effective = _effective_shares(weights).tolist()
            used = reduction
            self._reductions += count * reduction
            self._noise += count * self.batch_size / (size * reduction**2)
            self._gains += count * reduction * (size / self.batch_size) ** 0.5
            self._sizes += sum(effective)
        for proposal, share in zip(proposals, effective, strict=True):
            if self._draws is not None:
                self._draws.add(proposal.idxs)
            self._course.add(used, reduction, share, float(first.by_score), size)

    @contextlib.contextmanager
    def ending_with(self, sampler: BaseSampler) -> Iterator[None]:
        """Asks the sampler in the end why it draws uniformly, if it does; after an error, too.

        Args:
            sampler: what draws the batches.
        """
        try:
            yield
        finally:
            self.why_uniform = sampler.why_uniform
            self.threshold = sampler.reduction_threshold

    @property
    def draws(self) -> np.ndarray | None:
        """How often each example was drawn, `(N,)`; None for a stream."""
        return None if self._draws is None else self._draws.counts

    @property
    def step_seconds(self) -> dict[str, float | None]:
        """Median time of the last steps of each kind, without compiling; None if not known."""
        return {kind: self._costs.seconds(Kind(kind)) for kind in self.steps}

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
        r"""Mean estimate over the steps drawn by score; 1.0 without any.

        The root of the ratio of second moments, uniform over drawn: a batch is as noisy as a
        uniform one of $\tau^2$ times the size.
        """
        return self._reductions / self.steps_on if self.steps_on else 1.0

    @property
    def effective_sample_size(self) -> float:
        """Mean of (sum w)^2 / (b sum w^2) over the steps by score: as many equal weights would be.

        A share of the batch, in (0, 1]. Above one half is good; where it is below a tenth, a few
        large weights make the gradient, which smoothing or a larger uniform share keeps from them.
        """
        return self._sizes / self.steps_on if self.steps_on else 1.0

    @property
    def relative_noise(self) -> float:
        """Mean variance of the gradient over the steps by score; 1.0 is a whole uniform batch."""
        return self._noise / self.steps_on if self.steps_on else 1.0

    @property
    def relative_time(self) -> float | None:
        """Time of all steps in units of as many uniform ones; None if it was not measured.

        Steps by score are compared with uniform ones made at most 64 calls of the device before, by
        medians, without those that compile: `presample="auto"` and `tau_th="measured"` make both
        in turns, other trainings when they switch. What no uniform steps stand beside is compared
        with what was, if that is near.
        """
        return self._costs.relative_time

    @property
    def gain(self) -> float | None:
        r"""Mean variance reduction of all steps over `relative_time`; None where one is not known.

        Above 1, drawing by score was worth its time. A step by score counts for $\tau$ uniform
        ones, the measure that `tau_th` compares with the cost, a smaller batch of b' for
        $\tau \sqrt{b'/b}$, a uniform step for 1. It is an estimate of what was gained in gradient
        noise per second, not of what is gained in accuracy.
        """
        time, total = self.relative_time, self.steps_on + self.steps_off
        if time is None or (self.steps_on and not self.estimated):
            return None
        return (self.steps_off + self._gains) / max(total * time, 1e-12)

    def most_drawn(self, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The examples drawn most often; of those drawn as often as each other some at random.

        Args:
            count: int, how many.

        Returns:
            Indices and draws, `(count,)` each; the same each time it is called.

        Raises:
            ValueError: for a stream.
        """
        return self._known_draws.most(count)

    def least_drawn(self, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The examples drawn least often; of those drawn as often as each other some at random.

        Args:
            count: int, how many.

        Returns:
            Indices and draws, `(count,)` each; the same each time it is called.

        Raises:
            ValueError: for a stream.
        """
        return self._known_draws.least(count)

    @property
    def _known_draws(self) -> DrawCounts:
        if self._draws is None:
            raise ValueError("The examples of a stream have no indices to count draws for.")
        return self._draws

    def course(self) -> dict[str, list[float]]:
        """How variance reduction, effective sample size and the share of steps by score went.

        `"variance_reduction"` is that of the draws that were made, `"possible_variance_reduction"`
        what draws by score would have had, made or not.

        Returns:
            dict of lists of equal length, with `"step"` for the last step of each point.
        """
        return self._course.columns()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the draws of each example, as plain numbers that JSON can hold."""
        found = {name: getattr(self, name) for name in FIELDS}
        found["course"] = self.course()
        if self._draws is not None:
            for name, (idxs, draws) in (
                ("most_drawn", self.most_drawn()),
                ("least_drawn", self.least_drawn()),
            ):
                found[name] = {
                    "indices": idxs.tolist(),
                    "draws": draws.tolist(),
                    # How many examples were drawn as often as each of them, itself included.
                    "tied": self._draws.as_often(draws).tolist(),
                }
        # Through JSON and back: whatever numpy scalars samplers report become plain numbers.
        return json.loads(json.dumps(found, default=float))

    def __repr__(self) -> str:
        return as_text(self.to_dict())

    def _repr_html_(self) -> str:
        return as_html(self.to_dict())

    def figure(self, x: ArrayLike | None = None) -> Figure:
        """Draws the report; a notebook shows what this returns.

        Args:
            x: the training inputs; where they are images, those drawn most and least often are
                shown.

        Returns:
            A matplotlib figure.

        Raises:
            ImportError: without matplotlib, which the extra `plots` brings.
        """
        # Here, because a training that is not drawn needs no matplotlib.
        from ..plots import training_report

        return training_report(self, x)

    def plot(self, path: str | os.PathLike, x: ArrayLike | None = None) -> Path:
        """Draws the report as a picture in a file.

        Args:
            path: the file to write; its ending (png, svg, pdf) says the kind.
            x: as for `figure`.

        Returns:
            The path.
        """
        return write_whole(Path(path), self.figure(x).savefig)
