"""InfoBatch and Selective Backprop, against what their papers say."""

import math
from statistics import NormalDist

import keras
import numpy as np
import pytest
from helpers import Scorer, adam_mlp, data, mlp, numbered
from test_unbiased import flat, trained_mlp

from importance_sampling import InfoBatchTraining, SelectiveBackpropTraining
from importance_sampling.datasets import InMemoryDataset
from importance_sampling.model_wrappers import OracleWrapper
from importance_sampling.proposal import Kind
from importance_sampling.reweighting import (
    AdjustedBiasedReweightingPolicy,
    BiasedReweightingPolicy,
    NoReweightingPolicy,
    ReweightingPolicy,
)
from importance_sampling.samplers import (
    InfoBatchSampler,
    SamplerDecorator,
    SelectiveBackpropSampler,
)

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact
statistical = pytest.mark.statistical
end_to_end = pytest.mark.end_to_end

N, BATCH = 103, 10
LOSSES = np.random.default_rng(0).exponential(size=N).astype("float32")
EASY = LOSSES.mean(dtype="float64") > LOSSES


def infobatch(losses=LOSSES, **kwargs):
    """A sampler that has seen all examples, with losses that stay as they are."""
    sampler = InfoBatchSampler(numbered(len(losses)), BiasedReweightingPolicy(), rng=0, **kwargs)
    sampler.update(np.arange(len(losses)), losses)
    return sampler


def one_epoch(sampler, epoch):
    """All draws of an epoch, as the loop makes them."""
    sampler.begin_epoch(epoch)
    draws = [sampler.sample(BATCH)]
    while not sampler.epoch_over:
        draws.append(sampler.sample(BATCH))
    return draws


def bound(count):
    """Standard deviations that none of `count` normal numbers exceeds, but for p = 1e-6."""
    return NormalDist().inv_cdf(1 - 1e-6 / (2 * count))


# -- InfoBatch ------------------------------------------------------------------------------------


@exact
def test_only_what_is_below_the_mean_of_the_known_may_be_left_out():
    sampler = InfoBatchSampler(numbered(6), BiasedReweightingPolicy(), ratio=0.3, rng=0)
    np.testing.assert_array_equal(sampler.keep_probabilities(), 1)
    # Known: 1, 2, 6 with the mean 3; and one at the mean, which is not below it.
    sampler.update(np.array([0, 2, 3, 5]), np.array([1.0, 6.0, 2.0, 3.0]))
    np.testing.assert_allclose(sampler.keep_probabilities(), [0.7, 1, 1, 0.7, 1, 1])
    # The last loss counts.
    sampler.update(np.array([0]), np.array([7.0]))
    np.testing.assert_allclose(sampler.keep_probabilities(), [1, 1, 1, 0.7, 1, 0.7])
    # Losses that are all alike have exactly their own value as mean.
    sampler.update(np.arange(6), np.full(6, 0.1))
    np.testing.assert_array_equal(sampler.keep_probabilities(), 1)


@exact
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.8])
def test_a_pass_holds_the_hard_once_and_the_easy_at_most_once(ratio):
    sampler = infobatch(ratio=ratio)
    orders = set()
    for epoch in range(5):
        draws = one_epoch(sampler, epoch)
        idxs = np.concatenate([draw[0] for draw in draws])
        orders.add(tuple(idxs))
        assert len(np.unique(idxs)) == len(idxs)
        assert set(np.flatnonzero(~EASY)) <= set(idxs)
        # An epoch is that pass, in batches of which the last may be smaller.
        assert len(draws) == math.ceil(len(idxs) / BATCH)
        assert all(len(draw[0]) == BATCH for draw in draws[:-1])
        w = np.concatenate([draw[2][:, 0] for draw in draws])
        metric_weights = np.concatenate([draw.importance_weights for draw in draws])
        expected = np.where(EASY[idxs], 1 / (1 - ratio), 1.0)
        np.testing.assert_allclose(w, expected)
        np.testing.assert_allclose(metric_weights, expected * len(idxs) / N)
        assert all(draw.by_score == (ratio > 0) for draw in draws)
    assert len(orders) == 5


