"""Training steps of the user's own on PyTorch."""

import keras
import numpy as np
from keras import ops

from . import STREAM, program
from ._synthetic import images, table
from .steps_tensorflow import arguments, gan_networks, regressor

ONLY = ("torch",)


def descend(model, loss):
    """Backwards, and a step of the optimizer."""
    import torch

    loss.backward()
    weights = list(model.trainable_weights)
    gradients = [weight.value.grad for weight in weights]
    with torch.no_grad():
        model.optimizer.apply(gradients, weights)


class PlainStep(keras.Model):
    """Takes `x, y`, and keeps what was compiled."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        descend(self, loss)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


@program(backends=ONLY)
def torch_plain_step():
    model = regressor(PlainStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


@program(backends=ONLY, refused_ways=STREAM)
def torch_plain_step_on_a_loader():
    import torch

    x, _ = table()
    rows = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(x[:, :1] - x[:, 1:2]))
    model = regressor(PlainStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, {"x": torch.utils.data.DataLoader(rows, batch_size=16), "epochs": 4}


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
        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.loss_of(x, y, y_pred)
        descend(self, loss)
        self.loss_tracker.update_state(loss)
        self.mae.update_state(y, y_pred)
        return {"loss": self.loss_tracker.result(), "mae": self.mae.result()}


@program(backends=ONLY)
def torch_step_with_own_metrics():
    model = regressor(OwnTrackers)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model, arguments()


class OwnLossFunction(OwnTrackers):
    """Has nothing compiled but an optimizer."""

    def loss_of(self, x, y, y_pred):
        return ops.mean(keras.losses.mean_squared_error(y, y_pred))


@program(backends=ONLY, refused="compute_loss")
def torch_step_without_compute_loss():
    model = regressor(OwnLossFunction)
    model.compile(keras.optimizers.Adam(0.05))
    return model, arguments()


@program(backends=ONLY, refused="compute_loss")
def torch_step_that_leaves_out_its_compiled_loss():
    model = regressor(OwnLossFunction)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model, arguments()


class WeightedStep(keras.Model):
    """Takes weights if there are some."""

    def train_step(self, data):
        if len(data) == 3:
            x, y, sample_weight = data
        else:
            sample_weight = None
            x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred, sample_weight=sample_weight)
        descend(self, loss)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred, sample_weight=sample_weight)
        return {m.name: m.result() for m in self.metrics}


@program(backends=ONLY)
def torch_step_with_sample_weight():
    model = regressor(WeightedStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    weights = np.linspace(0.2, 2, 50).astype("float32")
    return model, arguments(sample_weight=weights)


@program(backends=ONLY)
def torch_step_that_could_take_sample_weight():
    model = regressor(WeightedStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


class NoisyStep(keras.Model):
    """Changes the rows, and leaves all else to Keras."""

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logs = super().train_step((x + 0.01 * ops.sin(100 * x), y, sample_weight))
        return {**logs, "twice": 2 * logs["loss"]}


@program(backends=ONLY)
def torch_step_around_keras_own():
    model = regressor(NoisyStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


class NarrowNoisyStep(keras.Model):
    """The same for a pair."""

    def train_step(self, data):
        x, y = data
        return super().train_step((x + 0.01 * ops.sin(100 * x), y))


@program(backends=ONLY)
def torch_step_around_keras_own_for_pairs():
    model = regressor(NarrowNoisyStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


class GAN(keras.Model):
    """Two networks and two optimizers; trained on images alone."""

    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.seeds = keras.random.SeedGenerator(5)
        self.tracker = keras.metrics.Mean(name="loss")
        self.built = True

    def compile(self, d_optimizer, g_optimizer):
        super().compile(g_optimizer)
        self.d_optimizer = d_optimizer
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    @property
    def metrics(self):
        return [self.tracker]

    def train_step(self, real):
        import torch

        rows = len(real)
        noise = keras.random.normal((rows, 3), seed=self.seeds)
        both = torch.cat([self.generator(noise).detach(), real])
        labels = torch.cat([torch.ones((rows, 1)), torch.zeros((rows, 1))])
        losses = []
        for network, optimizer, make, wanted in (
            (self.discriminator, self.d_optimizer, lambda: both, labels),
            (self.generator, self.optimizer, lambda: self.generator(noise), labels[rows:]),
        ):
            self.zero_grad()
            loss = self.loss_fn(wanted, self.discriminator(make()))
            loss.backward()
            weights = list(network.trainable_weights)
            with torch.no_grad():
                optimizer.apply([weight.value.grad for weight in weights], weights)
            losses.append(loss)
        self.tracker.update_state(losses[0])
        return {"loss": self.tracker.result()}


@program(backends=ONLY, refused="targets|compute_loss")
def torch_gan():
    x, _ = images(size=4)
    model = GAN(*gan_networks())
    model.compile(keras.optimizers.Adam(0.05), keras.optimizers.Adam(0.001))
    return model, {"x": x.reshape(50, 16), "batch_size": 16, "epochs": 3, "shuffle": False}
