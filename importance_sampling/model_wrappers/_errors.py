"""The score `acc`: which predictions are wrong."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def wrong_share(
    targets: list[Any], outputs: list[Any], masks: list[Any], endings: list[Any]
) -> Any:
    """Share of wrong predictions per sample (its mean over outputs), `(n,)`.

    Args:
        targets: labels or one-hot rows of each output.
        outputs: the predictions.
        masks: for each output which steps count, None for all.
        endings: the activation each output ends in.
    """
    total = 0.0
    for target, output, mask, ending in zip(targets, outputs, masks, endings, strict=True):
        wrong = _wrong(target, output, ending)
        wrong = ops.reshape(wrong, (ops.shape(wrong)[0], -1))
        if mask is None:
            total = total + ops.mean(wrong, axis=-1)
        else:
            valid = ops.reshape(ops.cast(mask, "float32"), ops.shape(wrong))
            kept = ops.maximum(ops.sum(valid, axis=-1), 1.0)
            total = total + ops.sum(wrong * valid, axis=-1) / kept
    return total / len(outputs)


def _wrong(target: Any, output: Any, ending: Any) -> Any:
    classes = output.shape[-1] if len(output.shape) > 1 else 1
    if classes == 1:
        cut = 0.0 if ending is keras.activations.linear else 0.5
        label = ops.cast(ops.reshape(target, ops.shape(output)), "float32") > 0.5
        return ops.cast(ops.not_equal(output > cut, label), "float32")
    if len(target.shape) == len(output.shape) and target.shape[-1] == classes:
        target = ops.argmax(target, axis=-1)
    guess = ops.argmax(output, axis=-1)
    target = ops.cast(ops.reshape(target, ops.shape(guess)), guess.dtype)
    return ops.cast(ops.not_equal(guess, target), "float32")