@exact
@pytest.mark.parametrize(
    ("epochs", "anneal", "pruned"),
    [(16, 0.875, 14), (10, 0.875, 8), (1, 0.875, 0), (4, 1.0, 4), (4, 0.0, 0), (100, 0.29, 29)],
)
def test_the_last_epochs_leave_nothing_out(epochs, anneal, pruned):
    sampler = infobatch(epochs=epochs, anneal=anneal)
    for epoch in range(epochs):
        draws = one_epoch(sampler, epoch)
        idxs = np.concatenate([draw[0] for draw in draws])
        if epoch < pruned:
            assert len(idxs) < N and draws[0].by_score and sampler.prunes
            continue
        np.testing.assert_array_equal(np.sort(idxs), np.arange(N))
        for draw in draws:
            np.testing.assert_array_equal(draw[2], 1)
            np.testing.assert_array_equal(draw.importance_weights, 1)
            assert not draw.by_score and draw.kind is Kind.UNIFORM


@exact
def test_by_hand_a_pass_is_an_epoch():
    sampler = infobatch(epochs=2, anneal=0.5)
    sizes = []
    while sum(sizes) < 2 * N - 20:
        sizes.append(len(sampler.sample(BATCH)[0]))
    first = np.cumsum(sizes).tolist().index(sum(sizes[: np.flatnonzero(np.diff(sizes) > 0)[0] + 1]))
    assert sum(sizes[: first + 1]) < N
    assert sizes[first + 1 : first + 12] == [10] * 10 + [3]


@exact
def test_an_epoch_may_stand_for_another_number_of_examples():
    whole = InfoBatchSampler(numbered(100), BiasedReweightingPolicy(), epoch_size=50, rng=0)
    assert [len(one_epoch(whole, e)) for e in range(4)] == [5, 5, 5, 5]
    # A pass of half the examples: each batch stands for two, or somewhat less.
    losses = np.ones(100)
    losses[0] = 2.0
    for size, passes in ((50, 0.5), (200, 2)):
        sampler = infobatch(losses, ratio=0.5, epoch_size=size)
        steps = [len(one_epoch(sampler, e)) for e in range(6)]
        kept = len(sampler._pass)
        assert 30 < kept < 70
        assert all(abs(s - passes * 5.5) <= 3 for s in steps)


@exact
def test_annealing_begins_with_its_epoch_in_the_middle_of_a_pass():
    sampler = infobatch(epochs=2, anneal=0.5, epoch_size=50)
    assert all(draw.by_score for draw in one_epoch(sampler, 0))
    assert sampler._pass.left
    assert not any(draw.by_score for draw in one_epoch(sampler, 1))


@exact
def test_without_shuffling_the_order_of_the_data_stays():
    idxs = np.concatenate([draw[0] for draw in one_epoch(infobatch(shuffle=False), 0)])
    assert (np.diff(idxs) > 0).all() and len(idxs) < N


@statistical
def test_the_weighted_sum_of_a_pass_is_the_full_one():
    """Each easy example is in a pass or not, independently: the variance of the sum is known.

    It is r / (1 - r) * sum of squares over the easy ones; the mean of many is normal.
    """
    ratio, passes = 0.6, 400
    values = np.random.default_rng(1).normal(size=(N, 3)) + 1.0
    sampler = infobatch(ratio=ratio)
    sums, kept = np.zeros(3), np.zeros(N)
    for epoch in range(passes):
        for draw in one_epoch(sampler, epoch):
            sums += draw[2][:, 0] @ values[draw[0]]
            kept[draw[0]] += 1
    error = np.sqrt(ratio / (1 - ratio) * (values[EASY] ** 2).sum(0) / passes)
    assert (np.abs(sums / passes - values.sum(0)) < bound(3) * error).all()
    np.testing.assert_array_equal(kept[~EASY], passes)
    spread = np.sqrt(ratio * (1 - ratio) / passes)
    assert np.abs(kept[EASY] / passes - (1 - ratio)).max() < bound(EASY.sum()) * spread


