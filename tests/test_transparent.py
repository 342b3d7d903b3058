"""Models that return what went on inside."""

import keras
import numpy as np
import pytest
from helpers import CLASSES, FEATURES, data
from keras import layers

from importance_sampling.transparent import TransparentModel

pytestmark = [pytest.mark.exact, pytest.mark.one_backend]


def build(observed=True, dropout=0.5):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(8, activation="tanh")(inputs)
    dropped = layers.Dropout(dropout, seed=1)(hidden)
    outputs = layers.Dense(CLASSES, activation="softmax")(dropped)
    if observed is None:
        model = keras.Model(inputs, outputs)
    else:
        tensors = [hidden, dropped, outputs] if observed else None
        model = TransparentModel(inputs, outputs, observed_tensors=tensors)
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="a_top_2")]
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=metrics)
    return model


def test_trains_as_keras_and_returns_the_same_pass():
    x, y = data(12)
    model, plain = build(), build(None)
    for _ in range(2):
        for batch in (slice(0, 5), slice(0, 1)):
            before = model.get_weights()
            got = model.train_on_batch(x[batch], y[batch])
            expected = plain.train_on_batch(x[batch], y[batch])
            np.testing.assert_allclose(got[:3], expected, rtol=1e-5)
            hidden, dropped, outputs = got[3:]
            # of the weights before the step, and of one and the same dropout
            np.testing.assert_allclose(
                hidden, np.tanh(x[batch] @ before[0] + before[1]), rtol=1e-5, atol=1e-6
            )
            kept = dropped != 0
            np.testing.assert_allclose(dropped[kept], 2 * hidden[kept], rtol=1e-6)
            logits = dropped @ before[2] + before[3]
            exponentials = np.exp(logits - logits.max(1, keepdims=True))
            np.testing.assert_allclose(
                outputs, exponentials / exponentials.sum(1, keepdims=True), rtol=1e-4
            )
            loss = -np.log(outputs[np.arange(len(outputs)), y[batch]]).mean()
            np.testing.assert_allclose(got[0], loss, rtol=1e-4)
        # Keras' own fit in between neither sees the observed tensors nor is seen by them
        for m in (model, plain):
            history = m.fit(x, y, verbose=0, shuffle=False)
        assert set(history.history) == {"loss", "accuracy", "a_top_2"}
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_test_on_batch_dicts_and_other_methods():
    x, y = data(7)
    model, plain = build(), build(None)
    got, expected = model.test_on_batch(x, y), plain.test_on_batch(x, y)
    np.testing.assert_allclose(got[:3], expected, rtol=1e-5)
    np.testing.assert_array_equal(got[3], got[4])
    np.testing.assert_allclose(got[5], plain.predict(x, verbose=0), rtol=1e-5)
    as_dict = model.test_on_batch(x, y, return_dict=True)
    assert set(as_dict) == {"loss", "accuracy", "a_top_2", "observed_0", "observed_1", "observed_2"}
    np.testing.assert_array_equal(as_dict["observed_2"], got[5])
    assert "observed_0" in model.train_on_batch(x, y, return_dict=True)
    plain.train_on_batch(x, y)
    np.testing.assert_allclose(
        model.evaluate(x, y, verbose=0), plain.evaluate(x, y, verbose=0), rtol=1e-5
    )
    assert model.predict(x, verbose=0).shape == (7, CLASSES)
    assert model(x).shape == (7, CLASSES)


def test_weights_are_honoured():
    x, y = data(6)
    model, plain = build(), build(None)
    w = np.arange(6.0)
    np.testing.assert_allclose(
        model.train_on_batch(x, y, sample_weight=w)[0], plain.train_on_batch(x, y, w)[0], rtol=1e-5
    )
    for m in (model, plain):
        m.train_on_batch(x, y, class_weight={0: 0.0, 1: 3.0, 2: 1.0, 3: 1.0})
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_compiling_again_counts():
    x, y = data(6)
    model = build(dropout=0.0)
    model.train_on_batch(x, y)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    before = model.get_weights()
    model.train_on_batch(x, y)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_observed_saving_and_errors(tmp_path):
    x, y = data(6)
    assert len(build(False).train_on_batch(x, y)) == 3
    model = build()
    assert len(model.weights) == len(build(None).weights)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, TransparentModel)
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)
    assert len(again.train_on_batch(x, y)) == 3
    with pytest.raises(TypeError, match=r"must be Keras tensors .* got ndarray"):
        TransparentModel(model.input, model.output, observed_tensors=[x])
