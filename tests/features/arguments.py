"""The arguments of `fit`."""

import keras
import numpy as np
from helpers import CLASSES, adam_mlp, data, mlp, oracle

from . import refused, works
from .columns import NEVER_ZERO


def same_validation(history, net, x, y, **kwargs):
    """The last epoch's validation is what `evaluate` says afterwards."""
    expected = net.evaluate(x, y, verbose=0, return_dict=True, **kwargs)
    for name, value in expected.items():
        np.testing.assert_allclose(history[f"val_{name}"][-1], value, rtol=1e-4, atol=1e-6)


@works("`validation_split`", "the last rows, as in Keras")
def validation_split(cell):
    x, y = data(64)
    net = adam_mlp()
    drawn = []
    history = cell.fit(
        net,
        x,
        y,
        validation_split=0.25,
        on_sample=lambda sampler, idxs, w, scores: drawn.extend(idxs),
    )
    same_validation(history, net, x[48:], y[48:])
    assert max(drawn) < 48


@works("`validation_data`: arrays", "`(x, y)`")
def validation_pair(cell):
    x, y = data(48)
    net = adam_mlp()
    history = cell.fit(net, x, y, validation_data=(x[:20], y[:20]))
    same_validation(history, net, x[:20], y[:20])


@works("`validation_data`: arrays with weights", "`(x, y, sample_weight)`")
def validation_triple(cell):
    x, y = data(48)
    w = np.linspace(0, 3, 20).astype("float32")
    net = adam_mlp(weighted_metrics=["accuracy"])
    history = cell.fit(net, x, y, validation_data=(x[:20], y[:20], w))
    same_validation(history, net, x[:20], y[:20], sample_weight=w)


@works("`validation_data`: a `PyDataset`")
def validation_py_dataset(cell):
    from features.data import Batches

    x, y = data(48)
    net = adam_mlp()
    history = cell.fit(net, x, y, validation_data=Batches(x[:20], y[:20], 5))
    same_validation(history, net, x[:20], y[:20])


@works("`validation_data`: a generator, with `validation_steps`", "nothing is read ahead of it")
def validation_generator(cell):
    x, y = data(48)
    net = adam_mlp()
    given = []

    def endless():
        while True:
            for i in range(0, 40, 10):
                given.append(i)
                yield x[i : i + 10], y[i : i + 10]

    history = cell.fit(net, x, y, validation_data=endless(), validation_steps=2)
    # two epochs of two batches: rows 0-20, then 20-40
    same_validation(history, net, x[20:40], y[20:40])
    assert given == [0, 10, 20, 30]


@works("`validation_data`: a `DataLoader`")
def validation_loader(cell):
    import torch

    x, y = data(48)
    net = adam_mlp()
    rows = torch.utils.data.TensorDataset(torch.tensor(x[:20]), torch.tensor(y[:20]))
    history = cell.fit(net, x, y, validation_data=torch.utils.data.DataLoader(rows, 10))
    same_validation(history, net, x[:20], y[:20])


@works("`validation_data`: a `tf.data.Dataset`", "also one of single examples")
def validation_tf(cell):
    import tensorflow as tf

    x, y = data(48)
    net = adam_mlp()
    rows = tf.data.Dataset.from_tensor_slices((x[:20], y[:20]))
    rows = rows.batch(10) if cell.training in ("importance", "constant-time") else rows
    history = cell.fit(net, x, y, validation_data=rows)
    same_validation(history, net, x[:20], y[:20])


@works("`validation_data`: any other loader", "a Grain data set, or what yields batches")
def validation_iterable(cell):
    import grain

    x, y = data(48)
    net = adam_mlp()

    class Loader:
        def __iter__(self):
            return iter([(x[:12], y[:12]), (x[12:20], y[12:20])])

    history = cell.fit(net, x, y, validation_data=Loader(), validation_steps=2)
    same_validation(history, net, x[:20], y[:20])
    rows = grain.MapDataset.source(list(zip(x[:20], y[:20], strict=True))).batch(10)
    history = cell.fit(net, x, y, validation_data=rows)
    same_validation(history, net, x[:20], y[:20])


@works("`validation_steps`", "batches of a stream per validation")
def validation_steps(cell):
    from features.data import Batches

    x, y = data(48)
    net = adam_mlp()
    history = cell.fit(net, x, y, validation_data=Batches(x, y, 8), validation_steps=2)
    same_validation(history, net, x[:16], y[:16])


@works("`validation_batch_size`")
def validation_batch_size(cell):
    x, y = data(48)
    net = adam_mlp()
    seen = []
    callback = keras.callbacks.LambdaCallback()
    callback.on_test_batch_end = lambda batch, logs=None: seen.append(batch)
    cell.fit(
        net, x, y, validation_data=(x[:20], y[:20]), validation_batch_size=7, callbacks=[callback]
    )
    assert seen == [0, 1, 2] * 2


@works("`validation_freq`", "an integer or a list of epochs")
def validation_freq(cell):
    x, y = data(48)
    for freq, count in ((2, 1), ([1, 3], 2)):
        history = cell.fit(adam_mlp(), x, y, epochs=3, validation_data=(x, y), validation_freq=freq)
        assert len(history["val_loss"]) == count


@works(
    "`device_data=True`",
    "the arrays lie on the device, where rows are gathered; same results",
    kind="held",
)
def device_data(cell):
    x, y = data(64)
    cell.fit_alike(adam_mlp, ((x, y), {"device_data": True}), ((x, y), {"device_data": False}))


