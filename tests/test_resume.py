"""A `fit` that was stopped goes on as if it had never been: whatever the step, bit by bit."""

import math
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from helpers import CLASSES, FEATURES, adam_mlp, data
from keras import layers
from processes import environment
from spread import full

from importance_sampling import training as trainings
from importance_sampling.state_files import load_state
from importance_sampling.training import BackupState, HistoryImportanceTraining, ImportanceTraining
from importance_sampling.training.backup import FollowBackup

N, BATCH, EPOCHS = 44, 8, 2

WAYS = {
    "pool": lambda net, seed: ImportanceTraining(net, presample=2.5, tau_th=0.0, seed=seed),
    "condition": lambda net, seed: ImportanceTraining(net, presample=2.5, tau_th=1.1, seed=seed),
    "reuse": lambda net, seed: ImportanceTraining(
        net, presample=4.0, reuse=3, tau_th=0.0, seed=seed
    ),
    "smooth": lambda net, seed: ImportanceTraining(
        net, presample=2.5, tau_th=0.0, k=0.5, smooth=0.5, adaptive_smoothing=True, seed=seed
    ),
    "history": lambda net, seed: HistoryImportanceTraining(net, seed=seed),
    "refresh": lambda net, seed: HistoryImportanceTraining(net, refresh=0.7, seed=seed),
    "variance": lambda net, seed: HistoryImportanceTraining(
        net, constant="variance", min_batch_size=2, seed=seed
    ),
    "robust": lambda net, seed: trainings.RobustImportanceTraining(net, seed=seed),
    "biased": lambda net, seed: trainings.BiasedImportanceTraining(net, seed=seed),
    "lstm": lambda net, seed: trainings.ApproximateImportanceTraining(net, presample=24, seed=seed),
    "constant variance": lambda net, seed: trainings.ConstantVarianceImportanceTraining(
        net, seed=seed
    ),
    "constant time": lambda net, seed: trainings.ConstantTimeImportanceTraining(net, seed=seed),
    "svrg": lambda net, seed: trainings.SVRG(net, B=0, B_over_b=4, seed=seed),
    "scsg": lambda net, seed: trainings.SVRG(net, B=2, B_rate=1.5, B_over_b=3, seed=seed),
    "infobatch": lambda net, seed: trainings.InfoBatchTraining(net, seed=seed),
    "selective": lambda net, seed: trainings.SelectiveBackpropTraining(net, seed=seed),
}
# One of each kind everywhere, the rest where it takes least time.
EVERYWHERE = ("pool", "history")


def network():
    """What changes while it trains: weights, averages, statistics, metrics, random numbers."""
    net = keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(8, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.9)
    net.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return net


def values(net):
    """All that has changed in a network."""
    variables = [*net.variables, *net.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(v.value)) for v in variables]


def equal(some, others):
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


class SaveEverywhere(keras.callbacks.Callback):
    """A state after every step and every epoch."""

    def __init__(self, training, folder):
        super().__init__()
        self.training, self.folder, self.paths = training, folder, []

    def _save(self):
        self.paths.append(self.folder / f"{len(self.paths)}.npz")
        self.training.save_state(self.paths[-1])

    def on_train_batch_end(self, batch, logs=None):
        self._save()

    def on_epoch_end(self, epoch, logs=None):
        self._save()