@statistical
def test_the_steps_of_a_pass_add_up_to_the_full_gradient():
    """As the training step really takes them; the variance is that of the test above."""
    model, x, y = trained_mlp()
    n, passes, ratio = len(x), 60, 0.5
    training = InfoBatchTraining(model, ratio=ratio, seed=0)
    wrapper = training.model
    single = np.stack([flat(wrapper.gradient(x[[i]], y[[i]])) for i in range(n)])
    losses = wrapper.score(x, y)
    sampler = training.sampler(InMemoryDataset(x, y, x[:2], y[:2], False), 16, 6, 10**6)
    sampler.update(np.arange(n), losses)
    start = model.get_weights()
    total = np.zeros(single.shape[1])
    for epoch in range(passes):
        sampler.begin_epoch(epoch)
        while not sampler.epoch_over:
            draw = sampler.sample(16)
            wrapper.train(draw)
            moved = zip(start, model.get_weights(), strict=True)
            total += len(draw[0]) * np.concatenate([(a - b).ravel() for a, b in moved])
            model.set_weights(start)
    easy = losses < losses.mean(dtype="float64")
    assert 0.3 < easy.mean() < 0.95
    error = np.sqrt(ratio / (1 - ratio) * (single[easy] ** 2).sum(0) / passes)
    z = np.abs(total / passes - single.sum(0)) / np.maximum(error, 1e-3)
    assert z.max() < bound(single.shape[1])


class Epochs(keras.callbacks.Callback):
    """Notes the optimizer steps of each epoch, and what Keras is told of their number."""

    def __init__(self):
        super().__init__()
        self.steps, self.rates, self.told = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.steps.append(0)
        self.told.append(self.params["steps"])
        self.rates.append(float(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch, logs=None):
        assert batch == self.steps[-1]
        self.steps[-1] += 1


def fit(training, x, y, **kwargs):
    """Trains, and returns the history, the epochs' steps and the draws."""
    draws, epochs = [], Epochs()

    def note(sampler, idxs, w, scores):
        draws.append((idxs, w[:, 0]))

    options = {"batch_size": 16, "verbose": 0} | kwargs
    callbacks = [*options.pop("callbacks", []), epochs]
    history = training.fit(x, y, callbacks=callbacks, on_sample=note, **options).history
    return history, epochs, draws


@exact
def test_epochs_of_fit_are_passes_over_what_was_kept():
    x, y = data(200)
    model = adam_mlp()
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 * 0.5**epoch)
    history, epochs, draws = fit(InfoBatchTraining(model, seed=0), x, y, epochs=8, callbacks=[rate])
    assert len(history["loss"]) == 8 and epochs.told == [None] * 8
    np.testing.assert_allclose(epochs.rates, 0.01 * 0.5 ** np.arange(8.0), rtol=1e-5)
    assert sum(epochs.steps) == len(draws) == int(model.optimizer.iterations)
    at = 0
    for epoch, steps in enumerate(epochs.steps):
        idxs = np.concatenate([idxs for idxs, _ in draws[at : at + steps]])
        assert len(np.unique(idxs)) == len(idxs) and steps == math.ceil(len(idxs) / 16)
        # The first epoch knows nothing, and the last of eight is for the whole data set.
        assert (len(idxs) == 200) == (epoch in (0, 7))
        at += steps
    assert history["importance_sampling"] == [0.0, *[1.0] * 6, 0.0]


@exact
def test_logs_are_the_training_sets():
    """Of a model that stays as it is: sums over a pass by weights 1/(1 - P), known exactly."""
    x, y = data(200)
    model = mlp(optimizer=keras.optimizers.SGD(0.0), metrics=["accuracy"])
    losses = OracleWrapper(model, BiasedReweightingPolicy()).score(x, y)
    right = model.predict(x, verbose=0).argmax(1) == y
    training = InfoBatchTraining(model, anneal=1.0, seed=0)
    history, epochs, draws = fit(training, x, y, epochs=4)
    at = 0
    for epoch, steps in enumerate(epochs.steps):
        idxs = np.concatenate([idxs for idxs, _ in draws[at : at + steps]])
        w = np.concatenate([w for _, w in draws[at : at + steps]])
        at += steps
        np.testing.assert_allclose(history["loss"][epoch], w @ losses[idxs] / 200, rtol=1e-4)
        np.testing.assert_allclose(history["score"][epoch], w @ losses[idxs] / 200, rtol=1e-4)
        accuracy = w @ right[idxs] / w.sum()
        np.testing.assert_allclose(history["accuracy"][epoch], accuracy, rtol=1e-4)