@works("`sample_weight`: one per example", "multiplied with the importance weights; in the scores")
def sample_weight(cell):
    x, y = data(64)
    w = np.where(y < 2, 1.0, 0.0).astype("float32")
    net = adam_mlp()
    drawn = []

    def on_sample(sampler, idxs, weights, scores):
        # weights of zero are scores of zero: never drawn by score
        if len(np.unique(scores)) > 1:
            drawn.extend(w[idxs])

    cell.fit(net, x, y, sample_weight=w, on_sample=on_sample, epochs=3)
    assert all(drawn) or cell.training in NEVER_ZERO
    assert cell.wrap(net).model.score(x, y, sample_weight=w)[w == 0].max() == 0


@works("`sample_weight`: one per time step", "2-D, for sequences")
def temporal_weight(cell):
    from test_scores import sequence_model, sequences

    x, y, _ = sequences(48)
    w = np.ones(y.shape, "float32")
    w[:, 0] = 0
    net = sequence_model()
    cell.fit(net, x, y, sample_weight=w)
    if cell.main:
        # a time step without weight counts in no score
        other = y.copy()
        other[:, 0] = y[::-1, 0]
        assert (other != y).any()
        scores = [oracle(net, "loss").score(x, t, sample_weight=w) for t in (y, other)]
        np.testing.assert_allclose(*scores, rtol=1e-5)


@works("`sample_weight`: one array per output", kind="targets")
def weights_per_output(cell):
    from features.compiling import two_headed

    x, y = data(48)
    net = two_headed(as_dict=False)
    net.compile("sgd", ["sparse_categorical_crossentropy", "mse"])
    frozen = net.get_layer("b").get_weights()[0]
    w = [np.ones(48, "float32"), np.zeros(48, "float32")]
    cell.fit(net, x, [y, x[:, :1]], sample_weight=w)
    # no weight on the second output: nothing moved its layer
    np.testing.assert_array_equal(frozen, net.get_layer("b").get_weights()[0])


@works("`class_weight`")
def class_weight(cell):
    x, y = data(64)
    net = adam_mlp()
    drawn = []

    def on_sample(sampler, idxs, weights, scores):
        if len(np.unique(scores)) > 1:
            drawn.extend(y[idxs])

    cell.fit(net, x, y, class_weight={0: 0.0, 1: 2.0}, on_sample=on_sample)
    assert 0 not in drawn or cell.training in NEVER_ZERO


@refused("`class_weight` with `sample_weight`", "not both", "as in Keras: multiply them into one")
def both_weights(cell):
    x, y = data(48)
    cell.fit(adam_mlp(), x, y, class_weight={0: 1.0}, sample_weight=np.ones(48))


@works("`initial_epoch`")
def initial_epoch(cell):
    x, y = data(48)
    epochs = []
    callback = keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, logs: epochs.append(e))
    cell.fit(adam_mlp(), x, y, initial_epoch=3, epochs=5, callbacks=[callback])
    assert epochs == [3, 4]


@works("`steps_per_epoch`", "more steps than a pass has go on into the next pass")
def steps_per_epoch(cell):
    x, y = data(48)
    batches = []
    cell.fit(
        adam_mlp(),
        x,
        y,
        steps_per_epoch=5,
        on_sample=lambda *a: batches.append(len(a[1])),
        epochs=2,
    )
    assert len(batches) == 10


@works("`shuffle=False`", "uniform draws keep the order of the data")
def no_shuffle(cell):
    x, y = data(64)
    first = []

    def on_sample(sampler, idxs, w, scores):
        first.append((np.array(idxs), scores))

    cell.fit(adam_mlp(), x, y, shuffle=False, on_sample=on_sample)
    idxs, scores = first[0]
    if len(np.unique(scores)) == 1:
        np.testing.assert_array_equal(idxs, np.arange(16))
    elif cell.training != "auto":
        # from the first pool
        assert idxs.max() < 48


@works('`verbose`: "auto", 0, 1, 2')
def verbose(cell):
    import contextlib
    import io

    x, y = data(48)
    shown = {}
    for level in (0, 2) if cell.training != "importance" else ("auto", 0, 1, 2):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            cell.fit(adam_mlp(), x, y, verbose=level)
        shown[level] = out.getvalue()
    assert shown[0] == "" and "loss" in shown[2]
    if "auto" in shown:
        assert "loss" in shown[1] and "loss" in shown["auto"]


@works("`callbacks`: a `CallbackList`")
def as_callback_list(cell):
    x, y = data(48)
    net = adam_mlp()
    epochs = []
    one = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: epochs.append(logs["score"]))
    ready = keras.callbacks.CallbackList([one], add_history=True, model=net, epochs=2, steps=3)
    cell.fit(net, x, y, callbacks=ready)
    assert len(epochs) == 2


@works("Targets of any class count", "one-hot, with `categorical_crossentropy`")
def one_hot_targets(cell):
    x, y = data(48)

    def one_hot():
        return mlp(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])

    def integers():
        return mlp(optimizer="adam", metrics=["accuracy"])

    targets = np.eye(CLASSES, dtype="float32")[y]
    cell.fit_alike(one_hot, ((x, targets), {}), ((x, y), {}, integers))


@works("No targets", "`y=None` for models with a `compute_loss` of their own", kind="targets")
def no_targets(cell):
    class Reconstruct(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = keras.ops.mean(keras.ops.square(y_pred - x), axis=-1)
            if sample_weight is not None:
                loss = loss * keras.ops.reshape(sample_weight, (-1,))
            return keras.ops.mean(loss)

    x, _ = data(64)
    net = Reconstruct([keras.Input((6,)), keras.layers.Dense(6)])
    net.compile(keras.optimizers.Adam(0.05))
    history = cell.fit(net, x, batch_size=16, epochs=8)
    assert history["loss"][-1] < history["loss"][0]
