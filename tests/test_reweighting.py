"""Weights against their formulas, on the numpy side and in the graph."""

import keras
import numpy as np
import pytest
from keras import ops

from importance_sampling.reweighting import (
    UNWEIGHTED,
    AdjustedBiasedReweighting,
    AdjustedBiasedReweightingPolicy,
    BiasedReweightingPolicy,
    CorrectingReweighting,
    CorrectingReweightingPolicy,
    ExternalReweighting,
    NoReweightingPolicy,
)

pytestmark = [pytest.mark.exact, pytest.mark.two_backends]

POLICIES = [
    BiasedReweightingPolicy(1.0),
    BiasedReweightingPolicy(0.5),
    NoReweightingPolicy(),
    AdjustedBiasedReweightingPolicy(0.5),
    CorrectingReweightingPolicy(0.5),
]


def graph(policy, actual, w):
    column = ops.convert_to_tensor(np.asarray(actual, "float32")[:, None])
    return ops.convert_to_numpy(policy.weight_layer()([column, ops.convert_to_tensor(w)]))[:, 0]


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=20)
    return scores, rng.integers(0, 20, 8)


@pytest.mark.parametrize("k", [1.0, 0.5, 0.0, -1.0])
def test_biased_weights(drawn, k):
    scores, idxs = drawn
    s = scores[idxs]
    w = scores.sum() / (20 * s)
    expected = w**k * (w * s).sum() / (w**k * s).sum()
    got = BiasedReweightingPolicy(k).sample_weights(idxs, scores)
    assert got.shape == (8, 1)
    np.testing.assert_allclose(got[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose((got[:, 0] * s).sum(), (w * s).sum(), rtol=1e-6)


def test_unbiased_weights_average_to_the_pool(drawn):
    scores, _ = drawn
    values = np.arange(20.0) ** 2
    w = BiasedReweightingPolicy(1.0).sample_weights(np.arange(20), scores)[:, 0]
    expectation = (scores / scores.sum() * w * values).sum()
    np.testing.assert_allclose(expectation, values.mean(), rtol=1e-6)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
def test_shapes_uniform_draws_and_layers(policy, drawn):
    scores, idxs = drawn
    w = policy.sample_weights(idxs, scores)
    assert w.shape == (8, policy.weight_size) and w.dtype == np.float64
    assert graph(policy, scores[idxs], w).shape == (8,)
    uniform = policy.uniform_weights(5)
    assert uniform.shape == (5, policy.weight_size) and uniform.dtype == np.float64
    np.testing.assert_allclose(graph(policy, [0.0, 0.1, 1.0, 7.0, 2.0], uniform), 1.0, rtol=1e-6)


def test_adjusted_with_right_predictions_equals_biased(drawn):
    scores, idxs = drawn
    idxs[1] = idxs[0]  # an example drawn twice counts once in the sum
    for k in (1.0, 0.5):
        w = AdjustedBiasedReweightingPolicy(k).sample_weights(idxs, scores)
        expected = BiasedReweightingPolicy(k).sample_weights(idxs, scores)[:, 0]
        got = graph(AdjustedBiasedReweightingPolicy(k), scores[idxs], w)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_adjusted_uses_the_actual_scores(drawn):
    scores, _ = drawn
    idxs = np.array([3, 5, 11])
    actual = np.array([0.2, 1.5, 0.7])
    total = scores.sum() - scores[idxs].sum() + actual.sum()
    policy = AdjustedBiasedReweightingPolicy(1.0)
    w = policy.sample_weights(idxs, scores)
    np.testing.assert_allclose(graph(policy, actual, w), total / (20 * actual), rtol=1e-5)


def test_correcting_is_clipped(drawn):
    scores, _ = drawn
    idxs = np.array([0, 1, 2])
    policy = CorrectingReweightingPolicy(1.0)
    w = policy.sample_weights(idxs, scores)
    actual = scores[idxs] * np.array([1.0, 4.0, 0.1])
    np.testing.assert_allclose(graph(policy, actual, w), w[:, 0] * [1, 0.25, 2], rtol=1e-5)


def test_external_passes_on():
    w = np.float32([[1], [3]])
    np.testing.assert_array_equal(graph(UNWEIGHTED, [5, 6], w), [1, 3])


@pytest.mark.parametrize(
    "layer",
    [ExternalReweighting(), AdjustedBiasedReweighting(0.3), CorrectingReweighting(0.1, 4.0)],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_serializable(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    for name in ("k", "min_decrease", "max_increase"):
        assert getattr(copy, name, None) == getattr(layer, name, None)


@pytest.mark.parametrize("k", [1.5, float("nan"), "1", None, True])
@pytest.mark.parametrize(
    "policy",
    [BiasedReweightingPolicy, AdjustedBiasedReweightingPolicy, CorrectingReweightingPolicy],
)
def test_bad_k_is_refused(policy, k):
    with pytest.raises(ValueError, match="`k` must be a number of at most 1"):
        policy(k)


def test_bad_bounds_are_refused():
    with pytest.raises(ValueError, match="min_decrease <= max_increase"):
        CorrectingReweighting(2, 1)
