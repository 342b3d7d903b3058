"""Training steps of the user's own on TensorFlow."""

import keras
import numpy as np
from keras import layers, ops

from . import program
from ._synthetic import images, table
from .tabular import GraphNetwork, graph

ONLY = ("tensorflow",)


def arguments(**kwargs):
    x, _ = table()
    y = (x[:, :1] - x[:, 1:2]).astype("float32")
    return {"x": x, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False} | kwargs


def regressor(cls):
    inputs = keras.Input((5,))
    return cls(inputs, layers.Dense(1)(layers.Dense(6, activation="relu")(inputs)))


class PlainStep(keras.Model):
    """Takes `x, y`, and keeps what was compiled."""

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


@program(backends=ONLY)
def tf_plain_step():
    model = regressor(PlainStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


@program(backends=ONLY)
def tf_plain_step_with_validation():
    model = regressor(PlainStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments(validation_split=0.2)


class OwnTrackers(keras.Model):
    """Metrics of its own, which Keras resets at each epoch because they are in `metrics`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.mae = keras.metrics.MeanAbsoluteError(name="mae")

    @property
    def metrics(self):
        return [self.loss_tracker, self.mae]

    def loss_of(self, x, y, y_pred):
        return self.compute_loss(x, y, y_pred)

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.loss_of(x, y, y_pred)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self.loss_tracker.update_state(loss)
        self.mae.update_state(y, y_pred)
        return {"loss": self.loss_tracker.result(), "mae": self.mae.result()}


@program(backends=ONLY)
def tf_step_with_own_metrics():
    model = regressor(OwnTrackers)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model, arguments()


class OwnLossFunction(OwnTrackers):
    """Has nothing compiled but an optimizer."""

    def loss_of(self, x, y, y_pred):
        return ops.mean(keras.losses.mean_squared_error(y, y_pred))


@program(backends=ONLY, refused="compute_loss")
def tf_step_without_compute_loss():
    model = regressor(OwnLossFunction)
    model.compile(keras.optimizers.Adam(0.05))
    return model, arguments()


@program(backends=ONLY, refused="compute_loss")
def tf_step_that_leaves_out_its_compiled_loss():
    model = regressor(OwnLossFunction)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model, arguments()


class WeightedStep(keras.Model):
    """Takes weights if there are some."""

    def train_step(self, data):
        import tensorflow as tf

        if len(data) == 3:
            x, y, sample_weight = data
        else:
            sample_weight = None
            x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred, sample_weight=sample_weight)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred, sample_weight=sample_weight)
        return {m.name: m.result() for m in self.metrics}


@program(backends=ONLY)
def tf_step_with_sample_weight():
    model = regressor(WeightedStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    weights = np.linspace(0.2, 2, 50).astype("float32")
    return model, arguments(sample_weight=weights)


@program(backends=ONLY)
def tf_step_that_could_take_sample_weight():
    model = regressor(WeightedStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


class NoisyStep(keras.Model):
    """Changes the rows, and leaves all else to Keras."""

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = x + 0.01 * ops.sin(100 * x)
        logs = super().train_step((x, y, sample_weight))
        return {**logs, "rate": self.optimizer.learning_rate}


@program(backends=ONLY)
def tf_step_around_keras_own():
    model = regressor(NoisyStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


class NarrowNoisyStep(keras.Model):
    """The same for a pair."""

    def train_step(self, data):
        x, y = data
        return super().train_step((x + 0.01 * ops.sin(100 * x), y))


@program(backends=ONLY)
def tf_step_around_keras_own_for_pairs():
    model = regressor(NarrowNoisyStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


class GraphStep(GraphNetwork):
    """Works out all nodes of the graph, and the loss of those that the batch names."""

    def call(self, indices):
        return super().call(np.arange(len(self.states)))

    def train_step(self, data):
        import tensorflow as tf

        indices, labels = data
        with tf.GradientTape() as tape:
            outputs = tf.gather(self(indices, training=True), indices)
            loss = self.compute_loss(y=labels, y_pred=outputs)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(labels, outputs)
        return {m.name: m.result() for m in self.metrics}


@program(backends=ONLY, refused="cannot compare the outputs")
def tf_graph_step():
    """The model gives as many outputs as the graph has nodes, not one for each row."""
    states, edges, y = graph()
    model = GraphStep(states, edges, 2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss)
    x = np.arange(50, dtype="int32")
    return model, {"x": x, "y": y, "batch_size": 16, "epochs": 4, "shuffle": False}


class GAN(keras.Model):
    """Two networks and two optimizers; trained on images alone."""

    def __init__(self, discriminator, generator, width):
        super().__init__()
        self.discriminator, self.generator, self.width = discriminator, generator, width
        self.seeds = keras.random.SeedGenerator(5)
        self.tracker = keras.metrics.Mean(name="loss")
        self.built = True

    def compile(self, d_optimizer, g_optimizer):
        super().compile(g_optimizer)
        self.d_optimizer, self.g_optimizer = d_optimizer, self.optimizer
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    @property
    def metrics(self):
        return [self.tracker]

    def train_step(self, real):
        import tensorflow as tf

        rows = tf.shape(real)[0]
        noise = keras.random.normal((rows, self.width), seed=self.seeds)
        both = tf.concat([self.generator(noise), real], axis=0)
        labels = tf.concat([tf.ones((rows, 1)), tf.zeros((rows, 1))], axis=0)
        with tf.GradientTape() as tape:
            loss = self.loss_fn(labels, self.discriminator(both))
        variables = self.discriminator.trainable_variables
        self.d_optimizer.apply(tape.gradient(loss, variables), variables)
        with tf.GradientTape() as tape:
            g_loss = self.loss_fn(tf.zeros((rows, 1)), self.discriminator(self.generator(noise)))
        variables = self.generator.trainable_variables
        self.g_optimizer.apply(tape.gradient(g_loss, variables), variables)
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def gan_networks():
    discriminator = keras.Sequential([keras.Input((16,)), layers.Dense(4, "relu"), layers.Dense(1)])
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(16, activation="sigmoid")])
    return discriminator, generator


@program(backends=ONLY, refused="targets|compute_loss")
def tf_gan():
    x, _ = images(size=4)
    model = GAN(*gan_networks(), 3)
    model.compile(keras.optimizers.Adam(0.05), keras.optimizers.Adam(0.001))
    return model, {"x": x.reshape(50, 16), "batch_size": 16, "epochs": 3, "shuffle": False}
