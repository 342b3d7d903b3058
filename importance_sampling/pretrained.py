"""Networks of `keras.applications` with their normalization exchanged, to be fine-tuned."""

from __future__ import annotations

from ._requirements import check_backend

# Before Keras, whose own error does not say what to install.
check_backend()

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ._files import AnyPath
from .layers import StatsBatchNorm
from .utils.keras_utils import load_weights_by_name

__all__ = ["DenseNet121", "ResNet50"]

_CLASSES = 1000
"""Classes of ImageNet."""

NormLayer = Callable[..., keras.Layer]


def ResNet50(
    weights: AnyPath | None = "imagenet",
    input_shape: Sequence[int] = (224, 224, 3),
    output_size: int = 1000,
    softmax: bool = False,
    norm_layer: NormLayer = StatsBatchNorm,
) -> keras.Model:
    """ResNet-50 ([1512.03385](https://arxiv.org/abs/1512.03385)) on `keras.applications`.

    Args:
        weights: "imagenet" downloads what `keras.applications` offers; the path of a `.h5` or
            `.weights.h5` file with layers of the same names loads that, with or without the last
            layer; `None` starts from random weights. Defaults to "imagenet".
        input_shape: tuple, height, width and 3 channels. Defaults to `(224, 224, 3)`.
        output_size: int, size of the last layer; with 1000 it is pretrained too. Defaults to
            `1000`.
        softmax: bool, whether a softmax follows. Defaults to `False`.
        norm_layer: what takes the place of batch normalization, called with `name` and `epsilon`.
            Scale, offset and moving statistics are carried over to those that it has. Defaults to
            `StatsBatchNorm`, for which an example's score does not depend on its batch.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        FileNotFoundError: if there is no such file.
        RuntimeError: if the weights cannot be downloaded.
        ValueError: if the file lacks weights of the network.
    """
    return _build(
        keras.applications.ResNet50, weights, input_shape, output_size, softmax, norm_layer
    )


def DenseNet121(
    weights: AnyPath | None = "imagenet",
    input_shape: Sequence[int] = (224, 224, 3),
    output_size: int = 1000,
    softmax: bool = False,
    norm_layer: NormLayer = StatsBatchNorm,
) -> keras.Model:
    """DenseNet-121 ([1608.06993](https://arxiv.org/abs/1608.06993)) on `keras.applications`.

    Args:
        weights: "imagenet", the path of a weights file or `None`, as in `ResNet50`.
        input_shape: tuple, height, width and 3 channels. Defaults to `(224, 224, 3)`.
        output_size: int, size of the last layer. Defaults to `1000`.
        softmax: bool, whether a softmax follows. Defaults to `False`.
        norm_layer: what takes the place of batch normalization. Defaults to `StatsBatchNorm`.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        FileNotFoundError: if there is no such file.
        RuntimeError: if the weights cannot be downloaded.
        ValueError: if the file lacks weights of the network.
    """
    return _build(
        keras.applications.DenseNet121, weights, input_shape, output_size, softmax, norm_layer
    )


def _build(
    application: Callable[..., keras.Model],
    weights: AnyPath | None,
    input_shape: Sequence[int],
    output_size: int,
    softmax: bool,
    norm_layer: NormLayer,
) -> keras.Model:
    path = None if weights in (None, "imagenet") else Path(weights)
    if path is not None and not path.is_file():
        raise FileNotFoundError(
            f"There is no weights file {path}. `weights` is 'imagenet', None or the path of a "
            ".h5 or .weights.h5 file."
        )
    shape = tuple(input_shape)
    base = application(include_top=False, weights=None, input_shape=shape, pooling="avg")
    if path is not None:
        # Before the exchange, because the file speaks of batch normalization.
        _load_file(path, base)
    top = None
    if weights == "imagenet":
        source = _download(application, with_top=output_size == _CLASSES)
        base.set_weights(source.get_weights()[: len(base.weights)])
        if output_size == _CLASSES:
            top = source.layers[-1].get_weights()
    body = _exchange(base, norm_layer)

    head = keras.layers.Dense(output_size, name=f"fc{output_size}")
    outputs = head(body.output)
    if softmax:
        outputs = keras.layers.Activation("softmax", name="softmax")(outputs)
    model = keras.Model(body.input, outputs, name=base.name)
    if top is not None:
        head.set_weights(top)
    elif path is not None:
        load_weights_by_name(path, [head])
    return model


def _load_file(path: Path, base: keras.Model) -> None:
    loaded = set(load_weights_by_name(path, base))
    lacking = [w.path for w in base.weights if w.path not in loaded]
    if lacking:
        raise ValueError(
            f"{path} lacks {len(lacking)} of the {len(base.weights)} weights of {base.name}, "
            f"{lacking[0]} for one. Its layers must have the names that "
            f"`keras.applications` gives them."
        )


def _download(application: Callable[..., keras.Model], with_top: bool) -> keras.Model:
    try:
        return application(include_top=with_top, weights="imagenet")
    except Exception as error:
        raise RuntimeError(
            f"The ImageNet weights of {application.__name__} could not be downloaded ({error}). "
            "Without a network, pass the path of a weights file or None as `weights`."
        ) from error


def _exchange(base: keras.Model, norm_layer: NormLayer) -> keras.Model:
    """The same network and weights with another layer for each batch normalization."""
    normalizations = {
        layer.name for layer in base.layers if isinstance(layer, keras.layers.BatchNormalization)
    }

    def clone(layer: keras.Layer) -> keras.Layer:
        if layer.name in normalizations:
            return norm_layer(name=layer.name, epsilon=layer.epsilon)
        return type(layer).from_config(layer.get_config())

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        # `mask` and `training` as recorded for batch normalization are not every layer's.
        exchanged = layer.name in normalizations
        return layer(*args) if exchanged else layer(*args, **kwargs)

    body = keras.models.clone_model(base, clone_function=clone, call_function=call)
    for old, new in zip(base.layers, body.layers, strict=True):
        if old.name in normalizations:
            _carry_over(old, new)
        else:
            new.set_weights(old.get_weights())
    return body


def _carry_over(old: keras.Layer, new: keras.Layer) -> None:
    values = {w.name: np.asarray(v) for w, v in zip(old.weights, old.get_weights(), strict=True)}
    values["moving_sigma"] = np.sqrt(values["moving_variance"] + old.epsilon)
    for weight in new.weights:
        value = values.get(weight.name)
        if value is not None and value.size == np.prod(weight.shape):
            weight.assign(value.reshape(weight.shape))
