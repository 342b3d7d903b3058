"""The noise of a uniform batch, from fewer examples."""

import itertools

import keras
import numpy as np
import pytest
from helpers import Scorer, adam_mlp, data, mlp, numbered, observe
from keras import layers

from importance_sampling import (
    HistoryImportanceTraining,
    ImportanceTraining,
    RobustImportanceTraining,
)
from importance_sampling.proposal import Kind
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import AutoSampler, HistoryMixtureSampler, SamplerDecorator
from importance_sampling.samplers._strategies import HISTORY
from importance_sampling.samplers.batch_size import BatchSizer, batch_sizes

pytestmark = pytest.mark.two_backends

SIZES = (128, 88, 56, 40, 24, 16)


@pytest.mark.exact
@pytest.mark.any_backend
@pytest.mark.parametrize("largest", [1, 2, 7, 32, 100, 128, 1000])
@pytest.mark.parametrize("smallest", [None, 1, 4, 16, 64, 5000])
def test_sizes_go_from_the_whole_batch_to_the_floor(largest, smallest):
    sizes = batch_sizes(largest, smallest)
    assert 1 <= len(sizes) <= 6
    assert list(sizes) == sorted(set(sizes), reverse=True)
    floor = -(-largest // 8) if smallest is None else min(smallest, largest)
    assert sizes[0] == largest and sizes[-1] >= floor
    assert sizes[-1] - floor < 8
    # No two neighbours are further apart than equal ratios and rounding to eights make them.
    for a, b in itertools.pairwise(sizes):
        assert a <= (b + 4) * (largest / floor) ** 0.2 + 4


def choose(ratio, seconds=None):
    return BatchSizer().choose(SIZES, ratio, seconds=seconds)


@pytest.mark.exact
@pytest.mark.any_backend
def test_the_size_is_the_smallest_of_no_more_noise():
    assert batch_sizes(128) == SIZES
    for ratio, size in ((0.5, 128), (1.0, 128), (1.4, 128), (1.46, 88), (3.2, 40), (3.3, 40)):
        assert choose(ratio) == size
    assert choose(128 / 24) == 24 and choose(1e9) == 16
    # Less noise for nothing, where larger batches take no longer.
    assert choose(4.0, {40: 1.0, 56: 1.02, 88: 1.2, 128: 1.5}) == 56
    assert choose(4.0, {40: 1.0, 128: 1.0}) == 128
    assert choose(4.0, {56: 0.1, 40: 1.0}) == 56
    # Nothing is known of the size it takes.
    assert choose(4.0, {128: 0.1}) == 40


@pytest.mark.exact
@pytest.mark.any_backend
@pytest.mark.parametrize("ratio", [1.1, 1.5, 2.0, 3.0, 4.0, 6.0, 7.9])
@pytest.mark.parametrize("steps", [1, 8])
def test_sizes_on_both_sides_give_the_noise_of_uniform_batches(ratio, steps):
    sizer = BatchSizer()
    needed = 128 / ratio
    noise, chosen = 0.0, set()
    for i in range(1, 1001):
        size = sizer.choose(SIZES, ratio, lambda size: steps)
        chosen.add(size)
        noise += needed / size
        # Never more than uniform steps have had so far.
        assert noise <= i + 1e-6
    np.testing.assert_allclose(noise / 1000, 1.0, atol=0.01)
    assert chosen == {min(s for s in SIZES if s >= needed), max(s for s in SIZES if s < needed)}
    # What was saved at the floor is not spent when noise grows.
    for _ in range(1000):
        assert sizer.choose(SIZES, 100.0, lambda size: steps) == 16
    assert sizer.state_dict()["saved"] < 2 * steps


def learnt(truth, batch, passes=1, **kwargs):
    """A sampler at constant variance that has seen all scores, and a few of them twice."""
    sampler = HistoryMixtureSampler(
        numbered(len(truth)), BiasedReweightingPolicy(), constant="variance", rng=0, **kwargs
    )
    for _ in range(passes * len(truth) // batch + 40):
        draw = sampler.sample(batch)
        observe(sampler, draw, truth[draw[0]])
    return sampler


@pytest.mark.exact
@pytest.mark.any_backend
@pytest.mark.parametrize(("steps", "run"), [(100, 8), (223, 8), (224, 16), (469, 32)])
def test_a_size_is_kept_for_a_14th_of_an_epoch(steps, run):
    """A power of two, and eight in shorter epochs, of which they are at most an eighth."""
    batch = 8
    sampler = learnt(np.ones(steps * batch), batch, min_batch_size=batch)
    while len(sampler._drawn):
        sampler.sample(batch)
    assert sampler.batches_ahead(batch) == run
    sampler.sample(batch)
    assert sampler.batches_ahead(batch) == run - 1


@pytest.mark.statistical
@pytest.mark.any_backend
def test_a_weighted_batch_has_no_more_noise_than_a_uniform_one():
    """Gradients of random sign, whose mean is next to zero: their second moment is the noise.

    Of D squared errors the mean has the standard error std / sqrt(D); four of them leave one
    chance in 30,000.
    """
    rng = np.random.default_rng(0)
    n, batch, draws = 2000, 64, 4000
    truth = rng.exponential(size=n) ** 3 + 1e-3
    gradients = truth * rng.choice([-1.0, 1.0], n)
    mean = gradients.mean()
    sampler = learnt(truth, batch, resampling="multinomial", mix=0.1, min_batch_size=1)
    errors, sizes = [], []
    for _ in range(draws):
        idxs, _, w = sampler.sample(batch)
        sizes.append(len(idxs))
        errors.append(((w[:, 0] * gradients[idxs]).mean() - mean) ** 2)
        sampler.update(idxs, truth[idxs])
    uniform = gradients.var() / batch
    error = np.std(errors) / np.sqrt(draws)
    assert np.mean(errors) < uniform + 4 * error
    assert error < 0.1 * uniform
    # And with a fraction of the examples, of which none is more than it takes: the measured
    # ratio, which the sizes follow, lags behind by an epoch.
    assert np.mean(sizes) < 0.4 * batch
    assert 1.3 * np.mean(errors) > uniform - 4 * error


@pytest.mark.exact
def test_an_epoch_has_as_many_steps_as_uniform_training():
    x, y = data(640, noise=0.0)
    model = adam_mlp(0.05)
    seen = []
    training = HistoryImportanceTraining(model, constant="variance", min_batch_size=4, seed=0)
    history = training.fit(
        x,
        y,
        batch_size=32,
        epochs=6,
        verbose=0,
        on_sample=lambda sampler, idxs, w, scores: seen.append(len(idxs)),
    )
    assert len(seen) == int(model.optimizer.iterations) == 6 * 20
    assert seen[:20] == 20 * [32]
    sizes = batch_sizes(32, 4)
    assert set(seen) <= set(sizes) and len(set(seen)) > 1
    means = np.reshape(seen, (6, 20)).mean(1)
    np.testing.assert_allclose(history.history["batch_size"], means)
    assert means[-1] < 24
    report = training.report()
    assert report.examples == sum(seen) and report.draws.sum() == sum(seen)
    assert report.steps == {"uniform": 20, "history": 100}
    # Less only where batches cannot be smaller.
    assert 0.3 < report.relative_noise <= 1.05
    assert f"{sum(seen)} examples trained on" in str(report)
    assert report.to_dict()["examples"] == sum(seen)


class Passing(SamplerDecorator):
    def sample(self, batch_size):
        return self.sampler.sample(batch_size)


class Smoothing(SamplerDecorator):
    """Draws by scores of its own."""

    def _get_samples_with_scores(self, batch_size):
        idxs, scores, xy = self.sampler._get_samples_with_scores(batch_size)
        return idxs, scores + 1.0, xy


@pytest.mark.exact
@pytest.mark.parametrize(
    ("decorator", "sizes"),
    [(SamplerDecorator, True), (Passing, True), (Smoothing, False)],
    ids=["plain", "passing", "scores"],
)
def test_decorators_of_your_own(decorator, sizes):
    class Decorated(HistoryImportanceTraining):
        def sampler(self, *args):
            return decorator(super().sampler(*args))

    x, y = data(640, noise=0.0)
    seen = []
    training = Decorated(adam_mlp(0.05), constant="variance", min_batch_size=4, seed=0)
    history = training.fit(
        x,
        y,
        batch_size=32,
        epochs=6,
        verbose=0,
        on_sample=lambda sampler, idxs, w, scores: seen.append(len(idxs)),
    )
    assert (min(seen) < 32) == sizes == ("batch_size" in history.history)
    # Scores of its own draw whole batches.
    assert len(seen) == 6 * 20 and training.report().relative_noise <= 1.0 + 1e-6


@pytest.mark.exact
def test_uniform_training_has_no_column_of_batch_sizes():
    x, y = data(64)
    for training in (ImportanceTraining(adam_mlp()), HistoryImportanceTraining(adam_mlp())):
        history = training.fit(x, y, batch_size=16, epochs=1, verbose=0)
        assert "batch_size" not in history.history
        assert training.report().examples == 64


@pytest.mark.exact
def test_the_state_goes_on_exactly():
    truth = np.random.default_rng(0).exponential(size=1600) ** 3 + 1e-3
    one = learnt(truth, 20, min_batch_size=4)
    other = HistoryMixtureSampler(
        numbered(1600), BiasedReweightingPolicy(), constant="variance", min_batch_size=4, rng=1
    )
    other.load_state_dict(one.state_dict())
    for _ in range(30):
        a, b = one.sample(20), other.sample(20)
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[2], b[2])
        observe(one, a, truth[a[0]])
        observe(other, b, truth[b[0]])
        # Averaged over as many batches, too.
        assert one.variance_reduction == other.variance_reduction
    assert len(a[0]) < 20


@pytest.mark.exact
@pytest.mark.any_backend
def test_refresh_scores_a_share_of_what_is_trained_on():
    truth = np.random.default_rng(0).exponential(size=1600) ** 3 + 1e-3
    sampler = learnt(truth, 20, min_batch_size=2, refresh=0.5, model=Scorer(truth))
    asked, trained = sampler.model.asked, 0
    for _ in range(200):
        draw = sampler.sample(20)
        observe(sampler, draw, truth[draw[0]])
        trained += len(draw[0])
    assert trained < 0.6 * 200 * 20
    # In whole batches.
    assert abs(sampler.model.asked - asked - 0.5 * trained) <= 20


def normalized(**kwargs):
    inner = keras.Sequential([layers.Dense(8), layers.BatchNormalization(**kwargs)])
    model = keras.Sequential([layers.Input((6,)), inner, layers.Dense(4, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.mark.exact
@pytest.mark.parametrize(
    ("build", "floor"),
    [
        (adam_mlp, 4),
        (normalized, 16),
        (lambda: normalized(trainable=False), 4),
        # Without weights of their own, which would tell whether they are frozen.
        (lambda: normalized(center=False, scale=False), 16),
        (lambda: normalized(center=False, scale=False, trainable=False), 4),
    ],
    ids=["plain", "normalized", "frozen", "without weights", "without weights, frozen"],
)
def test_batches_that_are_normalized_have_a_higher_floor(build, floor):
    x, y = data(640, noise=0.0)
    samplers = []
    options = {"batch_size": 32, "epochs": 1, "verbose": 0}
    hook = {"on_sample": lambda sampler, *_: samplers.append(sampler)}
    HistoryImportanceTraining(build(), constant="variance").fit(x, y, **options, **hook)
    assert samplers[-1].batch_sizes(32)[-1] == floor
    ImportanceTraining(build(), presample="auto").fit(x, y, **options, **hook)
    assert samplers[-1].batch_sizes(32)[-1] == floor
    training = HistoryImportanceTraining(build(), constant="variance", min_batch_size=8)
    training.fit(x, y, **options, **hook)
    assert samplers[-1].batch_sizes(32)[-1] == 8


def summed():
    return mlp(loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum"))


def of_one_size():
    inputs = keras.Input(batch_shape=(16, 6))
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(inputs))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.exact
@pytest.mark.parametrize(
    ("build", "message"),
    [(summed, "reduction='sum'"), (of_one_size, "built for batches of 16")],
)
def test_models_of_one_size_of_batch(build, message):
    x, y = data(64)
    options = {"batch_size": 16, "epochs": 3, "verbose": 0}
    for make in (
        lambda m: HistoryImportanceTraining(m, constant="variance"),
        lambda m: ImportanceTraining(m, presample="auto", constant="variance"),
    ):
        model = build()
        before = model.get_weights()
        with pytest.raises(ValueError, match=f'{message}.*Use constant="batch_size"'):
            make(model).fit(x, y, **options)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    # Without being told, "auto" keeps the size.
    training = ImportanceTraining(build(), presample="auto")
    training.fit(x, y, **options)
    assert training.report().examples == 3 * 64


@pytest.mark.exact
def test_arguments():
    model = mlp()
    with pytest.raises(ValueError, match=r"`constant` must be one of \['batch_size', 'variance'\]"):
        HistoryImportanceTraining(model, constant="noise")
    with pytest.raises(ValueError, match="`min_batch_size` must be an integer of at least 1"):
        HistoryImportanceTraining(model, constant="variance", min_batch_size=0)
    with pytest.raises(ValueError, match='"auto"'):
        ImportanceTraining(model, constant="variance")
    # What would have no effect is not passed over.
    for make in (
        lambda: HistoryImportanceTraining(model, min_batch_size=8),
        lambda: RobustImportanceTraining(model, constant="batch_size", min_batch_size=8),
        lambda: ImportanceTraining(
            model, presample="auto", constant="batch_size", min_batch_size=8
        ),
    ):
        with pytest.raises(ValueError, match='`min_batch_size`=8 goes with constant="variance"'):
            make()


class Stream(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return data(16, seed=index)


@pytest.mark.exact
def test_streams_have_no_history_to_draw_small_batches_by():
    with pytest.raises(ValueError, match=r'constant="variance" .* stream'):
        ImportanceTraining(mlp(), presample="auto", constant="variance").fit(Stream(), verbose=0)
    training = ImportanceTraining(mlp(), presample="auto")
    training.fit(Stream(), epochs=2, verbose=0)
    assert training.report().examples == 2 * 64


# -- auto -----------------------------------------------------------------------------------------


def drive(truth, seconds, steps, **kwargs):
    """Steps of "auto" whose times are a function of kind and size."""
    sampler = AutoSampler(
        numbered(len(truth)),
        BiasedReweightingPolicy(),
        Scorer(truth),
        constant="variance",
        rng=0,
        **kwargs,
    )
    drawn = []
    for _ in range(steps):
        draw = sampler.sample(32)
        kind, size = draw.kind.value, len(draw.idxs)
        scores = truth[draw.idxs] if draw.reads_scores else None
        observe(sampler, draw, scores, seconds(kind, size))
        drawn.append((kind, size))
    return sampler, drawn


SKEWED = np.random.default_rng(0).exponential(size=1600) ** 3 + 1e-3


@pytest.mark.exact
@pytest.mark.any_backend
def test_auto_trains_on_fewer_examples_where_that_saves_time():
    sampler, drawn = drive(SKEWED, lambda kind, size: 0.2 + 0.8 * size / 32, 1500)
    assert set(drawn[:50]) == {("uniform", 32)}
    kinds, sizes = zip(*drawn[100:], strict=True)
    # Next to no uniform steps to compare with, which would take three times as long.
    assert kinds.count("uniform") <= 2 * 6
    assert np.mean(sizes) < 20
    assert sampler.model.asked == 0
    assert [c["kind"] for c in sampler.choices] == ["history"]
    assert sampler.variance_reduction > 1.3


@pytest.mark.exact
@pytest.mark.any_backend
def test_auto_notices_when_its_steps_become_slow():
    """Far ahead, it compares seldom; but not while its steps take longer than uniform ones."""
    taken = []

    def seconds(kind, size):
        taken.append(kind)
        return (5.0 if len(taken) > 700 and kind == "history" else 1.0) * (0.2 + 0.8 * size / 32)

    sampler, drawn = drive(SKEWED, seconds, 1400)
    assert [c["kind"] for c in sampler.choices] == ["history", "uniform"]
    assert "history" not in [kind for kind, _ in drawn[-50:]]


@pytest.mark.exact
@pytest.mark.any_backend
def test_auto_takes_whole_batches_where_small_ones_take_as_long():
    sampler, drawn = drive(SKEWED, lambda kind, size: 1.0, 1500)
    assert [c["kind"] for c in sampler.choices] == ["history"]
    sizes = [size for kind, size in drawn[600:] if kind == "history"]
    assert np.mean(np.array(sizes) == 32) > 0.9


@pytest.mark.exact
@pytest.mark.any_backend
def test_auto_leaves_the_history_where_no_size_of_it_is_faster():
    def seconds(kind, size):
        return 1.0 if kind == "uniform" else 3.0 + size / 32

    sampler, drawn = drive(SKEWED, seconds, 2000)
    assert [c["kind"] for c in sampler.choices] == ["history", "uniform"]
    assert "history" not in [kind for kind, _ in drawn[-500:]]


@pytest.mark.exact
@pytest.mark.any_backend
def test_auto_stays_uniform_where_scores_are_alike():
    sampler, drawn = drive(np.ones(1600), lambda kind, size: size / 32, 1000)
    assert {kind for kind, _ in drawn} == {"uniform"} and sampler.choices == []


@pytest.mark.exact
@pytest.mark.any_backend
def test_what_another_fit_is_told_of_begins_with_its_steps():
    sampler, drawn = drive(SKEWED, lambda kind, size: 0.2 + 0.8 * size / 32, 400)
    assert drawn[-1][0] == "history" and sampler.choices[0]["step"] > 0
    later = drive(SKEWED, lambda kind, size: 1.0, 0)[0]
    later.restore_history(sampler)
    sampler = later
    assert [(c["kind"], c["step"]) for c in sampler.choices] == [("history", 0)]
    other, _ = drive(SKEWED, lambda kind, size: 1.0, 0)
    other.load_state_dict(sampler.state_dict())
    steps = 0
    while len(other.choices) < 2 and steps < 4000:
        draw = other.sample(32)
        scores = SKEWED[draw.idxs] if draw.reads_scores else None
        # No size is faster any more.
        observe(other, draw, scores, 1.0 if draw.kind is Kind.UNIFORM else 4.0)
        steps += 1
    assert [c["kind"] for c in other.choices] == ["history", "uniform"]
    assert [c["step"] for c in other.choices] == [0, steps - 1]
    sampler.restore_history(other)
    assert sampler.choices == []


@pytest.mark.exact
def test_a_second_fit_reports_its_own_choices():
    x, y = data(640, noise=0.0)
    samplers = []
    training = ImportanceTraining(adam_mlp(0.05), presample="auto", seed=0)
    options = {"batch_size": 32, "verbose": 0}
    training.fit(x, y, epochs=1, on_sample=lambda sampler, *_: samplers.append(sampler), **options)
    # As if it had changed to the history in its last step.
    samplers[-1]._strategy = HISTORY
    samplers[-1].choices.append({"step": 20, "choice": "by history", "kind": "history"})
    training.fit(x, y, epochs=1, **options)
    assert training.report().choices[0]["step"] == 0
    assert "from step 0: by history" in str(training.report())
