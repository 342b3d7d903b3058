"""When importance sampling starts, against the formulas."""

import numpy as np
import pytest
from helpers import Scorer, numbered, observe

from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import (
    ConditionalStartSampler,
    ExpCondition,
    ModelSampler,
    TotalVariationCondition,
    VarianceReductionCondition,
    WarmupCondition,
    variance_reduction,
)
from importance_sampling.samplers.ahead import batches_ahead

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


def paper(scores):
    g = scores / scores.sum()
    u = 1 / len(scores)
    return 1 / np.sqrt(1 - ((g - u) ** 2).sum() / (g**2).sum())


@pytest.mark.parametrize("seed", range(3))
def test_variance_reduction_is_the_papers(seed):
    scores = np.random.default_rng(seed).exponential(size=50)
    np.testing.assert_allclose(variance_reduction(scores), paper(scores), rtol=1e-10)
    condition = VarianceReductionCondition()
    condition.update(scores)
    np.testing.assert_allclose(condition.variance_reduction, paper(scores), rtol=1e-10)


def test_variance_reduction_of_special_scores():
    assert variance_reduction(np.zeros(5)) == 1
    np.testing.assert_allclose(variance_reduction(np.full(5, 3.0)), 1)
    np.testing.assert_allclose(variance_reduction(np.eye(9)[0]), 3)  # one of 9: sqrt(9)
    assert VarianceReductionCondition().variance_reduction == 1


def test_average_is_corrected_for_its_start():
    scores = np.random.default_rng(0).exponential(size=50)
    condition = VarianceReductionCondition(vr_th=paper(scores) - 0.01, momentum=0.99)
    assert not condition.satisfied
    condition.update(scores)  # not a hundred updates later
    assert condition.satisfied and condition.previously_satisfied
    other = np.random.default_rng(1).exponential(size=50)
    condition.update(other)
    expected = (0.99 * 0.01 * paper(scores) + 0.01 * paper(other)) / (0.99 * 0.01 + 0.01)
    np.testing.assert_allclose(condition.variance_reduction, expected, rtol=1e-10)


@pytest.mark.statistical
def test_batches_and_pools_give_the_same_estimate():
    """The plain estimate from a pool is larger; means differ by at most 4.9 standard errors."""
    rng = np.random.default_rng(0)
    batches, pools, plain = [], [], []
    for _ in range(4000):
        batch, pool = rng.pareto(2.5, size=32), rng.pareto(2.5, size=96)
        a = VarianceReductionCondition(sample_size=32)
        a.update(batch)
        b = VarianceReductionCondition(sample_size=32)
        b.update(pool)
        batches.append(a.variance_reduction)
        pools.append(b.variance_reduction)
        plain.append(variance_reduction(pool))

    def z(a, b):
        error = np.sqrt(np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b))
        return (np.mean(b) - np.mean(a)) / error

    assert abs(z(batches, pools)) < 4.9
    assert z(batches, plain) > 4.9


def test_warmup_counts():
    condition = WarmupCondition(2)
    for expected in (False, False, True, True):
        assert condition.satisfied is expected
        condition.update(np.ones(3))


def test_exponential_and_total_variation():
    scores = np.array([0.1, 0.2, 0.9])
    exp = ExpCondition(lambda_th=2.0)
    exp.update(scores)  # lambda = 1 / 0.4 = 2.5
    assert exp.satisfied
    exp = ExpCondition(lambda_th=2.6)
    exp.update(scores)
    assert not exp.satisfied
    tv = 0.5 * np.abs(scores / 1.2 - 1 / 3).sum()
    for threshold, expected in ((tv - 1e-6, True), (tv + 1e-6, False)):
        condition = TotalVariationCondition(tv_th=threshold)
        condition.update(scores)
        assert condition.satisfied is expected


def test_zero_scores_are_no_reason_to_start():
    for condition in (TotalVariationCondition(0.1), VarianceReductionCondition(1.1)):
        condition.update(np.zeros(4))
        assert not condition.satisfied


def test_what_only_behaves_as_a_condition_will_do():
    class Third:
        limit = 0.3

        def __init__(self):
            self.means = []

        @property
        def satisfied(self):
            return len(self.means) >= 3

        def update(self, scores):
            self.means.append(float(np.mean(scores)))

    third = Third()
    dataset = numbered(12)
    inner = ModelSampler(dataset, BiasedReweightingPolicy(), Scorer(np.ones(12)), large_batch=6)
    sampler = ConditionalStartSampler(inner, third)
    by_score = []
    for _ in range(5):
        proposal = sampler.propose(3)
        by_score.append(proposal.by_score)
        observe(sampler, proposal, 2.0 * np.ones(3))
    assert by_score == [False, False, False, True, True]
    assert third.means == [2.0, 2.0, 2.0, 1.0, 1.0]
    assert sampler.condition.limit == 0.3
    sampler.load_state_dict(sampler.state_dict())
    with pytest.raises(TypeError, match="`satisfied` and `update"):
        ConditionalStartSampler(inner, object())


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 2])
def test_bad_momentum_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum"):
        VarianceReductionCondition(momentum=momentum)


def test_uniform_draws_that_are_decided_together():
    def made():
        dataset = numbered(256)
        scorer = Scorer(np.arange(1.0, 257.0))
        pools = ModelSampler(dataset, BiasedReweightingPolicy(), scorer, large_batch=8, rng=0)
        return ConditionalStartSampler(pools, WarmupCondition(3), in_blocks=True)

    # An eighth of a pass of 64 batches is decided at once, however soon the condition holds, and
    # the next by what was known when they began.
    one, ahead, by_score = made(), [], []
    draws, state = [], None
    for i in range(18):
        ahead.append(batches_ahead(one, 4))
        proposal = one.propose(4)
        draws.append(proposal.idxs)
        by_score.append(proposal.by_score)
        observe(one, proposal, np.ones(4))
        if i == 4:
            state = one.state_dict()
    assert ahead == 2 * [8, 7, 6, 5, 4, 3, 2, 1] + [1, 1]
    assert by_score == 16 * [False] + 2 * [True]
    # All at once they are the same ones.
    many = made()
    together = []
    for _ in range(2):
        block = many.propose_many(4, batches_ahead(many, 4))
        together += block
        for proposal in block:
            observe(many, proposal, np.ones(4))
    assert all(np.array_equal(p.idxs, idxs) for p, idxs in zip(together, draws[:16], strict=True))
    assert np.array_equal(many.propose(4).idxs, draws[16])
    # So they are after a resume in the middle.
    later = made()
    later.load_state_dict(state)
    assert batches_ahead(later, 4) == 3
    rest = later.propose_many(4, 3)
    assert all(np.array_equal(p.idxs, idxs) for p, idxs in zip(rest, draws[5:8], strict=True))
    # By default each draw is decided for itself.
    single = ConditionalStartSampler(made().sampler, WarmupCondition(3))
    assert batches_ahead(single, 4) == 1
