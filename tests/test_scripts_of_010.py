"""What scripts of 0.10 lean on: samplers and decorators of their own."""

import numpy as np
import pytest
from helpers import CLASSES, adam_mlp, data, mlp, numbered, observe

from importance_sampling import samplers
from importance_sampling.datasets import InMemoryDataset
from importance_sampling.reweighting import UNBIASED, BiasedReweightingPolicy
from importance_sampling.training import ApproximateImportanceTraining, ImportanceTraining

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact
end_to_end = pytest.mark.end_to_end


def training_with(sampler, **arguments):
    """`ImportanceTraining` with the sampler that `sampler(training, dataset, default)` makes."""

    class Own(ImportanceTraining):
        def sampler(self, dataset, batch_size, steps_per_epoch, epochs):
            default = super().sampler(dataset, batch_size, steps_per_epoch, epochs)
            self.used = sampler(self, dataset, default)
            return self.used

    return Own(adam_mlp(), seed=0, **arguments)


class Watching(samplers.SamplerDecorator):
    """As scripts of 0.10 decorate: computes with scores without asking whether there are any."""

    def __init__(self, sampler, factor=1.0):
        super().__init__(sampler)
        self.factor = factor
        self.seen = []

    def _get_samples_with_scores(self, batch_size):
        idxs, scores, xy = self.sampler._get_samples_with_scores(batch_size)
        self.seen.append(scores.copy())
        return idxs, scores * np.where(idxs % 2, self.factor, 1.0), xy


@end_to_end
@pytest.mark.parametrize("factor", [1.0, 3.0])
@pytest.mark.parametrize("between", [False, True])
def test_a_users_decorator_gets_ones_while_draws_are_uniform(factor, between):
    x, y = data(96)

    def stack(training, dataset, default):
        inner = samplers.AdditiveSmoothingSampler(default, 0.1) if between else default
        return Watching(inner, factor)

    training = training_with(stack, tau_th=1e9)
    history = training.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    decorator = training.used
    assert len(decorator.seen) == 12
    assert all((scores == 1).all() for scores in decorator.seen)
    # scores left alike leave the draw uniform
    assert history["importance_sampling"] == [float(factor != 1)] * 2
    # and the condition goes on learning, so that it can be satisfied later
    assert training.report().possible_variance_reduction > 1.0
    assert (history["variance_reduction"][-1] > 1.0) == (factor != 1)
    found = decorator.sampler.sampler if between else decorator.sampler
    assert isinstance(found, samplers.ConditionalStartSampler)
    assert found.condition._average.known


@end_to_end
@pytest.mark.parametrize("outside", [False, True])
def test_a_users_decorator_gets_the_scores_once_it_pays(outside):
    x, y = data(96)

    def stack(training, dataset, default):
        own = Watching(default)
        return samplers.AdditiveSmoothingSampler(own, 0.1) if outside else own

    training = training_with(stack, tau_th=0.0)
    history = training.fit(x, y, batch_size=16, epochs=4, verbose=0).history
    own = training.used.sampler if outside else training.used
    assert (own.seen[0] == 1).all() and len(own.seen[0]) == 16
    assert len(own.seen[-1]) == 48 and np.ptp(own.seen[-1]) > 0
    assert history["importance_sampling"][-1] == 1.0


@exact
def test_weights_of_a_changed_uniform_draw_are_those_of_its_probabilities():
    x, y = data(64)
    dataset = InMemoryDataset(x, y, x, y, categorical=False)
    own = Watching(samplers.UniformSampler(dataset, UNBIASED, rng=0), 3.0)
    for _ in range(5):
        draw = own.sample(16)
        idxs, _, w = draw
        assert draw.pool_scores is None and draw.by_score
        # w = 1/(N p): the two kinds of examples differ by the factor
        odd, even = w[idxs % 2 == 1, 0], w[idxs % 2 == 0, 0]
        if len(odd) and len(even):
            np.testing.assert_allclose(even, 3 * odd[0])


@end_to_end
def test_update_of_a_users_sampler_gets_a_column_and_observe_comes_first():
    shapes = []

    class Of010(samplers.BaseSampler):
        """Keeps the last loss of each example."""

        def __init__(self, dataset, reweighting):
            super().__init__(dataset, reweighting)
            self.scores = np.ones((len(dataset.train_data), 1))

        def _get_samples_with_scores(self, batch_size):
            return np.arange(len(self.scores)), self.scores, None

        def update(self, idxs, results):
            shapes.append(results.shape)
            self.scores[idxs] = 0.1 + results

    class OfThisRelease(Of010):
        def update(self, idxs, results):
            raise AssertionError("`observe` comes first")

        def observe(self, step):
            shapes.append(step.scores.shape)
            self.scores[step.proposal.idxs, 0] = 0.1 + step.scores

    x, y = data(64)
    for kind, shape in ((Of010, (16, 1)), (OfThisRelease, (16,))):
        training = training_with(lambda t, dataset, _, kind=kind: kind(dataset, t.reweighting))
        shapes.clear()
        training.fit(x, y, batch_size=16, epochs=2, verbose=0)
        assert shapes == [shape] * 8
        assert np.ptp(training.used.scores) > 0


