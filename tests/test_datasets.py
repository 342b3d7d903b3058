"""Data sets: indexing like numpy's, files, streams."""

import gc
import threading
import time
import tracemalloc

import numpy as np
import pytest

from importance_sampling._arrays import take_rows
from importance_sampling.datasets import (
    CIFAR10,
    MNIST,
    BaseDataset,
    CanevetICML2016,
    GeneratorDataset,
    InMemoryDataset,
    InMemoryImageDataset,
    StreamEnded,
)

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


class Counting(BaseDataset):
    """Written as a user would write one."""

    def _train_data(self, idxs):
        idxs = np.asarray(idxs)
        assert idxs.dtype.kind in "iu" and (idxs >= 0).all()
        return np.arange(10.0)[idxs][:, None], np.arange(10)[idxs]

    def _train_size(self):
        return 10

    _test_data, _test_size = _train_data, _train_size
    shape = output_shape = (1,)
    output_size = 1


def in_memory():
    x = np.arange(10.0)[:, None]
    return InMemoryDataset(x, np.arange(10), x, np.arange(10), categorical=False)


@pytest.mark.parametrize("make", [Counting, in_memory])
@pytest.mark.parametrize(
    "idx",
    [
        3,
        -1,
        np.int32(2),
        slice(2, 5),
        slice(None),
        slice(8, 2, -2),
        slice(-3, None),
        [1, 4, 4],
        [-1, 0],
        np.array([5, 2]),
        np.arange(10) % 3 == 0,
        np.zeros(10, bool),
        [],
    ],
    ids=str,
)
def test_indices_behave_like_numpys(make, idx):
    dataset = make()
    for view in (dataset.train_data, dataset.test_data):
        x, y = view[idx]
        empty = isinstance(idx, list) and not idx
        expected = np.arange(10)[np.asarray(idx, int) if empty else idx]
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(np.asarray(x)[..., 0], expected)
        assert len(view) == 10


@pytest.mark.parametrize(
    "idx", [10, -11, [0, 10], [0.5], np.zeros(3, bool), np.zeros((2, 2), int)], ids=str
)
def test_bad_indices_are_refused(idx):
    with pytest.raises(IndexError):
        Counting().train_data[idx]


def test_in_memory_shapes_and_one_hot_targets():
    x = np.zeros((5, 3))
    dataset = InMemoryDataset(x, np.array([0, 2, 1, 2, 0]), x[:2], np.array([[3], [1]]))
    assert dataset.shape == (3,) and dataset.output_size == 4 and dataset.output_shape == (4,)
    np.testing.assert_array_equal(dataset.train_data[:][1].argmax(1), [0, 2, 1, 2, 0])
    np.testing.assert_array_equal(dataset.test_data[:][1].argmax(1), [3, 1])
    sparse = InMemoryDataset(x, np.array([0, 2, 1, 2, 0]), x[:0], np.empty(0, int), False)
    assert sparse.output_size == 3 and len(sparse.test_data) == 0
    real = InMemoryDataset(x, x[:, :2], x, x[:, :2], categorical=False)
    assert real.output_size == 2


def test_lengths_that_differ_are_refused():
    x = np.zeros((5, 3))
    with pytest.raises(ValueError, match="training arrays differ"):
        InMemoryDataset(x, x[:4], x, x, categorical=False)


