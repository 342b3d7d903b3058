"""Every network by name: builds, trains by importance, saves and loads."""

import keras
import numpy as np
import pytest
from spread import full

from importance_sampling import models
from importance_sampling.training import ImportanceTraining

IMAGE = (32, 32, 3)
SMALL_IMAGE = (8, 8, 3)
CLASSES = 5

CONTRACT = [
    *("small_nn", "svrg_nn", "small_cnn", "small_cnn_sq", "cnn", "all_conv", "elu_cnn"),
    *("lstm_lm", "lstm_lm2", "lstm_lm3", "lstm_timit", "lstm_mnist"),
    *("wide_resnet_16_4", "wide_resnet_16_4_dropout", "wide_resnet_28_2"),
    *("wide_resnet_28_10", "wide_resnet_28_10_dropout"),
    *("pretrained_resnet50", "pretrained_densenet121"),
    *("triplet_pre_resnet50", "triplet_pre_densenet121", "face_pre_resnet50"),
]


def build(name):
    """The model, and inputs and targets of four examples."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 4)
    one_hot = np.eye(CLASSES, dtype="float32")[labels]
    weights = {"weights": None} if "pre" in name else {}
    shape, y = SMALL_IMAGE, one_hot
    if name == "small_nn":
        shape = (2,)
    elif name.startswith("lstm_lm"):
        shape, y = (6,), labels[:, None]
    elif name == "lstm_timit":
        shape, y = (4, 3), labels[:, None]
    elif name == "lstm_mnist":
        shape = (5, 1)
    elif name == "elu_cnn" or "pre" in name:
        shape = IMAGE
    if name.startswith("face"):
        y = labels[:, None]
    if name.startswith("triplet"):
        shape, y = [IMAGE] * 3, np.full((4, 1), 0.2, "float32")
    model = models.get(name)(shape, CLASSES, **weights)
    if name.startswith("lstm_lm"):
        x = rng.integers(1, CLASSES + 1, (4, 6)) * (np.arange(6) < 4)
    elif name.startswith("triplet"):
        x = [rng.random((4, *IMAGE), "float32") for _ in range(3)]
    else:
        x = rng.random((4, *shape), "float32")
    return model, x, y


def test_names_are_those_of_the_contract():
    assert models.names() == CONTRACT
    with pytest.raises(ValueError, match=r"no model 'smal_cnn'\. Did you mean 'small_cnn'"):
        models.get("smal_cnn")


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.any_backend
@pytest.mark.parametrize("name", CONTRACT)
def test_every_name_trains_by_importance_and_saves(name, tmp_path):
    model, x, y = build(name)
    assert model.compiled
    # Compiling hundreds of layers takes longer than their one step; JAX only knows compiled ones.
    heavy = "pre" in name or "28" in name
    model.run_eagerly = heavy and keras.backend.backend() == "tensorflow"
    before = [np.array(w) for w in model.get_weights()]
    # All triplets that miss their margin have a gradient of the same size.
    score = "loss" if name.startswith("triplet") else "gnorm"
    training = ImportanceTraining(model, presample=2.0, tau_th=1.0, score=score)
    history = training.fit(x, y, batch_size=2, epochs=1, steps_per_epoch=2, verbose=0).history
    after = model.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    assert history["importance_sampling"][-1] > 0
    if heavy and not full():
        # What is in the file beside hundreds of megabytes of weights.
        config = keras.saving.serialize_keras_object(model)
        again = keras.saving.deserialize_keras_object(config)
    else:
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        for old, new in zip(after, again.get_weights(), strict=True):
            np.testing.assert_array_equal(new, old)
    kinds = [[(type(layer), layer.name) for layer in m.layers] for m in (model, again)]
    assert kinds[0] == kinds[1]
    assert again.optimizer.get_config() == model.optimizer.get_config()
    if not heavy:
        expected, got = (m.predict(x, verbose=0) for m in (model, again))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
