"""Samplers around samplers: smoothing and a conditional start."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._base import BaseSampler, Draw
from ._conditions import Condition, _MovingAverage
from ._pool import UniformSampler
from ._user_samplers import ScoredProposals, decides_by_scores

Proposal = tuple[np.ndarray, np.ndarray | None, tuple[Any, ...] | None]


class SamplerDecorator(BaseSampler):
    """Passes everything on to another sampler; the base of what changes some of it.

    One of your own that defines `_get_samples_with_scores` is given scores by the sampler it
    decorates whatever that one does: ones while it draws uniformly. If it leaves them all alike,
    the draw stays uniform.

    Args:
        sampler: the sampler to decorate.
    """

    _scored: ScoredProposals | None = None

    def __init__(self, sampler: BaseSampler):
        self.sampler = sampler
        self.dataset = sampler.dataset
        self.reweighting = sampler.reweighting
        # One generator and one stream of indices for the whole stack.
        self._join(sampler)
        self.resampling = sampler.resampling
        if decides_by_scores(self):
            # On the instance, so that `self.sampler` is what the user handed over.
            self._scored = ScoredProposals(sampler._get_samples_with_scores)
            vars(sampler)["_get_samples_with_scores"] = self._scored

    def _get_samples_with_scores(self, batch_size: int) -> Proposal:
        return self.sampler._get_samples_with_scores(batch_size)

    @property
    def _passes_draws_on(self) -> bool:
        """Whether it has nothing to say about scores."""
        own = type(self)._get_samples_with_scores
        return own is SamplerDecorator._get_samples_with_scores

    def sample(self, batch_size: int) -> Draw:
        """Draws a mini-batch; see `BaseSampler.sample`."""
        if self._passes_draws_on:
            return self.sampler.sample(batch_size)
        idxs, scores, xy = self._get_samples_with_scores(batch_size)
        if scores is None or not self._proposed_uniformly:
            return self._draw(idxs, scores, xy, batch_size)
        if np.ptp(scores) == 0:
            return self._draw(idxs, None, xy, batch_size)
        # What was proposed may be the last, smaller batch of a pass.
        draw = self._draw(idxs, scores, xy, min(batch_size, len(idxs)))
        # Not the model's: what it says of these examples, only the training pass can tell.
        draw.pool_scores = None
        draw.proposed_uniformly = True
        return draw

    @property
    def _proposed_uniformly(self) -> bool:
        """Whether the last scores stand for a uniform draw, below any user's decorator."""
        if self._scored is not None:
            return self._scored.uniform
        return isinstance(self.sampler, SamplerDecorator) and self.sampler._proposed_uniformly

    def update(self, idxs: np.ndarray, results: np.ndarray) -> None:
        """Passes the scores on to the decorated sampler."""
        self.sampler.update(idxs, results)

    def update_from(self, draw: Draw, results: np.ndarray) -> None:
        """Passes the scores on to the decorated sampler."""
        self.sampler.update_from(draw, results)

    def learns_from(self, draw: Draw) -> bool:
        """Whether the decorated sampler does."""
        return self.sampler.learns_from(draw)

    @property
    def epoch_over(self) -> bool | None:
        """Whether it is for the decorated sampler."""
        return self.sampler.epoch_over

    def begin_epoch(self, epoch: int) -> None:
        """Passes the call on to the decorated sampler."""
        self.sampler.begin_epoch(epoch)

    def batch_sizes(self, batch_size: int) -> tuple[int, ...]:
        """Those of the decorated sampler; one, where the decorator draws by scores of its own."""
        return self.sampler.batch_sizes(batch_size) if self._passes_draws_on else (batch_size,)

    def prepare(self, batch_size: int) -> None:
        """Passes the call on to the decorated sampler."""
        self.sampler.prepare(batch_size)

    @property
    def prepared(self) -> bool:
        """Whether the decorated sampler is."""
        return self.sampler.prepared

    def timed(self, draw: Draw, seconds: float) -> None:
        """Passes the time on to the decorated sampler."""
        self.sampler.timed(draw, seconds)

    @property
    def predicts(self) -> bool:
        """Whether the decorated sampler does."""
        return self.sampler.predicts

    @property
    def tolerates_delay(self) -> bool:
        """Whether both this and the decorated sampler do."""
        return super().tolerates_delay and self.sampler.tolerates_delay

    @property
    def model(self) -> Any:
        """The model of the decorated sampler."""
        return self.sampler.model

    @property
    def variance_reduction(self) -> float | None:
        """The decorated sampler's estimate."""
        return self.sampler.variance_reduction

    def state_dict(self) -> dict[str, Any]:
        """The decorated sampler's state."""
        return {"sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to where `state_dict` was taken."""
        self.sampler.load_state_dict(state["sampler"])


class AdditiveSmoothingSampler(SamplerDecorator):
    """Adds a constant to every score, which moves the draw towards uniform.

    Args:
        sampler: the sampler to decorate.
        c: float >= 0, in units of the score. Defaults to `1.0`.
    """

    def __init__(self, sampler: BaseSampler, c: float = 1.0):
        super().__init__(sampler)
        if not c >= 0:
            raise ValueError(f"`c` must be at least 0, got {c!r}.")
        self.c = c

    def _get_samples_with_scores(self, batch_size: int) -> Proposal:
        idxs, scores, xy = self.sampler._get_samples_with_scores(batch_size)
        return idxs, None if scores is None else scores + self.c, xy


class AdaptiveAdditiveSmoothingSampler(SamplerDecorator):
    """Adds a share of the moving average of the scores to every score.

    Args:
        sampler: the sampler to decorate.
        percentage: float >= 0, the share (0.5 is one half). Defaults to `0.5`.
        forget: float in [0, 1), momentum of the moving average. Defaults to `0.9`.
    """

    def __init__(self, sampler: BaseSampler, percentage: float = 0.5, forget: float = 0.9):
        super().__init__(sampler)
        if not percentage >= 0:
            raise ValueError(f"`percentage` must be at least 0, got {percentage!r}.")
        self.percentage = percentage
        self.forget = forget
        self._average = _MovingAverage(forget)

    @property
    def mu(self) -> float:
        """The moving average of the scores."""
        return self._average.value

    def _get_samples_with_scores(self, batch_size: int) -> Proposal:
        idxs, scores, xy = self.sampler._get_samples_with_scores(batch_size)
        if scores is None:
            return idxs, None, xy
        self._average.add(np.mean(scores))
        return idxs, scores + self.percentage * self._average.value, xy

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`."""
        return {**super().state_dict(), "average": self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        super().load_state_dict(state)
        self._average.load_state_dict(state["average"])


class PowerSmoothingSampler(SamplerDecorator):
    """Raises the scores to a power: 1 leaves them, 0 makes the draw uniform.

    Args:
        sampler: the sampler to decorate.
        power: float in [0, 1]. Defaults to `0.5`.
    """

    def __init__(self, sampler: BaseSampler, power: float = 0.5):
        super().__init__(sampler)
        if not 0 <= power <= 1:
            raise ValueError(f"`power` must be in [0, 1], got {power!r}.")
        self.power = power

    def _get_samples_with_scores(self, batch_size: int) -> Proposal:
        idxs, scores, xy = self.sampler._get_samples_with_scores(batch_size)
        return idxs, None if scores is None else scores**self.power, xy


class ConditionalStartSampler(SamplerDecorator):
    """Draws uniformly while a condition does not hold, and from a sampler while it does.

    Args:
        sampler: the sampler to decorate.
        condition: a `Condition`.
    """

    def __init__(self, sampler: BaseSampler, condition: Condition):
        super().__init__(sampler)
        self.condition = condition
        self.uniform = UniformSampler(sampler.dataset, sampler.reweighting)
        self.uniform._join(self)

    def _get_samples_with_scores(self, batch_size: int) -> Proposal:
        # What was prepared while the condition held is used, whatever it says now.
        if not self.prepared and not self.condition.satisfied:
            return self.uniform._get_samples_with_scores(batch_size)
        idxs, scores, xy = self.sampler._get_samples_with_scores(batch_size)
        if scores is not None:
            self.condition.update(scores)
        return idxs, scores, xy

    def update(self, idxs: np.ndarray, results: np.ndarray) -> None:
        """Feeds the condition, while draws are uniform, and the decorated sampler."""
        if not self.condition.previously_satisfied:
            self.condition.update(results)
        self.sampler.update(idxs, results)

    def update_from(self, draw: Draw, results: np.ndarray) -> None:
        """See `BaseSampler.update_from`."""
        if self._was_uniform(draw):
            self.condition.update(results)
        self.sampler.update_from(draw, results)

    @staticmethod
    def _was_uniform(draw: Draw) -> bool:
        """Whether the examples were proposed uniformly, whatever a decorator made of that."""
        return not draw.importance or getattr(draw, "proposed_uniformly", False)

    def prepare(self, batch_size: int) -> None:
        """Prepares a draw by score, if the last one was."""
        if self.condition.previously_satisfied:
            super().prepare(batch_size)

    def timed(self, draw: Draw, seconds: float) -> None:
        """Tells the condition, and the decorated sampler."""
        self.condition.timed(draw, seconds)
        super().timed(draw, seconds)

    def learns_from(self, draw: Draw) -> bool:
        """From uniform draws, and from whatever the decorated sampler learns from."""
        return self._was_uniform(draw) or self.sampler.learns_from(draw)

    @property
    def variance_reduction(self) -> float | None:
        """The condition's estimate, where it keeps one."""
        estimate = getattr(self.condition, "variance_reduction", None)
        return self.sampler.variance_reduction if estimate is None else estimate

    def state_dict(self) -> dict[str, Any]:
        """See `BaseSampler.state_dict`."""
        return {**super().state_dict(), "condition": self.condition.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `BaseSampler.load_state_dict`."""
        super().load_state_dict(state)
        self.condition.load_state_dict(state["condition"])