def test_images_are_scaled_and_have_channels():
    x = np.array([[[0, 255], [51, 102]]] * 3, np.uint8)
    dataset = InMemoryImageDataset(x, np.array([0, 1, 2]), x, np.array([0, 1, 2]))
    assert dataset.shape == (2, 2, 1)
    images = dataset.train_data[:][0]
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, ..., 0], [[0, 1], [0.2, 0.4]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        InMemoryImageDataset(x * 1.0, np.arange(3), x, np.arange(3))
    with pytest.raises(ValueError, match="height, width"):
        InMemoryImageDataset(x[0], np.arange(2), x[0], np.arange(2))


def test_from_loadable():
    class Loadable:
        @staticmethod
        def load_data():
            x = np.zeros((4, 2, 2), np.uint8)
            return (x, np.arange(4)), (x[:1], np.arange(1))

    dataset = InMemoryImageDataset.from_loadable(Loadable)
    assert isinstance(dataset, InMemoryImageDataset) and dataset.output_size == 4


def test_canevet():
    dataset = CanevetICML2016(N=128, seed=1)
    (x, y), (x_test, y_test) = dataset.train_data[:], dataset.test_data[:]
    assert len(x) + len(x_test) == 128**2 and len(x_test) == int(128**2 * 0.33)
    assert dataset.shape == (2,) and dataset.output_size == 2
    every = np.concatenate([x, x_test])
    assert len(np.unique(every, axis=0)) == 128**2
    assert every.min() == 0 and every.max() == 1
    labels = np.concatenate([y, y_test]).argmax(1)
    curve = np.sin(4 * (every[:, 0] + 0.5) ** 5) / 3 + 0.5
    p = 1 / (1 + np.exp(40 * (every[:, 1] - curve)))
    # Sum of independent coins: 5 standard deviations are p < 6e-7.
    for part in (every[:, 0] < 0.5, every[:, 0] >= 0.5, np.abs(p - 0.5) < 0.3):
        spread = np.sqrt((p * (1 - p))[part].sum())
        assert abs(labels[part].sum() - p[part].sum()) < 5 * spread + 1
    again = CanevetICML2016(N=128, seed=1)
    np.testing.assert_array_equal(again.train_data[:][1], y)
    assert (CanevetICML2016(N=128, seed=2).train_data[:][0] != x).any()
    with pytest.raises(ValueError, match="N >= 2"):
        CanevetICML2016(N=1)


# -- files ---------------------------------------------------------------------------------------


def write_npz(path, **changes):
    arrays = {
        "x_train": np.zeros((6, 28, 28), np.uint8),
        "y_train": np.arange(6),
        "x_test": np.zeros((2, 28, 28), np.uint8),
        "y_test": np.arange(2),
    } | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_local_files(tmp_path, monkeypatch):
    path = write_npz(tmp_path / "mnist.npz")
    for source in (path, tmp_path, str(path)):
        assert len(MNIST(source).train_data) == 6
    monkeypatch.setenv("IMPORTANCE_SAMPLING_DATA", str(tmp_path))
    assert MNIST().shape == (28, 28, 1)
    write_npz(
        tmp_path / "cifar10_part.npz",
        x_train=np.zeros((6, 32, 32, 3), np.uint8),
        x_test=np.zeros((2, 32, 32, 3), np.uint8),
    )
    assert CIFAR10().shape == (32, 32, 3)


def test_missing_and_broken_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"No mnist\.npz at"):
        MNIST(tmp_path)
    broken = tmp_path / "mnist.npz"
    broken.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises((OSError, ValueError), match=r"mnist\.npz"):
        MNIST(broken)
    with pytest.raises(ValueError, match=r"lacks the arrays \['y_test'\]"):
        MNIST(write_npz(tmp_path / "part.npz", y_test=None))

    def no_network():
        raise OSError("no network")

    monkeypatch.delenv("IMPORTANCE_SAMPLING_DATA", raising=False)
    monkeypatch.setattr("keras.datasets.mnist.load_data", no_network)
    with pytest.raises(RuntimeError, match=r"put mnist\.npz .* set IMPORTANCE_SAMPLING_DATA"):
        MNIST()


def test_real_mnist(data_folder):
    dataset = MNIST(data_folder)
    assert len(dataset.train_data) == 60_000 and len(dataset.test_data) == 10_000
    assert dataset.output_size == 10
    x, y = dataset.train_data[:100]
    assert x.max() == 1.0 and (y.sum(1) == 1).all()


# -- streams -------------------------------------------------------------------------------------


def batches(n=3, rows=4):
    for i in range(n):
        x = np.arange(i * rows, (i + 1) * rows)[:, None].astype("float32")
        yield x, 2 * x


def test_a_stream_gives_its_rows_in_order_whatever_the_batches():
    with GeneratorDataset(batches(3, 4)) as dataset:
        assert dataset.shape == (1,) and dataset.output_shape == (1,) and dataset.output_size == 1
        with pytest.raises(RuntimeError, match="no size"):
            len(dataset.train_data)
        for rows in (np.arange(0, 3), np.arange(3, 4), np.arange(4, 11)):
            x, y = dataset.train_data[np.arange(len(rows))]
            np.testing.assert_array_equal(x[:, 0], rows)
            np.testing.assert_array_equal(y, 2 * x)
        with pytest.raises(StreamEnded, match="no more examples"):
            dataset.train_data[np.arange(2)]


def test_an_error_keeps_its_traceback_and_comes_every_time():
    def broken():
        yield from batches(1)
        raise ZeroDivisionError("mine")

    with GeneratorDataset(broken()) as dataset:
        dataset.train_data[np.arange(4)]
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="mine") as error:
                dataset.train_data[np.arange(1)]
            assert any(entry.name == "broken" for entry in error.traceback)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros(3), "must yield"),
        ((np.zeros(3),), "inputs without targets"),
        ((np.zeros(3),) * 4, "of length 4"),
        ((np.zeros(3), np.zeros(2)), "same number of rows"),
        ((np.zeros(0), np.zeros(0)), "at least one"),
    ],
)
def test_malformed_batches_are_refused(item, message):
    with GeneratorDataset(iter([item])) as dataset, pytest.raises(ValueError, match=message):
        dataset.train_data[np.arange(1)]


