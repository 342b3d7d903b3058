"""What scripts of 0.10 lean on: arguments by position and data sets."""

import numpy as np
import pytest
from helpers import FEATURES, adam_mlp, data, one_hot

from importance_sampling.datasets import (
    BaseDataset,
    GeneratorDataset,
    InMemoryDataset,
    InMemoryImageDataset,
    canevet_icml2016_nn,
    cifar_sanity_check,
)
from importance_sampling.training import ConstantTimeImportanceTraining, ImportanceTraining

pytestmark = pytest.mark.two_backends

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


@end_to_end
def test_one_hot_rows_of_targets_train_by_position():
    x, y = data(64)
    model = adam_mlp()
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    history = ImportanceTraining(model, 3.0, 0.0).fit(x, one_hot(y), 16, 1, 0).history
    assert history["importance_sampling"][0] == 0.75
