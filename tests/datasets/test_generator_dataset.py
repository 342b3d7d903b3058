"""`GeneratorDataset`: order, errors, threads."""

import gc
import threading
import time

import numpy as np
import pytest

from importance_sampling.datasets import GeneratorDataset, StreamEnded

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


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
