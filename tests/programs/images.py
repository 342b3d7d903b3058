"""Classification of images."""

import keras
import numpy as np
from keras import layers

from . import BACKENDS, DROPOUT, STREAM, program
from ._synthetic import images


@program(not_exact=DROPOUT)
def mnist_convnet():
    x, y = images(channels=1)
    y = keras.utils.to_categorical(y, 4)
    model = keras.Sequential(
        [
            layers.Input((12, 12, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(3),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.03), "categorical_crossentropy", metrics=["accuracy"])
    return model, {
        "x": x,
        "y": y,
        "batch_size": 16,
        "epochs": 4,
        "validation_split": 0.1,
        "shuffle": False,
    }


@program()
def mnist_without_channels():
    """Rows of (28, 28) for an input of (28, 28, 1), to which Keras adds the axis."""
    x, y = images(size=28)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 5, strides=3, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(8, activation="relu"),
            layers.Dense(4),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.03),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="acc")],
    )
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 6, "shuffle": False}


@program()
def uint8_images_with_rescaling():
    """Pixels from 0 to 255, made small inside of the model."""
    x, y = images(channels=3)
    inputs = keras.Input((12, 12, 3))
    hidden = layers.Rescaling(1 / 255)(inputs)
    hidden = layers.SeparableConv2D(4, 3, padding="same", activation="relu")(hidden)
    hidden = layers.Flatten()(layers.AveragePooling2D(6)(hidden))
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(hidden))
    model.compile(
        keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    x = (x * 255).astype("uint8")
    return model, {
        "x": x[:40],
        "y": y[:40],
        "batch_size": 16,
        "epochs": 4,
        "validation_data": (x[40:], y[40:]),
        "shuffle": False,
    }


@program()
def augmentation_in_the_model():
    """Random layers before the network, which work in training alone."""
    x, y = images(channels=1)
    y = y // 2
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.RandomFlip("horizontal", seed=3),
            layers.RandomTranslation(0.1, 0.1, seed=4),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False}


@program(not_exact=DROPOUT)
def transfer_learning():
    """A frozen base first, then all of it at a small rate: two times compile and fit."""
    x, y = images(channels=1, rows=48)
    y = (y > 1).astype("float32")
    base = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, strides=3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
        ],
        name="base",
    )
    base.trainable = False
    inputs = keras.Input((12, 12, 1))
    hidden = layers.Flatten()(base(inputs, training=False))
    model = keras.Model(inputs, layers.Dense(1)(layers.Dropout(0.1)(hidden)))
    arguments = {"x": x, "y": y, "batch_size": 16, "epochs": 3, "shuffle": False}

    def compile_at(rate):
        model.compile(
            keras.optimizers.Adam(rate),
            keras.losses.BinaryCrossentropy(from_logits=True),
            metrics=[keras.metrics.BinaryAccuracy(threshold=0)],
        )

    def fine_tuning(model):
        base.trainable = True
        compile_at(0.005)
        return dict(arguments)

    compile_at(0.03)
    return model, dict(arguments), fine_tuning


class Patches(layers.Layer):
    """Cuts images into patches."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def call(self, images):
        _, high, wide, channels = images.shape
        rows, columns = high // self.size, wide // self.size
        cut = keras.ops.reshape(images, (-1, rows, self.size, columns, self.size, channels))
        cut = keras.ops.transpose(cut, (0, 1, 3, 2, 4, 5))
        return keras.ops.reshape(cut, (-1, rows * columns, self.size**2 * channels))


class PatchEncoder(layers.Layer):
    """Projects patches and adds where they are."""

    def __init__(self, count, width):
        super().__init__()
        self.projection = layers.Dense(width)
        self.position = layers.Embedding(count, width)
        self.count = count

    def call(self, patches):
        return self.projection(patches) + self.position(keras.ops.arange(self.count))


@program(not_exact=DROPOUT)
def vision_transformer():
    x, y = images(channels=1, rows=48)
    inputs = keras.Input((12, 12, 1))
    encoded = PatchEncoder(4, 8)(Patches(6)(inputs))
    normal = layers.LayerNormalization(epsilon=1e-6)(encoded)
    seen = layers.MultiHeadAttention(2, 4, dropout=0.1, use_bias=False)(normal, normal)
    hidden = layers.Add()([seen, encoded])
    hidden = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(hidden))
    hidden = layers.Dense(8, activation="gelu")(hidden)
    model = keras.Model(inputs, layers.Dense(4)(hidden))
    model.compile(
        keras.optimizers.AdamW(0.01, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseTopKCategoricalAccuracy(2, name="top-2-accuracy")],
    )
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 3, "shuffle": False}


@program(
    refused_ways=STREAM,
    not_exact=dict.fromkeys(BACKENDS, "every pass is mixed anew"),
)
def mixup():
    """Two shuffled streams mixed by weights drawn for every pair."""
    import tensorflow as tf

    x, y = images(channels=1)
    rows = tf.data.Dataset.from_tensor_slices((x, np.eye(4, dtype="float32")[y]))
    one, two = (rows.shuffle(50, seed=seed).batch(16) for seed in (1, 2))

    def mix(first, second):
        (x1, y1), (x2, y2) = first, second
        a, b = (tf.random.gamma((tf.shape(x1)[0],), 0.2, seed=seed) for seed in (3, 4))
        share = (a + 1e-6) / (a + b + 2e-6)
        on_x, on_y = tf.reshape(share, (-1, 1, 1, 1)), tf.reshape(share, (-1, 1))
        return x1 * on_x + x2 * (1 - on_x), y1 * on_y + y2 * (1 - on_y)

    model = keras.Sequential(
        [keras.Input((12, 12, 1)), layers.Flatten(), layers.Dense(4, activation="softmax")]
    )
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    data = tf.data.Dataset.zip((one, two)).map(mix)
    return model, {"x": data, "epochs": 5}
