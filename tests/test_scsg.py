"""When snapshots are taken and of what; going on from a state; convergence."""

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data, mlp, numbered
from keras import layers, ops, regularizers

from importance_sampling import SVRG
from importance_sampling.datasets import GeneratorDataset, InMemoryDataset
from importance_sampling.experiment import cli
from importance_sampling.model_wrappers import KatyushaWrapper, ModelWrapperDecorator, SVRGWrapper
from importance_sampling.reweighting import UNWEIGHTED
from importance_sampling.samplers import SCSGSampler, _scsg

pytestmark = pytest.mark.two_backends

any_backend = pytest.mark.any_backend


class Recorder:
    """Counts the examples of each snapshot."""

    def __init__(self, part=7):
        self.part = part
        self.snapshots = []

    def snapshot_batch_size(self, batch_size):
        return self.part

    def take_snapshot(self, batches):
        sizes = [len(x) for x, _ in batches]
        assert sizes == [len(x) for x, _ in batches], "parts can be gone through twice"
        assert max(sizes) <= self.part
        found = np.concatenate([x[:, 0] for x, _ in batches]).astype(int)
        assert len(set(found)) == len(found) == sum(sizes)
        self.snapshots.append(found)


# -- the sampler ---------------------------------------------------------------------------------


@any_backend
@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        ({"B": 0}, [20, 20, 20, 20]),
        ({"B": 6}, [6, 6, 6, 6]),
        ({"B": 6, "B_rate": 1.5}, [6, 9, 14, 20]),
        ({"B": 6, "B_rate": 0.25}, [6, 2, 1, 1]),
        ({"B": 1000}, [20, 20, 20, 20]),
    ],
)
def test_snapshots_come_every_so_many_steps_of_so_many_examples(arguments, sizes):
    model = Recorder()
    sampler = SCSGSampler(numbered(20), UNWEIGHTED, model, B_over_b=3, rng=0, **arguments)
    drawn = []
    for i in range(11):
        proposal = sampler.propose(6)
        assert len(model.snapshots) == i // 3 + 1
        assert not proposal.by_score and (proposal.weights == 1).all()
        drawn.append(proposal.idxs)
    assert [len(found) for found in model.snapshots] == sizes
    # Uniform, in passes, whatever the snapshots take.
    assert [len(idxs) for idxs in drawn[:4]] == [6, 6, 6, 2]
    assert set(np.concatenate(drawn[:4])) == set(range(20))
    if arguments.get("B") == 6:
        assert set(model.snapshots[0]) != set(model.snapshots[1])


@any_backend
def test_growth_ends_at_the_whole_of_the_data():
    model = Recorder(part=20)
    sampler = SCSGSampler(numbered(20), UNWEIGHTED, model, B=4, B_over_b=1, B_rate=1e200, rng=0)
    for _ in range(5):
        sampler.propose(6)
    assert [len(found) for found in model.snapshots] == [4, 20, 20, 20, 20]
    assert sampler.B == 20


@any_backend
def test_growth_on_a_stream_ends_at_what_may_be_held(monkeypatch):
    x = np.arange(4000, dtype="float32").reshape(1000, 4)
    y = np.zeros(1000, "float32")
    # 20 bytes an example.
    monkeypatch.setattr(_scsg, "_MOST_BYTES", 20 * 15)
    for large, sizes in ((4, [4, 12, 15, 15]), (30, [30, 30, 30, 30])):
        model = Recorder()
        stream = GeneratorDataset((x[i : i + 10], y[i : i + 10]) for i in range(0, 1000, 10))
        sampler = SCSGSampler(stream, UNWEIGHTED, model, B=large, B_over_b=1, B_rate=3.0, rng=0)
        for _ in range(4):
            sampler.propose(2)
        assert [len(found) for found in model.snapshots] == sizes
    sampler = SCSGSampler(
        GeneratorDataset((x[i : i + 10], y[i : i + 10]) for i in range(0, 1000, 10)),
        UNWEIGHTED,
        Recorder(),
        B=4,
        B_over_b=1,
        B_rate=1e308,
        rng=0,
    )
    for _ in range(4):
        sampler.propose(2)
    assert sampler.B == 15


@any_backend
def test_batches_come_together_up_to_the_next_snapshot():
    one = SCSGSampler(numbered(20), UNWEIGHTED, Recorder(), B=5, B_over_b=3, rng=0)
    many = SCSGSampler(numbered(20), UNWEIGHTED, Recorder(), B=5, B_over_b=3, rng=0)
    found = []
    while len(found) < 12:
        ahead = many.batches_ahead(4)
        assert 1 <= ahead <= 3
        found += many.propose_many(4, ahead)
    for proposal in found[:12]:
        np.testing.assert_array_equal(one.propose(4).idxs, proposal.idxs)


