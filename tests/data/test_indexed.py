"""Examples by index: PyTorch's map-style data sets, Grain's, classes of the user's own."""

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data

from importance_sampling import HistoryImportanceTraining, ImportanceTraining
from importance_sampling.data import find_kind
from importance_sampling.data.indexed import IndexedExamplesAdapter
from importance_sampling.datasets import IndexedExamples

pytestmark = [pytest.mark.any_backend, pytest.mark.exact]

N = 96
X, Y = data(N)


class Examples:
    """Notes which were asked for."""

    def __init__(self, x=X, y=Y):
        self.x, self.y = x, y
        self.read = []

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        self.read.append(index)
        return self.x[index], self.y[index]


class InOneGo(Examples):
    calls = 0

    def __getitems__(self, indices):
        self.calls += 1
        self.read += indices
        return [(self.x[i], self.y[i]) for i in indices]


def torch_dataset():
    import torch

    return torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))


def mapped_records(folder):
    import grain
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(folder / "rows.array_record"), "group_size:1")
    for row, label in zip(X, Y, strict=True):
        writer.write(np.append(row, np.float32(label)).tobytes())
    writer.close()
    source = grain.sources.ArrayRecordDataSource(str(folder / "rows.array_record"))

    def parse(record):
        row = np.frombuffer(record, "float32")
        return row[:-1], np.int64(row[-1])

    return IndexedExamples(grain.MapDataset.source(source).map(parse))


SOURCES = {
    "torch": lambda folder: torch_dataset(),
    "Grain, from an ArrayRecord": mapped_records,
    "own": lambda folder: IndexedExamples(Examples()),
    "own, in one go": lambda folder: IndexedExamples(InOneGo()),
}


def trained(*given, **arguments):
    keras.utils.set_random_seed(0)
    model = adam_mlp()
    history = HistoryImportanceTraining(model, seed=1).fit(
        *given, batch_size=16, epochs=3, verbose=0, **arguments
    )
    return model.get_weights(), history.history


@pytest.mark.parametrize("name", SOURCES)
def test_training_with_history_is_that_on_the_arrays(name, tmp_path):
    source = SOURCES[name](tmp_path)
    assert find_kind(source) is IndexedExamplesAdapter
    found, history = trained(source, validation_split=0.25, class_weight={1: 0.5})
    expected, other = trained(X, Y, validation_split=0.25, class_weight={1: 0.5})
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(history["val_loss"], other["val_loss"], rtol=1e-6)
    assert history["importance_sampling"][-1] == 1.0


@pytest.mark.parametrize("kind", [Examples, InOneGo])
def test_no_more_than_what_is_drawn_is_read(kind):
    source = kind()
    training = ImportanceTraining(adam_mlp(), presample=2.0, tau_th=0.0, seed=0)
    validation = IndexedExamples(kind(X[:8], Y[:8]))
    training.fit(
        IndexedExamples(source),
        batch_size=8,
        steps_per_epoch=1,
        verbose=0,
        validation_data=validation,
    )
    # One step of a pool of 16, with those scored or read ahead; and the first five.
    assert 16 <= len(source.read) <= 5 + 5 + 3 * 16 < N
    if kind is InOneGo:
        assert source.calls <= 5
    assert set(validation.source.read) == set(range(8))


