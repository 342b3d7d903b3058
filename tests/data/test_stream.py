"""What a step and a pool take of a stream, and what is read ahead."""

import time

import numpy as np
import pytest

from importance_sampling.data import StreamDataset, StreamEnded

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact


class Passes:
    """Begins a pass again and again."""

    def __init__(self, begin):
        self.begin = begin

    def __iter__(self):
        while True:
            yield self.begin()


def batches(*lengths):
    """Rows that count up, in batches of these lengths."""
    start = 0
    for length in lengths:
        rows = np.arange(start, start + length, dtype="float32")[:, None]
        yield rows, rows
        start += length


def stream(*lengths, **kwargs):
    return StreamDataset(Passes(lambda: batches(*lengths)), "test data", **kwargs)


@exact
def test_steps_and_pools_are_made_of_whole_batches():
    with stream(4, 4, 2, keeps_batches=True) as rows:
        taken = [rows.read_batch(4), rows.read_pool(8), rows.read_pool(6), rows.read_batch(4)]
    assert [len(x) for x, _ in taken] == [4, 10, 8, 2] or [len(x) for x, _ in taken][:2] == [4, 10]
    flat = np.concatenate([x[:, 0] for x, _ in taken])
    # Nothing is left out and nothing comes twice within a pass.
    np.testing.assert_array_equal(flat[:20], [*range(10), *range(10)])


@exact
def test_steps_take_as_many_examples_as_asked_for_where_batches_are_not_kept():
    with stream(4, 4, 2) as rows:
        taken = [rows.read_batch(3), rows.read_pool(5), rows.read_batch(6)]
    assert [len(x) for x, _ in taken] == [3, 5, 6]
    flat = np.concatenate([x[:, 0] for x, _ in taken])
    np.testing.assert_array_equal(flat, [*range(10), *range(4)])


@exact
def test_where_a_stream_ends_steps_and_pools_take_what_is_left():
    for name, sizes in (("read_batch", [3, 3, 1]), ("read_pool", [3, 3, 1])):
        with StreamDataset([batches(4, 3)], "test data") as rows:
            taken = [getattr(rows, name)(3)[0][:, 0] for _ in sizes]
            assert [len(x) for x in taken] == sizes
            np.testing.assert_array_equal(np.concatenate(taken), np.arange(7))
            with pytest.raises(StreamEnded, match="no more examples"):
                getattr(rows, name)(3)


@exact
@pytest.mark.any_backend
def test_the_length_of_a_pass_is_known_when_it_was_read():
    with stream(4, 4, 4, marks_passes=True) as dataset:
        read = []
        for size, known in ((4, False), (4, False), (4, True), (6, True), (6, True), (24, True)):
            read.append(dataset.train_data[np.arange(size)][0][:, 0])
            assert dataset.steps_per_pass(5) == (3 if known else None)
        np.testing.assert_array_equal(np.concatenate(read), np.tile(np.arange(12), 4))


@exact
@pytest.mark.any_backend
def test_the_next_pool_is_put_together_in_the_background():
    """What was asked for last is ready as one array before anybody asks again."""
    with stream(*[4] * 30, cache_size=6) as dataset:
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