@any_backend
def test_a_state_goes_on_with_the_same_draws_and_snapshots():
    def make(seed):
        return SCSGSampler(
            numbered(20), UNWEIGHTED, Recorder(), B=4, B_over_b=3, B_rate=1.3, rng=seed
        )

    one, other = make(0), make(9)
    for _ in range(7):
        one.propose(6)
    other.load_state_dict(one.state_dict())
    assert other.B == one.B == 9
    for _ in range(7):
        np.testing.assert_array_equal(one.propose(6).idxs, other.propose(6).idxs)
    for a, b in zip(one.model.snapshots[-2:], other.model.snapshots, strict=True):
        np.testing.assert_array_equal(a, b)


@any_backend
def test_what_cannot_be_drawn_from_is_refused():
    with pytest.raises(TypeError, match="needs a model that takes snapshots"):
        SCSGSampler(numbered(9), UNWEIGHTED, object())
    for arguments in ({"B": -1}, {"B": 2.5}, {"B_over_b": 0}, {"B_rate": 0.0}, {"B_rate": np.inf}):
        with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
            SCSGSampler(numbered(9), UNWEIGHTED, Recorder(), **arguments)
    stream = GeneratorDataset(iter([data(8)]))
    with pytest.raises(ValueError, match="B=0 takes the gradient of the whole training set"):
        SCSGSampler(stream, UNWEIGHTED, Recorder(), B=0)
    # A decorator passes on what it does not have itself.
    wrapper = ModelWrapperDecorator(SVRGWrapper(mlp()))
    assert SCSGSampler(numbered(9), UNWEIGHTED, wrapper).B == 1024


# -- the training ----------------------------------------------------------------------------------


