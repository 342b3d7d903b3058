"""Normalizations and the triplet loss against numpy; saved, loaded and trained."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from importance_sampling import ImportanceTraining
from importance_sampling.layers import (
    BatchRenormalization,
    GroupNormalization,
    LayerNormalization,
    StatsBatchNorm,
    TripletLossLayer,
)

pytestmark = pytest.mark.two_backends

exact = pytest.mark.exact


def images(n=5, channels=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(2.0, 3.0, size=(n, 4, 3, channels)).astype("float32")


def run(layer, x, **kwargs):
    return ops.convert_to_numpy(layer(ops.convert_to_tensor(x), **kwargs))


def set_scale(layer, rng):
    """Scale and offset that would show if they were left out."""
    for weight in (layer.gamma, layer.beta):
        weight.assign(rng.normal(1.0, 0.3, size=weight.shape).astype("float32"))
    return ops.convert_to_numpy(layer.gamma), ops.convert_to_numpy(layer.beta)


@exact
@pytest.mark.parametrize("shape", [(8, 6), (8, 3, 6), (8, 4, 3, 6)])
def test_batch_renormalization(shape):
    rng = np.random.default_rng(0)
    layer = BatchRenormalization(
        momentum=0.8,
        rmax_0=1.0,
        rmax_inf=2.0,
        dmax_0=0.0,
        dmax_inf=1.0,
        rmax_duration=4,
        dmax_duration=2,
    )
    layer.build(shape)
    gamma, beta = set_scale(layer, rng)
    mean, sigma = np.zeros(6), np.ones(6)
    axes = tuple(range(len(shape) - 1))
    for step in range(6):
        x = rng.normal(1.0, 2.0, size=shape).astype("float32")
        inference = gamma * (x - mean) / sigma + beta
        np.testing.assert_allclose(run(layer, x, training=False), inference, rtol=1e-3, atol=1e-4)
        batch_mean, batch_sigma = x.mean(axes), np.sqrt(x.var(axes) + 1e-3)
        rmax, dmax = 1.0 + min(1, step / 4), min(1, step / 2)
        r = np.clip(batch_sigma / sigma, 1 / rmax, rmax)
        d = np.clip((batch_mean - mean) / sigma, -dmax, dmax)
        expected = gamma * ((x - batch_mean) / batch_sigma * r + d) + beta
        np.testing.assert_allclose(run(layer, x, training=True), expected, rtol=1e-3, atol=1e-4)
        mean = 0.8 * mean + 0.2 * batch_mean
        sigma = 0.8 * sigma + 0.2 * batch_sigma
        np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_mean), mean, rtol=1e-4)
        np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_sigma), sigma, rtol=1e-4)


@exact
@pytest.mark.parametrize("update", [False, True])
def test_stats_batch_norm(update):
    rng = np.random.default_rng(0)
    layer = StatsBatchNorm(momentum=0.5, update_stats=update)
    x = images()
    layer.build(x.shape)
    gamma, beta = set_scale(layer, rng)
    layer.moving_mean.assign(np.arange(6, dtype="float32"))
    layer.moving_variance.assign(np.arange(1, 7, dtype="float32"))
    expected = gamma * (x - np.arange(6)) / np.sqrt(np.arange(1, 7) + 1e-3) + beta
    for training in (False, True):
        np.testing.assert_allclose(run(layer, x, training=training), expected, rtol=1e-3, atol=1e-4)
    mean = np.arange(6.0)
    if update:
        mean = 0.5 * mean + 0.5 * x.mean((0, 1, 2))
    np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_mean), mean, rtol=1e-4)


@exact
@pytest.mark.parametrize(
    ("axes", "bias_axes", "reduced", "shapes"),
    [
        (None, [-1], (1, 2, 3), ((1, 1, 1, 1), (1, 1, 1, 6))),
        ([3], [-1], (1, 2), ((1, 1, 1, 6), (1, 1, 1, 6))),
        ([-1], [1, 2], (1, 2), ((1, 1, 1, 6), (1, 4, 3, 1))),
    ],
)
def test_layer_normalization(axes, bias_axes, reduced, shapes):
    x = images()
    layer = LayerNormalization(axes, bias_axes)
    layer.build(x.shape)
    assert (tuple(layer.gamma.shape), tuple(layer.beta.shape)) == shapes
    gamma, beta = set_scale(layer, np.random.default_rng(1))
    mean, variance = x.mean(reduced, keepdims=True), x.var(reduced, keepdims=True)
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-3, atol=1e-4)


@exact
@pytest.mark.parametrize("first", [False, True])
def test_group_normalization(first):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first" if first else "channels_last")
    try:
        layer = GroupNormalization(3)
        x = images()
        given = x.transpose(0, 3, 1, 2) if first else x
        got = run(layer, given)
    finally:
        keras.config.set_image_data_format(before)
    groups = x.reshape(5, 4, 3, 3, 2)
    mean = groups.mean((1, 2, 4), keepdims=True)
    variance = groups.var((1, 2, 4), keepdims=True)
    expected = ((groups - mean) / np.sqrt(variance + 1e-3)).reshape(x.shape)
    got = got.transpose(0, 2, 3, 1) if first else got
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@exact
def test_triplet_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 12)).astype("float32")
    parts = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in np.split(x, 3, axis=1)]
    far = ((parts[0] - parts[2]) ** 2).sum(1, keepdims=True)
    near = ((parts[0] - parts[1]) ** 2).sum(1, keepdims=True)
    got = run(TripletLossLayer(), x)
    assert got.shape == (7, 1)
    np.testing.assert_allclose(got, far - near, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="three embeddings"):
        TripletLossLayer()(np.zeros((2, 8)))


LAYERS = {
    "batch-renormalization": lambda: BatchRenormalization(momentum=0.9, rmax_inf=2.5),
    "stats-batch-norm": lambda: StatsBatchNorm(update_stats=True),
    "layer-normalization": lambda: LayerNormalization([-1], [-1]),
    "group-normalization": lambda: GroupNormalization(2),
}


@pytest.mark.one_backend
@pytest.mark.end_to_end
@pytest.mark.parametrize("name", LAYERS)
def test_trains_with_importance_sampling_saves_and_loads(name, tmp_path):
    x = images(32)
    y = (x.mean((1, 2, 3)) > 2).astype("int64")
    model = keras.Sequential(
        [
            layers.Input((4, 3, 6)),
            LAYERS[name](),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    before = model.get_weights()
    ImportanceTraining(model, tau_th=0.0, seed=0).fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].get_config() == model.layers[0].get_config()
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


@exact
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StatsBatchNorm(momentum=1.0), "`momentum` must be in"),
        (lambda: LayerNormalization(epsilon=0), "`epsilon` must be above 0"),
        (lambda: BatchRenormalization(rmax_0=4.0), "rmax_0 <= rmax_inf"),
        (lambda: StatsBatchNorm().build((None, None)), "needs to know the size of axis -1"),
        (lambda: GroupNormalization(4)(np.zeros((1, 2, 2, 6), "float32")), "group"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
