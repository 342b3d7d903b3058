"""Two processes of PyTorch that train together, compared with one; prints what it found as JSON.

Forked from one process that has loaded all. The first computes alone what both then do together.
Its argument is a folder to write in; `CI_FULL=1` tries every way to train.
"""

import json
import os
import random
import signal
import sys
import warnings
from datetime import timedelta
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["GLOO_SOCKET_IFNAME"] = "lo"

import keras
import numpy as np
import torch
import torch.distributed as dist
from keras import layers
from spread import full

from importance_sampling import model_wrappers, reweighting
from importance_sampling import training as trainings
from importance_sampling.datasets import IndexedExamples
from importance_sampling.proposal import Kind, Proposal

# The last batch of a pass has one row, so that one of the processes has none.
rng = np.random.default_rng(0)
N, BATCH = 33, 16
x = rng.normal(size=(N, 8)).astype("float32")
y = rng.integers(0, 4, N)
kept = rng.random(N).astype("float32")
words = rng.integers(1, 9, (N, 5)) * (np.arange(5) < rng.integers(1, 6, (N, 1)))
tags = rng.integers(0, 3, (N, 5))


def seed():
    # Not `keras.utils.set_random_seed`, which loads TensorFlow, wherever that is there.
    random.seed(0)
    torch.manual_seed(0)


def two_outputs(**arguments):
    seed()
    inputs = keras.Input((8,))
    hidden = layers.Dense(16, activation="relu", kernel_regularizer="l2")(inputs)
    label = layers.Dense(4, activation="softmax", name="label")(hidden)
    value = layers.Dense(2, name="value", activity_regularizer="l2")(hidden)
    net = keras.Model(inputs, {"label": label, "value": value})
    losses = {"label": "sparse_categorical_crossentropy", "value": "mse"}
    metrics = {"label": ["accuracy"], "value": [keras.metrics.MeanAbsoluteError()]}
    net.compile(arguments.pop("optimizer", "adam"), losses, metrics=metrics, **arguments)
    return net


def one_output(
    reduction="sum_over_batch_size",
    kind=keras.Sequential,
    optimizer="adam",
    batch_size=None,
    units=16,
):
    seed()
    hidden = layers.Dense(units, activation="relu", kernel_regularizer="l2")
    net = kind([keras.Input((8,), batch_size), hidden, layers.Dense(4, activation="softmax")])
    loss = keras.losses.SparseCategoricalCrossentropy(reduction=reduction)
    net.compile(optimizer, loss, metrics=["accuracy"])
    return net


def tagger():
    seed()
    net = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, mask_zero=True),
            layers.Dense(3, activation="softmax"),
        ]
    )
    net.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    return net


class OwnStep(keras.Sequential):
    """A step of the user's, which logs a number of its own."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in self.trainable_variables])
        return {"loss": loss.detach()}


class OwnLoss(keras.Sequential):
    """A loss that looks at disturbed rows as well, by way of itself."""

    disturbed = False

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.disturbed:
            return loss
        self.disturbed = True
        loss = loss + 0.1 * self.compute_loss(x, y, self(1.1 * x), sample_weight, training)
        self.disturbed = False
        return loss


class GuideStep(keras.Sequential):
    """As Keras' guide writes it: some metrics in a dictionary of their own."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in self.trainable_variables])
        for metric in self.metrics:
            # By rows, for parts are not of one size.
            metric.update_state(*((loss, len(x)) if metric.name == "loss" else (y, y_pred)))
        return {metric.name: metric.result() for metric in self.metrics}


class Rows(keras.metrics.Metric):
    """Counts rows, in whole numbers."""

    def __init__(self):
        super().__init__(name="rows")
        self.count = self.add_weight(shape=(), initializer="zeros", dtype="int32")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.count.assign_add(len(y_true))

    def result(self):
        return self.count.value


def many_metrics():
    """One of them has several values, another a state of whole numbers."""
    net = one_output()
    metrics = [Rows(), keras.metrics.F1Score()]
    net.compile("adam", "categorical_crossentropy", metrics=metrics)
    return net


