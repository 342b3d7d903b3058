"""Data that comes in batches, and little data."""

import math

import keras
import numpy as np
from keras import layers

from . import STREAM, program
from ._synthetic import table


def network(**kwargs):
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(6, activation="relu"), layers.Dense(2, "softmax")]
    )
    arguments = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    model.compile(keras.optimizers.Adam(0.03), **arguments | kwargs)
    return model


class Batches(keras.utils.PyDataset):
    """Rows of 16; the last batch is what is left."""

    def __init__(self, x, y, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y = x, y

    def __len__(self):
        return math.ceil(len(self.x) / 16)

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * index + 16)
        return self.x[rows], self.y[rows]


# Keras begins a pass with what its queue held when the one before was left, to look at a batch.
QUEUE = dict.fromkeys(("jax", "torch"), "the first pass is in an order of Keras' own")


@program(refused_ways=STREAM, not_exact=QUEUE)
def py_dataset_with_workers():
    """Threads make the batches; `batch_size` says nothing here, as in Keras."""
    x, y = table()
    return network(), {
        "x": Batches(x, y, workers=2, max_queue_size=3),
        "batch_size": 7,
        "epochs": 4,
        "shuffle": False,
        "validation_data": Batches(x[:16], y[:16]),
    }


@program(refused_ways=STREAM)
def data_loader():
    import torch

    x, y = table()
    rows = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    loader = torch.utils.data.DataLoader(rows, batch_size=16)
    return network(), {"x": loader, "epochs": 4, "validation_data": loader}


@program(refused_ways=STREAM)
def data_loader_over_an_own_dataset():
    """Items of a `Dataset` class, numpy rows and Python integers, and a `batch_size` beside it."""
    import torch

    x, y = table()

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(x)

        def __getitem__(self, index):
            return x[index], int(y[index])

    loader = torch.utils.data.DataLoader(Rows(), batch_size=16, drop_last=True)
    return network(), {"x": loader, "batch_size": 8, "epochs": 4}


@program(refused_ways=STREAM, miscounted={"tensorflow": "once more where the data ends"})
def grain_dataset():
    import grain

    x, y = table()
    rows = grain.MapDataset.source(list(zip(x, y, strict=True))).batch(16)
    return network(), {"x": rows, "epochs": 4}


@program(refused_ways=STREAM)
def tf_dataset():
    """Shuffled alike in every pass, batched, prefetched, with a `batch_size` beside it."""
    import tensorflow as tf

    x, y = table()
    rows = tf.data.Dataset.from_tensor_slices((x, y))
    rows = rows.shuffle(50, seed=1, reshuffle_each_iteration=False).batch(16).prefetch(2)
    return network(), {"x": rows, "epochs": 4, "validation_data": rows}


@program(refused_ways=STREAM)
def repeated_tf_dataset():
    import tensorflow as tf

    x, y = table()
    rows = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).repeat()
    return network(), {"x": rows, "epochs": 4, "steps_per_epoch": 5}


@program(refused_ways=STREAM)
def weighted_tf_dataset():
    """Batches of (x, y, sample_weight)."""
    import tensorflow as tf

    x, y = table()
    weights = np.where(y, 2.0, 0.5).astype("float32")
    rows = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(16)
    return network(weighted_metrics=["accuracy"], metrics=None), {"x": rows, "epochs": 4}


@program(refused_ways=STREAM)
def generator():
    x, y = table()

    def endless():
        while True:
            for start in range(0, 50, 16):
                yield x[start : start + 16], y[start : start + 16]

    return network(), {"x": endless(), "steps_per_epoch": 4, "epochs": 4}


@program(refused_ways=STREAM)
def class_weight_with_a_py_dataset():
    x, y = table()
    return network(), {
        "x": Batches(x, y),
        "class_weight": {0: 0.4, 1: 1.6},
        "epochs": 4,
        "shuffle": False,
    }


@program()
def less_data_than_one_batch():
    """Ten rows, and Keras' own batch size."""
    x, y = table(rows=10)
    return network(), {"x": x, "y": y, "epochs": 8, "shuffle": False}


@program()
def default_batch_size_and_lists_of_callbacks():
    x, y = table()
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    return network(), {"x": x, "y": y, "epochs": 5, "shuffle": False, "callbacks": [callback]}
