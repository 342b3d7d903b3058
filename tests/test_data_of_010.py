"""What scripts of 0.10 lean on: arguments by position, data sets, names, weights."""

import importlib
import warnings

import keras
import numpy as np
import pytest
from helpers import CLASSES, FEATURES, adam_mlp, data, one_hot, oracle
from keras import layers, ops

from importance_sampling import models
from importance_sampling.datasets import (
    BaseDataset,
    GeneratorDataset,
    InMemoryDataset,
    InMemoryImageDataset,
    canevet_icml2016_nn,
    cifar_sanity_check,
)
from importance_sampling.reweighting import (
    UNBIASED,
    UNWEIGHTED,
    AdjustedBiasedReweightingPolicy,
    CorrectingReweightingPolicy,
)
from importance_sampling.training import ConstantTimeImportanceTraining, ImportanceTraining
from importance_sampling.utils import functional
from importance_sampling.utils.keras_utils import possible_weight_names, weights_from_hdf5

exact = pytest.mark.exact
end_to_end = pytest.mark.end_to_end


@end_to_end
def test_fit_takes_its_arguments_by_position(capsys):
    x, y = data(64)
    samples, scores = [], []
    training = ImportanceTraining(adam_mlp(), seed=0)
    history = training.fit(
        x,
        y,
        16,
        2,
        3,
        [],
        0.0,
        (x[:8], y[:8]),
        3,
        lambda sampler, idxs, w, s: samples.append(len(idxs)),
        lambda sampler, s: scores.append(len(s)),
    ).history
    assert len(history["val_loss"]) == 2 and len(samples) == len(scores) == 6
    out = capsys.readouterr().out
    # above 2 Keras names the epochs and shows no progress
    assert "Epoch 2/2" in out and "3/3" not in out


class Parts:
    """Two parts with a length, and no base class."""

    class _View:
        def __init__(self, x, y):
            self.x, self.y = x, y

        def __len__(self):
            return len(self.x)

        def __getitem__(self, idxs):
            return self.x[idxs], self.y[idxs]

    def __init__(self, x, y, test):
        self.train_data = self._View(x, y)
        self.test_data = self._View(x[:test], y[:test])


@end_to_end
@pytest.mark.parametrize("test", [0, 20])
@pytest.mark.parametrize("training", [ImportanceTraining, ConstantTimeImportanceTraining])
def test_fit_dataset_takes_anything_with_two_parts(training, test):
    x, y = data(64)
    model = adam_mlp()
    history = training(model, seed=0).fit_dataset(Parts(x, y, test), None, 16, 2, 0).history
    assert ("val_loss" in history) == bool(test)
    if test:
        expected = model.evaluate(x[:20], y[:20], verbose=0)[0]
        np.testing.assert_allclose(history["val_loss"][-1], expected, rtol=1e-5)
    with pytest.raises(TypeError, match="`train_data` and `test_data`"):
        ImportanceTraining(model).fit_dataset(x)


# -- streams -------------------------------------------------------------------------------------


def endless(width=3, targets=1):
    count = 0
    while True:
        rows = np.arange(count, count + 8, dtype="float32")
        yield np.tile(rows[:, None], (1, width)), rows if targets is None else rows[:, None]
        count += 8


@exact
@pytest.mark.parametrize("targets", [None, 1])
def test_a_stream_is_indexed_for_how_many(targets):
    with GeneratorDataset(endless(targets=targets)) as dataset:
        assert dataset.shape == (3,) and dataset.output_shape == (1,) and dataset.output_size == 1
        start = 0
        for idx, n in ((slice(10), 10), ([1, 2, 17], 3), (99, 1), (slice(4, 20, 2), 8)):
            x, y = dataset.train_data[idx]
            assert x.shape == (n, 3) and y.shape == (n, 1)
            np.testing.assert_array_equal(y[:, 0], np.arange(start, start + n))
            start += n
        with pytest.raises(IndexError, match="has no end"):
            dataset.train_data[:]
        for read in (lambda: len(dataset.test_data), lambda: dataset.test_data[0]):
            with pytest.raises(RuntimeError, match="no test data"):
                read()


@exact
def test_test_data_of_a_stream():
    x = np.arange(12.0)[:, None]
    with GeneratorDataset(endless(), (x, x)) as dataset:
        assert len(dataset.test_data) == 12
        np.testing.assert_array_equal(dataset.test_data[:][0], x)
        np.testing.assert_array_equal(dataset.test_data[[3, 5]][1], x[[3, 5]])
    with GeneratorDataset(endless(), endless(), 12) as dataset:
        assert len(dataset.test_data) == 12
        for idx, n in ((slice(10), 10), ([1, 2], 2), (3, 1), (slice(None), 12)):
            assert dataset.test_data[idx][0].shape == (n, 3)


