"""Data sets of files, augmented and rearranged ones, trained on through the public API."""

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from importance_sampling import models
from importance_sampling.datasets import (
    CASIAWebFace,
    CIFARSanityCheck,
    InMemoryImageDataset,
    OntheflyAugmentedImages,
    PennTreeBank,
)
from importance_sampling.layers import TripletLossLayer
from importance_sampling.training import ApproximateImportanceTraining, ImportanceTraining

pytestmark = [pytest.mark.end_to_end, pytest.mark.any_backend]


def test_copies_are_learnt_and_no_longer_drawn(data_folder):
    """What the sanity check was made for, on real images."""
    dataset = CIFARSanityCheck(replicate=6000, path=data_folder / "cifar10_12k.npz")
    n = len(dataset.train_data)
    model = keras.Sequential(
        [
            layers.Input(dataset.shape),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(dataset.output_size, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    drawn = []
    training = ImportanceTraining(model, presample=4.0, tau_th=1.1)
    history = training.fit_dataset(
        dataset,
        steps_per_epoch=40,
        epochs=4,
        batch_size=32,
        verbose=0,
        on_sample=lambda sampler, idxs, w, scores: drawn.append(np.asarray(idxs) >= n - 6000),
    ).history
    share = 6000 / n
    assert 0.6 < share < 0.8
    # Uniform draws of the last 80 steps: 2560 coins with this share, six deviations below it.
    last = np.concatenate(drawn[-80:])
    assert len(last) == 80 * 32
    assert last.mean() < share - 6 * np.sqrt(share * (1 - share) / len(last))
    # and far below, because the copies' gradients all but vanish
    assert last.mean() < share / 3
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
def test_augmented_images(data_folder):
    with np.load(data_folder / "cifar10_12k.npz") as data:
        part = [data["x_train"][:512], data["y_train"][:512], data["x_test"][:64]]
        base = InMemoryImageDataset(*part, data["y_test"][:64])
    dataset = OntheflyAugmentedImages(
        base, {"width_shift_range": 0.1, "horizontal_flip": True, "featurewise_center": True}
    )
    model = models.get("svrg_nn")(dataset.shape, dataset.output_size)
    history = ApproximateImportanceTraining(model, presample=256).fit_dataset(
        dataset, steps_per_epoch=20, epochs=2, batch_size=32, verbose=0
    )
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert 0 <= history.history["val_accuracy"][-1] <= 1


@pytest.mark.slow
def test_triplets_of_faces(tmp_path):
    rng = np.random.default_rng(0)
    for person in (1, 2, 3, 5, 10):
        (tmp_path / str(person)).mkdir()
        for i in range(4):
            colour = (25 * person + rng.integers(0, 20), 10 * person, 120)
            Image.new("RGB", (32, 32), tuple(map(int, colour))).save(
                tmp_path / str(person) / f"{i:03d}.jpg"
            )
    dataset = CASIAWebFace(tmp_path, embedding=4, triplets=4)
    embed = keras.Sequential(
        [
            layers.Input((224, 224, 3)),
            layers.Rescaling(1 / 128),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    inputs = [keras.Input(shape) for shape in dataset.shape]
    outputs = TripletLossLayer()(layers.concatenate([embed(x) for x in inputs]))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), models.triplet_loss, metrics=[models.neg_minus_pos])
    history = ImportanceTraining(model, presample=2.0, tau_th=1.01, score="loss").fit_dataset(
        dataset, steps_per_epoch=10, epochs=3, batch_size=8, verbose=0
    )
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert "val_loss" in history.history


@pytest.mark.slow
def test_a_language_model(tmp_path):
    rng = np.random.default_rng(0)
    # the word after "a" is "b", after "b" is "c", ...; "x" may stand anywhere
    lines = []
    for _ in range(60):
        start = rng.integers(0, 20)
        lines.append(" ".join(chr(ord("a") + (start + i) % 23) for i in range(6)))
    for name in ("train", "valid"):
        (tmp_path / f"ptb.{name}.txt").write_text("\n".join(lines) + "\n")
    dataset = PennTreeBank(4, tmp_path, verbose=False)
    model = models.get("lstm_lm")(dataset.shape, dataset.output_size)
    history = ImportanceTraining(model, presample=2.0, tau_th=1.001).fit_dataset(
        dataset, steps_per_epoch=10, epochs=6, batch_size=32, verbose=0
    )
    assert history.history["loss"][-1] < 0.9 * history.history["loss"][0]
    assert history.history["importance_sampling"][-1] > 0