def test_training_learns_from_arrays_and_streams():
    x, y = data(100)
    model = adam_mlp()
    training = SVRG(model, B=2.0, B_over_b=4, B_rate=1.5, seed=0)
    history = training.fit(x, y, batch_size=16, epochs=6, verbose=0, validation_data=(x, y)).history
    assert history["loss"][-1] < history["loss"][0] - 0.1
    assert history["importance_sampling"] == [0.0] * 6
    assert training.report().steps == {"uniform": 42}

    def batches():
        while True:
            yield x[:16], y[:16]

    history = training.fit_generator(batches(), steps_per_epoch=5, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    with pytest.raises(ValueError, match="B=0 takes the gradient of the whole training set"):
        SVRG(model, B=0).fit_generator(batches(), steps_per_epoch=5, verbose=0)


@any_backend
@pytest.mark.parametrize("batches", [3, 10])
def test_a_generator_that_the_first_snapshot_uses_up_is_refused_before_a_step(batches):
    x, y = data(8)
    model = adam_mlp()
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"{8 * batches} examples.*all that is left.*Lower `B`"):
        SVRG(model).fit(((x, y) for _ in range(batches)), batch_size=8, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    # One batch more is one step.
    training = SVRG(model)
    with pytest.warns(UserWarning, match="ended after 1 steps"):
        training.fit(((x, y) for _ in range(11)), batch_size=8, verbose=0)
    assert training.report().steps == {"uniform": 1}


@any_backend
def test_the_large_batch_is_in_units_of_the_batch_size():
    x, y = data(100)
    for large, expected in ((10.0, 80), (0.5, 4), (0, 0), (0.001, 1)):
        sampler = SVRG(adam_mlp(), B=large).sampler(InMemoryDataset(x, y, x, y, False), 8, 5, 1)
        assert (sampler.B, sampler.B_over_b) == (expected, 128)


@any_backend
def test_a_seed_repeats_it():
    x, y = data(60)
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = adam_mlp()
        SVRG(model, B=1.0, B_over_b=3, seed=4).fit(x, y, batch_size=8, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


@any_backend
def test_an_interrupted_training_leaves_the_model_usable():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                raise KeyboardInterrupt

    x, y = data(60)
    model = adam_mlp()
    training = SVRG(model, B=0, B_over_b=3, seed=0)
    with pytest.raises(KeyboardInterrupt):
        training.fit(x, y, batch_size=8, verbose=0, callbacks=[Interrupt()])
    assert np.isfinite(model.evaluate(x, y, verbose=0)[0])
    # No method of the model or its optimizer is left in another's place.
    assert "apply" not in vars(model.optimizer) and "stateless_apply" not in vars(model.optimizer)
    history = training.fit(x, y, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@any_backend
def test_a_gradient_that_is_not_finite_is_named_before_the_step():
    x, y = data(60)
    x[5] = np.nan
    model = adam_mlp()
    before = model.get_weights()
    with pytest.raises(ValueError, match="gradient of 60 examples at the snapshot is NaN"):
        SVRG(model, B=0).fit(x, y, batch_size=8, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    # Whoever ends at a loss that is no number does so here.
    stop = keras.callbacks.TerminateOnNaN()
    SVRG(model, B=0).fit(x, y, batch_size=8, verbose=0, callbacks=[stop])
    assert model.stop_training


def test_compiling_anew_between_two_fits():
    x, y = data(60)
    model = mlp(optimizer="adam", metrics=["accuracy"])
    training = SVRG(model, B=0, B_over_b=3, seed=0)
    training.fit(x, y, batch_size=8, verbose=0)
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    frozen = model.layers[0].get_weights()[0]
    training.fit(x, y, batch_size=8, verbose=0)
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], frozen)
    assert len(training.model.state_dict()["snapshot"]["weights"]) == 2


# -- going on from a state -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SVRGWrapper, pytest.param(KatyushaWrapper, marks=any_backend)])
def test_a_wrapper_goes_on_exactly(kind):
    rows = data(40)

    def make():
        model = mlp(optimizer=keras.optimizers.SGD(0.2))
        options = {} if kind is SVRGWrapper else {"t1": 0.3, "strong_convexity": 0.1}
        wrapper = kind(model, **options)
        wrapper.build(*rows)
        dataset = InMemoryDataset(*rows, *rows, categorical=False)
        return model, wrapper, SCSGSampler(dataset, UNWEIGHTED, wrapper, B=9, B_over_b=3, rng=1)

    def steps(parts, count):
        for _ in range(count):
            parts[1].train(parts[2].propose(8))

    one = make()
    steps(one, 5)
    other = make()
    other[0].set_weights(one[0].get_weights())
    other[1].load_state_dict(one[1].state_dict())
    other[2].load_state_dict(one[2].state_dict())
    for parts in (one, other):
        steps(parts, 5)
    for a, b in zip(one[0].get_weights(), other[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@any_backend
def test_a_step_of_the_users_own_goes_on_between_two_snapshots():
    class Own(keras.Model):
        def train_step(self, *arguments):
            return super().train_step(*arguments)

    rows = data(40)
    states = []
    for kind in (SVRGWrapper, KatyushaWrapper):
        inputs = keras.Input((6,))
        model = Own(inputs, layers.Dense(4, "softmax")(inputs))
        model.compile(keras.optimizers.SGD(0.2), "sparse_categorical_crossentropy")
        for _ in range(2):
            wrapper = kind(model)
            wrapper.build(*rows)
            dataset = InMemoryDataset(*rows, *rows, categorical=False)
            sampler = SCSGSampler(dataset, UNWEIGHTED, wrapper, B=0, B_over_b=3, rng=1)
            if states:
                sampler.load_state_dict(states[0])
                wrapper.load_state_dict(states[1])
            for _ in range(5):
                wrapper.train(sampler.propose(8))
            states = [sampler.state_dict(), wrapper.state_dict()]
        states = []


@any_backend
@pytest.mark.parametrize("wrapper", ["svrg", "katyusha"])
def test_a_run_goes_on_where_an_uninterrupted_one_does(tmp_path, wrapper, capsys):
    # 13 steps are between two snapshots, 12 at the end of one.
    hp = "N=i16;batch_size=i32;opt=ssgd;lr=f0.1;seed=i1;scsg_B=i64;scsg_B_over_b=i4;kat_t1=f0.3"

    def run(directory, steps, *more):
        names = ["small_nn", wrapper, "scsg", "unweighted", "canevet-icml2016", str(directory)]
        options = ["--hyperparams", hp, "--train_for", str(steps), "--validate_every", "8"]
        assert cli.main(["run", *names, *options, "--checkpoint_every", "5", *more]) == 0
        return {p.name: p.read_text() for p in directory.glob("*.txt") if p.name != "clock.txt"}

    whole = run(tmp_path / "whole", 18)
    parts = tmp_path / "parts"
    for steps in (6, 12, 13):
        run(parts, steps, *(["--resume"] if steps > 6 else []))
    assert run(parts, 18, "--resume") == whole
    assert whole["train.txt"].count("\n") == 19
    error = capsys.readouterr().err
    assert ("without effect here: kat_t1 (of katyusha)" in error) == (wrapper == "svrg")


@any_backend
@pytest.mark.parametrize(
    ("names", "hp", "message"),
    [
        (("oracle-loss", "scsg", "unweighted"), "", "do not go together"),
        (("katyusha", "uniform", "unweighted"), "opt=ssgd", "do not go together"),
        (("svrg", "scsg", "adjusted"), "", "does not work with the reweighting 'adjusted'"),
        (("katyusha", "scsg", "unweighted"), "", "for SGD without momentum: pass opt=ssgd"),
        (("katyusha", "scsg", "unweighted"), "opt=ssgd;momentum=f0.9", "leave `momentum` out"),
        (("katyusha", "scsg", "unweighted"), "opt=ssgd;kat_t1=f0", "kat_t1"),
        (
            ("katyusha", "scsg", "unweighted"),
            "opt=ssgd;kat_t1=f0.7",
            "above 1 together: kat_t1=0.7, kat_t2=0.5",
        ),
    ],
)
def test_the_command_line_refuses_before_anything_is_written(tmp_path, names, hp, message, capsys):
    out = tmp_path / "out"
    assert cli.main(["run", "small_nn", *names, "mnist", str(out), "--hyperparams", hp]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()


# -- convergence -----------------------------------------------------------------------------------

STRENGTH = 0.02
BATCH = 16
PASSES = 15


class Digits:
    """L2-regularised logistic regression on scikit-learn's digits, in float64."""

    def __init__(self):
        x, self.y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
        self.x = x / 16.0
        self.inputs = np.hstack([self.x, np.ones((len(x), 1))])
        self.targets = np.eye(10)[self.y]
        self.optimum = self._solve()

    def loss(self, w):
        z = self.inputs @ w
        largest = z.max(axis=1, keepdims=True)
        partition = np.log(np.exp(z - largest).sum(axis=1)) + largest[:, 0]
        return (partition - (z * self.targets).sum(axis=1)).mean() + STRENGTH * np.square(w).sum()

    def gradient(self, w, rows=slice(None)):
        z = self.inputs[rows] @ w
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return self.inputs[rows].T @ (p - self.targets[rows]) / len(p) + 2 * STRENGTH * w

    def _solve(self):
        optimize = pytest.importorskip("scipy.optimize")
        found = optimize.minimize(
            lambda v: (self.loss(v.reshape(65, 10)), self.gradient(v.reshape(65, 10)).ravel()),
            np.zeros(650),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 2000, "ftol": 1e-16, "gtol": 1e-10},
        )
        assert np.abs(self.gradient(found.x.reshape(65, 10))).max() < 1e-7
        return found.fun

    def gap(self, model):
        kernel, bias = model.get_weights()
        return self.loss(np.vstack([kernel, bias[None]]).astype("float64")) - self.optimum

    def sgd_gap(self, rate, seed):
        """Plain SGD, one gradient of an example for each that may be computed."""
        rng, w = np.random.default_rng(seed), np.zeros((65, 10))
        for _ in range(PASSES * len(self.x) // BATCH):
            w -= rate * self.gradient(w, rng.integers(0, len(self.x), BATCH))
        return self.loss(w) - self.optimum

    def model(self, rate):
        penalty = regularizers.L2(STRENGTH)
        layer = layers.Dense(
            10,
            "softmax",
            kernel_initializer="zeros",
            kernel_regularizer=penalty,
            bias_regularizer=penalty,
        )
        model = keras.Sequential([layers.Input((64,)), layer])
        model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
        return model


@pytest.mark.slow
@any_backend
@pytest.mark.parametrize(("kind", "rate"), [(SVRGWrapper, 0.3), (KatyushaWrapper, 1.0)])
def test_the_optimum_is_reached_where_sgd_stays_away(kind, rate):
    digits = Digits()
    x, y = digits.x.astype("float32"), digits.y
    model = digits.model(rate)
    wrapper = kind(model)
    wrapper.build(x, y)
    dataset = InMemoryDataset(x, y, x, y, categorical=False)
    every = len(x) // BATCH
    sampler = SCSGSampler(dataset, UNWEIGHTED, wrapper, B=0, B_over_b=every, rng=0)
    # A snapshot costs a pass over the data, a step two gradients of its batch.
    with wrapper.attached():
        for _ in range(PASSES // 3 * every):
            wrapper.train(sampler.propose(BATCH))
    assert digits.gap(model) < 1e-6
    assert ops.convert_to_numpy(model.optimizer.iterations.value) == PASSES // 3 * every
    # The best of constant rates, none of which is the first or the last.
    gaps = [np.mean([digits.sgd_gap(r, i) for i in range(3)]) for r in (0.01, 0.02, 0.035, 0.07)]
    assert 0 < np.argmin(gaps) < 3 and min(gaps) > 1e-3