def test_data_on_disk_keeps_a_history_and_reads_its_rows(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    read = []

    class Watched(np.memmap):
        def __getitem__(self, index):
            if isinstance(index, np.ndarray):
                read.extend(index.tolist())
            return super().__getitem__(index)

    found, _ = trained(mapped.view(Watched), Y)
    # Three passes, the rows read ahead of the first one's end, five to look at, 32 for a hash.
    assert set(range(N)) <= set(read) and len(read) <= 3 * N + 2 * 16 + 5 + 32
    for a, b in zip(found, trained(X, Y)[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_fit_goes_on_with_the_history():
    source = Examples()
    training = HistoryImportanceTraining(adam_mlp(), seed=0)
    for share in (0.0, 1.0):
        history = training.fit(IndexedExamples(source), batch_size=16, verbose=0).history
        assert history["importance_sampling"] == [share]
    history = training.fit(IndexedExamples(Examples()), batch_size=16, verbose=0).history
    assert history["importance_sampling"] == [0.0]


def test_what_cannot_be_read_is_refused():
    import grain

    rows = grain.MapDataset.source(list(zip(X, Y, strict=True)))
    uneven = [(np.zeros(6 + (i == 3)), 1) for i in range(9)]
    for call, error, said in (
        (lambda fit: fit(IndexedExamples(rows.repeat())), ValueError, "never ends"),
        (lambda fit: fit(IndexedExamples(iter(X))), TypeError, "`__len__` and `__getitem__`"),
        (lambda fit: fit(IndexedExamples([])), ValueError, "no examples"),
        (lambda fit: fit(IndexedExamples(list(X))), ValueError, "must give .x, y. .* got ndarray"),
        (lambda fit: fit(IndexedExamples([(x,) for x in X])), ValueError, "without targets"),
        (
            lambda fit: fit(IndexedExamples(uneven)),
            ValueError,
            r"\(6,\) for index 0 and \(7,\) for",
        ),
        (lambda fit: fit(IndexedExamples(rows.filter(lambda e: False))), ValueError, "NoneType"),
        (lambda fit: fit(torch_dataset(), Y), ValueError, "`y` cannot be given"),
        (lambda fit: fit(rows.batch(8)), NotImplementedError, "IndexedExamples"),
    ):
        with pytest.raises(error, match=said):
            call(HistoryImportanceTraining(adam_mlp()).fit)


class Together:
    """Examples that are asked for together."""

    def __init__(self, give):
        self.__getitems__ = give

    def __len__(self):
        return N

    def __getitem__(self, index):
        return X[index], Y[index]


def raises_within(idxs):
    yield X[idxs[0]], Y[idxs[0]]
    raise TypeError("a slip within")


@pytest.mark.parametrize(
    ("give", "error", "said"),
    [
        (lambda idxs: [(X[i], Y[i]) for i in idxs[1:]], ValueError, "got 4 for 5 indices"),
        (lambda idxs: (X[idxs], Y[idxs]), ValueError, "a list with an example for each index"),
        (lambda idxs: None, TypeError, "__getitems__. of Together of training data .* NoneType"),
        # What the source itself raises is told as it is.
        (raises_within, TypeError, "^a slip within$"),
    ],
)
def test_slips_of_examples_asked_for_together_are_named(give, error, said):
    with pytest.raises(error, match=said):
        HistoryImportanceTraining(adam_mlp()).fit(IndexedExamples(Together(give)))


class OldSequence:
    """Gone through by its indices, as Python did before there were iterators."""

    def __init__(self, idxs):
        self.idxs = idxs

    def __getitem__(self, place):
        return X[self.idxs[place]], Y[self.idxs[place]]


@pytest.mark.parametrize("give", [lambda idxs: ((X[i], Y[i]) for i in idxs), OldSequence])
def test_examples_asked_for_together_may_come_one_by_one(give):
    source = Together(give)
    history = HistoryImportanceTraining(adam_mlp()).fit(IndexedExamples(source), verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"image": X[0]},
            r"\({'image': 'array', 'extra': 'array'}, 'array'\) first and \({'image': 'array'}",
        ),
        (
            {"image": X[0], "extra": X[0], "more": X[0]},
            r"{'image': 'array', 'extra': 'array', 'more': 'array'}",
        ),
        ({"image": X[0], "extra": None}, r"{'image': 'array', 'extra': None}"),
        (X[0], r"\('array', 'array'\) for index 70"),
        ([X[0], X[0]], r"\(\('array', 'array'\), 'array'\) for index 70"),
    ],
)
def test_examples_of_another_structure_are_named(other, said):
    """One of them, which is drawn after others: in the first pass at the latest."""
    examples = [({"image": x, "extra": x}, y) for x, y in zip(X, Y, strict=True)]
    examples[70] = (other, Y[70])
    image, extra = keras.Input((6,), name="image"), keras.Input((6,), name="extra")
    out = keras.layers.Dense(4, "softmax")(keras.layers.Add()([image, extra]))
    model = keras.Model({"image": image, "extra": extra}, out)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="of one structure, got .*" + said):
        HistoryImportanceTraining(model).fit(IndexedExamples(examples), batch_size=16, verbose=0)


@pytest.mark.parametrize("more", [slice(0, 48), slice(48, None)])
def test_weights_with_some_of_the_examples_are_refused(more):
    examples = list(zip(X, Y, strict=True))
    examples[more] = [(*example, np.float32(50.0)) for example in examples[more]]
    with pytest.raises(ValueError, match="must give examples of one structure"):
        HistoryImportanceTraining(adam_mlp()).fit(IndexedExamples(examples), batch_size=16)
