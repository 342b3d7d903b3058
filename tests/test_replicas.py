"""Two replicas of `tf.distribute` give the weights that one device gives."""

import os
import subprocess
import sys
import textwrap

import keras
import pytest
from processes import run, script_of
from spread import full

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="replicas of tf.distribute"
)

PROGRAM = """
    import contextlib
    import itertools
    import tempfile

    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], 2 * [tf.config.LogicalDeviceConfiguration()]
    )

    import keras
    import numpy as np
    from keras import layers
    from spread import full

    from importance_sampling import model_wrappers, reweighting
    from importance_sampling import training as trainings
    from importance_sampling.proposal import Proposal

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    rng = np.random.default_rng(0)
    # The last batch of a pass has fewer rows than there are replicas.
    x, y = rng.normal(size=(33, 8)).astype("float32"), rng.integers(0, 4, 33)
    kept = rng.random(33).astype("float32")
    steps = rng.integers(1, 7, (33, 5))
    steps[np.arange(5) >= rng.integers(1, 6, 33)[:, None]] = 0


    def two_outputs():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8,))
        hidden = layers.Dense(8, activation="relu", kernel_regularizer="l2")(inputs)
        hidden = layers.BatchNormalization(synchronized=True)(hidden)
        net = keras.Model(
            inputs,
            {
                "label": layers.Dense(4, activation="softmax", name="label")(hidden),
                "value": layers.Dense(2, name="value")(hidden),
            },
        )
        losses = {"label": "sparse_categorical_crossentropy", "value": "mse"}
        metrics = {"label": ["accuracy"], "value": []}
        weighted = {"label": [], "value": ["mae"]}
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        net.compile(optimizer, losses, metrics=metrics, weighted_metrics=weighted)
        rows = (x, {"label": y, "value": x[:, :2]}, {"label": kept, "value": kept})
        return net, rows


    def plain(reduction="sum_over_batch_size"):
        keras.utils.set_random_seed(0)
        stack = [keras.Input((8,)), layers.Dense(6, activation="tanh"), layers.Dense(4)]
        net = keras.Sequential(stack)
        loss = keras.losses.SparseCategoricalCrossentropy(True, reduction=reduction)
        net.compile(keras.optimizers.SGD(0.02), loss, metrics=["accuracy"])
        return net, (x, y, None)


    def masked():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5,), dtype="int32")
        hidden = layers.Embedding(7, 4, mask_zero=True)(inputs)
        net = keras.Model(inputs, layers.Dense(3, activation="softmax")(hidden))
        net.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return net, (steps, steps % 3, None)


    class OwnStep(keras.Model):
        def train_step(self, data):
            x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = self.compute_loss(x, y, predicted, weight)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return self.compute_metrics(x, y, predicted, weight)


    def own_step():
        net, rows = plain()
        net = OwnStep(net.inputs[0], net.outputs[0])
        net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return net, rows


    def scaled():
        net, rows = plain()
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.02))
        net.compile(optimizer, net.loss)
        return net, rows


    def eager():
        net, rows = plain()
        net.compile("sgd", net.loss, run_eagerly=True)
        return net, rows


    def pool(**options):
        return lambda net: trainings.ImportanceTraining(
            net, **({"presample": 2.0, "tau_th": 0.0, "seed": 1} | options)
        )


    def of(kind, **options):
        return lambda net: getattr(trainings, kind)(net, **options, seed=1)


    history = of("HistoryImportanceTraining")
    sized = {"constant": "variance", "min_batch_size": 3}
    WAYS = {
        "gnorm": (two_outputs, pool()),
        "biased": (plain, of("BiasedImportanceTraining", presample=16)),
        "loss": (two_outputs, pool(score="loss")),
        "acc": (plain, pool(score="acc")),
        "full_gnorm": (plain, pool(score="full_gnorm")),
        "layer": (plain, pool(layer=0)),
        "uniform": (two_outputs, pool(tau_th=1e9)),
        "history": (two_outputs, history),
        "variance": (plain, of("HistoryImportanceTraining", **sized)),
        "robust": (plain, of("RobustImportanceTraining")),
        "reuse": (plain, pool(presample=4.0, reuse=2)),
        "approximate": (plain, of("ApproximateImportanceTraining", presample=16)),
        "constant variance": (plain, of("ConstantVarianceImportanceTraining")),
        "constant time": (plain, of("ConstantTimeImportanceTraining")),
        "infobatch": (plain, of("InfoBatchTraining")),
        "selective": (plain, of("SelectiveBackpropTraining")),
        "svrg": (plain, of("SVRG", B=0)),
        "scsg": (plain, of("SVRG", B=2, B_rate=1.5, B_over_b=3)),
        "summed": (lambda: plain("sum"), pool()),
        "summed, biased": (lambda: plain("sum"), of("BiasedImportanceTraining", presample=16)),
        "masked": (masked, pool()),
        "masked, uniform": (masked, pool(tau_th=1e9)),
        "masked, biased": (masked, of("BiasedImportanceTraining", presample=16)),
        "masked, full_gnorm": (masked, pool(score="full_gnorm")),
        "step": (own_step, pool()),
        "step, biased": (own_step, of("BiasedImportanceTraining", presample=16)),
        "loss scaled": (scaled, pool()),
        "eager": (eager, pool()),
    }


    def fit(training, rows, epochs=2, **options):
        drawn = []
        logs = training.fit(
            *rows[:2],
            batch_size=8,
            epochs=epochs,
            verbose=0,
            sample_weight=rows[2],
            on_sample=lambda sampler, idxs, w, scores: drawn.append(idxs),
            **options,
        ).history
        return drawn, logs


    def check_equal(name, net, drawn, logs, other, other_drawn, other_logs):
        for a, b in zip(drawn, other_drawn, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
        for a, b in zip(net.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)
        assert logs.keys() == other_logs.keys()
        for key in logs:
            np.testing.assert_allclose(
                logs[key], other_logs[key], rtol=1e-4, atol=1e-6, err_msg=f"{name} {key}"
            )


    def check_way(name):
        make, way = WAYS[name]
        net, rows = make()
        # Its first batch has 7 rows, which two devices cannot share evenly.
        validation = (x[:7], y[:7]) if name == "biased" else None
        one = (net, *fit(way(net), rows, validation_data=validation))
        with strategy.scope():
            net, rows = make()
        check_equal(name, *one, net, *fit(way(net), rows, validation_data=validation))
        kernel = net.trainable_variables[0].value
        assert [copy.device[-5:] for copy in kernel.values] == ["CPU:0", "CPU:1"]


    def check_resumed():
        # An epoch on two devices, the next on one.
        net, rows = plain()
        one = (net, *fit(history(net), rows))
        with strategy.scope():
            net, _ = plain()
        training = history(net)
        drawn, logs = fit(training, rows, epochs=1)
        with tempfile.TemporaryDirectory() as folder:
            training.save_state(f"{folder}/state.npz")
            net, _ = plain()
            training = history(net)
            training.load_state(f"{folder}/state.npz")
            later, later_logs = fit(training, rows)
        logs = {key: [*logs[key], *later_logs[key]] for key in logs}
        check_equal("resumed", *one, net, drawn + later, logs)


    def check_unbiased():
        # All 8 batches of 3 of 2 examples: the mean of the steps is that of the whole set, though
        # one replica works on one row and the other on two.
        with strategy.scope():
            net, _ = plain()
        wrapper = model_wrappers.OracleWrapper(net, reweighting.UNBIASED, score="gnorm")
        start, p = net.get_weights(), np.array([0.2, 0.8])

        def step(idxs, weights):
            net.set_weights(start)
            idxs = np.array(idxs)
            wrapper.train(Proposal(idxs, (x[idxs], y[idxs]), weights[:, None], p[idxs]))
            return [after - before for after, before in zip(net.get_weights(), start, strict=True)]

        mean = [np.zeros_like(w, "float64") for w in start]
        for idxs in itertools.product(range(2), repeat=3):
            found = step(idxs, 0.5 / p[list(idxs)])
            for total, part in zip(mean, found, strict=True):
                total += p[list(idxs)].prod() * part
        for a, b in zip(mean, step([0, 1], np.ones(2)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)
        # Each replica holds the rows that it works on, in order.
        scores = wrapper.score(x[:7], y[:7], batch_size=7)
        alone = [wrapper.score(x[i : i + 1], y[i : i + 1])[0] for i in range(7)]
        np.testing.assert_allclose(scores, alone, rtol=1e-5)


    def check_by_hand():
        # Inside the scope, too, where Keras divides losses.
        rows, found = (x[:7], y[:7]), []
        for scope in (contextlib.nullcontext(), strategy.scope()):
            with scope:
                net, _ = plain()
                wrapper = model_wrappers.OracleWrapper(net, reweighting.UNBIASED, score="gnorm")
                said = wrapper.train_batch(*rows, np.ones(7)), wrapper.evaluate_batch(*rows)
                gradient = wrapper.gradient(*rows, np.arange(7.0))
                found.append([*said[0], said[1], *gradient, *net.get_weights()])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


    def check_equal_to_keras():
        # While nothing is drawn by score; of batches that can be shared evenly.
        nets = []
        for _ in range(2):
            with strategy.scope():
                nets.append(two_outputs()[0])
        data = {"x": x[:32], "y": {"label": y[:32], "value": x[:32, :2]}}
        options = {**data, "batch_size": 8, "epochs": 2, "verbose": 0, "shuffle": False}
        options["validation_data"] = (data["x"][:9], {k: v[:9] for k, v in data["y"].items()})
        theirs = nets[0].fit(**options).history
        ours = pool(tau_th=1e9)(nets[1]).fit(**options).history
        for a, b in zip(*[net.get_weights() for net in nets], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        for key, values in theirs.items():
            np.testing.assert_allclose(values, ours[key], rtol=1e-5, err_msg=key)


    def refused(kind, text, function):
        try:
            function()
        except kind as error:
            assert text in str(error), error
        else:
            raise AssertionError(f"not refused: {text}")


    def check_refusals():
        class Workers(tf.distribute.MultiWorkerMirroredStrategy):
            num_replicas_in_sync = 2

            def __init__(self):
                pass

        with strategy.scope():
            net, _ = plain()
            net.compile("sgd", net.loss, jit_compile=True)
        refused(ValueError, "jit_compile", lambda: pool()(net).fit(x, y, verbose=0))
        with strategy.scope():
            net.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), net.loss)
        refused(ValueError, "larger batch", lambda: pool()(net).fit(x, y, verbose=0))
        net.compile("sgd", net.loss)
        refused(ValueError, "Build and compile", lambda: pool()(net).fit(x, y, verbose=0))
        net._distribute_strategy = Workers()
        refused(ValueError, "cannot train", lambda: pool()(net).fit(x, y, verbose=0))
        with strategy.scope():
            net = keras.Sequential([keras.Input((8,), batch_size=8), layers.Dense(4)])
            net.compile("sgd", "mse")
        refused(ValueError, "fixed number", lambda: pool()(net).fit(x, x[:, :4], verbose=0))
        with strategy.scope():
            net, _ = plain()
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        data = strategy.experimental_distribute_dataset(data)
        refused(TypeError, "split among", lambda: pool()(net).fit(data, verbose=0))
        values = next(iter(data))[0]
        refused(TypeError, "split among", lambda: pool()(net).fit(values, y, verbose=0))


    def check_own_loss():
        class OwnLoss(keras.Model):
            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
                losses = keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
                return keras.ops.mean(losses * (1.0 if sample_weight is None else sample_weight))

        with strategy.scope():
            net, _ = plain()
            net = OwnLoss(net.inputs[0], net.outputs[0])
            net.compile("sgd")
        refused(ValueError, "2 times the loss", lambda: pool()(net).fit(x, y, verbose=0))


    for way in WAYS if full() else ("gnorm", "biased"):
        check_way(way)
    check_resumed()
    check_unbiased()
    check_refusals()
    if full():
        check_by_hand()
        check_equal_to_keras()
        check_own_loss()
"""


def test_two_replicas_do_as_one_device():
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(not full(), reason="the same with a small network: every night")
def test_script_of_the_docs():
    heading = "TensorFlow: `MirroredStrategy`"
    script, two_devices = (script_of("scaling.md", heading, number) for number in (0, 1))
    imports, rest = script.split("strategy = tf.distribute.MirroredStrategy()\n")
    path = os.pathsep.join(filter(None, sys.path))
    options = {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"}
    done = run("-c", imports + two_devices + rest, **options)
    assert done.returncode == 0 and "Epoch 10/10" in done.stdout, done.stderr[-3000:]