def log_output(net):
    """Makes a network log more than its metrics say; on the model, not in its class."""
    compute_metrics = net.compute_metrics

    def and_output(x, y, y_pred, sample_weight=None):
        logs = compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "output": float(y_pred[:, 0].mean())}

    net.compute_metrics = and_output
    return net


def own_metrics():
    return log_output(one_output())


def changed_between_fits():
    """What is logged after a network was made to log more."""
    net = one_output()
    training = pools(net, seed=1)
    training.fit(x, y, batch_size=BATCH, verbose=0)
    log_output(net)
    return list(training.fit(x, y, batch_size=BATCH, verbose=0).history)


class Examples:
    """Rows by index; notes which were read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return N

    def __getitem__(self, index):
        self.read.append(index)
        return x[index], y[index]


EXAMPLES = Examples()
BOTH = {"x": x, "y": {"label": y, "value": x[:, :2]}}
WEIGHTED = {**BOTH, "sample_weight": {"label": kept, "value": kept}}
LABELS = {"x": x, "y": y}
TAGS = {"x": words, "y": tags}


def pools(net, **arguments):
    return trainings.ImportanceTraining(net, presample=2.0, tau_th=0.0, **arguments)


def accumulating():
    return keras.optimizers.Adam(gradient_accumulation_steps=2)


class Adjusted(trainings.BiasedImportanceTraining):
    @property
    def reweighting(self):
        return reweighting.AdjustedBiasedReweightingPolicy(0.5)


class Katyusha(trainings.SVRG):
    def _wrap(self, model, score, layer, score_dtype):
        return model_wrappers.KatyushaWrapper(model)


def variance(net):
    return trainings.HistoryImportanceTraining(net, constant="variance", min_batch_size=3, seed=1)


# Name: network, what makes the training of it, data.
WAYS = {
    "gnorm": (two_outputs, lambda net: pools(net, seed=1), WEIGHTED),
    "batch sizes": (lambda: one_output(optimizer=accumulating()), variance, LABELS),
    "masked": (tagger, lambda net: trainings.BiasedImportanceTraining(net, seed=1), TAGS),
    "svrg": (two_outputs, lambda net: trainings.SVRG(net, 0, B_over_b=2, seed=1), WEIGHTED),
    "by index": (one_output, lambda net: pools(net, seed=1), {"x": IndexedExamples(EXAMPLES)}),
    "own step": (
        lambda: one_output(kind=OwnStep),
        lambda net: pools(net, score="loss", seed=1),
        LABELS,
    ),
    "own loss": (
        lambda: one_output(kind=OwnLoss),
        lambda net: pools(net, score="loss", seed=1),
        LABELS,
    ),
    "metrics of many kinds": (
        many_metrics,
        lambda net: pools(net, score="loss", seed=1),
        {"x": x, "y": np.eye(4)[y], "validation_data": (x, np.eye(4)[y])},
    ),
    "own metrics": (own_metrics, lambda net: pools(net, score="loss", seed=1), LABELS),
    "sum": (lambda: one_output("sum"), lambda net: pools(net, score="loss", seed=1), LABELS),
}
MORE = {
    "guide": (
        lambda: one_output(kind=GuideStep),
        lambda net: trainings.HistoryImportanceTraining(net, score="loss", seed=1),
        LABELS,
    ),
    "katyusha": (lambda: one_output(optimizer="sgd"), lambda net: Katyusha(net, 0, seed=1), LABELS),
    "masked svrg": (tagger, lambda net: trainings.SVRG(net, 0, B_over_b=2, seed=1), TAGS),
    "loss": (two_outputs, lambda net: pools(net, score="loss", seed=1), WEIGHTED),
    "acc": (one_output, lambda net: pools(net, score="acc", smooth=0.5, seed=1), LABELS),
    "full_gnorm": (two_outputs, lambda net: pools(net, score="full_gnorm", seed=1), WEIGHTED),
    "layer": (one_output, lambda net: pools(net, layer=0, seed=1), LABELS),
    "masked gnorm": (tagger, lambda net: pools(net, seed=1), TAGS),
    "masked full_gnorm": (tagger, lambda net: pools(net, score="full_gnorm", seed=1), TAGS),
    "masked history": (
        tagger,
        lambda net: trainings.HistoryImportanceTraining(net, seed=1),
        TAGS,
    ),
    "biased sum": (
        lambda: one_output("sum"),
        lambda net: trainings.BiasedImportanceTraining(net, seed=1),
        LABELS,
    ),
    "reuse": (one_output, lambda net: pools(net, reuse=1, resampling="systematic", seed=1), LABELS),
    "adjusted": (one_output, lambda net: Adjusted(net, seed=1), LABELS),
    "history": (
        two_outputs,
        lambda net: trainings.HistoryImportanceTraining(net, seed=1, refresh=0.5),
        WEIGHTED,
    ),
    "robust": (two_outputs, lambda net: trainings.RobustImportanceTraining(net, seed=1), WEIGHTED),
    "infobatch": (
        two_outputs,
        lambda net: trainings.InfoBatchTraining(net, anneal=1.0, seed=1),
        WEIGHTED,
    ),
    "selective": (
        two_outputs,
        lambda net: trainings.SelectiveBackpropTraining(net, seed=1),
        WEIGHTED,
    ),
    "constant time": (
        one_output,
        lambda net: trainings.ConstantTimeImportanceTraining(net, seed=1),
        LABELS,
    ),
    "constant variance": (
        one_output,
        lambda net: trainings.ConstantVarianceImportanceTraining(net, seed=1),
        LABELS,
    ),
    "approximate": (
        one_output,
        lambda net: trainings.ApproximateImportanceTraining(net, presample=24, seed=1),
        LABELS,
    ),
}


# Of both kinds of steps: Keras' own, and one whose metrics log more.
UNWATCHED = ("sum", "own metrics")


# Draws depend on measured times: the same in both processes, but others than in one.
MEASURED = {
    "auto": (one_output, lambda net: trainings.ImportanceTraining(net, "auto", seed=1), LABELS),
    "measured": (
        one_output,
        lambda net: trainings.ImportanceTraining(net, 2.0, "measured", seed=1),
        LABELS,
    ),
}


class Run:
    """A training and what became of it."""

    def __init__(
        self, way, epochs=2, callbacks=(), load=None, save=None, watched=True, **arguments
    ):
        network, make, rows = (WAYS | MORE | MEASURED)[way]
        self.net, self.drawn = network(), []
        self.training = make(self.net)
        if load:
            self.training.load_state(load)
        found = self.training.fit(
            **rows,
            batch_size=BATCH,
            epochs=epochs,
            verbose=0,
            callbacks=list(callbacks),
            on_sample=self.note if watched else None,
            **arguments,
        )
        self.logs = found.history
        if save:
            self.training.save_state(save)

    def note(self, sampler, idxs, w, scores):
        self.drawn.append(idxs)

    def difference(self, other):
        """The largest difference of weights and logs; infinite if other examples were drawn."""
        if len(self.drawn) != len(other.drawn) or set(self.logs) != set(other.logs):
            return float("inf")
        if any((a != b).any() for a, b in zip(self.drawn, other.drawn, strict=True)):
            return float("inf")
        pairs = list(zip(self.net.get_weights(), other.net.get_weights(), strict=True))
        pairs += [(self.logs[name], other.logs[name]) for name in self.logs]
        return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def same_everywhere(run):
    """Whether both processes hold the same weights and logs, to the last bit."""
    mine = [*run.net.get_weights(), *(np.asarray(v, "float64") for v in run.logs.values())]
    flat = torch.from_numpy(np.concatenate([np.ravel(m).astype("float64") for m in mine]))
    other = flat.clone()
    dist.broadcast(other, 0)
    flags = torch.tensor([float(torch.equal(flat, other))])
    dist.all_reduce(flags)
    return float(flags) == 2


# As with nccl, hosts have a group of their own then.
OTHER = "cpu:gloo"


def join(folder, rank, name, backend="gloo"):
    # Not half an hour for a process that has ended with an error.
    limit = timedelta(minutes=5)
    there = f"file://{folder}/{name}"
    dist.init_process_group(backend, there, timeout=limit, rank=rank, world_size=2)


def refusal(call):
    """What an error says that every process must raise."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - its words are looked at
        return f"{type(error).__name__}: {error}"
    return "nothing was refused"