@exact
def test_steps_per_epoch_counts_uniform_steps():
    x, y = data(200)
    # 13 steps are a pass of 200 examples: half of one, and two of them.
    for steps, passes in ((6, 0.5), (26, 2)):
        training = InfoBatchTraining(adam_mlp(), anneal=1.0, seed=0)
        _, epochs, draws = fit(training, x, y, epochs=7, steps_per_epoch=steps)
        assert max(epochs.steps) <= steps and epochs.steps[-1] < steps
        seen = np.bincount(np.concatenate([idxs for idxs, _ in draws]), minlength=200)
        assert seen.max() <= math.ceil(7 * passes)
        assert seen.max() >= math.floor(7 * passes * 0.9)


@exact
def test_another_fit_knows_the_losses_and_which_epoch_it_is():
    x, y = data(200)
    training = InfoBatchTraining(adam_mlp(), anneal=0.5, seed=0)
    by_score = []
    for rows, first in (((x, y), 0), ((x, y), 0), ((x, y), 2), ((x.copy(), y), 0)):
        history, *_ = fit(training, *rows, epochs=4, initial_epoch=first)
        by_score.append(history["importance_sampling"])
    assert by_score == [[0, 1, 0, 0], [1, 1, 0, 0], [0, 0], [0, 1, 0, 0]]


@exact
def test_decorators_pass_the_ends_of_epochs_on():
    class Watched(SamplerDecorator):
        def sample(self, batch_size):
            return self.sampler.sample(batch_size)

    sampler = Watched(infobatch())
    assert len(one_epoch(sampler, 3)) < math.ceil(N / BATCH)
    assert sampler.sampler._epoch == 3 and sampler.epoch_over
    assert Watched(selective(LOSSES)).epoch_over is False
    # One that defines nothing passes everything on.
    sampler = SamplerDecorator(infobatch())
    assert len(one_epoch(sampler, 3)) < math.ceil(N / BATCH)
    assert len(SamplerDecorator(selective(LOSSES)).sample(BATCH)[0]) == BATCH

    class Smoothing(SamplerDecorator):
        def _get_samples_with_scores(self, batch_size):
            idxs, scores, xy = self.sampler._get_samples_with_scores(batch_size)
            return idxs, scores + 1.0, xy

    with pytest.raises(NotImplementedError, match="InfoBatchSampler draws its batches itself"):
        Smoothing(infobatch()).sample(BATCH)


@exact
def test_infobatch_wants_batches_of_any_size():
    inputs = keras.Input(batch_shape=(BATCH, 6))
    outputs = keras.layers.Dense(4, activation="softmax")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = data(10 * BATCH)
    with pytest.raises(ValueError, match=f"built for batches of {BATCH}.*SelectiveBackprop"):
        InfoBatchTraining(model).fit(x, y, batch_size=BATCH, epochs=3, verbose=0)
    training = SelectiveBackpropTraining(model, seed=0)
    _, epochs, draws = fit(training, x, y, batch_size=BATCH, epochs=3)
    assert len(epochs.steps) == 3 and {len(idxs) for idxs, _ in draws} == {BATCH}


