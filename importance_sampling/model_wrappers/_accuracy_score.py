"""The score `acc`: which predictions are wrong."""

from __future__ import annotations

import keras
from keras import ops

from ..backend.base import Tensor
from ..layers.activations import Activation


def wrong_share(
    targets: list[Tensor],
    outputs: list[Tensor],
    masks: list[Tensor | None],
    activations: list[Activation | None],
) -> Tensor:
    """Share of wrong predictions of each sample, averaged over the outputs.

    Args:
        targets: labels or one-hot rows of each output.
        outputs: the predictions.
        masks: for each output which steps count, None for all.
        activations: the last activation of each output, None where it is not known.

    Returns:
        `(n,)` float32.
    """
    total = 0.0
    for target, output, mask, activation in zip(targets, outputs, masks, activations, strict=True):
        wrong = _is_wrong(target, output, activation)
        wrong = ops.reshape(wrong, (ops.shape(wrong)[0], -1))
        if mask is None:
            total = total + ops.mean(wrong, axis=-1)
        else:
            valid = ops.reshape(ops.cast(mask, "float32"), ops.shape(wrong))
            kept = ops.maximum(ops.sum(valid, axis=-1), 1.0)
            total = total + ops.sum(wrong * valid, axis=-1) / kept
    return total / len(outputs)


def _is_wrong(target: Tensor, output: Tensor, activation: Activation | None) -> Tensor:
    classes = output.shape[-1] if len(output.shape) > 1 else 1
    if classes == 1:
        cut = 0.0 if activation is keras.activations.linear else 0.5
        label = ops.cast(ops.reshape(target, ops.shape(output)), "float32") > 0.5
        return ops.cast(ops.not_equal(output > cut, label), "float32")
    if len(target.shape) == len(output.shape) and target.shape[-1] == classes:
        target = ops.argmax(target, axis=-1)
    guess = ops.argmax(output, axis=-1)
    target = ops.cast(ops.reshape(target, ops.shape(guess)), guess.dtype)
    return ops.cast(ops.not_equal(guess, target), "float32")