class Stop(keras.callbacks.Callback):
    """Ends one of the processes, or the training, in the middle of an epoch."""

    def __init__(self, rank, step=2, dies=False):
        super().__init__()
        self.here, self.step, self.dies = dist.get_rank() == rank, step, dies
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.here and self.steps == self.step:
            if self.dies:
                os._exit(0)
            self.model.stop_training = True


def parts(own, more=0, data=(x, y), count=6):
    """Batches that differ after the first."""
    for i in range(count):
        rows = slice(i * own, i * own + 8 + more * min(i, 1))
        yield data[0][rows], data[1][rows]


class Seen(keras.callbacks.ModelCheckpoint):
    """Counts the calls, which only the first process makes."""

    calls = 0

    def on_epoch_end(self, epoch, logs=None):
        self.calls += 1
        super().on_epoch_end(epoch, logs)


def unbiased(steps=150):
    """Steps of rate 1 from the same weights: their mean, in standard errors of it, off the full."""
    net = one_output(optimizer=keras.optimizers.SGD(1.0))
    wrapper = model_wrappers.OracleWrapper(net, reweighting.UNBIASED, score="loss")
    wrapper.build(x[:4], y[:4])
    start = [w.copy() for w in net.get_weights()]
    whole = wrapper.gradient(x, y)
    draws = np.random.default_rng(5)
    p = draws.random(N) + 0.1
    p /= p.sum()
    made = []
    with wrapper.attached() as runtime:
        shared = runtime.processes is not None
        for _ in range(steps):
            idxs = draws.choice(N, 7, p=p)
            w = 1 / (N * p[idxs])
            rows = x[idxs], y[idxs]
            wrapper.train(Proposal(idxs, rows, w[:, None], w, kind=Kind.HISTORY))
            made.append(joined(a - b for a, b in zip(start, net.get_weights(), strict=True)))
            net.set_weights(start)
    made = np.array(made, "float64")
    error = made.std(axis=0) / np.sqrt(steps)
    seen = error > 1e-7
    off = np.abs(made.mean(axis=0) - joined(whole))[seen] / error[seen]
    return {"together": shared, "errors": float(off.max()), "weights": len(off)}