@exact
def test_batches_of_different_length_are_filled_up():
    def sentences():
        for length in (2, 4, 3):
            yield np.ones((2, length)), np.ones((2, length, 1))

    with GeneratorDataset(sentences()) as dataset:
        x, y = dataset.train_data[:6]
        assert x.shape == (6, 4) and y.shape == (6, 4, 1)
        np.testing.assert_array_equal(x.sum(axis=1), [2, 2, 4, 4, 3, 3])
        np.testing.assert_array_equal(x[0], [1, 1, 0, 0])


@end_to_end
def test_training_on_a_generator_data_set_without_test_data():
    x, y = data(64)

    def batches():
        while True:
            yield x, y

    with GeneratorDataset(batches()) as dataset:
        history = (
            ImportanceTraining(adam_mlp(), seed=0)
            .fit_dataset(dataset, steps_per_epoch=4, batch_size=16, epochs=2, verbose=0)
            .history
        )
    assert len(history["loss"]) == 2 and "val_loss" not in history


@exact
def test_several_inputs_have_several_shapes():
    x = [np.zeros((8, 3)), np.zeros((8, 2, 2))]
    dataset = InMemoryDataset(x, np.arange(8), x, np.arange(8))
    assert dataset.shape == [(3,), (2, 2)]

    def batches():
        yield x, np.zeros((8, 4))

    with GeneratorDataset(batches()) as dataset:
        assert dataset.shape == [(3,), (2, 2)] and dataset.output_size == 4


# -- data sets -----------------------------------------------------------------------------------


class Minimal(BaseDataset):
    """Only what 0.10 asked for."""

    reads = 0

    def _train_data(self, idxs=slice(None)):
        type(self).reads += isinstance(idxs, slice)
        return np.arange(20.0).reshape(10, 2)[idxs], (np.arange(10) % 4)[idxs]

    def _test_data(self, idxs=slice(None)):
        x, y = self._train_data(idxs)
        return x[:3], y[:3]


@exact
def test_a_data_set_finds_out_what_it_does_not_say():
    dataset = Minimal()
    for _ in range(3):
        assert len(dataset.train_data) == 10 and len(dataset.test_data) == 3
    assert Minimal.reads == 2  # each part once
    assert dataset.shape == (2,) and dataset.output_size == 4 and dataset.output_shape == ()
    np.testing.assert_array_equal(dataset.train_data[[-1]][0], [[18, 19]])

    class Says(Minimal):
        output_size = 7

    assert Says().output_shape == (7,)


@exact
def test_a_missing_method_is_named():
    class Nothing(BaseDataset):
        """Forgot everything."""

    class OnlyTrain(BaseDataset):
        def _train_data(self, idxs=slice(None)):
            return np.zeros((40, FEATURES))[idxs], np.zeros((40,), "int64")[idxs]

    training = ImportanceTraining(adam_mlp())
    with pytest.raises(NotImplementedError, match=r"Nothing must implement _train_data\(idxs\)"):
        training.fit_dataset(Nothing(), batch_size=8, verbose=0)
    with pytest.raises(NotImplementedError, match=r"OnlyTrain must implement _test_data\(idxs\)"):
        training.fit_dataset(OnlyTrain(), batch_size=8, verbose=0)


@exact
@pytest.mark.parametrize(
    ("targets", "size"),
    [
        (np.array([0, 4, 2]), 5),
        (np.array([[0, 1], [3, 2], [1, 1]]), 4),
        (np.zeros((3, 6)), 6),
        (np.zeros((3, 5, 7)), 7),
        (np.zeros(3), 1),
    ],
    ids=["labels", "sequences of labels", "rows", "sequences of rows", "numbers"],
)
def test_output_size(targets, size):
    dataset = InMemoryDataset(np.zeros((3, 1)), targets, np.zeros((3, 1)), targets, False)
    assert dataset.output_size == size


@exact
def test_images_with_labels_as_they_are():
    images = np.full((4, 2, 2), 51, np.uint8)
    dataset = InMemoryImageDataset(images, np.arange(4), images, np.arange(4), categorical=False)
    x, y = dataset.train_data[:]
    np.testing.assert_array_equal(y, np.arange(4))
    # by 255, not by the largest value there is
    np.testing.assert_allclose(x, np.full((4, 2, 2, 1), 0.2), rtol=1e-6)
    assert dataset.output_size == 4


@exact
def test_loadables(tmp_path):
    dataset = InMemoryDataset.from_loadable(canevet_icml2016_nn(16, 0.25))
    assert len(dataset.train_data) == 192 and len(dataset.test_data) == 64
    assert dataset.shape == (2,) and dataset.output_size == 2
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(60)[:, None] % 10
    path = tmp_path / "cifar10.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    loadable = cifar_sanity_check(replicate=30, replicate_idx=1, path=path)
    (x, y), (_, y_test) = loadable.load_data()
    assert len(x) == 12 + 30 and set(y) == set(y_test) == {0, 1}
    assert (x[12:] == x[1]).all()


# -- networks, names, weights --------------------------------------------------------------------


