"""Subclassed models and layers of the user's own."""

import keras
from keras import layers, ops

from . import program
from ._synthetic import images, table

LOSS = "sparse_categorical_crossentropy"


def arguments(**kwargs):
    x, y = table()
    return {"x": x, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False} | kwargs


class ResidualBlock(layers.Layer):
    """Two convolutions with a shortcut around them."""

    def __init__(self, channels):
        super().__init__()
        self.first = layers.Conv2D(channels, 3, padding="same", activation="relu")
        self.norm = layers.BatchNormalization(momentum=0.5)

    def call(self, x, training=False):
        return ops.relu(self.norm(self.first(x), training=training) + x)


class ResNet(keras.Model):
    """Layers in lists, built at the first batch."""

    def __init__(self, classes):
        super().__init__()
        self.stem = layers.Conv2D(4, 3, strides=3)
        self.blocks = [ResidualBlock(4)]
        self.pool = layers.GlobalAveragePooling2D()
        self.out = layers.Dense(classes, activation="softmax")

    def call(self, x, training=False):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, training=training)
        return self.out(self.pool(x))


@program()
def subclassed_model():
    x, y = images(channels=1)
    model = ResNet(4)
    model.compile(keras.optimizers.Adam(0.03), LOSS, metrics=["accuracy"])
    return model, arguments(x=x, y=y)


class Linear(layers.Layer):
    """Affine, with weights of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer="random_normal")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, x):
        return ops.matmul(x, self.w) + self.b


@program(warns=("score='gnorm'.* layer 'own_head'",))
def own_last_layer():
    inputs = keras.Input((5,))
    hidden = ops.relu(Linear(8)(inputs))
    model = keras.Model(inputs, Linear(2, name="own_head")(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, metrics=["accuracy"])
    return model, arguments()


class Observed(layers.Layer):
    """Keeps the mean of its outputs as a metric of its own, and asks for small ones."""

    def __init__(self, units):
        super().__init__()
        self.dense = layers.Dense(units, activation="relu")
        self.mean = keras.metrics.Mean(name="activation")

    def call(self, x):
        x = self.dense(x)
        self.mean.update_state(x)
        self.add_loss(0.001 * ops.mean(ops.square(x)))
        return x


@program(backends=("tensorflow", "torch"))
def layer_with_an_own_metric():
    """Not on JAX, where Keras cannot update metrics inside of `call`."""
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(Observed(8)(inputs)))
    model.compile(keras.optimizers.Adam(0.03), LOSS, metrics=["accuracy"])
    return model, arguments()


class Antirectifier(layers.Layer):
    """Both halves of what it is given, with a learnt scale."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(1, 2 * shape[-1]), initializer="ones")

    def call(self, x):
        x = x - ops.mean(x, axis=-1, keepdims=True)
        return self.scale * ops.concatenate([ops.relu(x), ops.relu(-x)], axis=-1)


@program()
def own_activation_inside():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4), Antirectifier(), layers.Dense(2, "softmax")]
    )
    model.compile(keras.optimizers.Adam(0.03), LOSS, metrics=["sparse_categorical_accuracy"])
    return model, arguments(validation_split=0.15)


class Positives(keras.metrics.Metric):
    """Counts rows of class 1 that were found; takes weights."""

    def __init__(self, name="positives", **kwargs):
        super().__init__(name=name, **kwargs)
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        label = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        guess = ops.cast(ops.argmax(y_pred, axis=1), "int32")
        found = ops.cast(ops.logical_and(label == 1, guess == 1), "float32")
        if sample_weight is not None:
            found = found * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        self.count.assign_add(ops.sum(found))

    def result(self):
        return self.count.value


@program()
def own_metric():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, "relu"), layers.Dense(2, "softmax")]
    )
    model.compile(keras.optimizers.Adam(0.03), LOSS, metrics=[Positives()])
    return model, arguments()