class StopAt(keras.callbacks.Callback):
    """Ends in an error after some steps."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def halving():
    """Depends on the rate before, so that beginning an epoch twice would show."""
    return keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5 * rate)


def fit(training, x, y=None, **kwargs):
    drawn = []
    arguments = {"batch_size": BATCH, "epochs": EPOCHS, "verbose": 0} | kwargs
    arguments["callbacks"] = [halving(), *arguments.get("callbacks", [])]
    history = training.fit(
        x, y, on_sample=lambda sampler, idxs, w, s: drawn.append(np.array(idxs)), **arguments
    )
    return [history.history[name][-1] for name in ("loss", "accuracy", "score")], drawn


def check_every_step(make, inputs, folder, stride=1, **kwargs):
    """Restores the states of all steps; what follows must be what followed then."""
    keras.utils.set_random_seed(1)
    net = network()
    training = make(net, 3)
    saved = SaveEverywhere(training, folder)
    last, drawn = fit(training, *inputs(), callbacks=[saved], **kwargs)
    after = values(net)
    assert len(saved.paths) == len(drawn) + EPOCHS
    keras.utils.set_random_seed(2)
    # With other weights and another seed, once in a new training and then over and over in it.
    other = network()
    going_on = make(other, 4)
    found_rest = []
    for path in saved.paths[-2::-stride]:
        keras.utils.set_random_seed(5)
        going_on.load_state(path)
        found, rest = fit(going_on, *inputs(), **kwargs)
        assert equal(values(other), after), path
        assert found == last, path
        assert equal(rest, drawn[len(drawn) - len(rest) :]), path
        found_rest.append(len(rest))
    assert found_rest == sorted(found_rest)
    if stride == 1:
        assert sorted(set(found_rest)) == list(range(len(drawn)))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_step_of_a_training_can_be_gone_on_from(way, tmp_path):
    """As Grain tests its iterators: saved after each step, restored, compared."""
    here = keras.backend.backend()
    if way not in EVERYWHERE and not full() and here != "torch":
        pytest.skip("runs on PyTorch")
    # An LSTM takes long to build and to train.
    check_every_step(WAYS[way], lambda: data(N), tmp_path, stride=4 if way == "lstm" else 1)


class Batches(keras.utils.PyDataset):
    """Batches that are shuffled by the training."""

    def __init__(self):
        super().__init__()
        self.x, self.y = data(N)

    def __len__(self):
        return math.ceil(N / BATCH)

    def __getitem__(self, index):
        rows = slice(BATCH * index, BATCH * index + BATCH)
        return self.x[rows], self.y[rows]


class ShufflesItself(Batches):
    """Of few batches, whose order follows from how often passes have begun and ended."""

    def __init__(self):
        super().__init__()
        self.begun = 0

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        order = np.random.default_rng(self.begun).permutation(N)
        self.x, self.y = self.x[order], self.y[order]


def generator():
    x, y = data(N)
    while True:
        for start in range(0, N, 5):
            yield x[start : start + 5], y[start : start + 5]


def tf_data():
    tf = pytest.importorskip("tensorflow")
    # Of which the order follows, too.
    tf.random.set_seed(1)
    return tf.data.Dataset.from_tensor_slices(data(N)).shuffle(N, seed=1).batch(BATCH)


def torch_loader():
    torch = pytest.importorskip("torch")
    rows = torch.utils.data.TensorDataset(*map(torch.from_numpy, data(N)))
    order = torch.Generator().manual_seed(3)
    return torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, generator=order)


def grain_data():
    grain = pytest.importorskip("grain")
    x, y = data(N)
    rows = grain.MapDataset.source([(x[i], y[i]) for i in range(N)])
    return rows.seed(1).shuffle().batch(BATCH)


STREAMS = {
    "py_dataset": Batches,
    "py_dataset that shuffles": ShufflesItself,
    "generator": generator,
    "tf_data": tf_data,
    "torch_loader": torch_loader,
    "grain": grain_data,
}


@pytest.mark.slow
@pytest.mark.any_backend
@pytest.mark.parametrize("way", ["pool", "reuse", "selective"])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_gone_on_with_at_its_place(kind, way, tmp_path):
    steps = {"steps_per_epoch": 6} if kind == "generator" else {}
    check_every_step(WAYS[way], lambda: (STREAMS[kind](),), tmp_path, **steps)


@pytest.mark.two_backends
@pytest.mark.parametrize("save_freq", [2, "epoch"])
@pytest.mark.parametrize("own", [False, True], ids=["BackupAndRestore", "BackupState"])
def test_an_interrupted_fit_goes_on_by_its_callback(own, save_freq, tmp_path):
    def backup():
        if own:
            return BackupState(tmp_path / "state.npz", save_freq=save_freq)
        return keras.callbacks.BackupAndRestore(tmp_path / "keras", save_freq=save_freq)

    x, y = data(N)
    keras.utils.set_random_seed(1)
    whole = network()
    last, _ = fit(HistoryImportanceTraining(whole, seed=3), x, y)
    for step in (1, 5, 9):
        keras.utils.set_random_seed(1)
        with pytest.raises(KeyboardInterrupt):
            fit(
                HistoryImportanceTraining(network(), seed=3),
                x,
                y,
                callbacks=[backup(), StopAt(step)],
            )
        keras.utils.set_random_seed(7)
        net = network()
        training = HistoryImportanceTraining(net, seed=8)
        found, rest = fit(training, x, y, callbacks=[backup()])
        assert equal(values(net), values(whole)) and found == last
        assert len(rest) == 12 - (step - step % (6 if save_freq == "epoch" else save_freq))
    assert not any(tmp_path.rglob("*.npz")), "deleted with the rest once training has ended"


def test_files_of_keras_that_were_torn_do_not_matter(tmp_path, monkeypatch):
    """Interrupted while it writes, Keras closes its file in good order, but not all is in it."""
    x, y = data(N)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path, save_freq=2)

    keras.utils.set_random_seed(1)
    whole = network()
    fit(HistoryImportanceTraining(whole, seed=3), x, y)
    written = []
    save = layers.Dense.save_own_variables

    def interrupted(self, store):
        written.append(self)
        if len(written) == 6:
            raise KeyboardInterrupt
        save(self, store)

    keras.utils.set_random_seed(1)
    with monkeypatch.context() as patch:
        patch.setattr(layers.Dense, "save_own_variables", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(HistoryImportanceTraining(network(), seed=3), x, y, callbacks=[backup()])
    net = network()
    _, rest = fit(HistoryImportanceTraining(net, seed=4), x, y, callbacks=[backup()])
    assert equal(values(net), values(whole)) and len(rest) == 12 - 4


def test_what_callbacks_have_counted_is_gone_on_with(tmp_path):
    x, y = data(N)

    def callbacks():
        plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=2, min_delta=1.0)
        stopping = keras.callbacks.EarlyStopping(
            "loss", patience=5, min_delta=1.0, restore_best_weights=True
        )
        return [plateau, stopping, keras.callbacks.BackupAndRestore(tmp_path, save_freq=4)]

    def run(seed, step=1000):
        keras.utils.set_random_seed(1)
        net = network()
        rates = []
        note = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: rates.append((epoch, logs["learning_rate"]))
        )
        training = HistoryImportanceTraining(net, seed=seed)
        stop = StopAt(step)
        # Without the schedule, for which the plateau stands.
        options = {"batch_size": BATCH, "epochs": 20, "verbose": 0}
        training.fit(x, y, callbacks=[*callbacks(), note, stop], **options)
        return net, rates

    whole, rates = run(3)
    assert 4 < len(rates) < 20 and len({rate for _, rate in rates}) > 2
    for step in (8, 21, 27):
        with pytest.raises(KeyboardInterrupt):
            run(3, step)
        net, rest = run(4)
        assert equal(values(net), values(whole))
        assert rest == rates[len(rates) - len(rest) :]
    assert len(rest) < len(rates)


@pytest.mark.parametrize(("rows", "together"), [(N, 2), (33 * BATCH, 4)])
@pytest.mark.parametrize("way", ["history", "variance"])
def test_several_steps_in_a_call_are_gone_on_from(tmp_path, steps_of_calls, way, rows, together):
    def made(seed):
        net = network()
        net.compile("adam", net.loss, metrics=["accuracy"], steps_per_execution=together)
        return net, WAYS[way](net, seed)

    x, y = data(rows)
    keras.utils.set_random_seed(1)
    whole, training = made(3)
    saved = SaveEverywhere(training, tmp_path)
    last, _ = fit(training, x, y, callbacks=[saved])
    steps = -(-rows // BATCH)
    assert len(saved.paths) == EPOCHS * (-(-steps // together) + 1)
    if rows > N and training.model.trains_many:
        # An eighth of an epoch is drawn at once, in the second epoch, too.
        assert steps_of_calls.count(together) > steps // together
    net, training = made(4)
    for path in saved.paths[1 : -1 : 2 if rows == N else 5]:
        training.load_state(path)
        found, _ = fit(training, x, y)
        assert equal(values(net), values(whole)) and found == last


PROGRAM = """
    import os, signal, sys

    import keras
    import numpy as np
    from test_resume import data, fit, network, values
    from importance_sampling.training import HistoryImportanceTraining

    folder, result, step = sys.argv[1:]

    class Kill(keras.callbacks.Callback):
        left = int(step)

        def on_train_batch_end(self, batch, logs=None):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)

    keras.utils.set_random_seed(int(step))
    net = network()
    backup = keras.callbacks.BackupAndRestore(folder, save_freq=1)
    fit(HistoryImportanceTraining(net, seed=int(step)), *data(44), callbacks=[Kill(), backup])
    np.savez(result, *values(net))