@end_to_end
def test_update_of_a_users_kind_of_a_library_sampler_is_called():
    calls = []

    class Gaussian(samplers.PerClassGaussian):
        def update(self, idxs, results):
            calls.append(results.shape)
            super().update(idxs, results)

    class Variance(samplers.ConstantVarianceSampler):
        def update(self, idxs, scores):
            calls.append(scores.shape)
            super().update(idxs, scores)

    class Decorator(samplers.SamplerDecorator):
        def update(self, idxs, results):
            calls.append(results.shape)
            self.sampler.update(idxs, results)

    x, y = data(64)
    made = {
        "gaussian": lambda t, d, _: Gaussian(d, t.reweighting, presample=32),
        "variance": lambda t, d, _: Variance(d, t.reweighting, t.model),
        "decorator": lambda t, d, default: Decorator(default),
    }
    for name, make in made.items():
        calls.clear()
        training = training_with(make, tau_th=1e9)
        training.fit(x, y, batch_size=16, epochs=2, verbose=0)
        assert calls == [(16, 1)] * 8, name
    # the default sampler behind the decorator heard of it
    assert training.used.sampler.condition._average.known


@exact
@pytest.mark.parametrize("column", [False, True])
def test_library_samplers_take_both_shapes(column):
    dataset = numbered(40)
    policy = BiasedReweightingPolicy()
    model = type("Scores", (), {"score": lambda self, x, y, batch_size: 1.0 + x[:, 0]})()
    made = [
        samplers.PerClassGaussian(dataset, policy, presample=20, rng=0),
        samplers.LSTMSampler(dataset, policy, presample=20, rng=0),
        samplers.CacheSampler(dataset, policy, rng=0),
        samplers.HistorySampler(dataset, policy, model, rng=0),
        samplers.OnlineBatchSelectionSampler(dataset, policy, model, steps_per_epoch=2, rng=0),
        samplers.ConstantVarianceSampler(dataset, policy, model, rng=0),
        samplers.ConstantTimeSampler(dataset, policy, model, rng=0),
        samplers.HistoryMixtureSampler(dataset, policy, rng=0),
        samplers.ConditionalStartSampler(
            samplers.ModelSampler(dataset, policy, model, 20, rng=0),
            samplers.VarianceReductionCondition(1.01),
        ),
    ]
    for sampler in made:
        for _ in range(3):
            idxs, _, w = sampler.sample(8)
            results = np.linspace(0.1, 2, len(idxs))
            sampler.update(idxs, results[:, None] if column else results)
            assert w.shape == (len(idxs), 1) and w.dtype == np.float64


@exact
def test_attributes_of_samplers():
    dataset = numbered(40)
    policy = BiasedReweightingPolicy()
    model = type("Scores", (), {"score": lambda self, x, y, batch_size: 1.0 + x[:, 0]})()
    assert samplers.ModelSampler(dataset, policy, model, 20).N == 40
    assert samplers.ConstantVarianceSampler(dataset, policy, model).N == 40
    assert samplers.ConstantTimeSampler(dataset, policy, model).N == 40

    uniform = samplers.UniformSampler(dataset, policy, rng=0)
    np.testing.assert_array_equal(uniform.idxs, np.arange(40))
    uniform.idxs = [3, 5, 7, 9]
    assert set(uniform.sample(3)[0]) <= {3, 5, 7, 9}

    gaussian = samplers.PerClassGaussian(dataset, policy, alpha=0.5, rng=0)
    before = gaussian.mu.copy(), gaussian.variance.copy()
    gaussian.update(np.array([1]), np.array([[4.0]]))
    assert gaussian.mu[1] == 0.5 * before[0][1] + 2 and gaussian.mu[0] == before[0][0]
    assert gaussian.variance[1] == 0.5 * before[1][1] + 8

    lstm = samplers.LSTMSampler(dataset, policy, rng=0)
    lstm.update(np.array([2, 4]), np.ones((2, 1)))
    assert lstm.cnts[[2, 3, 4]].tolist() == [2, 1, 2]

    adaptive = samplers.AdaptiveAdditiveSmoothingSampler(
        samplers.ModelSampler(dataset, policy, model, 40, rng=0), forget=0.8
    )
    adaptive.sample(8)
    assert adaptive.forget == 0.8
    np.testing.assert_allclose(adaptive.mu, np.mean(1.0 + np.arange(40)))


