"""Names of samplers with everything before them, and what is built of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..._names import unknown
from .decorators import CONDITIONS, SMOOTHINGS
from .general import FORWARD_BATCH_SIZE
from .rows import Hyperparameter, Hyperparams, Row
from .samplers import SAMPLERS, Parts, SamplerRow

if TYPE_CHECKING:
    from ...datasets import BaseDataset
    from ...model_wrappers import ModelWrapper
    from ...reweighting import ReweightingPolicy
    from ...samplers import BaseSampler


class SamplerName(NamedTuple):
    """A sampler's name taken apart.

    Attributes:
        base: the sampler's row.
        before: rows of what stands before it, in the order in which they are put around it.
    """

    base: SamplerRow
    before: tuple[Row, ...]

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """Those of all its parts."""
        return tuple(one for row in (self.base, *self.before) for one in row.hyperparameters)


def _compose() -> dict[str, SamplerName]:
    found = {row.name: SamplerName(row, ()) for row in SAMPLERS.values()}
    found |= {
        smoothing.name + row.name: SamplerName(row, (smoothing,))
        for row in SAMPLERS.values()
        for smoothing in SMOOTHINGS.values()
        if row.smoothed
    }
    return found | {
        condition.name + name: SamplerName(made.base, (*made.before, condition))
        for name, made in found.items()
        for condition in CONDITIONS.values()
        if made.base.conditional
    }


SAMPLER_NAMES = _compose()
"""Every sampler with everything that may stand before it."""


def forward_batch_size(dataset: BaseDataset, hp: Hyperparams) -> int:
    """Examples to score in one call: few calls for small examples, little memory for large ones.

    Args:
        dataset: a `BaseDataset`.
        hp: hyper-parameters; `forward_batch_size` says it itself.

    Returns:
        int, from 16 to 1024.
    """
    if FORWARD_BATCH_SIZE.name in hp:
        return hp[FORWARD_BATCH_SIZE.name]
    shapes = dataset.shape if isinstance(dataset.shape, list) else [dataset.shape]
    values = sum(int(np.prod(shape)) for shape in shapes)
    return max(16, min(1024, 2**22 // max(1, values)))


def find_sampler(name: str) -> SamplerName:
    """Takes a sampler's name apart.

    Args:
        name: str, one of `SAMPLER_NAMES`.

    Returns:
        A `SamplerName`.

    Raises:
        ValueError: if there is no such sampler; names the one most alike, or says what does not go
            before what.
    """
    if name in SAMPLER_NAMES:
        return SAMPLER_NAMES[name]
    for table in (CONDITIONS, SMOOTHINGS):
        for before in table:
            if name.startswith(before) and name.removeprefix(before) in SAMPLER_NAMES:
                raise ValueError(
                    f"{before!r} does not go before {name.removeprefix(before)!r}. It goes before "
                    f"{', '.join(_followers(before))}."
                )
    parts = [*SAMPLERS, *(f"{before}..." for before in (*SMOOTHINGS, *CONDITIONS))]
    raise unknown("sampler", name, SAMPLER_NAMES, parts)


def _followers(before: str) -> list[str]:
    """The samplers that something may stand directly before, other than smoothed ones."""
    names = [name.removeprefix(before) for name in SAMPLER_NAMES if name.startswith(before)]
    return [name for name in names if name in SAMPLERS]


def build_sampler(
    name: str,
    dataset: BaseDataset,
    policy: ReweightingPolicy,
    wrapper: ModelWrapper,
    hp: Hyperparams,
    **options: Any,
) -> BaseSampler:
    """Makes a sampler by its name.

    Args:
        name: str, one of `SAMPLER_NAMES`.
        dataset: a `BaseDataset`.
        policy: a `ReweightingPolicy`.
        wrapper: a `ModelWrapper`.
        hp: hyper-parameters.
        **options: keyword arguments of all samplers, `rng` for one.

    Returns:
        A `BaseSampler`.
    """
    found = find_sampler(name)
    parts = Parts(dataset, policy, wrapper, forward_batch_size(dataset, hp), options)
    sampler = found.base.make(hp, parts)
    for row in found.before:
        sampler = row.make(hp, sampler)
    return sampler
