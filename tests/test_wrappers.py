"""What the loop asks of a wrapper: a step on a proposal, and to be held while it trains."""

import dataclasses

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data, mlp, oracle
from keras import ops

from importance_sampling.backend import base
from importance_sampling.model_wrappers import (
    ModelWrapper,
    ModelWrapperDecorator,
    OracleWrapper,
    StepResult,
)
from importance_sampling.proposal import Proposal
from importance_sampling.reweighting import (
    AdjustedBiasedReweightingPolicy,
    BiasedReweightingPolicy,
)

pytestmark = [pytest.mark.exact, pytest.mark.two_backends]


class Own(ModelWrapper):
    """A user's wrapper, whose step returns the metrics that it was made with."""

    def __init__(self, metrics, names=None):
        self.metrics = metrics
        if names is not None:
            self.metrics_names = names

    def train_batch(self, x, y, w):
        return w[:, 0] * x[:, 0], self.metrics, np.abs(x[:, :1])


def proposal(rows, weights=None, scores=None, metric_weights=None):
    n = len(rows[0])
    weights = np.ones((n, 1)) if weights is None else weights
    return Proposal(np.arange(n), rows, weights, scores, metric_weights)


COLUMN = np.array([0.0, 1.0, 0.0, 1.0])
METRICS = {
    "a list": ([COLUMN, COLUMN[:, None] + 1], None, {"metric_0": 0.5, "metric_1": 1.5}),
    "a list with one name": (
        [COLUMN, COLUMN + 1],
        ["loss", "accuracy", "score"],
        {"accuracy": 0.5, "metric_1": 1.5},
    ),
    "a list with names": (
        [COLUMN, COLUMN + 1],
        ("loss", "accuracy", "mae", "score"),
        {"accuracy": 0.5, "mae": 1.5},
    ),
    "a matrix": (np.stack([COLUMN, COLUMN + 1], 1), None, {"metric_0": 0.5, "metric_1": 1.5}),
    "a column": (COLUMN, None, {"metric_0": 0.5}),
    "a dict": ({"mae": 2.0}, None, {"mae": 2.0}),
    "nothing": ([], ["loss", "accuracy", "score"], {}),
}


@pytest.mark.any_backend
@pytest.mark.parametrize("name", METRICS)
def test_no_metric_of_a_users_step_vanishes(name):
    metrics, names, expected = METRICS[name]
    rows = np.arange(4.0)[:, None], np.zeros(4)
    result = Own(metrics, names).train(proposal(rows))
    assert isinstance(result, StepResult)
    assert result.logs == {"loss": 1.5, **expected}
    np.testing.assert_array_equal(result.scores, np.arange(4.0))


@pytest.mark.any_backend
def test_a_decorator_trains_with_its_own_step():
    class Twice(ModelWrapperDecorator):
        def __init__(self, wrapper):
            super().__init__(wrapper, {"train_batch"})

        def train_batch(self, x, y, w):
            return self.model_wrapper.train_batch(2 * x, y, w)

    rows = np.arange(4.0)[:, None], np.zeros(4)
    assert Twice(Own([])).train(proposal(rows)).logs == {"loss": 3.0}
    assert ModelWrapperDecorator(Own([])).train(proposal(rows)).logs == {"loss": 1.5}


