"""Batches of inputs alone."""

import keras
import numpy as np
import pytest
from helpers import CLASSES, FEATURES, adam_mlp, data
from keras import layers
from like_keras import BATCH, N
from test_tf_data import tf_data

from importance_sampling import ImportanceTraining
from importance_sampling.datasets import IndexedExamples


class Autoencoder(keras.Model):
    """Needs no targets: its loss compares the outputs with the inputs."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = layers.Dense(2), layers.Dense(FEATURES)

    def call(self, x):
        return self.outer(self.inner(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        losses = keras.ops.mean(keras.ops.square(x - y_pred), axis=-1)
        if sample_weight is not None:
            losses = losses * sample_weight
        return keras.ops.mean(losses)


def test_bare_inputs_train_a_model_whose_loss_needs_no_targets():
    x, _ = data(N)
    models = [Autoencoder(), Autoencoder()]
    for model in models:
        model.compile(keras.optimizers.Adam(0.01))
        model(x[:1])
    models[1].set_weights(models[0].get_weights())
    models[0].fit(x, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    ImportanceTraining(models[1], tau_th=1e9).fit(tf_data(x).batch(BATCH), epochs=2, verbose=0)
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["indexed", "memory map", "other byte order"])
def test_bare_inputs_validate_a_model_whose_loss_needs_no_targets(kind, tmp_path):
    """As arrays do; Keras on TensorFlow takes no batches with a part that is None."""
    x, _ = data(N)
    np.save(tmp_path / "x.npy", x)
    held_out = {
        "indexed": IndexedExamples([(row,) for row in x]),
        "memory map": (np.load(tmp_path / "x.npy", mmap_mode="r"), None),
        "other byte order": (x.astype(x.dtype.newbyteorder()), None),
    }[kind]
    model = Autoencoder()
    model.compile(keras.optimizers.SGD(0.0))
    training = ImportanceTraining(model, tau_th=1e9)
    found, expected = (
        training.fit(x, None, BATCH, verbose=0, validation_data=rows).history["val_loss"]
        for rows in (held_out, (x, None))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_bare_inputs_are_refused_for_other_models():
    x, _ = data(N)
    model = adam_mlp()
    with pytest.raises(ValueError, match="got inputs without targets"):
        ImportanceTraining(model).fit(tf_data(x).batch(BATCH), verbose=0)
    assert model.output_shape == (None, CLASSES)
