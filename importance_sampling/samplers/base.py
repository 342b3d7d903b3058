"""What every sampler is: it proposes batches, and observes what training on them said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from blinker import signal

from .._arrays import dataset_length, take_rows
from .._pending_rows import read_rows
from .._state import Stateful
from .._weights import unbiased_weights
from ..proposal import Kind, Pool, Proposal, StepRecord, check_scores
from ..protocols import Dataset
from . import compatibility
from .drawing import (
    IndexStream,
    Resampling,
    RowReader,
    check_resampling,
    draw_positions,
    make_rng,
    uniform_if_all_zero,
)

if TYPE_CHECKING:
    from ..reweighting import ReweightingPolicy


def _is_of_library(policy: ReweightingPolicy) -> bool:
    return type(policy).__module__.split(".")[0] == __name__.split(".")[0]


def check_pool(pool: Any, sampler: Any) -> Pool:
    """What `candidates` returned, if a batch can be drawn from it.

    Args:
        pool: what was returned.
        sampler: whose `candidates` it was.

    Raises:
        TypeError: if it is no `Pool`, or its indices are no array.
        ValueError: if there are no candidates, or not one score for each.
    """
    name = type(sampler).__name__
    if not isinstance(pool, Pool) or not isinstance(pool.idxs, np.ndarray):
        what = f"a Pool of {type(pool.idxs).__name__}" if isinstance(pool, Pool) else pool
        what = what if isinstance(what, str) else type(what).__name__
        raise TypeError(
            f"{name}.candidates returned {what}; it must return a Pool: `Pool(idxs, scores)`, "
            "numpy arrays of the indices of the candidates and their scores."
        )
    if not len(pool.idxs):
        raise ValueError(f"{name}.candidates returned no candidates.")
    if pool.scores is None:
        return pool
    shape = np.shape(pool.scores)
    if shape not in ((len(pool.idxs),), (len(pool.idxs), 1)):
        raise ValueError(
            f"{name}.candidates returned {len(pool.idxs)} indices and scores of shape {shape}; "
            "every candidate needs one score."
        )
    return pool


class BaseSampler(Stateful):
    """Decides which examples to train on next.

        sampler.propose(batch_size) -> Proposal
        sampler.observe(StepRecord)

    A sampler is written by implementing `candidates`, a pool and its scores: drawing from it,
    weights and data are done here. One that draws in another way implements `propose`. The names
    of 0.10 work beside these, for calling as for overriding: `_get_samples_with_scores`, `sample`
    and `update` (see `samplers.compatibility`).

    Args:
        dataset: a `BaseDataset`.
        reweighting: a `ReweightingPolicy`.
        rng: keyword-only; a `numpy.random.Generator` or a seed. Defaults to a fresh one.
        shuffle: keyword-only; whether uniform draws go through the data in random order.
        resampling: keyword-only; `"multinomial"`, independent draws, or `"systematic"`, which
            draws example i either floor(b p_i) or ceil(b p_i) times.

    Example:

    ```python
    class Hardest(BaseSampler):
        def candidates(self, batch_size):
            return Pool(np.arange(len(self.dataset.train_data)), self.my_scores)
    ```
    """

    _state: tuple[str, ...] = ("rng", "_indices")

    resampling: Resampling = "multinomial"
    overlaps = False
    """Whether the next batch may be proposed, and `prepare` called, before the last step was
    observed. It lets the host work while the device does. Samplers of the library say True."""

    uses_stale_scores = False
    """Whether the scores drawn by are predictions, or of the model as it was some steps ago."""

    uses_step_times = False
    """Whether draws depend on how long steps took (`StepRecord.seconds`), which is then told of all
    processes that train together as one of them measured it."""

    keeps_history = False
    """Whether what it learnt of the examples is worth keeping from one `fit` to the next."""

    def __init__(
        self,
        dataset: Dataset,
        reweighting: ReweightingPolicy,
        *,
        rng: np.random.Generator | int | None = None,
        shuffle: bool = True,
        resampling: Resampling = "multinomial",
    ):
        self.dataset = dataset
        self.reweighting = reweighting
        self.rng = make_rng(rng)
        self.resampling = check_resampling(resampling)
        self._indices = IndexStream(dataset_length(dataset), self.rng, shuffle)
        self._rows = RowReader(dataset, self._indices)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        compatibility.add_old_names(cls)

    def _share_index_stream(self, other: BaseSampler) -> None:
        """Takes its random numbers, and uniform draws and their rows, from where `other` does."""
        self.rng, self._indices, self._rows = other.rng, other._indices, other._rows

    # -- proposing --------------------------------------------------------------------------

    def candidates(self, batch_size: int) -> Pool:
        """The candidates for the next batch and their scores.

        Args:
            batch_size: int, how many will be drawn.

        Returns:
            A `Pool`; scores of None stand for a uniform draw.
        """
        name = type(self).__name__
        if type(self).propose is not BaseSampler.propose:
            raise NotImplementedError(
                f"{name} draws its batches itself and has no candidates to change the scores of. A "
                "decorator of it changes what `propose` returns, not `candidates` "
                "(`_get_samples_with_scores`)."
            )
        raise NotImplementedError(
            f"{name} must implement candidates(batch_size) or propose(batch_size)"
        )

    def propose(self, batch_size: int) -> Proposal:
        """Draws the next mini-batch.

        Args:
            batch_size: int, number of examples. Uniform draws go through the data in passes,
                of which the last batch may be smaller.

        Returns:
            A `Proposal`.
        """
        return self._draw(self.candidates(batch_size), batch_size)

    def _propose_many_uniformly(self, batch_size: int, count: int) -> list[Proposal]:
        """The next whole batches of a pass over the data, read together."""
        if count == 1:
            return [self.propose(batch_size)]
        batches = self._rows.next_batches(batch_size, count)
        if not _is_of_library(self.reweighting):
            # Which may have weights of its own for each batch.
            return [self._uniform_proposal(*batch) for batch in batches]
        weights = self.reweighting.uniform_weights(batch_size)
        # Copies, for a hook may change those of one step.
        return [self._uniformly_weighted(*batch, weights.copy()) for batch in batches]

    def _draw(self, pool: Pool, batch_size: int) -> Proposal:
        """Draws a batch from a pool."""
        pool = check_pool(pool, self)
        if pool.scores is None:
            return self._draw_uniformly(pool, batch_size)
        scores = check_scores(pool.scores, pool.idxs)
        if pool.decided_uniformly:
            if np.ptp(scores) == 0:
                return self._draw_uniformly(pool, batch_size)
            # What was proposed may be the last, smaller batch of a pass.
            batch_size = min(batch_size, len(pool.idxs))
        by = uniform_if_all_zero(scores)
        positions = draw_positions(by, batch_size, self.rng, self.resampling)
        return self._draw_at(positions, pool, by, scores)

    def _draw_uniformly(self, pool: Pool, batch_size: int) -> Proposal:
        positions = None
        # Fewer are the last batch of a pass; the batches of a stream come as they are.
        whole = getattr(self.dataset, "keeps_batches", False)
        size = len(pool.idxs) if whole else min(batch_size, len(pool.idxs))
        if len(pool.idxs) > size:
            # Without replacement: less variance, same mean.
            positions = self.rng.choice(len(pool.idxs), size, replace=False, shuffle=False)
        return self._uniform_proposal(*self._rows_at(pool, positions))

    def _draw_at(
        self,
        positions: np.ndarray,
        pool: Pool,
        scores: np.ndarray,
        pool_scores: np.ndarray | None,
    ) -> Proposal:
        """The batch at `positions` of a pool.

        Args:
            positions: `(b,)` positions in the pool.
            pool: the candidates.
            scores: `(B,)` what the positions were drawn by, checked.
            pool_scores: `(B,)` scores that tell of the model as it is, or None.
        """
        drawn = scores[positions]
        if self.uses_stale_scores or pool.decided_uniformly:
            # What the model says of these examples, only the training pass can tell.
            pool_scores = None
        return self._proposal_by_score(
            *self._rows_at(pool, positions),
            self.reweighting.sample_weights(positions, scores),
            drawn,
            unbiased_weights(drawn, scores.sum(), len(scores)),
            kind=Kind.POOL,
            pool_scores=pool_scores,
            decided_uniformly=pool.decided_uniformly,
        )

    def _rows_at(
        self, pool: Pool, positions: np.ndarray | None
    ) -> tuple[np.ndarray, tuple[Any, ...]]:
        idxs, rows = pool.idxs, pool.rows
        if positions is not None:
            idxs = idxs[positions]
            if rows is not None:
                rows = take_rows(rows, positions)
        return idxs, self.dataset.train_data[idxs] if rows is None else rows

    def _uniform_proposal(
        self, idxs: np.ndarray, rows: tuple[Any, ...], reads_scores: bool = True
    ) -> Proposal:
        weights = self.reweighting.uniform_weights(len(idxs))
        return self._uniformly_weighted(idxs, rows, weights, reads_scores)

    def _uniformly_weighted(
        self,
        idxs: np.ndarray,
        rows: tuple[Any, ...],
        weights: np.ndarray,
        reads_scores: bool = True,
    ) -> Proposal:
        ones = None if self._weights_are_unbiased(weights) else np.ones(len(idxs))
        return announced(
            Proposal(idxs, rows, weights, metric_weights=ones, reads_scores=reads_scores)
        )

    def _proposal_by_score(
        self,
        idxs: np.ndarray,
        rows: tuple[Any, ...],
        weights: np.ndarray,
        scores: np.ndarray,
        importance_weights: np.ndarray,
        **known: Any,
    ) -> Proposal:
        other = None if self._weights_are_unbiased(weights) else importance_weights
        return announced(Proposal(idxs, rows, weights, scores, metric_weights=other, **known))

    def _weights_are_unbiased(self, weights: np.ndarray) -> bool:
        """Whether the training weights are the importance weights 1/(N p) themselves.

        The one place where this is decided; all others look at `Proposal.metric_weights`.
        """
        return self.reweighting.unbiased and weights.shape[1] == 1

    def propose_many(self, batch_size: int, count: int) -> list[Proposal]:
        """Draws the next mini-batches, of which there may be `batches_ahead`.

        Args:
            batch_size: int, number of examples of a uniform step.
            count: int, how many batches.

        Returns:
            The proposals that as many calls of `propose` would return; fewer, one at least, where
            a draw turns out to need the step before.
        """
        return [self.propose(batch_size) for _ in range(count)]

    def batches_ahead(self, batch_size: int) -> int:
        """How many batches can be proposed now with no step observed in between.

        They are the same that would be proposed one by one, all of one size. One, unless a sampler
        says otherwise; a subclass that changes how batches are drawn or learnt from says it anew.

        Args:
            batch_size: int, number of examples of a uniform step.
        """
        return 1

    def settled_ahead(self, batch_size: int) -> int:
        """How many of the `batches_ahead` are the same whatever steps under way turn out to be.

        They may be proposed, and go to the device, before any step that was proposed earlier was
        observed, so that the device need not wait for the host. 0, unless a sampler says
        otherwise; as `batches_ahead` it is said anew by a subclass that draws or learns in another
        way.

        Args:
            batch_size: int, number of examples of a uniform step.
        """
        return 0

    # -- observing --------------------------------------------------------------------------

    def observe(self, step: StepRecord) -> None:
        """Learns from a step; called once for each, in order.

        Args:
            step: the `StepRecord`. Reading its scores waits for the device; where
                `step.proposal.reads_scores` is False they may not be read.
        """

    def _assumed_proposal(self, idxs: np.ndarray) -> Proposal:
        """What `update(idxs, results)` is taken to be about: a uniform draw of these examples."""
        idxs = np.asarray(idxs)
        return Proposal(idxs, (), np.ones((len(idxs), 1)))

    # -- what the loop may ask --------------------------------------------------------------

    @property
    def times_step(self) -> bool:
        """Whether the time of the step proposed last is going to be compared.

        It is then waited for as if its scores were read, where nobody reads them and the device
        works asynchronously.
        """
        return False

    @property
    def epoch_over(self) -> bool | None:
        """Whether the present epoch is over; None where the number of steps alone says so."""
        return None

    def batch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """The sizes of its batches, largest first: one, unless the sampler chooses among several.

        Args:
            batch_size: int, the size that is asked for.
        """
        return (batch_size,)

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first draw of an epoch; what callbacks did to the data is read then.

        Args:
            epoch: int, counted from 0.
        """
        self._rows.forget()

    def prepare(self, batch_size: int) -> None:
        """Asks the device for what the next draw needs, while it works on the present step.

        Args:
            batch_size: int, examples of the next draw.
        """

    @property
    def prepared(self) -> bool:
        """Whether `prepare` has asked for something that the next draw will use."""
        return False

    @property
    def variance_reduction(self) -> float | None:
        """The present estimate of the variance reduction, where the sampler keeps one."""
        return None

    @property
    def reduction_threshold(self) -> float | None:
        """The variance reduction above which it draws by score; None where nothing goes by it."""
        return None

    @property
    def why_uniform(self) -> str | None:
        """Why the next draw is uniform, in words; None where it is not or nobody knows."""
        return None

    def restore_history(self, other: BaseSampler) -> None:
        """Goes on with what a sampler of the same kind learnt of the same examples.

        Args:
            other: the sampler of an earlier call of `fit`.
        """
        self.load_state_dict(other.state_dict())

    def close(self) -> None:
        """Ends threads that read ahead."""
        self._rows.close()


compatibility.add_old_names(BaseSampler)


def announced(proposal: Proposal) -> Proposal:
    """Sends the signal `is.sample`."""
    channel = signal("is.sample")
    if channel.receivers:
        idxs, rows, weights = proposal
        rows = read_rows(rows)
        scores = proposal.predicted_scores
        channel.send({"idxs": idxs, "xy": rows, "w": weights, "predicted_scores": scores})
    return proposal
