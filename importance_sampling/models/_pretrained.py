"""Networks on top of pretrained ones: classification, triplets, faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import keras
from keras import layers, ops

from .. import pretrained
from .._files import AnyPath
from ..backend.base import Tensor
from ..layers import TripletLossLayer

Builder = Callable[..., keras.Model]


def finetuned(network: str) -> Builder:
    """A classifier whose weights start from ImageNet's."""

    def build(
        input_shape: Sequence[int], output_size: int, *, weights: AnyPath | None = "imagenet"
    ) -> keras.Model:
        net = getattr(pretrained, network)
        return compiled(partial(net, softmax=True), weights)(input_shape, output_size)

    return build


def compiled(Net: Builder, weights: AnyPath | None = "imagenet") -> Builder:
    """A function of `(input_shape, output_size)` that builds a network and compiles it.

    Args:
        Net: `pretrained.ResNet50`, `pretrained.DenseNet121` or a function of the same arguments.
        weights: "imagenet", a path or `None`, as those take it. Defaults to "imagenet".
    """

    def build(input_shape: Sequence[int], output_size: int) -> keras.Model:
        model = Net(weights=weights, input_shape=tuple(input_shape), output_size=output_size)
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        return model

    return build


def _embedding(
    network: str | Builder, weights: AnyPath | None, shape: Sequence[int], size: int
) -> keras.Model:
    """A network by its name in `pretrained`, or by a function of `(input_shape, output_size)`."""
    if isinstance(network, str):
        return getattr(pretrained, network)(weights, tuple(shape), size)
    return network(tuple(shape), size)


@keras.saving.register_keras_serializable("importance_sampling")
def triplet_loss(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """By how much the margin is missed.

    Args:
        y_true: `(n, 1)` margins.
        y_pred: `(n, 1)`, what `TripletLossLayer` gives.

    Returns:
        `(n,)`, 0 where the negative example is farther by the margin.
    """
    return ops.mean(ops.relu(y_true - y_pred), axis=-1)


@keras.saving.register_keras_serializable("importance_sampling")
def neg_minus_pos(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """How much nearer the positive example is than the negative one.

    Args:
        y_true: not looked at.
        y_pred: `(n, 1)`, what `TripletLossLayer` gives.

    Returns:
        `y_pred`.
    """
    return y_pred


def triplet(network: str | Builder) -> Builder:
    """Embeds an anchor, a positive and a negative example; targets are the margins."""

    def build(
        input_shape: Sequence[Sequence[int]],
        output_size: int,
        *,
        weights: AnyPath | None = "imagenet",
    ) -> keras.Model:
        shapes = [tuple(shape) for shape in input_shape]
        if len(shapes) != 3 or len(set(shapes)) != 1:
            raise ValueError(
                "A triplet network takes three inputs of one shape, such as [(224, 224, 3)] * 3, "
                f"got {input_shape!r}."
            )
        embed = _embedding(network, weights, shapes[0], output_size)
        inputs = [keras.Input(shape) for shape in shapes]
        embeddings = layers.concatenate([embed(x) for x in inputs])
        outputs = TripletLossLayer()(embeddings)
        model = keras.Model(inputs, outputs, name=f"triplet_{embed.name}")
        model.compile("adam", triplet_loss, metrics=[neg_minus_pos])
        return model

    return build


def face(network: str | Builder, embedding: int) -> Builder:
    """A classifier of persons by an embedding of their face; targets are integers.

    Args:
        network: name of a network in `pretrained`, or a function of `(input_shape, output_size)`.
        embedding: int, size of the embedding.

    Returns:
        A function of `(input_shape, output_size)`, the image's shape and the number of persons,
        that returns a compiled `keras.Model`; with a name it also takes `weights`.
    """

    def build(
        input_shape: Sequence[int], output_size: int, *, weights: AnyPath | None = "imagenet"
    ) -> keras.Model:
        inputs = keras.Input(tuple(input_shape))
        x = _embedding(network, weights, input_shape, embedding)(inputs)
        outputs = layers.Activation("softmax")(layers.Dense(output_size)(x))
        model = keras.Model(inputs, outputs)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    return build