def weighted_by_scores(n):
    """A step whose weights are made of scores within it."""
    policy = reweighting.AdjustedBiasedReweightingPolicy(0.5)
    wrapper = model_wrappers.OracleWrapper(one_output(), policy, score="loss")
    wrapper.build(x[:4], y[:4])
    w = policy.uniform_weights(n)
    batch = Proposal(np.arange(n), (x[:n], y[:n]), w, metric_weights=np.ones(n), kind=Kind.HISTORY)
    with wrapper.attached():
        wrapper.train(batch)


def exchanges(net, score="loss"):
    """When the processes exchange something in a step whose scores are read."""
    wrapper = model_wrappers.OracleWrapper(net, reweighting.UNBIASED, score=score)
    wrapper.build(x[:4], y[:4])
    rows = x[:7], y[:7]
    w = np.linspace(0.5, 1.5, 7, dtype="float32")
    batch = Proposal(np.arange(7), rows, w[:, None], w, kind=Kind.HISTORY)
    said, all_reduce, apply = [], dist.all_reduce, net.optimizer.apply

    def noted(what, function):
        return lambda *given, **more: said.append(what) or function(*given, **more)

    def exchange(tensor, op=dist.ReduceOp.SUM, **more):
        # What comes next is announced by two numbers.
        said.append("announcement" if op == dist.ReduceOp.MAX else "exchange")
        return all_reduce(tensor, op, **more)

    with wrapper.attached():
        wrapper.train(batch)
        dist.all_reduce = exchange
        net.optimizer.apply = noted("weights", apply)
        try:
            result = wrapper.train(batch)
            # They are known to both processes by now.
            assert result.scores.shape == (7,) and float(result.logs["loss"]) > 0
        finally:
            dist.all_reduce = all_reduce
    return said


