"""Draws from all examples by the scores that training passes gave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._files import AnyPath
from .._storage import MappedArrays
from .._weights import unbiased_weights
from ..proposal import Pool, Proposal, StepRecord, check_scores
from ..protocols import Dataset, ScoringModel
from ._history_store import DrawnBatches, Refresher, RunStart, batches_at_once
from ._model_scores import score_rows
from ._score_memory import ScoreMemory
from ._stored_base import StoredScoreSampler
from .ahead import batches_by_score, observe_one_by_one
from .batch_size import BatchSizer, Constant, batch_sizes, check_constant
from .drawing import Resampling, split_rows, uniforms_for
from .variance import MeasuredReduction, momentum_over

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy

# Batches that keep one size, where it is chosen for the noise: so many, or about this share of an
# epoch; a power of two, as calls of many steps are.
_RUN_OF_A_SIZE = 8
_RUNS_OF_AN_EPOCH = 14
# How often per epoch all examples' expected scores are worked out anew.
_REFITS = 4


class HistoryMixtureSampler(StoredScoreSampler):
    r"""Draws by the score to be expected of each example, mixed with a uniform draw.

    The first pass visits every example once. Then example i is drawn with probability

    $$p_i = (1 - \text{mix}) \frac{\hat s_i}{\sum_j \hat s_j} + \frac{\text{mix}}{N}, \qquad
      \hat s_i = \sqrt{E[s_i^2 \mid \text{score seen last, its age}]}$$

    which for known expectations is the draw of least variance. They are learnt from training
    itself: every example trained on again says what has become of a score of its size and age
    (`ScoreCells`). So a score is trusted as long as scores have been seen to last, an example
    whose score was next to nothing comes back as often as such examples turn out to matter, and
    no weight is above 1/mix. Weights are made of the probabilities really drawn with: with
    k = 1 the mean step is the full one however wrong the expectations are.

    No forward pass but training's own is made unless `refresh` asks for some. A step costs
    O(b log N), the store 9 bytes per example. A run of up to 32 batches, at most an eighth of
    an epoch, is drawn by the same probabilities, independently, which costs little more than
    drawing one; at constant variance 8, or in long epochs the power of two below a 14th of one.
    It is drawn by what was known when the run before it began, whose steps may be under way.

    With `constant="variance"` draws hold no more examples than it takes for the noise of a
    uniform batch (`BatchSizer`), by the ratio of second moments measured over the last epoch.

    Args:
        dataset: a `BaseDataset` with a length.
        reweighting: a `ReweightingPolicy`.
        mix: float in (0, 1), share of the draws that are uniform. Defaults to `0.3`.
        robust: float >= 0, radius of the ellipsoid around the expected squared scores within
            which the worst ones are drawn by instead (Johnson & Guestrin, NeurIPS 2018); 0
            trusts the expectations. Defaults to `0.0`.
        refresh: float >= 0, examples scored by forward passes for each example trained on; those
            that were not seen for longest come first. Defaults to `0.0`.
        model: anything with `score(x, y, batch_size)`; needed for `refresh` only.
        resampling: `"systematic"` or `"multinomial"`. Defaults to `"systematic"`.
        constant: keyword-only; what a draw by score keeps of a uniform one: its
            `"batch_size"` or its `"variance"`. Defaults to `"batch_size"`.
        min_batch_size: keyword-only; int, the floor of the batch size at constant variance.
            Defaults to an eighth of the batch size.
        memory_map: keyword-only; a folder, in whose files the store lies instead of in memory; the
            order of the first pass is then worked out, not stored. Defaults to None.
    """

    _state: tuple[str, ...] = (
        *StoredScoreSampler._state,
        "_memory",
        "_first_pass",
        "_reduction",
        "_refresher",
        "_sizer",
        "_drawn",
        "_run",
        "lags",
    )

    keeps_history = True

    lags = True
    """Whether a run of batches is drawn by what was known when the run before it began, whose steps
    may then still be under way; with `refresh`, never."""

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        mix: float = 0.3,
        robust: float = 0.0,
        refresh: float = 0.0,
        model: ScoringModel | None = None,
        resampling: Resampling = "systematic",
        *,
        constant: Constant = "batch_size",
        min_batch_size: int | None = None,
        memory_map: AnyPath | None = None,
        **kwargs: Any,
    ):
        if memory_map is not None:
            self.allocate = MappedArrays(memory_map)
        super().__init__(dataset, reweighting, resampling=resampling, **kwargs)
        self._indices.stored = memory_map is None
        if not 0 < mix < 1 or not robust >= 0 or not refresh >= 0:
            raise ValueError(
                "Expected 0 < mix < 1, robust >= 0 and refresh >= 0, got "
                f"mix={mix!r}, robust={robust!r}, refresh={refresh!r}."
            )
        if refresh and model is None:
            raise ValueError(f"`refresh`={refresh!r} needs a `model` to score examples with.")
        if refresh and memory_map is not None:
            raise ValueError(
                "`refresh` looks for the oldest of all scores in memory, which `memory_map` is to "
                "spare: give one of them."
            )
        self.mix = mix
        self.robust = robust
        self.refresh = refresh
        self.model = model
        self.constant = check_constant(constant)
        self.min_batch_size = min_batch_size
        self._memory = ScoreMemory(self._tree, robust, self.allocate)
        self._first_pass = self._tree.n
        self._drawn = DrawnBatches()
        self._run = RunStart()
        self._reduction = MeasuredReduction()
        # Whether nobody else measures it.
        self._measures = True
        self._refresher = Refresher()
        self._sizer = BatchSizer()
        # Of the step whose scores are learnt from; 0 where nobody says so.
        self._number = 0

    @property
    def _uniform_offset(self) -> float:
        """The uniform share as a number added to every score."""
        return self.mix / (1.0 - self.mix) * self._tree.total / self._tree.n

    def _all_scores(self) -> np.ndarray:
        return super()._all_scores() + self._uniform_offset

    def weights_of(self, idxs: np.ndarray) -> np.ndarray:
        """The weights 1/(N p) that examples would have if they were drawn now.

        Args:
            idxs: `(n,)` indices.
        """
        offset = self._uniform_offset
        return unbiased_weights(
            self._tree.get(idxs) + offset, self._tree.total + offset * self._tree.n, self._tree.n
        )

    # -- proposing --------------------------------------------------------------------------

    def candidates(self, batch_size: int) -> Pool:
        """All examples with their scores, for decorators; O(N).

        Args:
            batch_size: int, how many will be drawn.
        """
        self.refit_if_due(batch_size)
        if self._first_pass > 0:
            return self._next_of_first_pass(batch_size)
        self._memory.learn_pending()
        return super().candidates(batch_size)

    def _next_of_first_pass(self, batch_size: int) -> Pool:
        idxs, rows = self._rows.next_batch(batch_size)
        self._first_pass -= len(idxs)
        return Pool(idxs, None, rows)

    def propose(self, batch_size: int) -> Proposal:
        """Draws the next mini-batch; uniformly in the first pass.

        Args:
            batch_size: int, examples of a uniform step.
        """
        if self._first_pass > 0:
            self.refit_if_due(batch_size)
            self._begin_run_of_first_pass(batch_size, 1)
            proposal = self._draw(self._next_of_first_pass(batch_size), batch_size)
            return proposal.with_number(self.count_step())
        size = self._next_size(batch_size)
        self.refit_if_due(batch_size, size)
        return super().propose(size).with_number(self.count_step())

    def propose_by_score(
        self,
        batch_size: int,
        seconds: Callable[[], Mapping[int, float]],
    ) -> Proposal:
        """Draws a mini-batch by score, whether or not all examples were seen.

        Args:
            batch_size: int, the size of uniform batches.
            seconds: gives the measured times of a step by size; see `BatchSizer`.
        """
        size = self._next_size(batch_size, seconds)
        return super().propose(size).with_number(self.count_step())

    def propose_many_by_score(
        self,
        batch_size: int,
        count: int,
        seconds: Callable[[], Mapping[int, float]],
    ) -> list[Proposal]:
        """As `propose_by_score`, several batches; there may be `batches_ahead`.

        Args:
            batch_size: int, the size of uniform batches.
            count: int, how many batches.
            seconds: as for `propose_by_score`.
        """
        return self._propose_drawn(self._next_size(batch_size, seconds), count)

    def propose_many(self, batch_size: int, count: int) -> list[Proposal]:
        """Draws the next mini-batches; see `BaseSampler`.

        Args:
            batch_size: int, number of examples of a uniform step.
            count: int, how many batches.
        """
        if count == 1:
            return [self.propose(batch_size)]
        if self._first_pass > 0:
            self.refit_if_due(batch_size)
            self._begin_run_of_first_pass(batch_size, count)
            self._first_pass -= count * batch_size
            proposals = self._propose_many_uniformly(batch_size, count)
            return [proposal.with_number(self.count_step()) for proposal in proposals]
        size = self._next_size(batch_size)
        self.refit_if_due(batch_size, size)
        return self._propose_drawn(size, count)

    def _propose_drawn(self, size: int, count: int) -> list[Proposal]:
        """Batches that were drawn together, their data read together."""
        drawn = [self._draw_stored(size) for _ in range(count)]
        idxs = np.concatenate([batch[0] for batch in drawn])
        batches = split_rows(idxs, self.dataset.train_data[idxs], size)
        return [
            self._proposal_of(*batch, rows).with_number(self.count_step())
            for batch, (_, rows) in zip(drawn, batches, strict=True)
        ]

    def batches_ahead(self, batch_size: int) -> int:
        """Whole batches left of the first pass; then those drawn by the same probabilities.

        Args:
            batch_size: int, examples of a uniform step.
        """
        if self._first_pass > 0:
            left = min(self._first_pass // batch_size, self._rows.whole_batches(batch_size))
            return min(left, self._run.batches_left or self._at_once(batch_size))
        if self.refresh:
            # Some examples may have to be scored between any two steps.
            return 1
        # A size that is yet to be chosen is not larger, and has not fewer batches.
        return len(self._drawn) or self._at_once(batch_size)

    def settled_ahead(self, batch_size: int) -> int:
        """The same: a run is drawn by what was known when the one before it began.

        Args:
            batch_size: int, examples of a uniform step.
        """
        return self.batches_ahead(batch_size) if self._lags else 0

    @property
    def _lags(self) -> bool:
        """Whether the next run is drawn by what was known when the present one began.

        Not where that is a single batch, with which no other is under way, nor where a subclass
        draws in a way of its own, so that no run begins.
        """
        in_run = self._memory.step <= self._run.step + self._run.batches
        return self._lags_in_runs and in_run

    @property
    def _lags_in_runs(self) -> bool:
        return self.lags and not self.refresh and self._run.batches > 1

    def measure_by(self, reduction: MeasuredReduction) -> None:
        """Goes by what somebody else measures, on steps that were drawn in other ways as well.

        Args:
            reduction: is told of each step before this sampler is.
        """
        self._reduction = reduction
        self._measures = False

    @property
    def _settled_ratio(self) -> float:
        """The ratio of second moments by which the size of the next run is chosen."""
        return self._run.ratio if self._lags else self._reduction.ratio

    def _begin_run(self, batches: int) -> None:
        """Learns what the next batches are to be drawn by.

        Args:
            batches: int, how many.
        """
        self._memory.learn_pending(self._run.step if self._lags else None)
        self._run.begin(self._memory.step, batches, self._reduction.ratio)

    def _begin_run_of_first_pass(self, batch_size: int, count: int) -> None:
        if self._run.batches_left <= 0:
            self._run.batches_left = self._at_once(batch_size)
            self._begin_run(self._run.batches_left)
        self._run.batches_left -= count

    def _next_size(
        self,
        batch_size: int,
        seconds: Callable[[], Mapping[int, float]] | None = None,
    ) -> int:
        sizes = self.batch_sizes(batch_size)
        # Batches that were drawn ahead keep their size.
        if self._drawn.size in sizes:
            return self._drawn.size
        return self._sizer.choose(
            sizes,
            self._settled_ratio,
            self._at_once,
            seconds and seconds(),
        )

    def batch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """The sizes of its batches, largest first; several at constant variance.

        Args:
            batch_size: int, examples of a uniform step.
        """
        batch_size = min(batch_size, self._tree.n)
        if self.constant == "batch_size":
            return (batch_size,)
        return batch_sizes(batch_size, self.min_batch_size)

    def _at_once(self, size: int) -> int:
        """How many batches of a size are drawn and learnt from at once.

        Fewer at constant variance, unless an epoch has very many: what batches were spared is
        measured on those before, and a size that turns out too small should not be kept for long.
        """
        batches = batches_at_once(self._tree.n, size)
        if self.constant == "batch_size":
            return batches
        run = max(_RUN_OF_A_SIZE, self._memory.steps_per_epoch // _RUNS_OF_AN_EPOCH)
        return min(batches, 1 << run.bit_length() - 1)

    def _draw_stored(self, size: int) -> tuple[np.ndarray, np.ndarray, float]:
        if self._drawn.size == size:
            return self._drawn.next()
        batches = self._at_once(size)
        self._begin_run(batches)
        uniforms = uniforms_for(self.resampling, size, self.rng, batches)
        offset = self._uniform_offset
        idxs = self._tree.draw(uniforms.reshape(-1), offset).reshape(batches, size)
        total = self._tree.total + offset * self._tree.n
        self._drawn.fill(idxs, self._tree.get(idxs) + offset, total)
        return self._drawn.next()

    def _read_drawn(self, idxs: np.ndarray) -> tuple[Any, ...]:
        return self._drawn.rows_of(idxs, self.dataset)

    def begin_epoch(self, epoch: int) -> None:
        """Reads what was drawn anew: callbacks may have changed the data.

        Args:
            epoch: int, counted from 0.
        """
        super().begin_epoch(epoch)
        self._drawn.forget_rows()

    def end_first_pass(self) -> None:
        """Draws by score from now on; called by who has seen to it that all examples were seen."""
        self._first_pass = 0

    def forget_drawn(self) -> None:
        """Drops batches that were drawn ahead, by scores that may have grown old."""
        self._drawn.forget()

    def count_step(self) -> int:
        """Counts a step that is drawn, so that all scores grow older, and returns its number."""
        self._memory.step += 1
        return self._memory.step

    # -- learning ---------------------------------------------------------------------------

    def _set_averaging_window(self, steps: int) -> None:
        """Begins to learn, with so many steps per epoch."""
        self._memory.begin(steps)
        if self._measures:
            self._reduction.set_momentum(momentum_over(steps))

    def _after_loading(self) -> None:
        if self._measures and self._memory.steps_per_epoch:
            self._reduction.set_momentum(momentum_over(self._memory.steps_per_epoch))

    def refit_if_due(self, batch_size: int, drawn: int | None = None) -> None:
        """Works out anew what to expect of all examples, if it is time; O(N).

        Args:
            batch_size: int, examples of a uniform step.
            drawn: int, examples that will be drawn, to which `refresh` refers. Defaults to
                `batch_size`.
        """
        if not self._memory.steps_per_epoch:
            self._set_averaging_window(-(-self._tree.n // batch_size))
        if self._first_pass <= 0 and self.refit_is_due and not len(self._drawn):
            self._memory.learn_pending(self._run.step if self._lags else None)
            self._memory.refit(self._refit_interval(batch_size))
        if self.model is not None and self.refresh and self._first_pass <= 0:
            # Who was seen last, and when; and what is pending must not replace what is newer.
            self._memory.learn_pending()
            self._refresher.earn(self.refresh * (batch_size if drawn is None else drawn))
            for idxs in self._refresher.due(self._memory.seen, batch_size, self._tree.n):
                rows = self.dataset.train_data[idxs]
                scores = check_scores(score_rows(self.model, rows, batch_size), idxs)
                steps = np.full(len(idxs), self._memory.step, np.int32)
                self._memory.learn(1, idxs, scores, steps)

    @property
    def refit_is_due(self) -> bool:
        """Whether it is time to work out anew what to expect of all examples."""
        return self._memory.step >= self._memory.next_refit

    def steps_to_refit(self, batch_size: int) -> int:
        """How many steps there are until all expectations are worked out anew; at least one.

        Where that is due now, it is done before the first of these steps.

        Args:
            batch_size: int, examples of a uniform step.
        """
        left = self._memory.next_refit - self._memory.step
        return left if left > 0 else self._refit_interval(batch_size)

    def _refit_interval(self, batch_size: int) -> int:
        return max(1, self._tree.n // (_REFITS * batch_size))

    def observe(self, step: StepRecord) -> None:
        """Keeps the scores, and learns what became of the ones seen before.

        Args:
            step: the step made.
        """
        proposal = step.proposal
        if proposal.by_score:
            self._reduction.add(proposal.importance_weights, step.scores)
        self.learn_of(proposal, step.scores)

    def observe_many(
        self, steps: Sequence[StepRecord], before: Callable[[StepRecord], None]
    ) -> None:
        """As `observe` of each step, in order; what is measured on them is worked out at once.

        Args:
            steps: the steps made, whose scores are known to be valid.
            before: called with each step before it is learnt from.
        """
        table = batches_by_score(steps)
        if table is None:
            observe_one_by_one(self, steps, before)
            return
        moments = self._reduction.moments(*table)
        for step, uniform, weighted in zip(steps, *map(np.ndarray.tolist, moments), strict=True):
            before(step)
            self._reduction.add_moments(uniform, weighted)
            self.learn_of(step.proposal, step.scores)

    def learn_of(self, proposal: Proposal, scores: np.ndarray) -> None:
        """Learns from the scores of a step, however it was drawn.

        Args:
            proposal: what was trained on.
            scores: `(b,)` scores of the training pass.
        """
        self._number = proposal.number
        self.learn_scores(proposal.idxs, scores)

    def learn_scores(self, idxs: np.ndarray, scores: np.ndarray) -> None:
        """Keeps the scores of one step's examples, and learns from them when it is time.

        Where runs lag, when the run after the next is drawn; otherwise from as many batches at once
        as a run has.

        Args:
            idxs: `(b,)` indices.
            scores: `(b,)` scores of the training pass.
        """
        number, self._number = self._number, 0
        if number <= self._run.observed:
            # Told by hand, or of steps that another sampler counts: nothing else is under way.
            self.lags, number = False, 0
        number = number or max(self._memory.step, self._run.observed + 1)
        if not self._memory.steps_per_epoch:
            self._set_averaging_window(-(-self._tree.n // len(idxs)))
        self._memory.keep(idxs, scores, number)
        self._run.observe(number, self._reduction.ratio)
        in_run = number <= self._run.step + self._run.batches
        if not (self._lags_in_runs and in_run) and len(self._memory.pending) >= self._at_once(
            len(scores)
        ):
            self._memory.learn_pending()

    @property
    def variance_reduction(self) -> float:
        """Measured on the examples drawn; 1.0 while draws are uniform."""
        return self._reduction.value

    @property
    def why_uniform(self) -> str | None:
        """Which part of the first pass is left, before it has ended."""
        if self._first_pass <= 0:
            return None
        return (
            f"the first pass over the {self._tree.n} examples, which shows each of them once, has "
            f"{self._first_pass} left"
        )
