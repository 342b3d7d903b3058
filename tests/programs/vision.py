"""Images in, images out."""

import math

import keras
import numpy as np
from keras import layers, ops

from . import DROPOUT, FALLBACK, program
from ._synthetic import images


@program()
def autoencoder():
    """The images are their own targets."""
    x, _ = images(channels=1)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, strides=3, activation="relu"),
            layers.Conv2DTranspose(4, 3, strides=3, activation="relu"),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.03), "binary_crossentropy")
    return model, {"x": x, "y": x, "epochs": 4, "batch_size": 16, "shuffle": False}


class Sampling(layers.Layer):
    """Draws from a normal distribution given by its mean and the logarithm of its variance."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(11)

    def call(self, inputs):
        mean, log_variance = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return mean + ops.exp(0.5 * log_variance) * noise


class VariationalAutoEncoder(keras.Model):
    """Adds the divergence from a normal distribution to the loss of what it makes again."""

    def __init__(self, width, code):
        super().__init__()
        self.encode = layers.Dense(8, activation="relu")
        self.mean = layers.Dense(code)
        self.log_variance = layers.Dense(code)
        self.sampling = Sampling()
        self.decode = layers.Dense(8, activation="relu")
        self.out = layers.Dense(width, activation="sigmoid")

    def call(self, inputs):
        hidden = self.encode(inputs)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        divergence = log_variance - ops.square(mean) - ops.exp(log_variance) + 1
        self.add_loss(-0.005 * ops.mean(divergence))
        return self.out(self.decode(self.sampling([mean, log_variance])))


@program()
def variational_autoencoder():
    x, _ = images(size=8, rows=48)
    x = x.reshape(len(x), -1)
    model = VariationalAutoEncoder(64, 2)
    model.compile(keras.optimizers.Adam(0.02), loss=keras.losses.MeanSquaredError())
    return model, {"x": x, "y": x, "epochs": 4, "batch_size": 16, "shuffle": False}


def unet_of(classes, activation):
    inputs = keras.Input((8, 8, 3))
    top = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    top = layers.Activation("relu")(layers.BatchNormalization(momentum=0.5)(top))
    low = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(top)
    up = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(low)
    up = layers.concatenate([up, top])
    return keras.Model(inputs, layers.Conv2D(classes, 1, activation=activation)(up))


@program(backends=("tensorflow", "jax"))
def unet():
    """Every pixel has a class. On PyTorch, Keras cannot go back through this loss of pixels."""
    x, _ = images(size=8, channels=3, rows=48)
    masks = (x[..., :1] > 0.5).astype("uint8") + (x[..., :1] > 0.8)
    model = unet_of(3, "softmax")
    model.compile(
        keras.optimizers.Adam(0.02),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model, {"x": x, "y": masks, "epochs": 3, "batch_size": 16, "shuffle": False}


@program()
def unet_of_two_classes():
    """Every pixel is inside or outside."""
    x, _ = images(size=8, channels=3, rows=48)
    masks = (x[..., :1] > 0.5).astype("float32")
    model = unet_of(1, "sigmoid")
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    return model, {"x": x, "y": masks, "epochs": 3, "batch_size": 16, "shuffle": False}


def psnr(y_true, y_pred):
    """Peak signal to noise ratio, one per image."""
    error = ops.mean(ops.square(y_true - y_pred), axis=(1, 2, 3))
    return -10 * ops.log(error + 1e-7) / math.log(10)


class Psnr(keras.callbacks.Callback):
    """Looks at the ratio over each epoch's validation."""

    def on_epoch_begin(self, epoch, logs=None):
        self.found = []

    def on_test_batch_end(self, batch, logs=None):
        self.found.append(-10 * math.log10(logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        assert len(self.found) == 1
        logs["mean_psnr"] = float(np.mean(self.found))


class DepthToSpace(layers.Layer):
    """Channels become pixels."""

    def call(self, x):
        _, high, wide, channels = x.shape
        x = ops.reshape(x, (-1, high, wide, 2, 2, channels // 4))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, 2 * high, 2 * wide, channels // 4))


@program(warns=(FALLBACK,))
def super_resolution():
    large, _ = images(size=12, channels=1)
    small = large.reshape(-1, 6, 2, 6, 2, 1).mean((2, 4))
    inputs = keras.Input((6, 6, 1))
    hidden = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    outputs = DepthToSpace()(layers.Conv2D(4, 3, padding="same")(hidden))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=[psnr])
    return model, {
        "x": small[:41],
        "y": large[:41],
        "validation_data": (small[41:], large[41:]),
        "epochs": 4,
        "batch_size": 16,
        "shuffle": False,
        "callbacks": [Psnr(), keras.callbacks.EarlyStopping("loss", patience=10)],
    }


class Orthogonal(keras.regularizers.Regularizer):
    """Keeps a transformation near to a rotation."""

    def __call__(self, x):
        x = ops.reshape(x, (-1, 3, 3))
        product = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
        return 0.001 * ops.sum(ops.square(product - ops.eye(3)))


@program(not_exact=DROPOUT)
def point_cloud():
    """Points of a sphere or of a cube, turned by a small network of their own."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 48)
    x = rng.normal(size=(48, 12, 3))
    norms = np.where(y, np.abs(x).max(-1).T, 0.5 * np.linalg.norm(x, axis=-1).T).T
    x = (x / norms[..., None]).astype("float32")
    inputs = keras.Input((12, 3))
    hidden = layers.Conv1D(4, 1, activation="relu")(inputs)
    turn = layers.Dense(
        9,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(np.eye(3).flatten().tolist()),
        activity_regularizer=Orthogonal(),
    )(layers.GlobalAveragePooling1D()(hidden))
    turned = layers.Dot((2, 1))([inputs, layers.Reshape((3, 3))(turn)])
    hidden = layers.Conv1D(8, 1, use_bias=False)(turned)
    hidden = layers.Activation("relu")(layers.BatchNormalization(momentum=0.0)(hidden))
    hidden = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(hidden))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(hidden))
    model.compile(
        keras.optimizers.Adam(0.02),
        "sparse_categorical_crossentropy",
        metrics=["sparse_categorical_accuracy"],
    )
    return model, {"x": x, "y": y, "epochs": 4, "batch_size": 16, "shuffle": False}
