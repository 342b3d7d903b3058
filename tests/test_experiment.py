"""From names and hyper-parameters to the parts of an experiment; its files."""

import keras
import numpy as np
import pytest
from helpers import data, mlp, one_hot
from spread import full

from importance_sampling.datasets import InMemoryDataset
from importance_sampling.experiment import registry
from importance_sampling.experiment.build import build_model, build_optimizer
from importance_sampling.experiment.hyperparams import learning_rate, parse
from importance_sampling.experiment.logs import ALWAYS, COLUMNS, Logs, check_sizes, read_rows
from importance_sampling.state_files import load_state, save_state
from importance_sampling.training.loop import Loop

exact = pytest.mark.exact


# -- hyper-parameters ------------------------------------------------------------------------------


@exact
def test_typed_values():
    text = "batch_size=i128;lr=f0.003;lr_reductions=I10000!20000;k=f0.5;opt=ssgd;data=s/a=b;"
    assert parse(text) == {
        "batch_size": 128,
        "lr": 0.003,
        "lr_reductions": [10000, 20000],
        "k": 0.5,
        "opt": "sgd",
        "data": "/a=b",
    }
    assert parse("") == {} and parse("lr_changes=I1!2;lr_targets=F0.1!0.2")["lr_targets"] == [
        0.1,
        0.2,
    ]
    # an integer may stand where a number is wanted
    assert parse("lr=i1") == {"lr": 1}


