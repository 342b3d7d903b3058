"""What scripts of 0.10 lean on: old names, and weights."""

import dataclasses
import importlib
import warnings

import keras
import numpy as np
import pytest
from helpers import CLASSES, adam_mlp, data, oracle
from keras import layers, ops

from importance_sampling import models
from importance_sampling.reweighting import (
    UNBIASED,
    UNWEIGHTED,
    AdjustedBiasedReweightingPolicy,
    CorrectingReweightingPolicy,
)
from importance_sampling.utils import functional
from importance_sampling.utils.keras_utils import possible_weight_names, weights_from_hdf5

exact = pytest.mark.exact


@exact
@pytest.mark.parametrize("depth", [4, 9, 12])
def test_wide_resnets_of_any_depth(depth):
    def build():
        return models.wide_resnet(depth, 1)((8, 8, 3), CLASSES)

    if depth == 4:
        small = build()
    else:
        rounded = 4 + (depth - 4) // 6 * 6
        with pytest.warns(UserWarning, match=f"L={depth} is rounded down to {rounded}"):
            small = build()
    convolutions = [w for w in small.layers if isinstance(w, layers.Conv2D)]
    assert len(convolutions) >= 1 + 6 * ((depth - 4) // 6)
    x = np.zeros((2, 8, 8, 3), "float32")
    assert small.predict(x, verbose=0).shape == (2, CLASSES)


NAMES = {
    "models": "build_small_nn build_svrg_nn build_lr build_small_cnn build_small_cnn_squared "
    "build_cnn build_all_conv_nn build_elu_cnn build_lstm_lm build_lstm_lm2 build_lstm_lm3 "
    "build_lstm_timit build_lstm_mnist wide_resnet pretrained face triplet get",
    "pretrained": "ResNet50 DenseNet121",
    "layers.scores": "LossLayer GradientNormLayer",
    "layers.metrics": "MetricLayer TripletLossLayer",
    "layers.normalization": "BatchRenormalization LayerNormalization StatsBatchNorm "
    "GroupNormalization",
    "datasets": "cifar_sanity_check canevet_icml2016_nn",
    "utils.functional": "placeholder x _ ___ partial compose call attr identity",
    "utils.keras_utils": "weights_from_hdf5 possible_weight_names load_weights_by_name "
    "DatasetSequence",
    "utils.tf_config": "set_random_seed",
}


@exact
@pytest.mark.parametrize("module", list(NAMES))
def test_old_names_import(module):
    imported = importlib.import_module(f"importance_sampling.{module}")
    for name in NAMES[module].split():
        assert hasattr(imported, name), name


@exact
def test_old_names_do_what_they_did(tmp_path):
    f = functional
    assert f.x is f._ is f.___ is f.placeholder
    assert f.partial(divmod, f.x, 2)(7) == (3, 1)
    assert f.compose(f.attr("real"), f.identity, abs)(-3) == 3 and f.call(max, 1, 2) == 2
    assert list(possible_weight_names(b"dense/kernel:0", 2)) == [
        "dense/kernel:0",
        "dense_1/kernel:0",
        "dense_2/kernel:0",
    ]
    model = models.build_lr((2, 2), 3)
    assert [w.shape for w in model.weights] == [(4, 3), (3,)]
    model.save(tmp_path / "model.h5")
    import h5py

    with h5py.File(tmp_path / "model.h5") as file:
        found = dict(weights_from_hdf5(file["model_weights"]))
        assert sorted(tuple(w.shape) for w in found.values()) == [(3,), (4, 3)]

    def small(weights, input_shape, output_size):
        return models.build_lr(input_shape, output_size)

    assert models.pretrained(small, None)((2,), 3).compiled
    assert models.face(models.pretrained(small, None), 5)((2,), 3).output_shape == (None, 3)
    triplets = models.triplet(models.pretrained(small, None))([(2,)] * 3, 5)
    assert len(triplets.inputs) == 3


POLICIES = [
    UNBIASED,
    UNWEIGHTED,
    AdjustedBiasedReweightingPolicy(0.5),
    CorrectingReweightingPolicy(),
]


@exact
@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
def test_weights_are_float64_and_trained_with_as_float32(policy):
    scores = np.random.default_rng(0).random(40)
    idxs = np.arange(0, 40, 3)
    w = policy.sample_weights(idxs, scores)
    assert w.dtype == np.float64 and w.shape == (len(idxs), policy.weight_size)
    assert policy.uniform_weights(5).dtype == np.float64


@exact
def test_the_device_gets_float32():
    x, y = data(16)
    w = UNBIASED.sample_weights(np.arange(16), np.linspace(0.1, 2, 16))
    assert w.shape == (16, 1)
    after = []
    for weights in (w, w.astype("float32")):
        keras.utils.set_random_seed(0)
        model = adam_mlp()
        wrapper = oracle(model)
        wrapper.build(x, y)
        inner, types = wrapper.compiled.train_function, set()

        def watched(*tensors, inner=inner, types=types):
            types |= {ops.dtype(t) if hasattr(t, "dtype") else None for t in tensors[3:4]}
            return inner(*tensors)

        wrapper._compiled = dataclasses.replace(wrapper.compiled, train_function=watched)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for _ in range(3):
                wrapper.train_batch(x, y, weights)
        assert {keras.backend.standardize_dtype(t) for t in types} == {"float32"}
        after.append(model.get_weights())
    for a, b in zip(*after, strict=True):
        np.testing.assert_array_equal(a, b)
