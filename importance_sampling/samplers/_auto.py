"""Chooses, while training, the way to draw that is measured to be worth most."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import dataset_length
from ..proposal import Kind, Proposal, StepRecord
from ..protocols import Dataset, ScoringModel
from ._pool import ModelSampler
from ._reuse import PoolReuseSampler
from ._strategies import POOLS, UNIFORM, Strategy, StrategyEstimates
from .ahead import batches_by_score, observe_one_by_one
from .base import BaseSampler
from .batch_size import Constant
from .drawing import Resampling
from .history import HistoryMixtureSampler
from .step_times import ENOUGH

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy

# What another way to draw must promise to be changed to: measured times and variances scatter.
_MARGIN = 1.05
# The same for pools, whose variance reduction is worked out, not measured.
_POOL_MARGIN = 1.25
# Batches to measure the history on before it is judged.
_EVIDENCE = 16
# The share of the time of training that may go into trying a pool.
_TRIAL_SHARE = 0.01
# Steps between decisions, at least and at most; an epoch within that. Uniform steps to compare
# with are 2 % of the least.
_INTERVAL = (300, 2000)
# Steps by the history before it is judged for the first time: nobody knew what they cost.
_FIRST_LOOK = 64
# Above this rate the history is so far ahead that it is compared with uniform steps, which then
# take several times as long, every so many decisions only.
_CLEAR = 1.5
_SELDOM = 8
# Sizes of smaller batches that take turns at first, each of which may have to be compiled for.
_SIZES_TO_TRY = 2
# While draws are uniform, the scores of one batch in so many are read.
_LOOK = 8
# Uniform steps before a decision, which are made alone, and of which no scores are read. Four more
# than it takes: those after others are left out, the last may come late.
_TIMED = ENOUGH + 4


class Phase(enum.Enum):
    """Where the sampler is on its way to a decision."""

    WARMUP = "warmup"
    """Uniform draws until there is something to decide by."""
    TRIAL = "trial"
    """Some draws of another kind than the one chosen, to measure; a decision follows."""
    CHOSEN = "chosen"
    """Draws as decided last."""


class AutoSampler(BaseSampler):
    r"""Draws uniformly, by the history of scores or from scored pools, whatever pays most.

    Each way to draw is worth its variance reduction $\tau$ per second of a step; the largest is
    used, once it is 5 % ahead. All quantities are measured:

    * uniform draws have $\tau = 1$;
    * for the history (`HistoryMixtureSampler`) $\tau$ is that of its probabilities on the
      scores that training passes then give: of uniform batches too, before it is ever used;
    * a pool of B examples for m batches of b has $\tau^{-2} = \tau_*^{-2} + mb/B$, with $\tau_*$
      that of exact scores for all examples. The second term is the variance of the pool itself,
      which its m batches share. Worked out and not measured, it must be 25 % better;
    * times are medians over steps of each kind, taken side by side: before each decision, once
      an epoch or less, a few uniform steps are made. Once there was something to decide by, the
      scores of one uniform batch in 8 are read, which training without them does not pay for. A
      pool is tried only when even the time to compile and run the trial is below 1 % of the
      training, and only if it could win.

    With `constant="variance"` the history trains on the fewest examples whose
    gradient has no more noise than that of a uniform batch (`BatchSizer`), of those sizes whose
    step is not slower than another's. Its variance reduction is then the one that is left,
    $\tau \sqrt{b'/b}$, its time that of the smaller step. Pools are not asked.

    The first pass over the data is uniform. For a stream there is no history to keep.

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
        model: anything with `score(x, y, batch_size)`.
        steps: int, the steps of the whole training; None if that is not known.
        forward_batch_size: int, most examples to score in one call. Defaults to three batches.
        mix: float in (0, 1), as for `HistoryMixtureSampler`. Defaults to `0.3`.
        resampling: `"multinomial"` or `"systematic"`, for draws from a pool.
        constant: keyword-only; `"batch_size"` or `"variance"`, what the history keeps of uniform
            batches. Defaults to `"batch_size"`.
        min_batch_size: keyword-only; int, the smallest batch at constant variance. Defaults to
            an eighth of the batch size.
    """

    _state: tuple[str, ...] = (
        *BaseSampler._state,
        "_history",
        "_pool",
        "_estimates",
        "_step",
        "_seen",
        "_scored",
        "_unread",
        "_phase",
        "_next_decision",
        "_trial",
        "_decisions_to_skip",
        "_tried_pool",
        "_strategy",
        "choices",
        "_told_from",
    )

    overlaps = True
    keeps_history = True
    uses_step_times = True

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        model: ScoringModel,
        steps: int | None = None,
        forward_batch_size: int | None = None,
        mix: float = 0.3,
        resampling: Resampling = "multinomial",
        *,
        constant: Constant = "batch_size",
        min_batch_size: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, resampling=resampling, **kwargs)
        self.model = model
        self.steps = steps
        self.forward_batch_size = forward_batch_size
        n = dataset_length(dataset)
        self._history: HistoryMixtureSampler | None = None
        if n is not None:
            self._history = HistoryMixtureSampler(
                dataset, reweighting, mix=mix, constant=constant, min_batch_size=min_batch_size
            )
            self._history._share_index_stream(self)
        self._pools = ModelSampler(
            dataset, reweighting, model, large_batch=1, resampling=resampling
        )
        self._pools._share_index_stream(self)
        self._pool = PoolReuseSampler(self._pools, 1)
        self._estimates = StrategyEstimates()
        if self._history is not None:
            self._history.measure_by(self._estimates.stored)
        self._step = self._seen = self._scored = 0
        # Steps without scores since the last one that had some.
        self._unread = 0
        self._phase = Phase.WARMUP
        # The step to decide at; None before the first draw.
        self._next_decision: int | None = None
        # Draws left of a trial, the last of the list first.
        self._trial: list[Strategy] = []
        # Decisions to skip before the history is compared with uniform steps again.
        self._decisions_to_skip = 0
        # No pools beside a history that is asked for time.
        self._tried_pool = self._history is not None and constant == "variance"
        self._strategy = UNIFORM
        self.choices: list[dict[str, Any]] = []
        # Variance reduction and cost of the best of each kind, as compared last; only told.
        self._compared: dict[Kind, tuple[float, float]] = {}
        # The step that those of `choices` are counted from.
        self._told_from = 0

    def restore_history(self, other: BaseSampler) -> None:
        """Goes on with what an earlier `AutoSampler` learnt; `choices` are those to come alone.

        Args:
            other: the sampler of an earlier call of `fit`.
        """
        super().restore_history(other)
        self._told_from = self._step
        begun = [{**choice, "step": 0} for choice in self.choices[-1:]]
        self.choices[:] = [] if self._strategy == UNIFORM else begun

    @property
    def _knows_all_examples(self) -> bool:
        n = self._indices.n
        return n is not None and self._seen >= n

    @property
    def _was_all_scored(self) -> bool:
        """The same of what was observed, which several steps in a call are after they are drawn."""
        n = self._indices.n
        return n is not None and self._scored >= n

    def batches_ahead(self, batch_size: int) -> int:
        """Many within a phase; single steps before a decision, which is made by their times.

        Args:
            batch_size: int, examples of a uniform step.
        """
        if self._next_decision is None or self._phase is Phase.TRIAL:
            return 1
        left = self._next_decision - self._step - _TIMED
        if left <= 1 or self._strategy.kind is Kind.POOL:
            return 1
        if self._strategy.kind is Kind.HISTORY and self._history is not None:
            return min(left, self._history.batches_ahead(batch_size))
        n = self._indices.n
        if self._history is not None and n is not None:
            # What the history would be worth is estimated by what it expects at each step, once
            # it knows all examples.
            expected = (
                self._history.steps_to_refit(batch_size)
                if self._knows_all_examples
                else -(-(n - self._seen) // batch_size)
            )
            left = max(1, min(left, expected))
        return min(left, self._rows.whole_batches(batch_size))

    def settled_ahead(self, batch_size: int) -> int:
        """The uniform batches ahead, unless expectations are worked out anew before them.

        By the history, those of a run (`HistoryMixtureSampler.settled_ahead`).

        Args:
            batch_size: int, examples of a uniform step.
        """
        if self._strategy.kind is Kind.HISTORY and self._history is not None:
            return self.batches_ahead(batch_size) if self._history.settled_ahead(batch_size) else 0
        if self._strategy != UNIFORM:
            return 0
        if self._knows_all_examples and self._history is not None and self._history.refit_is_due:
            return 0
        return self.batches_ahead(batch_size)

    def propose_many(self, batch_size: int, count: int) -> list[Proposal]:
        """Draws the next mini-batches; see `BaseSampler`.

        Args:
            batch_size: int, number of examples of a uniform step.
            count: int, how many batches.
        """
        if count == 1:
            return [self.propose(batch_size)]
        if self._strategy.kind is Kind.HISTORY and self._history is not None:
            self._history.refit_if_due(batch_size)
            self._step += count
            return self._history.propose_many_by_score(
                batch_size,
                count,
                lambda: self._estimates.seconds_by_size(batch_size),
            )
        if self._history is not None and self._knows_all_examples:
            self._history.end_first_pass()
            self._history.refit_if_due(batch_size)
        proposals = []
        for idxs, rows in self._rows.next_batches(batch_size, count):
            self._step += 1
            proposals.append(self._uniform_batch(idxs, rows))
        return proposals

    def propose(self, batch_size: int) -> Proposal:
        """Draws the next mini-batch in the way that is due.

        Args:
            batch_size: int, examples of a uniform step.
        """
        n = self._indices.n
        if self._next_decision is None:
            self._estimates.set_averaging_window(0 if n is None else n // batch_size)
            # Soon after the first pass, when there is something to decide by.
            self._next_decision = 50 if n is None else -(-n // batch_size) + _EVIDENCE + 1
        if self._history is not None and self._knows_all_examples:
            self._history.end_first_pass()
            self._history.refit_if_due(batch_size)
        if self._step >= self._next_decision:
            self._decide(batch_size)
        strategy = self._trial.pop() if self._trial else self._strategy
        self._step += 1
        if strategy.kind is Kind.HISTORY and self._history is not None:
            return self._history.propose_by_score(
                batch_size,
                lambda: self._estimates.seconds_by_size(batch_size),
            )
        if strategy.kind is Kind.POOL:
            return self._propose_from_pool(strategy, batch_size)
        return self._uniform_batch(*self._rows.next_batch(batch_size))

    def _propose_from_pool(self, strategy: Strategy, batch_size: int) -> Proposal:
        size = strategy.pool * batch_size
        self._pools.large_batch = size if self._indices.n is None else min(size, self._indices.n)
        self._pools.forward_batch_size = self.forward_batch_size or POOLS[0] * batch_size
        self._pool.reuse = strategy.reuse
        return self._numbered(self._pool.propose(batch_size))

    def _numbered(self, proposal: Proposal) -> Proposal:
        """The proposal with its number among all steps, by which the history knows their age."""
        if self._history is None:
            return proposal
        return proposal.with_number(self._history.count_step())

    def _uniform_batch(self, idxs: np.ndarray, rows: tuple[Any, ...]) -> Proposal:
        self._seen += len(idxs)
        reads_scores = self._phase is Phase.WARMUP or (
            self._step % _LOOK == 0 and not self.times_step
        )
        return self._numbered(self._uniform_proposal(idxs, rows, reads_scores))

    @property
    def times_step(self) -> bool:
        """Whether the next decision goes by the time of the step proposed last."""
        left = (self._next_decision or 0) - self._step
        return self._phase is Phase.TRIAL or left < _TIMED

    def batch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """The sizes of its batches, largest first; several at constant variance.

        Args:
            batch_size: int, examples of a uniform step.
        """
        if self._history is None:
            return (batch_size,)
        return self._history.batch_sizes(batch_size)

    def _interval(self, batch_size: int) -> int:
        n = self._indices.n
        return _INTERVAL[0] if n is None else int(np.clip(n // batch_size, *_INTERVAL))

    def begin_epoch(self, epoch: int) -> None:
        """Passes the call on to the history.

        Args:
            epoch: int, counted from 0.
        """
        super().begin_epoch(epoch)
        if self._history is not None:
            self._history.begin_epoch(epoch)

    # -- measuring --------------------------------------------------------------------------

    def observe(self, step: StepRecord) -> None:
        """Learns what the ways to draw would be worth.

        Args:
            step: the step made.
        """
        proposal = step.proposal
        self._estimates.add_time(step)
        if not proposal.reads_scores:
            self._unread += 1
            return
        would_be = None
        if proposal.kind is Kind.HISTORY:
            would_be = proposal.importance_weights
        elif self._history is not None and self._was_all_scored:
            would_be = self._history.weights_of(proposal.idxs)
        self._estimates.add_scores(proposal, step.scores, would_be, self._stands_for())
        if self._history is not None:
            self._history.learn_of(proposal, step.scores)
            self._scored += len(proposal.idxs)

    def observe_many(
        self, steps: Sequence[StepRecord], before: Callable[[StepRecord], None]
    ) -> None:
        """As `observe` of each step, in order; what is measured on them is worked out at once.

        Args:
            steps: the steps made, whose scores are known to be valid.
            before: called with each step before it is learnt from.
        """
        table = None
        if all(s.proposal.kind is Kind.HISTORY and s.proposal.reads_scores for s in steps):
            table = batches_by_score(steps)
        if table is None or self._history is None:
            observe_one_by_one(self, steps, before)
            return
        for step, moments in zip(steps, self._estimates.moments(*table), strict=True):
            before(step)
            self._estimates.add_time(step)
            self._estimates.add_moments(*moments, batches=self._stands_for())
            self._history.learn_of(step.proposal, step.scores)
            self._scored += len(step.proposal.idxs)

    def _stands_for(self) -> int:
        """How many batches one that is read counts for: those before it that were not.

        So averages forget at the pace of training: one surprise would keep the history out for
        epochs.
        """
        count, self._unread = 1 + self._unread, 0
        return count

    # -- deciding ---------------------------------------------------------------------------

    def _decide(self, batch_size: int) -> None:
        estimates = self._estimates
        if self._decisions_to_skip > 0 and estimates.history_is_faster():
            self._decisions_to_skip -= 1
            self._next_decision = self._step + self._interval(batch_size)
            return
        self._decisions_to_skip = 0
        measured = self._phase is Phase.TRIAL or (
            self._phase is Phase.CHOSEN and self._strategy == UNIFORM
        )
        if not measured:
            # Two more than it takes: the first is left out, the last may come late.
            estimates.forget_uniform()
            self._try((ENOUGH + 2) * [UNIFORM])
            return
        self._next_decision = self._step + self._interval(batch_size)
        self._phase = Phase.CHOSEN
        if not estimates.commit_step_costs():
            return
        sizes = self.batch_sizes(batch_size) if self._knows_all_examples else ()
        known = estimates.of_all(sizes, self._largest_pool(batch_size))
        rates = {strategy: reduction / cost for strategy, (reduction, cost) in known.items()}
        for strategy in rates:
            if strategy.kind is Kind.POOL:
                # So that leaving and coming back are judged alike.
                rates[strategy] /= _POOL_MARGIN
        self._compared = {s.kind: known[s] for s in sorted(rates, key=rates.__getitem__)}
        best = max(rates, key=rates.__getitem__)
        present = rates.get(self._strategy, 0.0)
        if self._strategy.kind is Kind.HISTORY and present > _CLEAR:
            self._decisions_to_skip = _SELDOM
        if rates[best] > _MARGIN * present or present < rates[UNIFORM]:
            if not self._must_compile(best) or self._pays_to_compile(present / rates[best]):
                self._change(best, *known[best])
        elif self._may_try_pool(batch_size, present):
            # The first is left out of what is measured, for it compiles. Uniform steps beside
            # them to compare with.
            self._tried_pool = True
            pools = (ENOUGH + 1) * [Strategy(Kind.POOL, POOLS[0], 1)]
            self._try([*(ENOUGH + 2) * [UNIFORM], *pools])

    def _must_compile(self, strategy: Strategy) -> bool:
        """Whether a way to draw has batches of sizes that no step was made of."""
        return (
            strategy.kind is Kind.HISTORY
            and self._history is not None
            and self._history.constant == "variance"
            and not self._estimates.has_timed_history
        )

    def _pays_to_compile(self, relative_time: float) -> bool:
        """Whether the rest of the training is long enough to compile for smaller batches.

        Args:
            relative_time: float, what they are hoped to take of the present time.
        """
        if self.steps is None:
            return True
        left = (self.steps - self._step) * self._estimates.uniform_seconds
        return left * (1.0 - relative_time) > _SIZES_TO_TRY * self._estimates.compiling

    def _try(self, trial: list[Strategy]) -> None:
        """Makes some draws, the last of the list first, and decides right after."""
        self._trial = trial
        self._next_decision = self._step + len(trial)
        self._phase = Phase.TRIAL

    def _largest_pool(self, batch_size: int) -> float:
        n = self._indices.n
        return np.inf if n is None else n / batch_size

    def _may_try_pool(self, batch_size: int, present: float) -> bool:
        if self._tried_pool or POOLS[0] > self._largest_pool(batch_size):
            return False
        estimates, uniform = self._estimates, self._estimates.uniform_seconds
        compiling = estimates.compiling
        # With scores that cost nothing, the best that a pool could be.
        best = max(estimates.pool_reduction(pool, 1) for pool in POOLS)
        if best < _POOL_MARGIN * present:
            return False
        total = estimates.elapsed if self.steps is None else self.steps * uniform
        return compiling + (ENOUGH + 1) * uniform < _TRIAL_SHARE * total

    def _change(self, strategy: Strategy, reduction: float, cost: float) -> None:
        if strategy == self._strategy:
            return
        self._strategy = strategy
        if strategy.kind is Kind.HISTORY and not self._estimates.has_timed_history:
            first_look = self._step + _FIRST_LOOK
            self._next_decision = min(self._next_decision or first_look, first_look)
        self._pool.forget_pool()
        if self._history is not None:
            self._history.forget_drawn()
        text = {
            Kind.UNIFORM: "uniform draws",
            Kind.HISTORY: "draws from all examples by their scores so far",
            Kind.POOL: f"pools of {strategy.pool} batches, {strategy.reuse} drawn from each",
        }[strategy.kind]
        self.choices.append(
            {
                "step": self._step - self._told_from,
                "choice": f"{text} (variance reduction {reduction:.2f} at {cost:.2f} times the "
                "time of a uniform step)",
                "kind": strategy.kind.value,
                "presample": strategy.pool,
                "reuse": strategy.reuse,
                "variance_reduction": reduction,
                "cost": cost,
            }
        )

    # -- what the loop may ask --------------------------------------------------------------

    def prepare(self, batch_size: int) -> None:
        """Prepares the next pool, while draws are from pools.

        Args:
            batch_size: int, examples of the next draw.
        """
        if self._strategy.kind is Kind.POOL and not self._trial:
            self._pool.prepare(batch_size)

    @property
    def prepared(self) -> bool:
        """Whether the next pool is being scored."""
        return self._pool.prepared

    @property
    def variance_reduction(self) -> float:
        """Of the way to draw that is used; of the history's, while draws are uniform."""
        if self._strategy.kind is Kind.POOL:
            return self._estimates.pool_reduction(self._strategy.pool, self._strategy.reuse)
        known = self._estimates.ideal if self._history is None else self._estimates.stored
        return known.value

    @property
    def why_uniform(self) -> str | None:
        """What the other ways to draw were worth when they were compared last."""
        if self._strategy != UNIFORM:
            return None
        if not self._compared:
            data = "50 steps" if self._indices.n is None else "a pass over the data"
            return (
                f"the ways to draw are compared after {data} and some more, there were "
                f"{self._step} steps"
            )
        asked = {Kind.HISTORY: _MARGIN, Kind.POOL: _POOL_MARGIN}
        found = [
            f"draws by {kind.value} promise a variance reduction of {reduction:.2f}; at "
            f"{cost:.2f} times the time of a uniform step, {asked[kind] * cost:.2f} would pay"
            for kind, (reduction, cost) in self._compared.items()
            if kind in asked
        ]
        if Kind.POOL not in self._compared:
            found.append(
                "drawing from pools that are scored before each step was not tried: a trial is "
                "made where the scores seen so far promise enough, and where it takes less than "
                f"{_TRIAL_SHARE:.0%} of the training"
            )
        return "; ".join(found)

    def _after_loading(self) -> None:
        self._trial = [Strategy(Kind(kind), *rest) for kind, *rest in self._trial]
