"""What is kept of every example, in files that are mapped to memory."""

import errno
import os
import tracemalloc

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data

from importance_sampling import HistoryImportanceTraining, RobustImportanceTraining, _storage
from importance_sampling._storage import MappedArrays
from importance_sampling.proposal import StepRecord
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import HistoryMixtureSampler
from importance_sampling.samplers.compatibility import GivenScores
from importance_sampling.samplers.permutation import permuted
from importance_sampling.training import BackupState
from importance_sampling.training._draw_counts import DrawCounts

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact
N, BATCH = 96, 16
X, Y = data(N)


@pytest.fixture(autouse=True)
def map_all(monkeypatch):
    """Small arrays, too."""
    monkeypatch.setattr(_storage, "_LEAST_BYTES", 1)


class Stop(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def trained(kind=HistoryImportanceTraining, callbacks=(), stopped=False, **arguments):
    keras.utils.set_random_seed(0)
    model, fitting = adam_mlp(), {"shuffle": arguments.pop("shuffle", True)}
    training = kind(model, seed=1, **arguments)

    def fit():
        training.fit(X, Y, BATCH, epochs=4, verbose=0, callbacks=list(callbacks), **fitting)

    if stopped:
        with pytest.raises(KeyboardInterrupt):
            fit()
    else:
        fit()
    return model.get_weights(), training.report().draws


def check_equal(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)


@exact
@pytest.mark.parametrize("kind", [HistoryImportanceTraining, RobustImportanceTraining])
def test_training_is_that_with_scores_in_memory(kind, tmp_path):
    found = trained(kind, shuffle=False, memory_map=tmp_path / "new" / "scores")
    expected = trained(kind, shuffle=False)
    check_equal(found, expected)
    np.testing.assert_array_equal(found[1], expected[1])
    # Nothing is left, not even while it runs.
    assert os.listdir(tmp_path / "new" / "scores") == []


@exact
def test_a_resume_is_exact(tmp_path):
    """In the first pass, of six steps, and after it."""
    expected = trained(memory_map=tmp_path)
    # What was saved does not depend on where it lay.
    for step, further in ((4, {"memory_map": tmp_path}), (9, {})):
        backup = BackupState(tmp_path / "state.npz", save_freq=step)
        trained(callbacks=[backup, Stop(step + 2)], stopped=True, memory_map=tmp_path)
        check_equal(trained(callbacks=[backup], **further), expected)


@exact
def test_the_first_pass_has_every_example_once(tmp_path):
    drawn = []
    training = HistoryImportanceTraining(adam_mlp(), memory_map=tmp_path, seed=0)
    training.fit(X, Y, BATCH, verbose=0, on_sample=lambda s, idxs, w, p: drawn.extend(idxs))
    assert sorted(drawn) == list(range(N)) != drawn


@exact
def test_memory_does_not_grow_with_the_examples(tmp_path, monkeypatch):
    monkeypatch.undo()

    class Numbers:
        def __len__(self):
            return 1_000_000

        def __getitem__(self, idxs):
            return idxs, idxs

    class Whole:
        train_data = test_data = Numbers()

    taken = []
    for folder in (None, tmp_path):
        tracemalloc.start()
        sampler = HistoryMixtureSampler(
            Whole(), BiasedReweightingPolicy(), memory_map=folder, rng=0
        )
        for _ in range(2):
            draw = sampler.propose(100)
            sampler.observe(StepRecord(draw, GivenScores(np.ones(100))))
        sampler.end_first_pass()
        sampler.propose(100)
        state = sampler.state_dict()
        taken.append(tracemalloc.get_traced_memory()[0] / 1_000_000)
        tracemalloc.stop()
        assert len(state["memory"]["bins"]) == 1_000_000
    # 9 bytes and their copy, 4 of the order; else an eighth of a byte for the sums, as much again
    # for what does not grow.
    assert taken[0] > 20 and taken[1] < 0.3


@exact
def test_a_full_disk_is_told_before_the_first_step(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    training = HistoryImportanceTraining(adam_mlp(), memory_map=tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left .* for a memory map.*" + tmp_path.name):
        training.fit(X, Y, verbose=0)


@exact
def test_what_cannot_work_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"must be a folder; .*file is a file"):
        HistoryImportanceTraining(adam_mlp(), memory_map=tmp_path / "file")
    with pytest.raises(ValueError, match="`memory_map` must name a folder"):
        HistoryImportanceTraining(adam_mlp(), memory_map="")
    with pytest.raises(ValueError, match="`refresh` looks for"):
        HistoryImportanceTraining(adam_mlp(), memory_map=tmp_path, refresh=0.5)


@exact
def test_a_folder_at_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    MappedArrays("~/scores")
    assert (tmp_path / "scores").is_dir()


@exact
def test_arrays_are_zeros_that_can_be_written(tmp_path):
    array = MappedArrays(tmp_path)((3, 4), np.float32)
    assert array.shape == (3, 4) and array.dtype == np.float32 and not array.any()
    array[1] = 5.0
    assert array.sum() == 20.0


@exact
@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 100, 4097])
def test_an_order_that_is_worked_out_has_all_indices(n):
    order = permuted(np.arange(n), n, 7)
    assert sorted(order.tolist()) == list(range(n))
    # Piece by piece it is the same.
    np.testing.assert_array_equal(permuted(np.arange(n // 2, n), n, 7), order[n // 2 :])


@pytest.mark.statistical
def test_orders_are_as_good_as_random():
    n, orders = 12, 3000
    found = np.array([permuted(np.arange(n), n, seed) for seed in range(orders)])
    # At each place each index as often: chi-squared with about (n - 1)^2 degrees of freedom, whose
    # standard deviation is sqrt(2 (n - 1)^2). So it is for the difference of neighbours, modulo n.
    counts = np.array([np.bincount(column, minlength=n) for column in found.T])
    expected = orders / n
    freedom = (n - 1) ** 2
    assert abs(((counts - expected) ** 2 / expected).sum() - freedom) < 5 * np.sqrt(2 * freedom)
    steps = np.bincount(((found[:, 1:] - found[:, :-1]) % n).ravel(), minlength=n)[1:]
    expected = orders * (n - 1) / (n - 1)
    assert abs(((steps - expected) ** 2 / expected).sum() - (n - 2)) < 10 * np.sqrt(2 * (n - 2))


@exact
def test_counts_are_looked_at_piece_by_piece(monkeypatch):
    rng = np.random.default_rng(0)
    counts = DrawCounts(1000)
    counts.add(rng.integers(0, 500, 900))
    whole = counts.as_often(np.arange(12))
    monkeypatch.setattr("importance_sampling.training._draw_counts._PIECE", 64)
    np.testing.assert_array_equal(counts.as_often(np.arange(12)), whole)
    idxs, draws = counts.most(20)
    np.testing.assert_array_equal(draws, np.sort(counts.counts)[::-1][:20])
    np.testing.assert_array_equal(counts.counts[idxs], draws)
    idxs, draws = counts.least(20)
    assert (draws == 0).all() and len(set(idxs.tolist())) == 20