def test_threads_end_with_the_data_set():
    def endless():
        while True:
            yield from batches(1)

    before = set(threading.enumerate())
    dataset = GeneratorDataset(endless(), endless(), test_data_length=8)
    dataset.train_data[np.arange(4)]
    assert len(dataset.test_data) == 8 and len(dataset.test_data[np.arange(8)][0]) == 8
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    del dataset
    gc.collect()
    deadline = time.monotonic() + 10
    while any(t.is_alive() for t in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(t.is_alive() for t in started)


def test_a_slow_generator_times_out():
    release = threading.Event()

    def slow():
        release.wait(30)
        yield from batches(1)

    with (
        GeneratorDataset(slow(), timeout=0.3) as dataset,
        pytest.raises(TimeoutError, match="gave no batch"),
    ):
        dataset.train_data[np.arange(1)]
    release.set()


def test_test_data_of_streams():
    x = np.zeros((5, 1))
    with GeneratorDataset(batches(), (x, x)) as dataset:
        assert len(dataset.test_data) == 5 and len(dataset.test_data[[1, 2]][0]) == 2
    with pytest.raises(ValueError, match="needs `test_data_length`"):
        GeneratorDataset(batches(), batches())


# -- batches that are read by workers ------------------------------------------------------------


@pytest.mark.parametrize("processes", [False, True])
def test_workers_keep_the_order(processes):
    from features.data import Batches

    from importance_sampling.datasets._sources import find_source

    x = np.arange(40, dtype="float32")[:, None]
    batches = Batches(x, x, 4, workers=2, use_multiprocessing=processes, max_queue_size=3)
    source = find_source(batches)
    assert source.batches == 10 and source.ahead == 3
    for _ in range(2):
        rows = np.concatenate([batch[0] for batch in source.open()])
        np.testing.assert_array_equal(rows, x)


def test_the_length_of_a_pass_is_known_when_it_was_read():
    from importance_sampling.datasets._generator import StreamDataset
    from importance_sampling.datasets._sources import Source

    source = Source(lambda: batches(3, 4), "rows")
    with StreamDataset(source, marks_passes=True) as dataset:
        read = []
        for size, known in ((4, False), (4, False), (4, True), (6, True), (6, True), (24, True)):
            read.append(dataset.train_data[np.arange(size)][0][:, 0])
            assert dataset.steps_per_pass(5) == (3 if known else None)
        np.testing.assert_array_equal(np.concatenate(read), np.tile(np.arange(12), 4))


def test_the_next_pool_is_put_together_in_the_background():
    """What was asked for last is ready as one array before anybody asks again."""
    from importance_sampling.datasets._generator import StreamDataset
    from importance_sampling.datasets._sources import Source

    with StreamDataset(Source(lambda: batches(30, 4), "rows"), cache_size=6) as dataset:
        dataset.train_data[np.arange(10)]
        buffer = dataset._train._buffer
        deadline = time.monotonic() + 10
        while buffer._ready is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert buffer._ready.joined.size == 10
        x, _ = dataset.train_data[np.arange(10)]
        np.testing.assert_array_equal(x[:, 0], np.arange(10, 20))
        # another size: the pool that was ready is taken apart again
        while buffer._ready is None and time.monotonic() < deadline:
            time.sleep(0.01)
        x, _ = dataset.train_data[np.arange(3)]
        np.testing.assert_array_equal(x[:, 0], np.arange(20, 23))
        x, _ = dataset.train_data[np.arange(40)]
        np.testing.assert_array_equal(x[:, 0], np.arange(23, 63))


@pytest.mark.parametrize("view", ["columns", "reversed", "transposed", "strided", "read-only"])
def test_rows_of_a_view_are_taken_without_copying_the_rest(view):
    whole = np.arange(400_000.0).reshape(20_000, 20)
    data = {
        "columns": whole[:, 3:9],
        "reversed": whole[::-1],
        "transposed": np.asfortranarray(whole),
        "strided": whole[::2, 0],
        "read-only": whole.view(),
    }[view]
    data.flags.writeable = view != "read-only"
    idxs = np.array([0, 7, -1, 7])
    expected = [data[i].tolist() for i in idxs]
    tracemalloc.start()
    rows = take_rows((data, data), idxs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows[0].tolist() == rows[1].tolist() == expected
    assert peak < 50_000 < data.nbytes