def moving_mean():
    """Of inputs, which no weight has a part in, after a few steps; the weights are others' too."""
    seed()
    net = keras.Sequential(
        [keras.Input((8,)), layers.BatchNormalization(momentum=0.5), layers.Dense(4)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile("sgd", loss)
    pools(net, seed=1).fit(x, y, batch_size=BATCH, verbose=0)
    return np.asarray(net.layers[0].moving_mean).tolist()


def random_numbers():
    """What both processes draw within a step, and after it."""
    net = one_output()
    wrapper = model_wrappers.OracleWrapper(net, reweighting.UNBIASED)
    wrapper.build(x[:4], y[:4])
    with wrapper.attached() as runtime:
        with runtime.own_draws():
            within = float(torch.rand(()))
            torch.rand(dist.get_rank() + 1)
        after = float(torch.rand(()))
    drawn = [None, None]
    dist.all_gather_object(drawn, (within, after))
    return drawn


def joined(arrays):
    return np.concatenate([np.ravel(array) for array in arrays])


def first(folder):
    """The first process: what it finds, by name."""
    found = {"ways": {}, "by score": {}, "resumed": {}}
    ways = WAYS | MORE if full() else WAYS
    alone = {way: Run(way) for way in ways}
    alone |= {f"unwatched {way}": Run(way, watched=False) for way in UNWATCHED}
    found["moving means"] = [moving_mean()]
    for way in ("gnorm", "batch sizes"):
        Run(way, epochs=1, save=f"{folder}/one {way}.npz")
    together(folder, 0, found, alone)
    for way in ("gnorm", "batch sizes"):
        run = Run(way, load=f"{folder}/two {way}.npz")
        found["resumed"][f"two to one: {way}"] = weights_apart(run, alone[way])
    join(folder, 0, "second", OTHER)
    found["second backend"] = dist.get_backend()
    callbacks = [Stop(1, dies=True), backup(folder)]
    found["death"] = refusal(lambda: Run("gnorm", callbacks=callbacks))
    dist.destroy_process_group()
    went_on = Run("gnorm", callbacks=callbacks[1:])
    found["alone after a death"] = weights_apart(went_on, alone["gnorm"])
    found["steps after a death"] = len(went_on.drawn)
    return found


def backup(folder):
    return keras.callbacks.BackupAndRestore(f"{folder}/backup", save_freq=1)


def weights_apart(run, other):
    pairs = zip(run.net.get_weights(), other.net.get_weights(), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def together(folder, rank, found, alone):
    """What both processes do."""
    join(folder, rank, "first")
    found["rows read"] = [len(EXAMPLES.read)]
    for way in WAYS | MORE if full() else WAYS:
        run = Run(way)
        same = same_everywhere(run)
        if alone:
            found["by score"][way] = run.logs["importance_sampling"][-1]
            found["ways"][way] = run.difference(alone[way]) if same else float("nan")
    for way in UNWATCHED:
        # Nobody looks at single steps, so that metrics are read at the end alone.
        run = Run(way, watched=False)
        same = same_everywhere(run)
        if alone:
            apart = run.difference(alone[f"unwatched {way}"])
            found["ways"][f"unwatched {way}"] = apart if same else float("nan")
    read = [None, None]
    dist.all_gather_object(read, len(EXAMPLES.read) - found["rows read"][0])
    found["rows read"] += read
    for way in MEASURED if full() else ():
        same = same_everywhere(Run(way, epochs=12))
        if alone:
            found["ways"][way] = 0.0 if same else float("nan")
    for way in ("gnorm", "batch sizes"):
        run = Run(way, load=f"{folder}/one {way}.npz")
        if alone:
            found["resumed"][f"one to two: {way}"] = weights_apart(run, alone[way])
        Run(way, epochs=1, save=f"{folder}/two {way}.npz")
    saved = Seen(f"{folder}/of {rank}.weights.h5", save_weights_only=True)
    state = trainings.BackupState(f"{folder}/state.npz")
    stopped = Run("gnorm", callbacks=[saved, Stop(1, step=1), state])
    calls = [None, None]
    dist.all_gather_object(calls, (saved.calls, len(stopped.drawn)))
    found["calls and steps"] = calls
    found["unbiased"] = unbiased()
    found["exchanges"] = {
        "Keras' step": exchanges(one_output()),
        "gnorm": exchanges(one_output(), score="gnorm"),
        "full_gnorm": exchanges(one_output(), score="full_gnorm"),
        "own loss": exchanges(one_output(kind=OwnLoss)),
        "own metrics": exchanges(own_metrics()),
        "own step": exchanges(one_output(kind=OwnStep)),
    }
    found["logged"] = changed_between_fits()
    means = [None, None]
    dist.all_gather_object(means, moving_mean())
    found["moving means"] = [*found.get("moving means", ()), *means]
    found["random"] = random_numbers()
    net = one_output()
    own = rank + 1
    refused = {
        "other data": lambda: pools(net).fit(x * own, y, batch_size=16, verbose=0),
        "other batch size": lambda: pools(net).fit(x, y, batch_size=8 * own, verbose=0),
        "one batch size": lambda: pools(one_output(batch_size=16)).fit(x, y, verbose=0),
        "other draws": lambda: pools(net).fit(parts(own), steps_per_epoch=2, verbose=0),
        "other sizes": lambda: trainings.ImportanceTraining(net, tau_th=1e9).fit(
            parts(2, rank), steps_per_epoch=2, verbose=0
        ),
        "other pools": lambda: pools(net).fit(parts(2, rank), steps_per_epoch=4, verbose=0),
        "other sizes, masked": lambda: pools(tagger()).fit(
            parts(2, rank, (words, tags)), steps_per_epoch=4, verbose=0
        ),
        "other sizes, weights by scores": lambda: weighted_by_scores(7 + rank),
        "other numbers of batches": lambda: trainings.ImportanceTraining(net, tau_th=1e9).fit(
            parts(2, count=5 - rank), verbose=0
        ),
        "pools in other numbers of parts": lambda: pools(net, forward_batch_size=8).fit(
            parts(2, count=5 - rank), verbose=0
        ),
        "pools in one alone": lambda: trainings.ImportanceTraining(net, tau_th=1e9 * rank).fit(
            x, y, batch_size=8, verbose=0
        ),
        "other models": lambda: pools(one_output(units=16 * own)).fit(x, y, verbose=0),
    }
    found["refused"] = {}
    for name, call in refused.items():
        said = [None, None]
        dist.all_gather_object(said, refusal(call))
        found["refused"][name] = said
    dist.destroy_process_group()


def second(folder):
    """The second process, which dies in the end."""
    together(folder, 1, {}, {})
    join(folder, 1, "second", OTHER)
    Run("gnorm", callbacks=[Stop(1, dies=True), backup(folder)])


def main():
    folder = sys.argv[1]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    other = os.fork()
    if not other:
        second(folder)
        os._exit(1)
    try:
        found = first(folder)
    except BaseException:
        # It would wait, and hold the pipe that says why.
        os.kill(other, signal.SIGKILL)
        raise
    Path(folder, "found.json").write_text(json.dumps(found))
    status = os.wait()[1]
    assert status == 0, status


if __name__ == "__main__":
    main()
