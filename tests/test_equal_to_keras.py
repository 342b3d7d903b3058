"""While importance sampling is off, a training takes Keras' own steps."""

import keras
import numpy as np
import pytest
from helpers import CLASSES, FEATURES, adam_mlp, data, mlp
from keras import layers
from spread import full

from importance_sampling import ImportanceTraining

exact = pytest.mark.exact


def batchnorm_model():
    return keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(8, kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


class OwnStep(keras.Model):
    """Overrides compute_loss, as Keras documents it."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(CLASSES, activation="softmax")

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)


class NoShape(layers.Layer):
    """Tells the shape it makes only when it is called on data, as `TorchModuleWrapper` does."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 8))

    def call(self, x):
        return keras.ops.tanh(x @ self.kernel)

    def compute_output_spec(self, *args, **kwargs):
        raise NotImplementedError("the shape is not known")


def shapeless_model():
    last = layers.Dense(CLASSES, activation="softmax")
    return keras.Sequential([layers.Input((FEATURES,)), NoShape(), last])


def lora_model():
    model = mlp()
    model.layers[0].enable_lora(2)
    return model


MODELS = {
    "adam": (lambda: keras.Sequential(mlp().layers), {"optimizer": "adam"}),
    "batchnorm-regularized": (batchnorm_model, {"optimizer": keras.optimizers.SGD}),
    "own-compute-loss": (OwnStep, {"optimizer": "rmsprop"}),
    "accumulation": (
        batchnorm_model,
        {"optimizer": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)},
    ),
    "layer-without-a-shape": (shapeless_model, {"optimizer": "sgd"}),
    "weights-added-after-building": (lora_model, {"optimizer": "sgd"}),
    "ema-and-clipping": (
        batchnorm_model,
        {"optimizer": lambda: keras.optimizers.SGD(0.1, clipnorm=0.1, use_ema=True)},
    ),
    "xla": (batchnorm_model, {"optimizer": "sgd", "jit_compile": True}),
    "eager": (batchnorm_model, {"optimizer": "sgd", "run_eagerly": True}),
    "loss-scaling": (
        batchnorm_model,
        {"optimizer": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))},
    ),
}
if keras.backend.backend() == "torch" and not full():
    # `torch.compile` takes half a minute; a row of the table of features compares what it makes.
    del MODELS["xla"]


@exact
@pytest.mark.parametrize("name", MODELS)
def test_off_equals_model_fit(name):
    x, y = data(96)
    build, arguments = MODELS[name]
    results = []
    for train in (lambda m: m.fit, lambda m: ImportanceTraining(m, tau_th=1e9).fit):
        keras.utils.set_random_seed(3)
        model = build()
        optimizer = arguments["optimizer"]
        model.compile(
            **arguments | {"optimizer": optimizer if isinstance(optimizer, str) else optimizer()},
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        history = train(model)(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        results.append((model.get_weights(), history.history))
    (weights, logs), (other, other_logs) = results
    for a, b in zip(weights, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for key, values in logs.items():
        np.testing.assert_allclose(values, other_logs[key], rtol=1e-4, atol=1e-6)
    assert other_logs["importance_sampling"] == [0, 0]


@exact
def test_off_with_sample_and_class_weights_equals_model_fit():
    x, y = data(96)
    w = np.linspace(0, 2, 96).astype("float32")
    for extra in ({"sample_weight": w}, {"class_weight": {0: 3.0, 2: 0.5}}):
        models = [adam_mlp(weighted_metrics=["accuracy"]) for _ in range(2)]
        models[1].set_weights(models[0].get_weights())
        arguments = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0} | extra
        a = models[0].fit(x, y, **arguments)
        b = ImportanceTraining(models[1], tau_th=1e9).fit(x, y, **arguments)
        for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
            np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6)
        for key, values in a.history.items():
            np.testing.assert_allclose(values, b.history[key], rtol=1e-4, atol=1e-6)


@exact
def test_own_train_step_is_used():
    x, y = data(64)
    calls = []

    class Counting(keras.Sequential):
        def train_step(self, *args):
            calls.append(1)
            return super().train_step(*args)

    model = Counting(mlp().layers)
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    ImportanceTraining(model).fit(x, y, batch_size=16, verbose=0)
    assert len(calls) == 4


def as_tf(x, y, w=None):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y) if w is None else (x, y, w)).batch(16)


def as_loader(x, y, w=None):
    import torch

    parts = [torch.as_tensor(a) for a in (x, y, w) if a is not None]
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*parts), batch_size=16)


def as_py_dataset(x, y, w=None):
    from features.data import Batches

    class Weighted(Batches):
        def __getitem__(self, index):
            rows = slice(16 * index, 16 * index + 16)
            return (x[rows], y[rows]) if w is None else (x[rows], y[rows], w[rows])

    return Weighted(x, y, 16)


def as_generator(x, y, w=None):
    while True:
        for i in range(0, len(x), 16):
            rows = slice(i, i + 16)
            yield (x[rows], y[rows]) if w is None else (x[rows], y[rows], w[rows])


STREAMS = {
    "tf.data": as_tf,
    "DataLoader": as_loader,
    "PyDataset": as_py_dataset,
    "generator": as_generator,
}


@exact
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_off_on_a_stream_equals_model_fit(name, weighted):
    x, y = data(96)
    w = np.linspace(0, 2, 96).astype("float32") if weighted else None
    models = [adam_mlp() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    arguments = {"epochs": 2, "shuffle": False, "verbose": 0}
    if name == "generator":
        arguments["steps_per_epoch"] = 6
    make = STREAMS[name]
    a = models[0].fit(make(x, y, w), **arguments).history
    b = ImportanceTraining(models[1], tau_th=1e9).fit(make(x, y, w), **arguments).history
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)


@exact
def test_class_weight_on_a_stream_equals_model_fit():
    x, y = data(96)
    models = [adam_mlp() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    arguments = {"class_weight": {0: 3.0, 2: 0.5}, "shuffle": False, "verbose": 0}
    models[0].fit(as_py_dataset(x, y), **arguments)
    ImportanceTraining(models[1], tau_th=1e9).fit(as_py_dataset(x, y), **arguments)
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6)
