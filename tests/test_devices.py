"""Two devices give the weights that one gives, and share the rows."""

import os
import sys
import textwrap

import keras
import pytest
from processes import run, script_of
from spread import QUICK_XLA, full

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="several devices are supported on JAX"
)

PROGRAM = """
    import jax
    import keras
    import numpy as np
    from keras import distribution, layers
    from spread import full

    from importance_sampling import model_wrappers, reweighting
    from importance_sampling import training as trainings

    rng = np.random.default_rng(0)
    # The last batch of a pass cannot be shared evenly.
    x, y = rng.normal(size=(101, 8)).astype("float32"), rng.integers(0, 4, 101)
    kept = rng.random(101).astype("float32")


    def network():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8,))
        hidden = layers.BatchNormalization()(layers.Dense(16, activation="relu")(inputs))
        net = keras.Model(
            inputs,
            {
                "label": layers.Dense(4, activation="softmax", name="label")(hidden),
                "value": layers.Dense(2, name="value")(hidden),
            },
        )
        losses = {"label": "sparse_categorical_crossentropy", "value": "mse"}
        net.compile("adam", losses, metrics={"label": ["accuracy"]})
        return net


    WAYS = {
        "gnorm": lambda net: trainings.ImportanceTraining(net, presample=3.0, tau_th=0.0, seed=1),
        "loss": lambda net: trainings.ImportanceTraining(
            net, presample=3.0, tau_th=0.0, score="loss", seed=1
        ),
        "full_gnorm": lambda net: trainings.ImportanceTraining(
            net, presample=3.0, tau_th=0.0, score="full_gnorm", seed=1
        ),
        "biased": lambda net: trainings.BiasedImportanceTraining(net, seed=1),
        "history": lambda net: trainings.HistoryImportanceTraining(net, seed=1),
        "variance": lambda net: trainings.HistoryImportanceTraining(
            net, constant="variance", min_batch_size=4, seed=1
        ),
        "infobatch": lambda net: trainings.InfoBatchTraining(net, seed=1),
        "selective": lambda net: trainings.SelectiveBackpropTraining(net, seed=1),
        "uniform": lambda net: trainings.ImportanceTraining(net, tau_th=1e9, seed=1),
        "layer": lambda net: trainings.ImportanceTraining(
            net, presample=3.0, tau_th=0.0, layer=1, seed=1
        ),
        "reuse": lambda net: trainings.ImportanceTraining(
            net, presample=3.0, tau_th=0.0, reuse=2, seed=1
        ),
        "robust": lambda net: trainings.RobustImportanceTraining(net, seed=1),
        "constant variance": lambda net: trainings.ConstantVarianceImportanceTraining(net, seed=1),
        "constant time": lambda net: trainings.ConstantTimeImportanceTraining(net, seed=1),
        "svrg": lambda net: trainings.SVRG(net, B=0, seed=1),
        "scsg": lambda net: trainings.SVRG(net, B=2, B_rate=1.5, B_over_b=3, seed=1),
    }


    def trained(way):
        net = network()
        drawn = []
        history = WAYS[way](net).fit(
            x,
            {"label": y, "value": x[:, :2]},
            batch_size=16,
            epochs=2,
            verbose=0,
            sample_weight={"label": kept, "value": kept},
            validation_data=(x, {"label": y, "value": x[:, :2]}) if way == "history" else None,
            on_sample=lambda sampler, idxs, w, scores: drawn.append(idxs),
        )
        return net, history.history, drawn


    ways = WAYS if full() else ("full_gnorm", "history")
    # By rows one that scores pools and one that keeps scores, by weights the one with most to do.
    one = {way: trained(way) for way in ways}
    devices = distribution.list_devices()
    assert len(devices) == 2
    mesh = distribution.DeviceMesh((1, 2), ["batch", "model"], devices)
    layout = distribution.LayoutMap(mesh)
    layout[".*dense.*kernel"] = (None, "model")
    split = {
        "rows": distribution.DataParallel(devices=devices),
        "weights": distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"),
    }
    for name, chosen in split.items():
        distribution.set_distribution(chosen)
        for way, (net, logs, drawn) in one.items():
            if name == "weights" and way == "history" and not full():
                continue
            other, other_logs, other_drawn = trained(way)
            for a, b in zip(drawn, other_drawn, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{name} {way}")
            for a, b in zip(net.variables, other.variables, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=f"{name} {way}")
            # Ranks of losses, of which the logged loss is made there, may be swapped by rounding.
            rtol = 1e-3 if way == "selective" else 1e-5
            for value in {"loss", "val_loss"} & set(logs):
                np.testing.assert_allclose(
                    logs[value], other_logs[value], rtol=rtol, err_msg=f"{name} {way}"
                )
            # As they were laid out, after every step.
            kernel = other.trainable_variables[0].value
            assert kernel.sharding.spec[-1] == (None if name == "rows" else "model")
            assert len(kernel.devices()) == 2

    distribution.set_distribution(split["rows"])
    wrapper = model_wrappers.OracleWrapper(network(), reweighting.UNBIASED)
    wrapper.build(x[:4], {"label": y[:4], "value": x[:4, :2]})
    rows = wrapper.compiled.runtime.to_device(x[:16])
    assert [shard.data.shape for shard in rows.addressable_shards] == 2 * [(8, 8)]
"""


def test_two_devices_do_as_one():
    flags = f"--xla_force_host_platform_device_count=2 {QUICK_XLA}"
    path = os.pathsep.join(filter(None, sys.path))
    done = run("-c", textwrap.dedent(PROGRAM), XLA_FLAGS=flags, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(not full(), reason="the same with a small network: every night")
def test_script_of_the_docs():
    script = script_of("scaling.md", "JAX: `keras.distribution`")
    path = os.pathsep.join(filter(None, sys.path))
    flags = "--xla_force_host_platform_device_count=2"
    done = run("-c", script, XLA_FLAGS=flags, PYTHONPATH=path)
    assert done.returncode == 0 and "Epoch 10/10" in done.stdout, done.stderr[-3000:]