"""


@pytest.mark.slow
@pytest.mark.one_backend("torch")
def test_a_killed_process_is_gone_on_with(tmp_path):
    """kill -9, between the steps that one process and the next make."""

    def run(step):
        program = textwrap.dedent(PROGRAM)
        arguments = [tmp_path / "backup", tmp_path / "result.npz", str(step)]
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert run(4).returncode == -signal.SIGKILL
    # Killed while Keras wrote its file.
    weights = tmp_path / "backup" / "latest.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    after = run(100)
    assert after.returncode == 0, after.stderr
    keras.utils.set_random_seed(4)
    whole = network()
    fit(HistoryImportanceTraining(whole, seed=4), *data(N))
    with np.load(tmp_path / "result.npz") as found:
        assert equal([found[name] for name in found.files], values(whole))


@pytest.mark.any_backend
def test_a_state_that_was_refused_is_kept_for_the_next_fit(tmp_path):
    path = tmp_path / "a name without an ending"
    saved_state(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    training = HistoryImportanceTraining(adam_mlp(), seed=1)
    training.load_state(path)
    x, y = data(N)
    arguments = {"batch_size": BATCH, "epochs": 2, "verbose": 0}
    with pytest.raises(ValueError, match="number of training examples"):
        training.fit(x[:30], y[:30], **arguments)
    assert training.fit(x, y, **arguments).epoch == [1]
    assert training.fit(x, y, **arguments).epoch == [0, 1]
    with pytest.raises(IsADirectoryError, match="is a folder"):
        training.save_state(tmp_path)


@pytest.mark.any_backend
def test_a_backup_of_other_data_changes_nothing(tmp_path):
    x, y = data(N)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    arguments = {"batch_size": BATCH, "epochs": 2, "verbose": 0, "callbacks": [backup]}
    ImportanceTraining(adam_mlp()).fit(x, y, **arguments)
    files = {p.name: p.read_bytes() for p in (tmp_path / "backup").iterdir()}
    net = adam_mlp()
    net.optimizer.build(net.trainable_variables)
    before = values(net)
    with pytest.raises(ValueError, match="the values of some training examples"):
        ImportanceTraining(net).fit(x + 1, y, **arguments)
    assert equal(values(net), before)
    assert {p.name: p.read_bytes() for p in (tmp_path / "backup").iterdir()} == files


def saved_state(path, **kwargs):
    training = HistoryImportanceTraining(adam_mlp(), seed=0)
    training.fit(*data(N), batch_size=BATCH, epochs=1, verbose=0, **kwargs)
    training.save_state(path)
    return training


@pytest.mark.any_backend
def test_states_of_something_else_are_refused_in_words(tmp_path):
    path = tmp_path / "state.npz"
    saved_state(path)
    x, y = data(N)

    def refuse(words, net=None, x=x, y=y, make=HistoryImportanceTraining, **kwargs):
        net = adam_mlp() if net is None else net
        net.optimizer.build(net.trainable_variables)
        before = values(net)
        training = make(net, seed=1)
        arguments = {"batch_size": BATCH, "epochs": 2, "verbose": 0} | kwargs
        with pytest.raises(ValueError, match=words):
            training.load_state(path)
            training.fit(x, y, **arguments)
        assert equal(values(net), before)

    refuse("number of training examples: 44 there, 30 here", x=x[:30], y=y[:30])
    refuse("values of some training examples", x=x + 1)
    refuse("shapes and types of an example", y=y.astype("int32"))
    refuse("batch_size: 8 there, 4 here", batch_size=4)
    refuse("steps_per_epoch: 6 there, 3 here", steps_per_epoch=3)
    refuse("model's variables", net=network())
    other = adam_mlp()
    other.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    refuse("the optimizer: 'Adam' there, 'SGD' here", net=other)
    other = adam_mlp()
    other.compile("adam", "sparse_categorical_crossentropy", metrics=[])
    refuse("metrics have the shapes", net=other)
    refuse("the training: 'HistoryImportanceTraining'", make=ImportanceTraining)
    refuse("score: 'gnorm'", make=lambda net, seed: HistoryImportanceTraining(net, score="loss"))


@pytest.mark.any_backend
def test_what_is_no_state_is_refused(tmp_path):
    training = HistoryImportanceTraining(adam_mlp())
    with pytest.raises(RuntimeError, match="call `fit` first"):
        training.save_state(tmp_path / "state.npz")
    with pytest.raises(FileNotFoundError, match=r"no.npz"):
        training.load_state(tmp_path / "no.npz")
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    with pytest.raises(OSError, match=r"arrays.npz cannot be read as a state"):
        training.load_state(tmp_path / "arrays.npz")
    with pytest.raises(ValueError, match="save_freq"):
        BackupState(tmp_path / "state.npz", save_freq="step")
    net = adam_mlp()
    with pytest.raises(RuntimeError, match="BackupAndRestore"):
        net.fit(*data(N), verbose=0, callbacks=[BackupState(tmp_path / "state.npz")])


@pytest.mark.any_backend
def test_a_state_is_not_taken_within_a_step(tmp_path):
    path = tmp_path / "state.npz"

    class Save(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            training.save_state(path)

    training = HistoryImportanceTraining(adam_mlp())
    with pytest.raises(RuntimeError, match="not within one"):
        training.fit(*data(N), verbose=0, callbacks=[Save()])
    assert not path.exists()


@pytest.mark.any_backend
def test_damaged_files_are_refused_and_change_nothing(tmp_path):
    path = tmp_path / "state.npz"
    training = saved_state(path)
    net = training.original_model
    before, whole = values(net), path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        way = rng.integers(3)
        if way == 0:
            content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        elif way == 1:
            del content[rng.integers(len(content)) :]
        else:
            start = rng.integers(len(content))
            content[start : start + 16] = rng.bytes(16)
        path.write_bytes(content)
        try:
            training.load_state(path)
        except (OSError, ValueError) as error:
            assert str(path) in str(error)
            refused += 1
        else:
            # Bytes that mean nothing, as times in the archive: what was written is what was read.
            training.load_state(path)
            training.fit(*data(N), batch_size=BATCH, epochs=1, verbose=0)
        assert equal(values(net), before)
    assert refused > 250


@pytest.mark.any_backend
def test_decisions_by_measured_time_are_those_that_were_saved(tmp_path):
    x, y = data(400)
    arguments = {"batch_size": 4, "epochs": 2, "verbose": 0}
    training = ImportanceTraining(adam_mlp(), presample="auto", seed=0)
    training.fit(x, y, **arguments)
    training.save_state(tmp_path / "before.npz")
    again = ImportanceTraining(adam_mlp(), presample="auto", seed=1)
    again.load_state(tmp_path / "before.npz")
    again.fit(x, y, **arguments)
    again.save_state(tmp_path / "after.npz")
    before, after = (load_state(tmp_path / f"{n}.npz")["sampler"] for n in ("before", "after"))
    assert before["seen"] >= 400
    np.testing.assert_equal(after, before)


@pytest.mark.any_backend
def test_a_backup_on_another_machine_is_not_followed():
    here = keras.callbacks.BackupAndRestore("backup")
    assert FollowBackup.can_follow(here)
    with pytest.warns(UserWarning, match="not saved in gs://bucket"):
        assert not FollowBackup.can_follow(keras.callbacks.BackupAndRestore("gs://bucket/backup"))


def test_weights_alone_go_on_from_the_epoch_and_say_so(tmp_path):
    net = adam_mlp()
    backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    net.fit(*data(N), batch_size=BATCH, epochs=1, verbose=0, callbacks=[backup])
    training = ImportanceTraining(adam_mlp())
    with pytest.warns(UserWarning, match="draws its batches anew"):
        history = training.fit(*data(N), batch_size=BATCH, epochs=3, verbose=0, callbacks=[backup])
    assert history.epoch == [1, 2]