@exact
@pytest.mark.parametrize("depth", [4, 9, 12])
def test_wide_resnets_of_any_depth(depth):
    def build():
        return models.wide_resnet(depth, 1)((8, 8, 3), CLASSES)

    if depth == 4:
        small = build()
    else:
        rounded = 4 + (depth - 4) // 6 * 6
        with pytest.warns(UserWarning, match=f"L={depth} is rounded down to {rounded}"):
            small = build()
    convolutions = [w for w in small.layers if isinstance(w, layers.Conv2D)]
    assert len(convolutions) >= 1 + 6 * ((depth - 4) // 6)
    x = np.zeros((2, 8, 8, 3), "float32")
    assert small.predict(x, verbose=0).shape == (2, CLASSES)


NAMES = {
    "models": "build_small_nn build_svrg_nn build_lr build_small_cnn build_small_cnn_squared "
    "build_cnn build_all_conv_nn build_elu_cnn build_lstm_lm build_lstm_lm2 build_lstm_lm3 "
    "build_lstm_timit build_lstm_mnist wide_resnet pretrained face triplet get",
    "pretrained": "ResNet50 DenseNet121",
    "layers.scores": "LossLayer GradientNormLayer",
    "layers.metrics": "MetricLayer TripletLossLayer",
    "layers.normalization": "BatchRenormalization LayerNormalization StatsBatchNorm "
    "GroupNormalization",
    "datasets": "cifar_sanity_check canevet_icml2016_nn",
    "utils.functional": "placeholder x _ ___ partial compose call attr identity",
    "utils.keras_utils": "weights_from_hdf5 possible_weight_names load_weights_by_name "
    "DatasetSequence",
    "utils.tf_config": "set_random_seed",
}


@exact
@pytest.mark.parametrize("module", list(NAMES))
def test_old_names_import(module):
    imported = importlib.import_module(f"importance_sampling.{module}")
    for name in NAMES[module].split():
        assert hasattr(imported, name), name


@exact
def test_old_names_do_what_they_did(tmp_path):
    f = functional
    assert f.x is f._ is f.___ is f.placeholder
    assert f.partial(divmod, f.x, 2)(7) == (3, 1)
    assert f.compose(f.attr("real"), f.identity, abs)(-3) == 3 and f.call(max, 1, 2) == 2
    assert list(possible_weight_names(b"dense/kernel:0", 2)) == [
        "dense/kernel:0",
        "dense_1/kernel:0",
        "dense_2/kernel:0",
    ]
    model = models.build_lr((2, 2), 3)
    assert [w.shape for w in model.weights] == [(4, 3), (3,)]
    model.save(tmp_path / "model.h5")
    import h5py

    with h5py.File(tmp_path / "model.h5") as file:
        found = dict(weights_from_hdf5(file["model_weights"]))
        assert sorted(tuple(w.shape) for w in found.values()) == [(3,), (4, 3)]

    def small(weights, input_shape, output_size):
        return models.build_lr(input_shape, output_size)

    assert models.pretrained(small, None)((2,), 3).compiled
    assert models.face(models.pretrained(small, None), 5)((2,), 3).output_shape == (None, 3)
    triplets = models.triplet(models.pretrained(small, None))([(2,)] * 3, 5)
    assert len(triplets.inputs) == 3


POLICIES = [
    UNBIASED,
    UNWEIGHTED,
    AdjustedBiasedReweightingPolicy(0.5),
    CorrectingReweightingPolicy(),
]


@exact
@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
def test_weights_are_float64_and_trained_with_as_float32(policy):
    scores = np.random.default_rng(0).random(40)
    idxs = np.arange(0, 40, 3)
    w = policy.sample_weights(idxs, scores)
    assert w.dtype == np.float64 and w.shape == (len(idxs), policy.weight_size)
    assert policy.uniform_weights(5).dtype == np.float64


@exact
def test_the_device_gets_float32():
    x, y = data(16)
    w = UNBIASED.sample_weights(np.arange(16), np.linspace(0.1, 2, 16))
    assert w.shape == (16, 1)
    after = []
    for weights in (w, w.astype("float32")):
        keras.utils.set_random_seed(0)
        model = adam_mlp()
        wrapper = oracle(model)
        wrapper.build(x, y)
        inner, types = wrapper.engine._train, set()

        def watched(*tensors, inner=inner, types=types):
            types |= {ops.dtype(t) if hasattr(t, "dtype") else None for t in tensors[3:4]}
            return inner(*tensors)

        wrapper.engine._train = watched
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for _ in range(3):
                wrapper.train_batch(x, y, weights)
        assert {keras.backend.standardize_dtype(t) for t in types} == {"float32"}
        after.append(model.get_weights())
    for a, b in zip(*after, strict=True):
        np.testing.assert_array_equal(a, b)


@end_to_end
def test_one_hot_rows_of_targets_train_by_position():
    x, y = data(64)
    model = adam_mlp()
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    history = ImportanceTraining(model, 3.0, 0.0).fit(x, one_hot(y), 16, 1, 0).history
    assert history["importance_sampling"][0] == 0.75