@exact
def test_bad_settings_are_refused():
    for wrong in ({"ratio": 1.0}, {"ratio": -0.1}, {"anneal": 1.5}, {"anneal": "late"}):
        name = next(iter(wrong))
        with pytest.raises(ValueError, match=name):
            InfoBatchTraining(mlp(), **wrong)
    for wrong in ({"ratio": 1.0}, {"anneal": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            infobatch(**wrong)
    for wrong in ({"beta": -1.0}, {"history": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SelectiveBackpropTraining(mlp(), **wrong)
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SelectiveBackpropSampler(numbered(9), NoReweightingPolicy(), None, **wrong)

    class Whole(ReweightingPolicy):
        def sample_weights(self, idxs, scores):
            return np.ones((len(idxs), 1))

    with pytest.raises(ValueError, match="drawn_weights"):
        InfoBatchSampler(numbered(9), Whole())


@exact
def test_expected_steps():
    expected = InfoBatchTraining.expected_steps
    # 2 epochs of the last, 1 the first: 10 steps each; 13 with 60 of 100.
    assert expected(100, 10, 16) == 3 * 10 + 13 * 6
    assert expected(100, 10, 16, ratio=0.0) == expected(100, 10, 16, below_mean=0.0) == 160
    assert expected(101, 10, 2, anneal=0.0) == 22
    assert expected(1, 10, 3) == 3
    expected = SelectiveBackpropTraining.expected_steps
    assert expected(100, 10, 6) == 30
    assert expected(100, 10, 6, beta=2.0) == 20
    assert expected(5, 10, 6) == 6


# -- Selective Backprop ---------------------------------------------------------------------------


def selective(losses, policy=None, **kwargs):
    scorer = Scorer(losses)
    policy = policy or NoReweightingPolicy()
    return SelectiveBackpropSampler(numbered(len(losses)), policy, scorer, rng=0, **kwargs)


@exact
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 3.0])
def test_the_probability_is_the_rank_among_the_last_losses_to_the_power_of_beta(beta):
    losses = np.round(np.random.default_rng(2).exponential(size=60), 1)
    sampler = selective(losses, beta=beta, history=25, shuffle=False)
    recent = []
    for i in range(0, 60, 10):
        part = losses[i : i + 10]
        np.testing.assert_array_equal(sampler._score_batch(10), part)
        recent = [*recent, *part][-25:]
        share = [np.mean([r <= loss for r in recent]) for loss in part]
        chances = np.array(share) ** beta
        np.testing.assert_allclose(sampler.keep_probabilities(part), chances)
        kept = sampler._kept[-1]
        assert set(kept[0]) <= set(range(i, i + 10))
        np.testing.assert_allclose(kept[2], chances[kept[0] - i])


@exact
def test_batches_are_full_in_the_order_kept_and_without_weights():
    sampler = selective(np.random.default_rng(3).exponential(size=95), beta=1.0, history=50)
    scored = []
    for policy in (NoReweightingPolicy(), AdjustedBiasedReweightingPolicy()):
        sampler.reweighting = policy
        for _ in range(12):
            queue = [part[0] for part in sampler._kept]
            idxs, (x, _), w = draw = sampler.sample(BATCH)
            assert len(idxs) == BATCH and draw.by_score
            np.testing.assert_array_equal(x[:, 0], idxs)
            np.testing.assert_array_equal(w, policy.uniform_weights(BATCH))
            # First what was kept before, of which nothing is lost.
            if queue:
                queue = np.concatenate(queue)
                np.testing.assert_array_equal(idxs[: len(queue)], queue)
            assert sum(len(part[0]) for part in sampler._kept) < BATCH
            scored.append(len(draw.pool_scores))
    assert sum(scored) == sampler.model.asked


@exact
def test_with_beta_0_it_is_uniform_training():
    sampler = selective(LOSSES, beta=0.0)
    drawn = [sampler.sample(BATCH) for _ in range(20)]
    idxs = np.concatenate([draw[0] for draw in drawn])
    np.testing.assert_array_equal(np.sort(idxs[:N]), np.arange(N))
    for draw in drawn:
        np.testing.assert_array_equal(draw.importance_weights, 1)


@statistical
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_examples_are_kept_as_often_as_their_rank_says(beta):
    """In passes of one order the last N losses are each example's, once: ranks are exact."""
    n, passes = 120, 400
    losses = np.random.default_rng(4).permutation(np.linspace(0.1, 3, n))
    sampler = selective(losses, beta=beta, history=n, shuffle=False)
    for _ in range(n // BATCH):
        sampler._score_batch(BATCH)
    sampler._kept = []
    counts = np.zeros(n)
    while sampler.model.asked < (passes + 1) * n:
        sampler._score_batch(BATCH)
        for part in sampler._kept:
            np.add.at(counts, part[0], 1)
        sampler._kept = []
    chance = ((losses.argsort().argsort() + 1) / n) ** beta
    spread = np.sqrt(chance * (1 - chance) / passes)
    assert (np.abs(counts / passes - chance) <= bound(n) * spread + 1e-12).all()
    # The metric weights' numerator is the mean over as many as are looked back at.
    np.testing.assert_allclose(sampler._chances.mean(), chance.mean())


@statistical
def test_the_mean_step_is_that_of_the_hard_examples():
    """Without weights the mean over draws is sum(q v) / sum(q), which is not the mean."""
    n = 120
    losses = np.linspace(0.1, 3, n)
    sampler = selective(losses, history=4 * n)
    for _ in range(4 * n // BATCH):
        sampler._score_batch(BATCH)
    sampler._kept = []
    means = np.array([losses[sampler.sample(BATCH)[0]].mean() for _ in range(800)])
    q = np.arange(1, n + 1) / n
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert abs(means.mean() - q @ losses / q.sum()) < 4.9 * error
    assert means.mean() > losses.mean() + 10 * error


@exact
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_an_epoch_scores_as_many_examples_as_uniform_training_trains_on(beta):
    x, y = data(200)
    model = adam_mlp()
    training = SelectiveBackpropTraining(model, beta=beta, seed=0)
    asked, score = [], training.model.score

    def counted(x, y, **kwargs):
        asked.append(len(x))
        return score(x, y, **kwargs)

    training.model.score = counted
    _, epochs, draws = fit(training, x, y, epochs=9)
    # The last step of an epoch may score a few batches more, which count in the next.
    assert abs(sum(asked) - 9 * 200) <= 3 * 16 and set(asked) == {16, 8}
    assert len(draws) == sum(epochs.steps) == int(model.optimizer.iterations)
    assert all(len(idxs) == 16 and (w == 1).all() for idxs, w in draws)
    if beta == 0:
        # Of the 13 batches that an epoch scores the last has 8 examples, which the next fills up.
        assert epochs.steps == [13, 12, 13, 12, 13, 12, 13, 12, 13]
    else:
        # Ranks among falling losses are below 1/2 on average, not far.
        assert 0.3 * 1800 < 16 * sum(epochs.steps) < 0.6 * 1800


@exact
def test_logs_of_hard_examples_are_weighted():
    """Of a model that stays as it is; that these weights are right is the battery's to say."""
    x, y = data(200)
    model = mlp(optimizer=keras.optimizers.SGD(0.0), metrics=["accuracy"])
    losses = OracleWrapper(model, BiasedReweightingPolicy()).score(x, y)
    right = model.predict(x, verbose=0).argmax(1) == y
    draws = []

    class Noting(SamplerDecorator):
        def sample(self, batch_size):
            draws.append(self.sampler.sample(batch_size))
            return draws[-1]

    class Watched(SelectiveBackpropTraining):
        def sampler(self, *args):
            return Noting(super().sampler(*args))

    history, epochs, _ = fit(Watched(model, seed=0), x, y, epochs=5)
    at = 0
    for epoch, steps in enumerate(epochs.steps):
        part = draws[at : at + steps]
        at += steps
        idxs = np.concatenate([draw[0] for draw in part])
        w = np.concatenate([draw.importance_weights for draw in part])
        assert np.ptp(w) > 1
        np.testing.assert_allclose(history["loss"][epoch], w @ losses[idxs] / len(w), rtol=1e-4)
        accuracy = w @ right[idxs] / w.sum()
        np.testing.assert_allclose(history["accuracy"][epoch], accuracy, rtol=1e-4)
        # What was scored was drawn uniformly: its plain mean.
        means = [draw.pool_scores.mean() for draw in part]
        np.testing.assert_allclose(history["score"][epoch], np.mean(means), rtol=1e-4)


@exact
def test_an_epoch_has_a_step_at_least():
    x, y = data(12)
    history, epochs, _ = fit(
        SelectiveBackpropTraining(adam_mlp(), beta=8.0, seed=0), x, y, epochs=5
    )
    assert epochs.steps == [1] * 5 and len(history["loss"]) == 5


@exact
def test_a_state_between_draws_keeps_what_was_kept():
    one = selective(np.random.default_rng(5).exponential(size=95), history=40)
    for _ in range(7):
        one.sample(BATCH)
    assert one._kept
    other = selective(one.model.scores, history=40)
    other.load_state_dict(one.state_dict())
    assert other.epoch_over == one.epoch_over
    for _ in range(10):
        first, second = one.sample(BATCH), other.sample(BATCH)
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first.metric_weights, second.metric_weights)


# -- the whole thing ------------------------------------------------------------------------------


@end_to_end
@pytest.mark.parametrize("kind", [InfoBatchTraining, SelectiveBackpropTraining])
def test_the_loss_falls_on_fewer_steps(kind):
    x, y = data(600, noise=0.0)
    model = adam_mlp(0.03)
    before = model.evaluate(x, y, verbose=0)[0]
    training = kind(model, seed=0)
    history, epochs, _ = fit(training, x, y, epochs=8, batch_size=32, validation_data=(x, y))
    assert model.evaluate(x, y, verbose=0)[0] < 0.3 * before
    assert history["val_loss"][-1] < 0.5 * history["val_loss"][0]
    assert sum(epochs.steps) < 0.85 * 8 * math.ceil(600 / 32)
    report = training.report()
    assert sum(report.steps.values()) == sum(epochs.steps) and str(report)
