"""Training steps of the user's own on JAX: pure functions of a state."""

import keras
import numpy as np
from keras import ops

from . import program
from ._synthetic import images
from .steps_tensorflow import arguments, gan_networks, regressor

ONLY = ("jax",)


class PlainStep(keras.Model):
    """Takes `x, y`, and keeps what was compiled."""

    def loss_and_updates(self, trainable, others, x, y, training=False):
        y_pred, others = self.stateless_call(trainable, others, x, training=training)
        return self.compute_loss(x, y, y_pred), (y_pred, others)

    def train_step(self, state, data):
        import jax

        trainable, others, optimizer, metrics = state
        x, y = data
        gradient = jax.value_and_grad(self.loss_and_updates, has_aux=True)
        (loss, (y_pred, others)), grads = gradient(trainable, others, x, y, training=True)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
        updated, logs = [], {}
        for metric in self.metrics:
            mine = metrics[len(updated) : len(updated) + len(metric.variables)]
            if metric.name == "loss":
                mine = metric.stateless_update_state(mine, loss)
            else:
                mine = metric.stateless_update_state(mine, y, y_pred)
            logs[metric.name] = metric.stateless_result(mine)
            updated += mine
        return logs, (trainable, others, optimizer, updated)


@program(backends=ONLY)
def jax_plain_step():
    model = regressor(PlainStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


@program(backends=ONLY)
def jax_plain_step_with_validation():
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

    def train_step(self, state, data):
        import jax

        trainable, others, optimizer, metrics = state
        x, y = data

        def total(trainable):
            y_pred, after = self.stateless_call(trainable, others, x, training=True)
            return self.loss_of(x, y, y_pred), (y_pred, after)

        (loss, (y_pred, others)), grads = jax.value_and_grad(total, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
        split = len(self.loss_tracker.variables)
        loss_state = self.loss_tracker.stateless_update_state(metrics[:split], loss)
        mae_state = self.mae.stateless_update_state(metrics[split:], y, y_pred)
        logs = {
            "loss": self.loss_tracker.stateless_result(loss_state),
            "mae": self.mae.stateless_result(mae_state),
        }
        return logs, (trainable, others, optimizer, loss_state + mae_state)


@program(backends=ONLY)
def jax_step_with_own_metrics():
    model = regressor(OwnTrackers)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model, arguments()


class OwnLossFunction(OwnTrackers):
    """Has nothing compiled but an optimizer."""

    def loss_of(self, x, y, y_pred):
        return ops.mean(keras.losses.mean_squared_error(y, y_pred))


@program(backends=ONLY, refused="compute_loss")
def jax_step_without_compute_loss():
    model = regressor(OwnLossFunction)
    model.compile(keras.optimizers.Adam(0.05))
    return model, arguments()


@program(backends=ONLY, refused="compute_loss")
def jax_step_that_leaves_out_its_compiled_loss():
    model = regressor(OwnLossFunction)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model, arguments()


class WeightedStep(keras.Model):
    """Takes weights if there are some."""

    def loss_and_updates(self, trainable, others, x, y, sample_weight, training=False):
        y_pred, others = self.stateless_call(trainable, others, x, training=training)
        loss = self.compute_loss(x, y, y_pred, sample_weight=sample_weight)
        return loss, (y_pred, others)

    def train_step(self, state, data):
        import jax

        trainable, others, optimizer, metrics = state
        if len(data) == 3:
            x, y, sample_weight = data
        else:
            sample_weight = None
            x, y = data
        gradient = jax.value_and_grad(self.loss_and_updates, has_aux=True)
        (loss, (y_pred, others)), grads = gradient(
            trainable, others, x, y, sample_weight, training=True
        )
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
        updated, logs = [], {}
        for metric in self.metrics:
            mine = metrics[len(updated) : len(updated) + len(metric.variables)]
            if metric.name == "loss":
                mine = metric.stateless_update_state(mine, loss)
            else:
                mine = metric.stateless_update_state(mine, y, y_pred, sample_weight=sample_weight)
            logs[metric.name] = metric.stateless_result(mine)
            updated += mine
        return logs, (trainable, others, optimizer, updated)


@program(backends=ONLY)
def jax_step_with_sample_weight():
    model = regressor(WeightedStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    weights = np.linspace(0.2, 2, 50).astype("float32")
    return model, arguments(sample_weight=weights)


@program(backends=ONLY)
def jax_step_that_could_take_sample_weight():
    model = regressor(WeightedStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


class NoisyStep(keras.Model):
    """Changes the rows, and leaves all else to Keras."""

    def train_step(self, state, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logs, state = super().train_step(state, (x + 0.01 * ops.sin(100 * x), y, sample_weight))
        return {**logs, "twice": 2 * logs["loss"]}, state


@program(backends=ONLY)
def jax_step_around_keras_own():
    model = regressor(NoisyStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


class NarrowNoisyStep(keras.Model):
    """The same for a pair."""

    def train_step(self, state, data):
        x, y = data
        return super().train_step(state, (x + 0.01 * ops.sin(100 * x), y))


@program(backends=ONLY)
def jax_step_around_keras_own_for_pairs():
    model = regressor(NarrowNoisyStep)
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
    return model, arguments()


class GAN(keras.Model):
    """A discriminator that learns to tell the images of a fixed generator; bare `x`."""

    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.generator.trainable = False
        self.seeds = keras.random.SeedGenerator(5)
        self.tracker = keras.metrics.Mean(name="loss")
        self.built = True

    @property
    def metrics(self):
        return [self.tracker]

    def call(self, real):
        noise = keras.random.normal((real.shape[0], 3), seed=self.seeds)
        return self.discriminator(ops.concatenate([self.generator(noise), real], axis=0))

    def train_step(self, state, real):
        import jax

        trainable, others, optimizer, metrics = state
        rows = real.shape[0]
        labels = ops.concatenate([ops.ones((rows, 1)), ops.zeros((rows, 1))], axis=0)

        def total(trainable):
            logits, after = self.stateless_call(trainable, others, real)
            losses = keras.losses.binary_crossentropy(labels, logits, from_logits=True)
            return ops.mean(losses), after

        (loss, others), grads = jax.value_and_grad(total, has_aux=True)(trainable)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
        metrics = self.tracker.stateless_update_state(metrics, loss)
        logs = {"loss": self.tracker.stateless_result(metrics)}
        return logs, (trainable, others, optimizer, metrics)


@program(backends=ONLY, refused="targets|compute_loss")
def jax_gan():
    x, _ = images(size=4)
    model = GAN(*gan_networks())
    model.compile(keras.optimizers.Adam(0.05))
    return model, {"x": x.reshape(50, 16), "batch_size": 16, "epochs": 6, "shuffle": False}