ROWS_OF_TARGETS = {
    "one-hot": np.eye(CLASSES)[np.arange(64) % CLASSES],
    "one-hot integers": np.eye(CLASSES, dtype="int64")[np.arange(64) % CLASSES],
    "real": np.random.default_rng(0).normal(size=(64, CLASSES)).astype("float32"),
}


@end_to_end
@pytest.mark.parametrize("name", list(ROWS_OF_TARGETS))
def test_the_class_of_rows_of_targets_is_the_argmax(name):
    x, y = data(64)[0], ROWS_OF_TARGETS[name]
    dataset = InMemoryDataset(x, y, x, y, categorical=False)
    sampler = samplers.PerClassGaussian(dataset, BiasedReweightingPolicy(), alpha=0.0, rng=0)
    sampler.update(np.arange(64), y.argmax(1)[:, None] + 1.0)
    present = np.unique(y.argmax(1))
    np.testing.assert_allclose(sampler.mu[present], present + 1.0)

    model = mlp(activation=None, loss="mse")
    training = ApproximateImportanceTraining(model, presample=32, seed=0)
    history = training.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all() and history["importance_sampling"] == [1, 1]


@end_to_end
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_any_number_of_decorators_of_users_leave_uniform_draws_uniform(depth):
    class Own(samplers.SamplerDecorator):
        def _get_samples_with_scores(self, batch_size):
            idxs, scores, xy = self.sampler._get_samples_with_scores(batch_size)
            return idxs, scores**2, xy

    def stack(training, dataset, default):
        for _ in range(depth):
            default = Own(default)
        return default

    x, y = data(96)
    for threshold, expected in ((1e9, {"uniform": 12}), (0.0, {"uniform": 1, "pool": 11})):
        training = training_with(stack, tau_th=threshold)
        training.fit(x, y, batch_size=16, epochs=2, verbose=0)
        assert training.report().steps == expected


@exact
def test_names_of_both_releases_mix_in_one_hierarchy():
    called = []

    class Old(samplers.UniformSampler):
        def sample(self, batch_size):
            called.append("sample")
            return super().sample(batch_size)

        def _get_samples_with_scores(self, batch_size):
            called.append("get")
            return super()._get_samples_with_scores(batch_size)

        def update(self, idxs, results):
            called.append("update")
            super().update(idxs, results)

    class New(Old):
        def propose(self, batch_size):
            called.append("propose")
            return super().propose(batch_size)

        def candidates(self, batch_size):
            called.append("candidates")
            return super().candidates(batch_size)

        def observe(self, step):
            called.append("observe")
            super().observe(step)

    class Log:
        def update(self, idxs, results):
            called.append("mixin")
            super().update(idxs, results)

    class Mixed(Log, New):
        pass

    x, y = data(64)
    dataset = InMemoryDataset(x, y, x, y, categorical=False)
    sampler = Mixed(dataset, UNBIASED, rng=0)
    assert len(sampler.sample(16).idxs) == len(sampler.propose(16).idxs) == 16
    assert called == 2 * ["propose", "sample", "candidates", "get"]
    called.clear()
    observe(sampler, sampler.propose(16), np.ones(16))
    assert called[-3:] == ["mixin", "observe", "update"]
    assert not sampler.overlaps


@exact
def test_a_state_is_loaded_without_the_pool_of_another_place():
    class Scorer:
        def score(self, x, y, batch_size=128):
            return np.ones(len(x))

        def score_later(self, x, y, batch_size=128):
            return lambda: np.ones(len(x))

    x, y = data(64)
    dataset = InMemoryDataset(x, y, x, y, categorical=False)
    sampler = samplers.ModelSampler(dataset, UNBIASED, Scorer(), large_batch=16, rng=0)
    state = sampler.state_dict()
    first = sampler.propose(8).idxs
    sampler.prepare(8)
    sampler.load_state_dict(state)
    np.testing.assert_array_equal(sampler.propose(8).idxs, first)


@exact
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_what_a_decorator_makes_of_a_uniform_draw_is_no_pool_to_reuse(factor):
    x, y = data(64)
    dataset = InMemoryDataset(x, y, x, y, categorical=False)
    own = Watching(samplers.UniformSampler(dataset, UNBIASED, rng=0), factor)
    reused = samplers.PoolReuseSampler(own, 4)
    proposals = [reused.propose(16) for _ in range(4)]
    # One pass in four batches, each from candidates of its own.
    assert len(own.seen) == 4
    assert all(p.by_score == (factor != 1) and p.pool_scores is None for p in proposals)
    if factor == 1:
        assert sorted(np.concatenate([p.idxs for p in proposals])) == list(range(64))
