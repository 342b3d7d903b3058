"""Small rows of several batches are read at one time; nobody can tell but by the clock."""

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data, observe

from importance_sampling import HistoryImportanceTraining, ImportanceTraining
from importance_sampling.data.arrays import ArrayDataset
from importance_sampling.datasets import BaseDataset
from importance_sampling.reweighting import UNBIASED
from importance_sampling.samplers import HistoryMixtureSampler, UniformSampler
from importance_sampling.samplers._rows_ahead import most_read_together

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


class Counting(ArrayDataset):
    """Arrays that note how many rows each reading was of."""

    def __init__(self, n, features=1):
        x = np.arange(n * features, dtype="float32").reshape(n, features)
        super().__init__(x, np.arange(n), np.arange(n) + 0.5)
        self.read = []

    def _train_data(self, idxs):
        self.read.append(len(idxs))
        return super()._train_data(idxs)


@pytest.fixture
def together(monkeypatch):
    """Has `Counting` be read ahead, as the arrays are that it stands for."""
    monkeypatch.setattr("importance_sampling.samplers._rows_ahead.ArrayDataset", Counting)


def rows_of(dataset, proposal):
    x, y, weight = proposal.rows
    np.testing.assert_array_equal(x, dataset.arrays[0][proposal.idxs])
    np.testing.assert_array_equal(y, dataset.arrays[1][proposal.idxs])
    np.testing.assert_array_equal(weight, dataset.arrays[2][proposal.idxs])


def test_uniform_batches_are_read_together(together):
    dataset = Counting(100)
    sampler = UniformSampler(dataset, UNBIASED, rng=0)
    alone = UniformSampler(ArrayDataset(*dataset.arrays), UNBIASED, rng=0)
    for _ in range(30):
        proposal = sampler.propose(8)
        np.testing.assert_array_equal(proposal.idxs, alone.propose(8).idxs)
        rows_of(dataset, proposal)
    # Of a pass eight batches, four, and what is left of it.
    assert dataset.read[:3] == [64, 32, 4] and len(dataset.read) < 10


def test_drawn_batches_are_read_together(together):
    dataset = Counting(512)
    sampler = HistoryMixtureSampler(dataset, UNBIASED, rng=0)
    scores = np.random.default_rng(0).random(512)
    for step in range(64 + 16):
        if step == 64:
            # The first pass is over.
            dataset.read.clear()
        proposal = sampler.propose(8)
        assert proposal.by_score == (step >= 64)
        rows_of(dataset, proposal)
        observe(sampler, proposal, scores[proposal.idxs])
    assert dataset.read == [64, 64]


def test_another_size_in_between_is_read_by_itself(together):
    dataset = Counting(100)
    sampler = UniformSampler(dataset, UNBIASED, rng=0)
    for size in (8, 8, 12, 8, 8, 40, 8):
        proposal = sampler.propose(size)
        assert len(proposal.idxs) == size
        rows_of(dataset, proposal)


def test_data_that_changed_at_the_end_of_an_epoch_is_read_anew(together):
    dataset = Counting(512)
    sampler = HistoryMixtureSampler(dataset, UNBIASED, rng=0)
    for step in range(64 + 3):
        proposal = sampler.propose(8)
        observe(sampler, proposal, np.ones(8) + proposal.idxs)
        if step == 2:
            dataset.arrays[0][:] += 1.0
            sampler.begin_epoch(1)
    for _ in range(2):
        dataset.arrays[0][:] += 1.0
        sampler.begin_epoch(2)
        rows_of(dataset, sampler.propose(8))


def test_large_rows_and_data_of_the_users_own_are_read_when_it_is_their_turn():
    def arrays(features):
        return ArrayDataset(np.zeros((64, features), "float32"), np.zeros(64, "int64"))

    class Own(BaseDataset):
        def _train_data(self, idxs):
            return np.zeros((len(idxs), 1)), np.zeros(len(idxs))

    # A row is 4 bytes a feature and 8 for its label; a mebibyte may be read at one time.
    assert most_read_together(arrays(2), 16) == 8
    assert most_read_together(arrays(4094), 16) == 4
    assert most_read_together(arrays(2**16), 16) == 1
    assert most_read_together(Own(), 16) == 1
    assert most_read_together(Counting(64), 16) == 1


@pytest.mark.parametrize("kind", [HistoryImportanceTraining, ImportanceTraining])
def test_training_is_the_same_without(kind, monkeypatch):
    x, y = data(96)
    found = []
    for most in (8, 1):
        monkeypatch.setattr("importance_sampling.samplers._rows_ahead._MOST", most)
        keras.utils.set_random_seed(0)
        model = adam_mlp()
        history = kind(model, seed=0).fit(x, y, batch_size=12, epochs=3, verbose=0)
        found.append((history.history, [keras.ops.convert_to_numpy(v) for v in model.weights]))
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(one, other)