def test_a_step_on_a_proposal_is_that_of_train_batch():
    x, y = data(16)
    w = np.linspace(0.5, 1.5, 16)[:, None]
    after = []
    for train in (
        lambda wrapper: wrapper.train_batch(x, y, w)[::2],
        lambda wrapper: wrapper.train(proposal((x, y), w, np.ones(16))),
    ):
        keras.utils.set_random_seed(0)
        model = adam_mlp()
        result = train(oracle(model))
        if isinstance(result, StepResult):
            result = result.weighted_losses[:, None], result.scores[:, None]
        after.append([*result, *model.get_weights()])
    for a, b in zip(*after, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("given", [False, True], ids=["the column", "given"])
def test_metrics_are_weighted_as_the_proposal_says(given):
    x, y = data(16)
    model = adam_mlp()
    wrapper = OracleWrapper(model, BiasedReweightingPolicy(0.5))
    rows = wrapper.evaluate_batch(x, y)
    w, metric_weights = np.linspace(0.5, 1.5, 16), np.linspace(1.4, 0.6, 16)
    step = proposal((x, y), w[:, None], np.ones(16), metric_weights if given else None)
    logs = wrapper.train(step).logs
    used = metric_weights if given else w
    np.testing.assert_allclose(float(logs["loss"]), (used * rows[:, 0]).mean(), rtol=1e-5)
    accuracy = (used * rows[:, 1]).sum() / used.sum()
    np.testing.assert_allclose(float(logs["accuracy"]), accuracy, rtol=1e-5)


def test_weights_that_are_no_importance_weights_need_metric_weights():
    x, y = data(8)
    policy = AdjustedBiasedReweightingPolicy(1.0)
    wrapper = OracleWrapper(mlp(), policy)
    weights = policy.uniform_weights(8)
    with pytest.raises(ValueError, match="must have `metric_weights`"):
        wrapper.train(proposal((x, y), weights))
    wrapper.train(proposal((x, y), weights, metric_weights=np.ones(8)))


def test_what_is_compiled_is_replaced_as_a_whole():
    x, y = data(16)
    model = mlp()
    wrapper = oracle(model)
    with pytest.raises(RuntimeError, match="call `build"):
        _ = wrapper.compiled
    wrapper.build(x, y)
    first = wrapper.compiled
    wrapper.train_batch(x, y, np.ones(16))
    wrapper.build(x[:3], y[:3])
    assert wrapper.compiled is first
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.objective = None
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    wrapper.build(x, y)
    assert wrapper.compiled is not first
    assert wrapper.compiled.metric_names == ("accuracy",)


def averaging_mlp():
    return mlp(optimizer=keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5))


@pytest.mark.parametrize("interrupted", [False, True])
def test_averaged_weights_are_in_the_model_when_training_ends(interrupted):
    x, y = data(16)
    model = averaging_mlp()
    wrapper = oracle(model)
    wrapper.build(x, y)
    start, error = model.get_weights(), KeyboardInterrupt if interrupted else None
    try:
        with wrapper.attached() as runtime:
            runtime.begin_epoch()
            wrapper.train(proposal((x, y)))
            wrapper.train(proposal((x, y)))
            runtime.end_epoch()
            runtime.sync()
            last = model.get_weights()
            if interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert error is KeyboardInterrupt
    # w1, then w2 moved by the same rule: the average lies between the last two weights.
    for a, b, end in zip(start, last, model.get_weights(), strict=True):
        if (a != b).any():
            assert (end != b).any()
            assert np.abs(end - a).max() <= np.abs(b - a).max() * 1.001


def test_without_a_step_the_weights_stay():
    x, y = data(16)
    model = averaging_mlp()
    wrapper = oracle(model)
    wrapper.build(x, y)
    before = model.get_weights()
    with pytest.raises(ZeroDivisionError), wrapper.attached():
        raise ZeroDivisionError
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.any_backend
def test_a_users_wrapper_is_held_by_a_runtime_that_does_nothing():
    with Own([]).attached() as runtime:
        assert type(runtime) is base.Runtime
        for told in (runtime.begin_epoch, runtime.sync, runtime.end_epoch):
            assert told() is None


def test_a_runtime_computes_eagerly_unless_a_backend_says_otherwise():
    x, _ = data(4)
    model = mlp()
    runtime = base.Runtime(model)

    def forward(rows):
        with runtime.scope():
            return model(rows, training=False)

    compiled = runtime.compile_pure(forward)
    found = ops.convert_to_numpy(ops.stop_gradient(compiled(runtime.to_device(x))))
    np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=1e-5)
    train = runtime.compile_train(lambda run, rows: (run, rows))
    assert train(3) == (model.train_step, 3)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="of PyTorch's own conversion")
def test_arrays_become_the_tensors_that_keras_makes_of_them():
    runtime = oracle_built().compiled.runtime
    table = np.arange(24).reshape(6, 4)
    kinds = ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "bool")
    arrays = [table.astype(kind) for kind in kinds]
    arrays += [
        np.asfortranarray(table),
        table[::-1],
        table[::2, 1:3],
        np.zeros((3, 0)),
        table[0, 0],
    ]
    runtime.attach()
    for array in arrays:
        expected, found = ops.convert_to_tensor(array), runtime.to_device(array)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert (found.device, found.stride()) == (expected.device, expected.stride())
        np.testing.assert_array_equal(ops.convert_to_numpy(found), array)
    # Keras multiplies masks into weights in place: not into the caller's.
    kept = table.astype("float32")
    runtime.to_device(kept).mul_(2.0)
    np.testing.assert_array_equal(kept, table)
    runtime.detach()
    assert runtime.to_device(kept).device == ops.convert_to_tensor(kept).device


def oracle_built():
    wrapper = oracle(mlp())
    wrapper.build(*data(4))
    return wrapper
