"""Steps of one call are learnt from together: to the last bit as one after the other."""

import keras
import numpy as np
import pytest
from helpers import Scorer, adam_mlp, data, numbered
from test_resume import equal, values

from importance_sampling import HistoryImportanceTraining, ImportanceTraining
from importance_sampling.proposal import Kind, StepRecord
from importance_sampling.reweighting import UNBIASED, BiasedReweightingPolicy
from importance_sampling.samplers import (
    AutoSampler,
    ConditionalStartSampler,
    HistoryMixtureSampler,
    MeasuredReductionCondition,
    ModelSampler,
    TotalVariationCondition,
    UniformSampler,
    VarianceReductionCondition,
    WarmupCondition,
)
from importance_sampling.samplers._auto import Phase
from importance_sampling.samplers._strategies import HISTORY, UNIFORM, Strategy
from importance_sampling.samplers.ahead import batches_ahead, observe_together, settled_ahead
from importance_sampling.samplers.compatibility import GivenScores
from importance_sampling.samplers.drawing import RESAMPLINGS, uniforms_for
from importance_sampling.samplers.score_cells import score_bin
from importance_sampling.samplers.variance import IdealReduction, MeasuredReduction
from importance_sampling.training._report import _effective_shares
from importance_sampling.training._stepper import Stepper

exact = pytest.mark.exact
any_backend = pytest.mark.any_backend

N, BATCH = 512, 8