@exact
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize=i1", "no hyper-parameter 'batchsize'. Did you mean 'batch_size'"),
        ("lr", "the part 'lr'; expected key=TVALUE"),
        ("lr=0.1", "'lr' has the value '0.1'; .* Try lr=f0.1"),
        ("lr=fabc", "'lr' has the value 'fabc', but 'f' stands for numbers"),
        ("seed=i1.5", "'seed' has the value 'i1.5', but 'i' stands for integers"),
        ("seed=f1.5", "'seed' is of type 'i', got 'f1.5'"),
        ("seed=I1", "'seed' is a single value, got 'I1'"),
        ("lr_reductions=i1", "'lr_reductions' is a list, got 'i1'"),
        ("lr=f1;lr=f2", "'lr' is given twice"),
        ("lr_changes=I1", "`lr_changes` has 1 steps and `lr_targets` 0"),
        ("lr_reductions=I2!1", "`lr_reductions` must be in ascending order"),
        ("batch_size=i0", "`batch_size` must be at least 1"),
    ],
)
def test_malformed_hyperparameters(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@exact
def test_learning_rate():
    hp = parse("lr=f0.1;lr_reductions=I10!20")
    rates = [learning_rate(hp, step) for step in (0, 9, 10, 19, 20, 99)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    hp = parse("lr=f0.1;lr_changes=I5!10;lr_targets=F0.5!0.2")
    assert [learning_rate(hp, s) for s in (0, 5, 9, 10)] == [0.1, 0.5, 0.5, 0.2]
    assert learning_rate({}, 0) == 1e-3


@exact
def test_optimizers():
    sgd = build_optimizer(parse("opt=ssgd;lr=f0.5;momentum=f0.9;nesterov=i1;clipnorm=f2.0"))
    assert isinstance(sgd, keras.optimizers.SGD)
    assert sgd.momentum == 0.9 and sgd.nesterov and sgd.clipnorm == 2.0
    assert float(sgd.learning_rate) == 0.5
    assert isinstance(build_optimizer({}), keras.optimizers.Adam)
    rmsprop = build_optimizer(parse("opt=srmsprop;lr=f0.5;lr_decay=f1.0"))
    # Keras 2's decay: the rate divided by 1 + decay * iterations
    assert isinstance(rmsprop, keras.optimizers.RMSprop)
    schedule = rmsprop.get_config()["learning_rate"]["config"]
    assert schedule["decay_rate"] == 1.0 and schedule["decay_steps"] == 1
    with pytest.raises(ValueError, match=r"no optimizer 'adm'\. Did you mean 'adam'"):
        build_optimizer({"opt": "adm"})


@exact
def test_models_keep_their_loss_under_another_optimizer():
    dataset = points()
    model = build_model("small_nn", dataset, parse("opt=ssgd;lr=f0.5"))
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    x, y = dataset.train_data[:]
    assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {"loss", "accuracy"}
    with pytest.raises(ValueError, match="'small_cnn' does not fit the data: inputs of shape"):
        build_model("small_cnn", dataset, {})
    with pytest.raises(ValueError, match="'weights' is for pretrained networks"):
        build_model("small_nn", dataset, {"weights": "none"})


def points(n=96):
    x, y = data(n)
    return InMemoryDataset(x, one_hot(y).astype("float32"), x[:16], one_hot(y[:16]), False)


# -- every combination -----------------------------------------------------------------------------


WRAPPERS = ("oracle-loss", "oracle-gnorm", "oracle-acc")
POLICIES = tuple(registry.REWEIGHTINGS)


def names(wrapper, policy):
    """The samplers to try together with a wrapper and a reweighting."""
    # scsg wants a wrapper that takes snapshots.
    every = [name for name in registry.SAMPLER_NAMES if name != "scsg"]
    first = WRAPPERS.index(wrapper) + POLICIES.index(policy)
    return every if full() else every[first % 3 :: 3]


@exact
@pytest.mark.any_backend
def test_samplers_wrappers_and_reweightings_meet_in_pairs():
    assert "scsg" in registry.SAMPLER_NAMES
    samplers = set(registry.SAMPLER_NAMES) - {"scsg"}
    for wrapper in WRAPPERS:
        assert {name for policy in POLICIES for name in names(wrapper, policy)} == samplers
    for policy in POLICIES:
        assert {name for wrapper in WRAPPERS for name in names(wrapper, policy)} == samplers


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.any_backend
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_combination_trains(one_predictor, wrapper, policy):
    """Each sampler under each wrapper and each reweighting takes a few steps on the same network.

    Under each pair of a wrapper and a reweighting a third of them, so that all three meet in
    pairs; under all of them with CI_FULL=1.
    """
    dataset = points()
    hp = parse(
        "presample=i32;k=f0.5;warmup=i1;exp_th=f0.0;tv_th=f0.0;vr_th=f1.0;lstm_comparison=i8"
    )
    reweighting = registry.REWEIGHTINGS[policy].make(hp)
    model = mlp(loss="categorical_crossentropy", metrics=["accuracy"])
    wrapped = registry.WRAPPERS[wrapper].make(hp, model, reweighting)
    wrapped.build(*dataset.train_data[np.arange(2)])
    start = model.get_weights()
    for name in names(wrapper, policy):
        model.set_weights(start)
        sampler = registry.build_sampler(
            name, dataset, reweighting, wrapped, hp, rng=np.random.default_rng(0)
        )
        drawn = []
        # The first pass of these is uniform: twelve steps.
        steps = 15 if name in ("mixture", "robust") else 3
        loop = Loop(
            wrapped,
            sampler,
            model,
            batch_size=8,
            on_sample=lambda sampler, idxs, w, scores, d=drawn: d.append((idxs, w)),
            wait=True,
        )
        history = loop.run(
            epochs=1, steps_per_epoch=steps, callbacks=None, verbose=0, validation=None
        ).history
        assert len(drawn) == steps, name
        for idxs, w in drawn:
            assert idxs.shape == (8,) and idxs.min() >= 0 and idxs.max() < 96, name
            assert w.shape == (8, reweighting.weight_size) and np.isfinite(w).all(), name
        after = model.get_weights()
        assert all(np.isfinite(v).all() for v in after), name
        assert any((a != b).any() for a, b in zip(start, after, strict=True)), name
        importance = history["importance_sampling"][-1]
        if name == "uniform":
            assert importance == 0, name
        elif name.startswith(("warmup-", "exp-", "tv-", "vr-")):
            # the first step of a condition is uniform; the last ones are by score
            assert 0 < importance < 1 or (wrapper == "oracle-acc" and importance >= 0), name
        else:
            assert importance > 0, name


# -- files -----------------------------------------------------------------------------------------


@exact
def test_states_are_files_without_pickle(tmp_path):
    state = {
        "numbers": [1, 2.5, True, None, np.float64(0.1), np.int64(3)],
        "big": 2**127 + 1,
        "text": "a",
        "arrays": {"x": np.arange(6.0).reshape(2, 3), "pair": (np.array(3), np.array([], int))},
    }
    path = tmp_path / "state.npz"
    save_state(path, state)
    again = load_state(path)
    assert again["numbers"] == [1, 2.5, True, None, 0.1, 3]
    assert again["big"] == 2**127 + 1 and again["text"] == "a"
    np.testing.assert_array_equal(again["arrays"]["x"], state["arrays"]["x"])
    assert again["arrays"]["pair"][1].dtype == int
    with pytest.raises(TypeError, match="cannot hold a set"):
        save_state(path, {"a": {1}})
    assert load_state(path)["text"] == "a"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(OSError, match=r"state\.npz cannot be read as a \.npz file"):
        load_state(path)
    assert list(tmp_path.iterdir()) == [path]


@exact
def test_text_files_go_on_where_they_were(tmp_path):
    logs = Logs(tmp_path)
    logs.write("train.txt", [(0.123456789, np.float32(0.5)), (1.0, 0)])
    logs.write("clock.txt", [("0.5",)])
    sizes = logs.sizes()
    logs.write("train.txt", [(2.0, 2.0)])
    logs.write("val_scores.txt", [(2.0,)])
    logs.close()
    assert (tmp_path / "train.txt").read_text() == "Crossent Accuracy\n0.12345679 0.5\n1 0\n2 2\n"
    logs = Logs(tmp_path, sizes)
    logs.write("train.txt", [(3.0, 3.0)])
    logs.close()
    np.testing.assert_allclose(
        read_rows(tmp_path / "train.txt", 2), [[0.12345679, 0.5], [1, 0], [3, 3]]
    )
    # Files into which nothing was written are not there, nor those that were begun later.
    assert set(ALWAYS) == {p.name for p in tmp_path.iterdir()} < set(COLUMNS)
    # an unfinished line is left out, a broken one is named
    with (tmp_path / "train.txt").open("a") as file:
        file.write("0.5 0.")
    assert len(read_rows(tmp_path / "train.txt", 2)) == 3
    with (tmp_path / "train.txt").open("a") as file:
        file.write("x\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 5: expected 2 numbers, got '0.5 0.x'"):
        read_rows(tmp_path / "train.txt", 2)
    (tmp_path / "clock.txt").write_text("")
    with pytest.raises(OSError, match=r"clock\.txt has 0 bytes, fewer than the \d+ of the check"):
        check_sizes(tmp_path, sizes)
