"""`tf.data.Dataset` as training data."""

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data
from keras import layers
from like_keras import BATCH, SHAPES, N, check_weights_after_two_epochs

from importance_sampling import ImportanceTraining

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact


def tf_data(*arrays):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays)


def of_unknown_shape(*arrays):
    import tensorflow as tf

    kinds = tuple(tf.float32 for _ in arrays)
    return tf.data.Dataset.from_generator(
        lambda: (tuple(a[i : i + BATCH] for a in arrays) for i in range(0, N, BATCH)),
        output_types=kinds,
    )


KINDS = {
    "of batches": lambda *a: tf_data(*a).batch(BATCH),
    "the last batch dropped": lambda *a: tf_data(*a).batch(BATCH, drop_remainder=True),
    "of unknown shape": of_unknown_shape,
}


@pytest.mark.slow
@exact
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_after_two_epochs_are_those_of_model_fit(kind, rank):
    if kind == "of unknown shape" and keras.backend.backend() == "tensorflow":
        pytest.skip("Keras on TensorFlow cannot read data of unknown shape")
    check_weights_after_two_epochs(KINDS[kind], rank)


@exact
def test_validation_data_of_unknown_shape_is_read_on_every_backend():
    x, y = data(N)
    model = adam_mlp()
    history = ImportanceTraining(model).fit(
        x, y, verbose=0, validation_data=of_unknown_shape(x, y.astype("float32"))
    )
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    for name, value in expected.items():
        np.testing.assert_allclose(history.history[f"val_{name}"], [value], rtol=1e-4)


@pytest.mark.one_backend("tensorflow")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has strings")
def test_a_dict_of_strings_and_numbers_is_read_as_keras_reads_it():
    words = np.array(["u", "v", "w", "u", "v"] * 10)
    numbers = np.linspace(-1, 1, N).astype("float32")
    y = numbers + (words == "u")

    def make():
        word, number = keras.Input((1,), name="word", dtype="string"), keras.Input((1,), name="n")
        code = layers.StringLookup(vocabulary=["u", "v", "w"], output_mode="one_hot")(word)
        outputs = layers.Dense(1)(layers.Concatenate()([code, number]))
        model = keras.Model({"word": word, "n": number}, outputs)
        model.compile("sgd", "mse")
        return model

    models = [make(), make()]
    models[1].set_weights(models[0].get_weights())
    rows = tf_data({"word": words, "n": numbers}, y).batch(BATCH)
    models[0].fit(rows, epochs=2, verbose=0)
    ImportanceTraining(models[1], tau_th=1e9).fit(rows, epochs=2, verbose=0)
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tau_th", [0.0, 1e9])
def test_data_of_unknown_length_has_as_many_steps_as_batches(tau_th):
    x, y = data(N)
    rows = tf_data(x, y).filter(lambda a, b: True).batch(BATCH)
    model = adam_mlp()
    history = ImportanceTraining(model, tau_th=tau_th, seed=0).fit(rows, epochs=3, verbose=0)
    assert int(model.optimizer.iterations.value) == 12
    assert history.history["importance_sampling"][-1] == (tau_th == 0)
