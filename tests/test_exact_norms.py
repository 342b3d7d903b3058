"""`full_gnorm`: the norms of single gradients, each way of finding them, and what they need."""

from pathlib import Path

import keras
import numpy as np
import processes
import pytest
from helpers import data, mlp, oracle
from keras import layers
from spread import full

from importance_sampling import SVRG, ImportanceTraining
from importance_sampling.backend import base
from importance_sampling.model_wrappers import OracleWrapper, _layer_calls
from importance_sampling.reweighting import UNWEIGHTED

any_backend = pytest.mark.any_backend
RNG = np.random.default_rng(0)


def classifier(inputs, *hidden, units=3, **options):
    model = keras.Sequential([inputs, *hidden, layers.Dense(units, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", **options)
    return model


def images(**options):
    """Strides, padding, dilation and a kernel without a bias."""
    model = classifier(
        layers.Input((7, 6, 2)),
        layers.Conv2D(4, 3, padding="same", activation="relu", **options),
        layers.Conv2D(3, (2, 3), strides=2, use_bias=False),
        layers.Conv2D(3, 2, dilation_rate=1, padding="same"),
        layers.Flatten(),
    )
    return model, RNG.normal(size=(9, 7, 6, 2)).astype("float32"), RNG.integers(0, 3, 9)


def dilated():
    model = classifier(
        layers.Input((9, 8, 2)), layers.Conv2D(4, 3, dilation_rate=2), layers.Flatten()
    )
    return model, RNG.normal(size=(9, 9, 8, 2)).astype("float32"), RNG.integers(0, 3, 9)


def texts():
    """Few steps, whose products are compared; words that come twice."""
    model = classifier(
        layers.Input((5,), dtype="int32"),
        layers.Embedding(6, 16),
        layers.Dense(12, "tanh"),
        layers.GlobalAveragePooling1D(),
    )
    return model, RNG.integers(0, 6, (9, 5)), RNG.integers(0, 3, 9)


def sequences():
    """Many steps, whose gradient is formed; layers that normalize and recur go another way."""
    model = classifier(
        layers.Input((11, 2)),
        layers.Dense(3, "tanh", kernel_regularizer="l2", activity_regularizer="l2"),
        layers.LayerNormalization(),
        layers.SimpleRNN(4),
    )
    return model, RNG.normal(size=(9, 11, 2)).astype("float32"), RNG.integers(0, 3, 9)


def normalized():
    model = classifier(
        layers.Input((5, 4, 2)),
        layers.Conv2D(3, 2),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.BatchNormalization(center=False),
    )
    x = RNG.normal(size=(9, 5, 4, 2)).astype("float32")
    for layer in model.layers[1:4:2]:
        layer.set_weights([RNG.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    return model, x, RNG.integers(0, 3, 9)


def frozen():
    model = classifier(layers.Input((6,)), layers.Dense(5), layers.Dense(4))
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = data(9)
    return model, x, y % 3


def called_twice():
    inputs = keras.Input((6,))
    shared = layers.Dense(6, "tanh")
    model = keras.Model(inputs, layers.Dense(3, "softmax")(shared(shared(inputs))))
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = data(9)
    return model, x, y % 3


def nested():
    inner = keras.Sequential([layers.Input((6,)), layers.Dense(5, "tanh")])
    x, y = data(9)
    return classifier(layers.Input((6,)), inner), x, y % 3


def adapted():
    model = classifier(layers.Input((6,)), layers.Dense(5, "tanh"), layers.Dense(4))
    model.layers[0].enable_lora(2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    for variable in model.layers[0].trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    x, y = data(9)
    return model, x, y % 3


def tied():
    """A layer of the user's own that uses the weights of another."""

    class Back(layers.Layer):
        def __init__(self, other):
            super().__init__()
            self.other = other

        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(self.other.kernel))

    dense = layers.Dense(5, "tanh")
    x, y = data(9)
    return classifier(layers.Input((6,)), dense, Back(dense)), x, y % 3


def two_outputs():
    inputs = keras.Input((6,))
    hidden = layers.Dense(5, "tanh")(inputs)
    outputs = [layers.Dense(3, "softmax", name="a")(hidden), layers.Dense(1, name="b")(hidden)]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", ["sparse_categorical_crossentropy", "mse"], loss_weights=[0.3, 2.0])
    x, y = data(9)
    return model, x, [y % 3, x[:, :1]]


def folded(first, inner, shape, back, features=3):
    """A model within whose middle layer the first axis is not that of the samples."""
    inputs = keras.Input(shape)
    x = layers.Dense(features, "tanh")(inputs)
    x = back(inner(first(x)))
    model = keras.Model(inputs, layers.Dense(3, "softmax")(layers.Flatten()(x)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = RNG.normal(size=(9, *shape)).astype("float32")
    return model, x, RNG.integers(0, 3, 9)


def time_major(steps=9):
    """As many steps as there are samples, by default."""

    def swap(x):
        return keras.ops.transpose(x, (1, 0, 2))

    return folded(swap, layers.Dense(4, name="middle"), (steps, 2), swap)


def short_time_major():
    return time_major(2)


def flat_steps():
    return folded(
        lambda x: keras.ops.reshape(x, (-1, 3)),
        layers.Dense(4, name="middle"),
        (4, 2),
        lambda x: keras.ops.reshape(x, (-1, 4, 4)),
    )


def flat_patches():
    return folded(
        lambda x: keras.ops.reshape(x, (-1, 4, 5, 3)),
        layers.Conv2D(2, 2, name="middle"),
        (2, 4, 5, 2),
        lambda x: keras.ops.reshape(x, (-1, 2, 3, 4, 2)),
    )


MODELS = {
    # What is tapped, what goes the other way.
    images: ("conv2d conv2d conv2d dense", ""),
    texts: ("embedding dense dense", ""),
    sequences: ("dense dense", "layer_normalization simple_rnn_cell"),
    dilated: ("conv2d dense", ""),
    normalized: ("batch_normalization conv2d dense", ""),
    frozen: ("dense dense", ""),
    called_twice: ("dense", "dense"),
    nested: ("dense dense", ""),
    adapted: ("dense dense", "dense"),
    tied: ("", "dense dense"),
    two_outputs: ("a b dense", ""),
    time_major: ("dense", "middle"),
    short_time_major: ("dense", "middle"),
    flat_steps: ("dense", "middle"),
    flat_patches: ("dense", "middle"),
}
EVERYWHERE = (images, texts, sequences, time_major, flat_steps)


def kinds(names):
    return sorted({name.rstrip("0123456789").rstrip("_") for name in names} - {""})


def one_by_one(wrapper, x, y, weights=None):
    """Norms of the gradients of batches of one."""
    norms = []
    for i in range(len(x)):
        rows = keras.tree.map_structure(lambda a, i=i: a[[i]], y)
        weight = None if weights is None else weights[[i]]
        alone = wrapper.gradient(x[[i]], rows, sample_weight=weight)
        without = wrapper.gradient(x[[i]], rows, np.zeros(1), sample_weight=weight)
        squares = [
            ((a - b).astype("float64") ** 2).sum() for a, b in zip(alone, without, strict=True)
        ]
        norms.append(np.sqrt(sum(squares)))
    return norms


@pytest.mark.parametrize(
    "make", [pytest.param(m, marks=() if m in EVERYWHERE else any_backend) for m in MODELS]
)
def test_norms_are_those_of_batches_of_one(make):
    model, x, y = make()
    wrapper = oracle(model, "full_gnorm")
    wrapper.build(x, y)
    np.testing.assert_allclose(wrapper.score(x, y), one_by_one(wrapper, x, y), rtol=2e-4)
    plan = wrapper.compiled.objective.norm_plan
    tapped, others = MODELS[make]
    assert kinds(layer.name for layer in plan.tapped) == sorted(set(tapped.split()))
    assert kinds(v.path.split("/")[-2] for v in plan.others) == sorted(set(others.split()))


@any_backend
@pytest.mark.parametrize("make", [texts, time_major, short_time_major, flat_steps, flat_patches])
def test_one_sample_alone_has_the_norm_that_it_has_among_others(make):
    model, x, y = make()
    expected = oracle(model, "full_gnorm").score(x, y)
    # What is compiled is made for one row, too.
    alone = oracle(model, "full_gnorm")
    np.testing.assert_allclose(alone.score(x[:1], y[:1]), expected[:1], rtol=2e-4)
    np.testing.assert_allclose(alone.score(x, y), expected, rtol=2e-4)


def test_weights_that_the_first_call_makes_count():
    """An activation with weights is built when it is called, and not before."""
    model = classifier(
        layers.Input((6,)), layers.Dense(5, activation=layers.PReLU()), layers.LayerNormalization()
    )
    x, y = data(9)
    y = y % 3
    wrapper = oracle(model, "full_gnorm")
    found = wrapper.score(x, y)
    plan = wrapper.compiled.objective.norm_plan
    assert len(model.trainable_variables) == 7
    assert len(plan.others) == 5 and [type(t) for t in plan.tapped] == [layers.Dense]
    assert model.optimizer.built
    np.testing.assert_allclose(found, one_by_one(wrapper, x, y), rtol=2e-4)
    wrapper.train_batch(x, y, np.ones(9))


@any_backend
@pytest.mark.parametrize("training", [ImportanceTraining, SVRG])
def test_trainings_take_layers_that_build_weights_when_called(training):
    model = classifier(layers.Input((6,)), layers.Dense(5, activation=layers.PReLU()))
    x, y = data(24)
    arguments = {"score": "full_gnorm"} if training is ImportanceTraining else {"B": 0}
    alpha = model.layers[0].activation
    training(model, **arguments).fit(x, y % 3, batch_size=8, epochs=2, verbose=0)
    assert np.abs(alpha.get_weights()[0]).max() > 0


@any_backend
def test_the_call_that_builds_leaves_the_state_of_layers():
    inputs = keras.Input(batch_shape=(4, 3, 2))
    recurrent = layers.GRU(3, stateful=True)
    hidden = recurrent(inputs)
    hidden = layers.Dense(5, activation=layers.PReLU())(hidden)
    model = keras.Model(inputs, layers.Dense(3, "softmax")(hidden))
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = RNG.normal(size=(4, 3, 2)).astype("float32")
    OracleWrapper(model, UNWEIGHTED, score="loss").build(x, np.array([0, 1, 2, 0]))
    assert len(model.trainable_variables) == 3 + 2 + 1 + 2
    assert not keras.ops.convert_to_numpy(recurrent.states[0]).any()


@any_backend
def test_a_model_without_trainable_weights_is_refused():
    model = mlp()
    model.trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = data(24)
    with pytest.raises(ValueError, match=r"no trainable weights.*'full_gnorm'"):
        oracle(model, "full_gnorm").score(x, y)
    with pytest.raises(ValueError, match=r"no trainable weights.*'full_gnorm'"):
        ImportanceTraining(model, score="full_gnorm").fit(x, y, verbose=0)
    # Other scores ask for none.
    assert (oracle(model, "loss").score(x, y) > 0).all()


@any_backend
def test_both_ways_of_many_steps_agree_and_the_cheaper_is_taken():
    # 5 steps of 16 inputs and 12 outputs: 5 (16 + 12) is less than 16 x 12.
    model, x, y = texts()
    wrapper = oracle(model, "full_gnorm")
    wrapper.build(x, y)
    expected = wrapper.score(x, y)
    calls = _layer_calls.LayerCall
    dense = calls(model.layers[1], output_shape=(None, 5, 12))
    assert dense._compares_steps and dense.bytes_per_sample == 4 * 2 * 25
    longer = calls(model.layers[1], output_shape=(None, 50, 12))
    assert not longer._compares_steps and longer.bytes_per_sample == 4 * 16 * 12
    with pytest.MonkeyPatch.context() as patch:
        compares = property(lambda self: type(self.layer) is layers.Embedding)
        patch.setattr(calls, "_compares_steps", compares)
        other = oracle(model, "full_gnorm")
        np.testing.assert_allclose(other.score(x, y), expected, rtol=1e-4)


@any_backend
def test_masked_steps_do_not_count():
    x = RNG.integers(1, 6, (9, 5))
    for i, length in enumerate(RNG.integers(1, 6, 9)):
        x[i, length:] = 0
    y = RNG.integers(0, 3, (9, 5))
    model = keras.Sequential(
        [
            layers.Input((5,), dtype="int32"),
            layers.Embedding(6, 4, mask_zero=True),
            layers.LayerNormalization(),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    wrapper = oracle(model, "full_gnorm")
    wrapper.build(x, y)
    counts = (x > 0).sum(axis=1)
    expected = one_by_one(wrapper, x, y) * counts / counts.mean()
    np.testing.assert_allclose(wrapper.score(x, y), expected, rtol=2e-4)


@any_backend
def test_sample_weights_enter_and_a_summed_loss_is_one():
    x, y = data(9)
    weights = np.linspace(0.1, 3, 9).astype("float32")
    for reduction in ("sum_over_batch_size", "sum"):
        model = mlp(loss=keras.losses.SparseCategoricalCrossentropy(reduction=reduction))
        wrapper = oracle(model, "full_gnorm")
        wrapper.build(x, y, weights)
        found = wrapper.score(x, y, sample_weight=weights)
        np.testing.assert_allclose(found, one_by_one(wrapper, x, y, weights), rtol=2e-4)


def test_gradients_are_held_of_a_few_samples_at_a_time(monkeypatch):
    model = classifier(layers.Input((6,)), layers.Dense(5), layers.LayerNormalization())
    x, y = data(9)
    y = y % 3
    wrapper = oracle(model, "full_gnorm")
    expected = wrapper.score(x, y)
    others = wrapper.compiled.objective.norm_plan.others
    monkeypatch.setattr(base, "_BYTES", 4 * 4 * sum(np.prod(v.shape) for v in others))
    # Nine are three parts, of which the last is not full.
    assert base.samples_at_once(others) == 4
    wrapper = oracle(model, "full_gnorm")
    np.testing.assert_allclose(wrapper.score(x, y), expected, rtol=1e-4)
    # In a step as in a pass that only scores; eager ones say what holds after it.
    model.optimizer.learning_rate = 0.0
    _, _, scores = wrapper.train_batch(x, y, np.ones(9))
    np.testing.assert_allclose(scores.reshape(-1), expected, rtol=1e-4)


_PROGRAM = """
import resource
import keras, numpy as np
from importance_sampling import models
from importance_sampling.model_wrappers import OracleWrapper
from importance_sampling.reweighting import UNWEIGHTED
rng = np.random.default_rng(0)
n = {n}
x = rng.random((n, 28, 28, 1), "float32")
y = np.eye(10, dtype="float32")[rng.integers(0, 10, n)]
model = models.get("small_cnn")((28, 28, 1), 10)
scores = OracleWrapper(model, UNWEIGHTED, score="full_gnorm").score(x, y, batch_size=n)
assert scores.shape == (n,) and (scores > 0).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@any_backend
@pytest.mark.end_to_end
def test_memory_is_bounded():
    """Gradients of 4096 samples of `small_cnn` are 27 GB; an eighth of that runs every time."""
    n = 4096 if full() else 512
    root = str(Path(__file__).parents[1])
    found = processes.run("-c", _PROGRAM.format(n=n), timeout=300, PYTHONPATH=root)
    assert found.returncode == 0, found.stderr
    assert float(found.stdout.split()[-1]) < 4.0
