"""Chooses, while training, the way to draw that is measured to be worth most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import BaseSampler, Draw, dataset_length
from ._costs import ENOUGH
from ._mixture import HistoryMixtureSampler
from ._pool import ModelSampler
from ._reuse import PoolReuseSampler
from ._worth import POOLS, UNIFORM, Choice, Worth

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
# While draws are uniform, the scores of one batch in so many are read.
_LOOK = 8


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

    keeps_history = True

    def __init__(
        self,
        dataset: Any,
        reweighting: ReweightingPolicy,
        model: Any,
        steps: int | None = None,
        forward_batch_size: int | None = None,
        mix: float = 0.3,
        resampling: str = "multinomial",
        *,
        constant: str = "batch_size",
        min_batch_size: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(dataset, reweighting, resampling=resampling, **kwargs)
        self.model = model
        self.steps = steps
        self.forward_batch_size = forward_batch_size
        n = dataset_length(dataset)
        self._history = None
        if n is not None:
            self._history = HistoryMixtureSampler(
                dataset, reweighting, mix=mix, constant=constant, min_batch_size=min_batch_size
            )
            self._history._join(self)
        pool = ModelSampler(dataset, reweighting, model, large_batch=1, resampling=resampling)
        pool._join(self)
        self._pool = PoolReuseSampler(pool, 1)
        self._worth = Worth()
        self._step = self._seen = 0
        # The step to decide at, and whether a decision was made before.
        self._due: int | None = None
        self._judged = False
        # Draws left of a measurement, whose kind is not the one chosen.
        self._trial: list[Choice] = []
        self._weighed = False
        # Decisions left before the history is compared with uniform steps again.
        self._rest = 0
        # No pools beside a history that is asked for time.
        self._tried_pool = self._history is not None and constant == "variance"
        self._choice = UNIFORM
        self.choices: list[dict[str, Any]] = []
        # The step that those of `choices` are counted from.
        self._told_from = 0

    def tell_anew(self) -> None:
        """Has `choices` tell of the steps to come alone, beginning with how they are drawn now."""
        self._told_from = self._step
        begun = [{**choice, "step": 0} for choice in self.choices[-1:]]
        self.choices[:] = [] if self._choice == UNIFORM else begun

    @property
    def _ready(self) -> bool:
        """Whether all examples have been seen, so that the history knows them."""
        n = self._indices.n
        return n is not None and self._seen >= n

    def sample(self, batch_size: int) -> Draw:
        """Draws a mini-batch; see `BaseSampler.sample`."""
        n = self._indices.n
        if self._due is None:
            self._worth.look_back(0 if n is None else n // batch_size)
            # Soon after the first pass, when there is something to decide by.
            self._due = 50 if n is None else -(-n // batch_size) + _EVIDENCE + 1
        if self._history is not None and self._ready:
            self._history.end_first_pass()
            self._history.catch_up(batch_size)
        if self._step >= self._due:
            self._decide(batch_size)
        trial = bool(self._trial)
        choice = self._trial.pop() if trial else self._choice
        self._step += 1
        kind, pool, reuse = choice
        if kind == "history":
            return self._history.sample_by_score(
                batch_size,
                self._worth.stored.ratio,
                lambda: self._worth.seconds_by_size(batch_size),
            )
        if kind == "pool":
            chunk = self.forward_batch_size or POOLS[0] * batch_size
            model_sampler = self._pool.sampler
            size = pool * batch_size
            model_sampler.large_batch = size if n is None else min(size, n)
            model_sampler.forward_batch_size = chunk
            self._pool.reuse = reuse
            return self._pool.sample(batch_size)
        idxs, xy = self._rows.next_batch(batch_size)
        self._seen += len(idxs)
        draw = self._draw(idxs, None, xy, batch_size)
        draw.wants_scores = not trial and (not self._judged or self._step % _LOOK == 0)
        if not draw.wants_scores and self._history is not None:
            self._history.pass_over()
        return draw

    def batch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """See `BaseSampler.batch_sizes`."""
        if self._history is None:
            return (batch_size,)
        return self._history.batch_sizes(batch_size)

    def _interval(self, batch_size: int) -> int:
        n = self._indices.n
        return _INTERVAL[0] if n is None else int(np.clip(n // batch_size, *_INTERVAL))

    # -- what is measured -------------------------------------------------------------------

    def update_from(self, draw: Draw, results: np.ndarray) -> None:
        """Learns what the ways to draw would be worth; see `BaseSampler.update_from`."""
        would_be = None
        if draw.kind == "history":
            would_be = draw.metric_weights
        elif self._ready:
            would_be = self._history.weights_of(draw[0])
        self._worth.add(draw, results, would_be)
        if self._history is not None:
            self._history.update(draw[0], results)

    def learns_from(self, draw: Draw) -> bool:
        """From all draws."""
        return True

    def timed(self, draw: Draw, seconds: float) -> None:
        """See `BaseSampler.timed`."""
        self._worth.timed(draw, seconds)

    # -- what is decided --------------------------------------------------------------------

    def _decide(self, batch_size: int) -> None:
        if self._rest > 0 and self._worth.history_is_faster():
            self._rest -= 1
            self._due = self._step + self._interval(batch_size)
            return
        self._rest = 0
        if not self._weighed and (self._choice != UNIFORM or not self._judged):
            # Two more than it takes: the first is left out, the last may come late.
            self._worth.forget_uniform()
            self._try((ENOUGH + 2) * [UNIFORM])
            return
        self._due = self._step + self._interval(batch_size)
        self._weighed = False
        if not self._worth.weigh():
            return
        sizes = self.batch_sizes(batch_size) if self._ready else ()
        worth = self._worth.of_all(sizes, self._largest_pool(batch_size))
        rates = {choice: reduction / cost for choice, (reduction, cost) in worth.items()}
        for choice in rates:
            if choice[0] == "pool":
                # So that leaving and coming back are judged alike.
                rates[choice] /= _POOL_MARGIN
        best = max(rates, key=rates.__getitem__)
        present = rates.get(self._choice, 0.0)
        if self._choice[0] == "history" and present > _CLEAR:
            self._rest = _SELDOM
        if rates[best] > _MARGIN * present or present < rates[UNIFORM]:
            self._change(best, worth)
        elif self._may_try_pool(batch_size, present):
            # The first is left out of what is measured, for it compiles. Uniform steps beside
            # them to compare with.
            self._tried_pool = True
            pools = (ENOUGH + 1) * [("pool", POOLS[0], 1)]
            self._try([*(ENOUGH + 2) * [UNIFORM], *pools])

    def _try(self, trial: list[Choice]) -> None:
        """Makes some draws, the last of the list first, and decides right after."""
        self._trial = trial
        self._due = self._step + len(trial)
        self._weighed = self._judged = True

    def _largest_pool(self, batch_size: int) -> float:
        n = self._indices.n
        return np.inf if n is None else n / batch_size

    def _may_try_pool(self, batch_size: int, present: float) -> bool:
        if self._tried_pool or POOLS[0] > self._largest_pool(batch_size):
            return False
        worth, uniform = self._worth, self._worth.uniform_seconds
        # With scores that cost nothing, the best that a pool could be.
        best = max(worth.pool_reduction(pool, 1) for pool in POOLS)
        if best < _POOL_MARGIN * present:
            return False
        total = worth.elapsed if self.steps is None else self.steps * uniform
        compiling = max(worth.first_step - uniform, 0.0)
        return compiling + (ENOUGH + 1) * uniform < _TRIAL_SHARE * total

    def _change(self, choice: Choice, worth: dict[Choice, tuple[float, float]]) -> None:
        if choice == self._choice:
            return
        self._choice = choice
        if choice[0] == "history" and not self._worth.has_timed_history:
            self._due = min(self._due, self._step + _FIRST_LOOK)
        self._pool.forget()
        if self._history is not None:
            self._history.forget_drawn()
        kind, pool, reuse = choice
        reduction, cost = worth[choice]
        text = {
            "uniform": "uniform draws",
            "history": "draws from all examples by their scores so far",
            "pool": f"pools of {pool} batches, {reuse} drawn from each",
        }[kind]
        self.choices.append(
            {
                "step": self._step - self._told_from,
                "choice": f"{text} (variance reduction {reduction:.2f} at {cost:.2f} times the "
                "time of a uniform step)",
                "kind": kind,
                "presample": pool,
                "reuse": reuse,
                "variance_reduction": reduction,
                "cost": cost,
            }
        )

    # -- the rest of a sampler --------------------------------------------------------------

    def prepare(self, batch_size: int) -> None:
        """Prepares the next pool, while draws are from pools."""
        if self._choice[0] == "pool" and not self._trial:
            self._pool.prepare(batch_size)

    @property
    def prepared(self) -> bool:
        """See `BaseSampler.prepared`."""
        return self._pool.prepared

    @property
    def variance_reduction(self) -> float:
        """Of the way to draw that is used; of the history's, while draws are uniform."""
        kind, pool, reuse = self._choice
        if kind == "pool":
            return self._worth.pool_reduction(pool, reuse)
        known = self._worth.ideal if self._history is None else self._worth.stored
        return known.value

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`."""
        return {
            **super().state_dict(),
            "history": None if self._history is None else self._history.state_dict(),
            "pool": self._pool.state_dict(),
            "worth": self._worth.state_dict(),
            "step": self._step,
            "seen": self._seen,
            "due": self._due,
            "judged": self._judged,
            "trial": list(self._trial),
            "weighed": self._weighed,
            "tried_pool": self._tried_pool,
            "rest": self._rest,
            "choice": list(self._choice),
            "choices": list(self.choices),
            "told_from": self._told_from,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        if self._history is not None:
            self._history.load_state_dict(state["history"])
        self._pool.load_state_dict(state["pool"])
        super().load_state_dict(state)
        self._worth.load_state_dict(state["worth"])
        self._step, self._seen = int(state["step"]), int(state["seen"])
        self._due, self._judged = state["due"], bool(state["judged"])
        self._trial = [tuple(choice) for choice in state["trial"]]
        self._weighed, self._tried_pool = bool(state["weighed"]), bool(state["tried_pool"])
        self._rest = int(state["rest"])
        self._choice = tuple(state["choice"])
        self.choices[:] = state["choices"]
        self._told_from = int(state["told_from"])
