"""Networks by name, built and compiled for a data set's shapes.

```python
from importance_sampling import models

model = models.get("small_cnn")((28, 28, 1), 10)
```
"""

from __future__ import annotations

from .._requirements import check_backend

# Before Keras, whose own error does not say what to install.
check_backend()

from collections.abc import Callable

import keras

from .._names import unknown
from ._convolutional import all_conv, cnn, elu_cnn, small_cnn, small_cnn_sq
from ._dense import logistic_regression, small_nn, svrg_nn
from ._pretrained import compiled as pretrained
from ._pretrained import face, finetuned, neg_minus_pos, triplet, triplet_loss
from ._recurrent import language_model, lstm_mnist, lstm_timit
from ._wide_resnet import wide_resnet

__all__ = ["get", "names", "neg_minus_pos", "pretrained", "triplet_loss", "wide_resnet"]

Builder = Callable[..., keras.Model]

_BUILDERS: dict[str, Builder] = {
    "small_nn": small_nn,
    "svrg_nn": svrg_nn,
    "small_cnn": small_cnn,
    "small_cnn_sq": small_cnn_sq,
    "cnn": cnn,
    "all_conv": all_conv,
    "elu_cnn": elu_cnn,
    "lstm_lm": language_model(embedding=64, units=256),
    "lstm_lm2": language_model(embedding=128, units=384, drop_rate=0.5),
    "lstm_lm3": language_model(embedding=128, units=650, drop_rate=0.5),
    "lstm_timit": lstm_timit,
    "lstm_mnist": lstm_mnist,
    "wide_resnet_16_4": wide_resnet(16, 4),
    "wide_resnet_16_4_dropout": wide_resnet(16, 4, 0.3),
    "wide_resnet_28_2": wide_resnet(28, 2),
    "wide_resnet_28_10": wide_resnet(28, 10),
    "wide_resnet_28_10_dropout": wide_resnet(28, 10, 0.3),
    "pretrained_resnet50": finetuned("ResNet50"),
    "pretrained_densenet121": finetuned("DenseNet121"),
    "triplet_pre_resnet50": triplet("ResNet50"),
    "triplet_pre_densenet121": triplet("DenseNet121"),
    "face_pre_resnet50": face("ResNet50", embedding=128),
}

# The names that scripts of 0.10 import.
build_small_nn, build_svrg_nn, build_lr = small_nn, svrg_nn, logistic_regression
build_small_cnn, build_small_cnn_squared, build_cnn = small_cnn, small_cnn_sq, cnn
build_all_conv_nn, build_elu_cnn = all_conv, elu_cnn
build_lstm_lm, build_lstm_lm2, build_lstm_lm3 = (
    _BUILDERS[name] for name in ("lstm_lm", "lstm_lm2", "lstm_lm3")
)
build_lstm_timit, build_lstm_mnist = lstm_timit, lstm_mnist


def names() -> list[str]:
    """The names that `get` knows."""
    return list(_BUILDERS)


def get(name: str) -> Builder:
    """Returns a function that builds a network.

    Args:
        name: str, one of `names()`.

    Returns:
        A function of `(input_shape, output_size)` (a data set's `shape` and `output_size`) that
        returns a compiled `keras.Model`. Those with "pre" in their name also take `weights`:
        "imagenet" (the default), `None` or the path of a weights file.

    Raises:
        ValueError: if there is no such network; names the one most alike.
    """
    if name not in _BUILDERS:
        raise unknown("model", name, _BUILDERS)
    return _BUILDERS[name]
