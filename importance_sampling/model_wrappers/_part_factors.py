"""What makes losses of a part of a batch those of the batch, whose rest other processes have."""

from __future__ import annotations

from keras import ops

from .._arrays import Nested
from ..backend.base import AnyShare, Tensor
from ..backend.processes import Share
from ._weighted_loss import WeightedLoss


def factors_of_part(
    share: AnyShare | None, loss: WeightedLoss, y: Nested, masks: list[Tensor | None]
) -> list[Tensor] | None:
    """Factors `(n,)` for each output; None where the losses are those of the batch already.

    Keras divides by the valid steps of the rows that it is given, which differ from part to part.

    Args:
        share: which rows of the batch they are; None for all.
        loss: the model's loss.
        y: their targets.
        masks: the masks of their outputs.
    """
    if share is None or not loss.has_masked_timesteps:
        return None
    counts = loss.count_valid(y, masks)
    return loss.valid_step_factors(counts, share.mean(counts))


def mean_valid_steps(share: AnyShare | None, counts: Tensor, known: Tensor | None) -> Tensor | None:
    """The mean of valid steps that the loss is to be divided by.

    Args:
        share: which rows of the batch the counts are of; None for all.
        counts: `(n, outputs)` valid steps.
        known: `(outputs,)` the mean over the training set, 0 where it is not known; or None.

    Returns:
        `known`; of a part of a batch, with that of the whole batch where no other is known.
    """
    if share is None:
        return known
    mean = share.mean(counts)
    return mean if known is None else ops.where(known > 0.0, known, mean)


def loss_of_batch(share: Share, value: Tensor, added: list[Tensor]) -> Tensor:
    """A summed loss of a part of a batch as one whose mean over all rows is the sum over the batch.

    Args:
        share: which rows of the batch it is of.
        value: the loss.
        added: what regularizers have added to it, which is the same for every part.
    """
    regularization = sum(ops.sum(each) for each in added)
    return regularization + share.rows_per_own * (value - regularization)
