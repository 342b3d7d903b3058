"""The check that a training that never draws by score takes the steps of `model.fit`."""

import keras
import numpy as np
from keras import layers

from importance_sampling import ImportanceTraining

N, BATCH = 50, 16
SHAPES = {1: (), 2: (3,), 3: (3, 2), 4: (3, 2, 2)}


def regression(shape, values):
    inputs = keras.Input(shape or (1,))
    outputs = layers.Dense(values)(layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01), "mse", metrics=["mae"])
    return model


def check_weights_after_two_epochs(make, rank, miscounted=False, **kwargs):
    """`make(x, y)` gives the data; Keras' number of steps is not looked at if `miscounted`."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, *SHAPES[rank])).astype("float32")
    y = x.reshape(N, -1)[:, 0] if rank % 2 else x.reshape(N, -1)[:, :1]
    models = [regression(SHAPES[rank], 1) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    # What is given beside data in batches is not for them.
    arguments = {"epochs": 2, "shuffle": False, "verbose": 0, "batch_size": 7} | kwargs
    a = models[0].fit(make(x, y), **arguments | {"batch_size": None}).history
    b = ImportanceTraining(models[1], tau_th=1e9).fit(make(x, y), **arguments).history
    steps = [int(model.optimizer.iterations.value) for model in models]
    assert steps[1] == 8 if miscounted else steps[0] == steps[1]
    for u, v in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
