"""Two processes of PyTorch that train together, compared with one; prints what it found as JSON.

Forked from one process that has loaded all. The first computes alone what both then do together.
Its argument is a folder to write in; `CI_FULL=1` tries every way to train.
"""

import json
import os
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
from process_ways import (
    BATCH,
    EXAMPLES,
    MEASURED,
    MORE,
    WAYS,
    N,
    OwnLoss,
    OwnStep,
    log_output,
    one_output,
    own_metrics,
    pools,
    seed,
    tagger,
    tags,
    words,
    x,
    y,
)
from spread import full

from importance_sampling import model_wrappers, reweighting
from importance_sampling import training as trainings
from importance_sampling.proposal import Kind, Proposal

# Of both kinds of steps: Keras' own, and one whose metrics log more.
UNWATCHED = ("sum", "own metrics")


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


class StopAtOnce(keras.callbacks.Callback):
    """Stops one of the processes where no step is looked at."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.stop_training = dist.get_rank() == 1


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
        # Whether all are at the same place is asked by the largest of two numbers.
        said.append("meeting" if op == dist.ReduceOp.MAX else "exchange")
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


def meetings(**arguments):
    """How often processes ask each other where they are in a fit on arrays."""
    found, all_reduce = [], dist.all_reduce

    def counted(tensor, op=dist.ReduceOp.SUM, **more):
        found.append(op == dist.ReduceOp.MAX)
        return all_reduce(tensor, op, **more)

    dist.all_reduce = counted
    try:
        pools(one_output(), seed=1).fit(x, y, batch_size=BATCH, verbose=0, **arguments)
    finally:
        dist.all_reduce = all_reduce
    return sum(found)


def changed_between_fits():
    """What is logged after a network was made to log more."""
    net = one_output()
    training = pools(net, seed=1)
    training.fit(x, y, batch_size=BATCH, verbose=0)
    log_output(net)
    return list(training.fit(x, y, batch_size=BATCH, verbose=0).history)


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
    at_once = Run("gnorm", callbacks=[StopAtOnce()], watched=False)
    epochs = [None, None]
    dist.all_gather_object(epochs, len(at_once.logs["loss"]))
    found["epochs"] = epochs
    found["unbiased"] = unbiased()
    found["exchanges"] = {
        "Keras' step": exchanges(one_output()),
        "gnorm": exchanges(one_output(), score="gnorm"),
        "full_gnorm": exchanges(one_output(), score="full_gnorm"),
        "own loss": exchanges(one_output(kind=OwnLoss)),
        "own metrics": exchanges(own_metrics()),
        "own step": exchanges(one_output(kind=OwnStep)),
    }
    found["meetings"] = [
        meetings(),
        meetings(epochs=4),
        meetings(on_sample=lambda *of_a_step: None),
    ]
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
        "other words": lambda: trainings.HistoryImportanceTraining(
            net, constant=("batch_size", "variance")[rank]
        ).fit(x, y, verbose=0),
        "other snapshots": lambda: trainings.SVRG(net, B=3, B_over_b=8).fit(
            parts(own), steps_per_epoch=2, verbose=0
        ),
        "a callback of one": lambda: pools(net).fit(
            x, y, verbose=0, callbacks=[keras.callbacks.ReduceLROnPlateau()] * rank
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