def flat(state):
    """A state as text: arrays by their bytes, numbers by all of their digits."""
    if isinstance(state, dict):
        return {name: flat(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [flat(value) for value in state]
    return state.tobytes() if isinstance(state, np.ndarray) else repr(state)


def of_history(policy):
    return HistoryMixtureSampler(numbered(N), policy, rng=3)


def of_auto(policy):
    sampler = AutoSampler(numbered(N), policy, None, steps=1000, rng=3)
    # Beyond its decisions, which are made by measured times.
    sampler._seen, sampler._next_decision, sampler._strategy = N, 10**6, HISTORY
    sampler._history.end_first_pass()
    # The first step stands for uniform ones before it whose scores were not read.
    sampler._estimates.set_averaging_window(1000)
    sampler._unread = 9
    return sampler


def steps_of(sampler, calls, together):
    """Makes calls of steps, tells of each, and returns what was known before each was learnt."""
    rng, known = np.random.default_rng(7), []
    for _ in range(calls):
        proposals = sampler.propose_many(BATCH, 8)
        records = [
            StepRecord(p, GivenScores(rng.gamma(0.3, size=len(p.idxs))), seconds=0.5)
            for p in proposals
        ]
        before = lambda record: known.append(sampler.variance_reduction)  # noqa: E731
        if together:
            observe_together(sampler, records, before)
        else:
            for record in records:
                before(record)
                sampler.observe(record)
    assert proposals[0].kind is Kind.HISTORY
    return known


@any_backend
@exact
@pytest.mark.parametrize("make", [of_history, of_auto])
@pytest.mark.parametrize("policy", [UNBIASED, BiasedReweightingPolicy(0.5)])
def test_the_state_is_the_same(make, policy):
    one, many = make(policy), make(policy)
    known = steps_of(one, 12, False)
    assert known == steps_of(many, 12, True) and len(set(known)) > 8
    assert flat(one.state_dict()) == flat(many.state_dict())


@any_backend
@exact
@pytest.mark.parametrize("size", [1, 7, 128, 1001])
def test_moments_of_many_batches_are_those_of_each(size):
    rng = np.random.default_rng(size)
    for batches in (2, 32):
        weights, scores = rng.gamma(0.3, size=(2, batches, size))
        for kind in (MeasuredReduction, IdealReduction):
            table = np.stack(kind.moments(weights, scores), -1)
            for row, w, s in zip(table, weights, scores, strict=True):
                assert row.tolist() == [float(m) for m in kind.moments(w, s)]
        shares = [float(_effective_shares(w)) for w in weights]
        assert _effective_shares(weights).tolist() == shares


def choosing(n):
    """Uniform draws for long, of which the scores of one in eight are read."""
    sampler = AutoSampler(numbered(n), UNBIASED, None, steps=10_000, rng=3)
    sampler._next_decision, sampler._phase = 10**6, Phase.CHOSEN
    return sampler


def chosen(n):
    """Draws by the history, once it knows all examples."""
    sampler = choosing(n)
    sampler._seen = sampler._scored = n
    sampler._history.end_first_pass()
    sampler._strategy = HISTORY
    return sampler


def starting(n):
    """Begins to draw by score when the scores differ enough."""
    dataset = numbered(n)
    pools = ModelSampler(dataset, UNBIASED, Scorer(np.ones(n)), large_batch=64, rng=3)
    return ConditionalStartSampler(pools, VarianceReductionCondition(1.6), in_blocks=True)


def starting_history(n):
    """Of which the first pass is uniform, too, and which may be left again."""
    inner = HistoryMixtureSampler(numbered(n), UNBIASED, rng=3)
    return ConditionalStartSampler(inner, TotalVariationCondition(0.3, 0.5), in_blocks=True)


SETTLED = {
    "history": lambda n: HistoryMixtureSampler(numbered(n), UNBIASED, rng=3),
    "same noise": lambda n: HistoryMixtureSampler(
        numbered(n), UNBIASED, rng=3, constant="variance", min_batch_size=1
    ),
    "choosing, first pass": lambda n: AutoSampler(numbered(n), UNBIASED, None, steps=10_000, rng=3),
    "choosing": choosing,
    "chosen": chosen,
    "uniform": lambda n: UniformSampler(numbered(n), UNBIASED, rng=3),
    "starting": starting,
    "starting, history": starting_history,
}


@any_backend
@exact
@pytest.mark.parametrize("n", [N, N + 5])
@pytest.mark.parametrize("name", SETTLED)
def test_a_call_may_be_drawn_before_the_last_one_was_observed(name, n):
    """Draws and what was learnt are those of single steps, each observed after the next draw."""

    def course(most, steps):
        sampler = SETTLED[name](n)
        drawn, pending, settled_calls = [], [], 0
        while len(drawn) < steps:
            settled = min(most, settled_ahead(sampler, BATCH)) if most > 1 else 0
            ahead = settled
            if settled <= 1:
                for record in pending[:-1]:
                    sampler.observe(record)
                pending = pending[-1:]
                ahead = min(most, batches_ahead(sampler, BATCH)) if most > 1 else 1
            settled_calls += settled > 1 and len(pending) > 1
            proposals = sampler.propose_many(BATCH, min(ahead, steps - len(drawn)))
            for record in pending:
                sampler.observe(record)
            pending = []
            for proposal in proposals:
                # Ever more unlike, so that the smaller batches and the start come in time.
                unlike = min(1.0, 0.01 * len(drawn))
                if name == "starting, history":
                    unlike *= np.sin(len(drawn) / 40) ** 2
                outcome = GivenScores(truth[proposal.idxs] ** unlike)
                if not proposal.reads_scores:
                    outcome = None
                pending.append(StepRecord(proposal, outcome, seconds=0.5))
                drawn.append((proposal.kind, proposal.idxs.tolist(), proposal.weights.tolist()))
        for record in pending:
            sampler.observe(record)
        return drawn, flat(sampler.state_dict()), settled_calls

    truth = np.random.default_rng(7).gamma(0.3, size=n) + 1e-3
    # Of the first pass alone, after which times decide; and a few passes.
    steps = 80 if name == "choosing, first pass" else 400
    one, some, many = course(1, steps), course(4, steps), course(32, steps)
    assert one[2] == 0 and some[2] > 5 and many[2] > 0
    assert one[0] == some[0] == many[0]
    assert one[1] == some[1] == many[1]
    kinds = {kind for kind, _, _ in one[0]}
    assert kinds == {
        "history": {Kind.UNIFORM, Kind.HISTORY},
        "same noise": {Kind.UNIFORM, Kind.HISTORY},
        "chosen": {Kind.HISTORY},
        "starting": {Kind.UNIFORM, Kind.POOL},
        "starting, history": {Kind.UNIFORM, Kind.POOL},
    }.get(name, {Kind.UNIFORM})
    if name == "same noise":
        assert len({len(idxs) for _, idxs, _ in one[0] if len(idxs) != n % BATCH}) > 2


@any_backend
@exact
def test_whoever_learns_in_a_way_of_his_own_is_told_step_by_step():
    told = []

    class Own(HistoryMixtureSampler):
        def observe(self, step):
            told.append(step.step)
            super().observe(step)

    steps_of(Own(numbered(N), UNBIASED, rng=3), 9, True)
    assert len(told) == 9 * 8


@pytest.mark.end_to_end
@pytest.mark.one_backend("tensorflow", "jax")
def test_training_is_the_same(monkeypatch):
    def train(make, **options):
        keras.utils.set_random_seed(1)
        model = adam_mlp()
        training = make(model, seed=5, **options)
        x, y = data(N)
        fit = training.fit(x, y, batch_size=BATCH, epochs=3, verbose=0, steps_per_execution=8)
        report = training.report()
        return values(model), fit.history, report.course(), report.draws.tolist()

    ways = (HistoryImportanceTraining, {}), (ImportanceTraining, {"tau_th": 1e9})
    at_once = [train(make, **options) for make, options in ways]
    asked = []
    monkeypatch.setattr(Stepper, "_have_valid_scores", lambda self, records: asked.append(records))
    for (make, options), found in zip(ways, at_once, strict=True):
        again = train(make, **options)
        assert equal(found[0], again[0]) and found[1:] == again[1:]
    assert asked


class _OwnLearning(HistoryMixtureSampler):
    """Looks at steps in its own way."""

    def observe(self, step):
        super().observe(step)


class _OwnScores(HistoryMixtureSampler):
    """Learns from something else."""

    def learn_scores(self, idxs, scores):
        super().learn_scores(idxs, np.sqrt(scores))


class _OwnDraws(HistoryMixtureSampler):
    """Draws no runs."""

    def _draw_stored(self, size):
        idxs = self.rng.integers(self._tree.n, size=size)
        return idxs, np.ones(size), float(self._tree.n)


@any_backend
@exact
def test_who_learns_in_its_own_way_has_nothing_settled():
    found = []
    for kind in (HistoryMixtureSampler, _OwnLearning, _OwnScores, _OwnDraws):
        sampler = kind(numbered(N), UNBIASED, rng=3)
        sampler.propose_many(BATCH, 4)
        found.append(settled_ahead(sampler, BATCH))
    assert found == [4, 0, 0, 0]


@any_backend
@exact
@pytest.mark.parametrize("kind", [_OwnLearning, _OwnScores, _OwnDraws])
def test_scores_are_learnt_by_who_learns_or_draws_in_his_own_way(kind):
    sampler = kind(numbered(N), UNBIASED, rng=3)
    most = 0
    for step in range(300):
        proposal = sampler.propose(BATCH)
        assert proposal.number == step + 1
        sampler.observe(StepRecord(proposal, GivenScores(np.full(BATCH, 4.0))))
        most = max(most, len(sampler._memory.pending))
    # No more than two runs of eight batches wait.
    assert 0 < most <= 16 and sampler._memory.seen.max() >= 284
    if kind is _OwnScores:
        assert set(sampler._memory.bins[sampler._memory.seen > 0]) == {
            score_bin(np.array([2.0]))[0]
        }


@any_backend
@exact
@pytest.mark.parametrize("steps", [64, 70, 72, 100, 104])
def test_who_is_told_by_hand_goes_on_exactly(steps):
    def go(sampler, count):
        drawn = []
        for _ in range(count):
            idxs, _, w = sampler.sample(BATCH)
            sampler.update(idxs, np.cos(idxs) ** 2)
            drawn.append((idxs.tolist(), w.tolist()))
        return drawn

    one, other = (of_history(UNBIASED) for _ in range(2))
    go(one, steps)
    other.load_state_dict(one.state_dict())
    assert go(one, 40) == go(other, 40)
    assert flat(one.state_dict()) == flat(other.state_dict())


@any_backend
@exact
def test_a_condition_that_measures_starts_in_blocks_too():
    scores = np.random.default_rng(0).gamma(0.05, size=N)
    pools = ModelSampler(numbered(N), UNBIASED, Scorer(scores), large_batch=64, rng=3)
    condition = MeasuredReductionCondition(1.1)
    sampler = ConditionalStartSampler(pools, condition, in_blocks=True)
    for _ in range(200):
        proposal = sampler.propose(BATCH)
        outcome = GivenScores(scores[proposal.idxs])
        sampler.observe(StepRecord(proposal, outcome, seconds=0.5))
    assert condition.cost == 1.0 and proposal.by_score


class _WarmingUp(BiasedReweightingPolicy):
    """Has other weights for each batch, whatever its size."""

    asked = 0

    def uniform_weights(self, n):
        self.asked += 1
        return np.full((n, 1), self.asked / 100)


@any_backend
@exact
def test_a_policy_of_ones_own_is_asked_for_each_batch():
    weights = []
    for together in (1, 8):
        sampler = UniformSampler(numbered(N), _WarmingUp(), rng=3)
        calls = [sampler.propose_many(BATCH, together) for _ in range(16 // together)]
        weights.append([float(p.weights[0, 0]) for call in calls for p in call])
    assert weights[0] == weights[1] == [i / 100 for i in range(1, 17)]


@any_backend
@exact
def test_scores_are_of_the_step_that_was_drawn():
    """Whenever they are observed: of uniform steps the scores of which are mostly not read."""
    sampler = choosing(N)
    seen = []
    for together in (1, 16):
        sampler = choosing(N)
        sampler._seen = sampler._scored = N
        sampler._history.end_first_pass()
        for _ in range(32 // together):
            for proposal in sampler.propose_many(BATCH, together):
                scores = GivenScores(np.ones(BATCH)) if proposal.reads_scores else None
                sampler.observe(StepRecord(proposal, scores, seconds=0.5))
        sampler._history._memory.learn_pending()
        seen.append(np.unique(sampler._history._memory.seen).tolist())
    assert seen == [[0, 8, 16, 24, 32], [0, 8, 16, 24, 32]]


class _LargestScore(VarianceReductionCondition):
    """Has a statistic of its own."""

    def _statistic(self, scores):
        return float(scores.max())


class _Doubled(VarianceReductionCondition):
    """Learns in its own way."""

    def update(self, scores):
        super().update(scores**2)


CONDITIONS = {
    "variance reduction": lambda: VarianceReductionCondition(1e9),
    "groups": lambda: VarianceReductionCondition(1e9, sample_size=3),
    "large groups": lambda: VarianceReductionCondition(1e9, sample_size=100),
    "measured": lambda: MeasuredReductionCondition(1e9),
    "total variation": lambda: TotalVariationCondition(0.99),
    "warm-up": lambda: WarmupCondition(10**6),
    "own statistic": lambda: _LargestScore(1e9),
    "own update": lambda: _Doubled(1e9),
}


@any_backend
@exact
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_told_of_uniform_steps_together(name):
    """Its state is that of one step after the other, and it has seen the scores."""

    def course(together):
        dataset, condition = numbered(N), CONDITIONS[name]()
        inner = ModelSampler(dataset, UNBIASED, None, large_batch=64)
        sampler = ConditionalStartSampler(inner, condition, in_blocks=True)
        rng, told, states = np.random.default_rng(5), [], []
        for _ in range(4):
            records = [
                StepRecord(p, GivenScores(rng.gamma(0.3, size=BATCH)), seconds=0.5)
                for p in sampler.propose_many(BATCH, 8)
            ]
            if together:
                observe_together(sampler, records, told.append)
            else:
                for record in records:
                    told.append(record)
                    sampler.observe(record)
            states.append(repr(condition.state_dict()))
        assert len(told) == 32
        return states

    one, many = course(False), course(True)
    assert one == many and len(set(one)) == 4


@any_backend
@exact
@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_numbers_for_many_batches_are_those_of_each(resampling):
    one, many = np.random.default_rng(4), np.random.default_rng(4)
    rows = [uniforms_for(resampling, 5, one) for _ in range(3)]
    assert uniforms_for(resampling, 5, many, 3).tolist() == [row.tolist() for row in rows]


@any_backend
@exact
def test_uniform_batches_of_a_call_have_weights_of_their_own():
    """A hook may change the weights of one step."""
    sampler = of_history(BiasedReweightingPolicy(0.5))
    first, other = sampler.propose_many(BATCH, 2)
    first.weights[:] = 7.0
    assert other.weights.tolist() == [[1.0]] * BATCH and other.metric_weights is not None


@any_backend
@exact
def test_a_choosing_sampler_tells_its_history_which_step_a_pool_was():
    """So that runs drawn later go to the device ahead as before."""
    sampler = choosing(N)
    sampler._seen = sampler._scored = N
    sampler._history.end_first_pass()
    sampler._pools.model = Scorer(np.ones(N))
    numbers = []
    for strategy in (HISTORY, Strategy(Kind.POOL, 3, 1), UNIFORM, HISTORY):
        sampler._strategy = strategy
        for _ in range(2):
            proposal = sampler.propose(BATCH)
            scores = GivenScores(np.ones(len(proposal.idxs))) if proposal.reads_scores else None
            sampler.observe(StepRecord(proposal, scores, seconds=0.5))
            numbers.append(proposal.number)
    assert numbers == [*range(1, 9)] and sampler._history.lags


@any_backend
@exact
def test_steps_that_another_history_counts_are_learnt_from():
    known, fresh = of_history(UNBIASED), of_history(UNBIASED)
    for sampler, told in ((known, [known]), (fresh, [known, fresh])):
        for _ in range(200):
            proposal = sampler.propose(BATCH)
            for each in told:
                each.observe(StepRecord(proposal, GivenScores(np.ones(BATCH))))
    assert len(known._memory.pending) <= 16 and known._memory.seen.max() > 380
