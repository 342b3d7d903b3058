"""Weights by the names of layers, and pretrained networks."""

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from importance_sampling import pretrained
from importance_sampling.layers import BatchRenormalization, StatsBatchNorm
from importance_sampling.pretrained import DenseNet121, ResNet50
from importance_sampling.utils.keras_utils import load_weights_by_name

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


def network(outer="", out=2, seed=0):
    """A nested network with weights of several kinds; `outer` follows the names."""
    keras.utils.set_random_seed(seed)
    inner = keras.Sequential(
        [
            layers.Input((2,)),
            layers.Dense(3, name=f"a{outer}"),
            layers.BatchNormalization(name=f"bn{outer}"),
        ],
        name=f"inner{outer}",
    )
    inputs = keras.Input((2,))
    x = layers.RepeatVector(2)(inner(inputs))
    x = layers.Bidirectional(layers.LSTM(2, name=f"lstm{outer}"), name=f"both{outer}")(x)
    x = layers.Dropout(0.5)(x)
    model = keras.Model(inputs, layers.Dense(out, name=f"out{outer}")(x))
    rng = np.random.default_rng(seed + 10)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def same(a, b):
    return [(x == y).all() for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("file", ["whole.h5", "only.weights.h5"])
@pytest.mark.parametrize("outer", ["", "_1", "_10"])
def test_a_model_loads_all_that_has_its_name(tmp_path, file, outer):
    source = network()
    path = tmp_path / file
    (source.save if file == "whole.h5" else source.save_weights)(path)
    target = network(outer, seed=1)
    assert not any(same(source.get_weights(), target.get_weights()))
    loaded = load_weights_by_name(path, target)
    assert sorted(loaded) == sorted(w.path for w in target.weights)
    assert all(same(source.get_weights(), target.get_weights()))
    # the file opened by the caller, and a list of layers
    again = network(outer, seed=2)
    with h5py.File(path) as f:
        assert load_weights_by_name(f, [again.layers[-1]]) == [
            f"out{outer}/kernel",
            f"out{outer}/bias",
        ]
    assert same(source.get_weights(), again.get_weights()).count(True) == 2


@pytest.mark.parametrize("file", ["whole.h5", "only.weights.h5"])
def test_layers_without_a_counterpart_are_left_alone(tmp_path, file):
    source = network()
    path = tmp_path / file
    (source.save if file == "whole.h5" else source.save_weights)(path)
    other = keras.Sequential([layers.Input((2,)), layers.Dense(3, name="a"), layers.Dense(2)])
    before = other.layers[1].get_weights()
    # the file's layer within another one
    loaded = load_weights_by_name(path, other)
    assert [p.split("/")[-2:] for p in loaded] == [["a", "kernel"], ["a", "bias"]]
    assert all(same(other.layers[0].get_weights(), source.layers[1].layers[0].get_weights()))
    assert all(same(other.layers[1].get_weights(), before))
    stranger = keras.Sequential([layers.Input((2,)), layers.Dense(3, name="stranger")])
    assert load_weights_by_name(path, stranger) == []


@pytest.mark.parametrize("file", ["whole.h5", "only.weights.h5"])
def test_another_shape_is_an_error_and_changes_nothing(tmp_path, file):
    path = tmp_path / file
    source = network(out=5)
    (source.save if file == "whole.h5" else source.save_weights)(path)
    target = network(seed=1)
    before = target.get_weights()
    with pytest.raises(ValueError, match=rf"{file} has shape \(4, 5\), but out/kernel has \(4, 2"):
        load_weights_by_name(path, target)
    assert all(same(target.get_weights(), before))


def test_files_of_keras_2(tmp_path):
    """Names end in ":0", are bytes, and a recurrent layer's weights are its own."""
    rng = np.random.default_rng(0)
    values = {
        "dense_1": {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)},
        "lstm_1": {
            "kernel": rng.normal(size=(2, 12)),
            "recurrent_kernel": rng.normal(size=(3, 12)),
            "bias": rng.normal(size=12),
        },
    }
    with h5py.File(tmp_path / "old.h5", "w") as f:
        group = f.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in values]
        for layer, weights in values.items():
            sub = group.create_group(layer)
            sub.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in weights]
            for name, value in weights.items():
                sub[f"{layer}/{name}:0"] = value
    model = keras.Sequential(
        [layers.Input((4, 2)), layers.LSTM(3, name="lstm_1"), layers.Dense(2, name="dense_1")]
    )
    loaded = load_weights_by_name(str(tmp_path / "old.h5"), model)
    assert len(loaded) == 5
    for path in loaded:
        layer = next(layer for layer in values if layer in path)
        name = path.split("/")[-1]
        weight = next(w for w in model.weights if w.path == path)
        np.testing.assert_allclose(np.array(weight), values[layer][name], rtol=1e-6)


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "weights.h5"
    with pytest.raises(OSError, match=r"weights\.h5 cannot be read as an HDF5 file"):
        load_weights_by_name(path, network())
    network().save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(OSError, match=r"weights\.h5 cannot be read as an HDF5 file"):
        load_weights_by_name(path, network())


# -- pretrained networks ---------------------------------------------------------------------------

SHAPE = (32, 32, 3)
NETWORKS = {"ResNet50": ResNet50, "DenseNet121": DenseNet121}


def predict(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    """A network of keras.applications whose statistics were moved, and files of it."""
    made = {}

    def make(name):
        if name not in made:
            keras.utils.set_random_seed(0)
            model = getattr(keras.applications, name)(
                weights=None, input_shape=SHAPE, classes=6, classifier_activation=None
            )
            rng = np.random.default_rng(0)
            for layer in model.layers:
                if isinstance(layer, layers_with_statistics):
                    gamma, beta, mean, variance = layer.get_weights()
                    mean += rng.normal(scale=0.1, size=mean.shape)
                    layer.set_weights([gamma, beta, mean, variance * rng.uniform(0.5, 2)])
            folder = tmp_path_factory.mktemp(name)
            model.save(folder / "model.h5")
            model.save_weights(folder / "model.weights.h5")
            made[name] = model, folder
        return made[name]

    layers_with_statistics = layers.BatchNormalization
    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_local_file_gives_the_same_features(application, name):
    source, folder = application(name)
    x = np.random.default_rng(1).random((2, *SHAPE), "float32")
    features = keras.Model(source.input, source.layers[-2].output)
    expected = predict(features, x)
    for file in ("model.h5", "model.weights.h5"):
        model = NETWORKS[name](folder / file, SHAPE, output_size=3, softmax=True)
        assert model.output_shape == (None, 3) and not model.compiled
        assert any(isinstance(layer, StatsBatchNorm) for layer in model.layers)
        assert not any(isinstance(layer, layers.BatchNormalization) for layer in model.layers)
        body = keras.Model(model.input, model.get_layer("fc3").input)
        np.testing.assert_allclose(predict(body, x), expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(predict(model, x).sum(1), 1, rtol=1e-5)


@pytest.mark.slow
def test_other_normalizations_take_the_statistics_that_they_have(application):
    source, folder = application("ResNet50")
    x = np.random.default_rng(1).random((2, *SHAPE), "float32")
    expected = predict(keras.Model(source.input, source.layers[-2].output), x)
    for norm in (BatchRenormalization, layers.BatchNormalization):
        model = ResNet50(folder / "model.h5", SHAPE, 3, norm_layer=norm)
        body = keras.Model(model.input, model.get_layer("fc3").input)
        np.testing.assert_allclose(predict(body, x), expected, rtol=1e-3, atol=1e-4)
    model = ResNet50(folder / "model.h5", SHAPE, 3, norm_layer=layers.LayerNormalization)
    assert model.layers[-1].name == "fc3"


@pytest.mark.slow
def test_a_file_of_its_own_gives_the_last_layer_too(application, tmp_path):
    _, folder = application("ResNet50")
    first = ResNet50(folder / "model.h5", SHAPE, 4)
    first.save_weights(tmp_path / "own.weights.h5")
    second = ResNet50(tmp_path / "own.weights.h5", SHAPE, 4)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pretrained_errors(application, tmp_path, monkeypatch):
    _, folder = application("ResNet50")
    with pytest.raises(FileNotFoundError, match=r"no weights file .*nowhere\.h5"):
        ResNet50(tmp_path / "nowhere.h5")
    network().save(tmp_path / "other.h5")
    with pytest.raises(ValueError, match=r"other\.h5 lacks 318 of the 318 weights of resnet50"):
        ResNet50(tmp_path / "other.h5", SHAPE, 3)
    with pytest.raises(ValueError, match=r"model\.h5 (lacks|has shape)"):
        DenseNet121(folder / "model.h5", SHAPE, 3)

    real = pretrained._download

    def offline(net, with_top):
        def fail(**_):
            raise OSError("no network")

        fail.__name__ = net.__name__
        return real(fail, with_top)

    monkeypatch.setattr(pretrained, "_download", offline)
    with pytest.raises(RuntimeError, match=r"ResNet50 could not be downloaded \(no network\)"):
        ResNet50("imagenet", SHAPE, 3)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 1000])
def test_imagenet_weights_are_those_of_keras(monkeypatch, classes):
    """Keras' own network with other weights in the place of the download."""
    keras.utils.set_random_seed(3)
    downloads = []

    kept = []

    def download(_, with_top):
        downloads.append(with_top)
        shape = None if with_top else SHAPE
        kept.append(
            keras.applications.ResNet50(include_top=with_top, weights=None, input_shape=shape)
        )
        return kept[-1]

    monkeypatch.setattr(pretrained, "_download", download)
    model = ResNet50("imagenet", SHAPE, classes)
    assert downloads == [classes == 1000]
    source = kept[0]
    for name in ("conv1_conv", "conv5_block3_3_conv"):
        for a, b in zip(
            source.get_layer(name).get_weights(), model.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    if classes == 1000:
        heads = [m.layers[-1].get_weights() for m in (source, model)]
        for a, b in zip(*heads, strict=True):
            np.testing.assert_array_equal(a, b)
