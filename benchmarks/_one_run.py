"""One run of `time_to_accuracy.py`: an arm, its warm-up, its training and what came of it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _arms import BY_EPOCH, SMALLER, TOGETHER, make_training
from _clock import make_clock, make_schedule

# What a report holds beside plain numbers and choices is too much to keep of every run.
_LEFT_OUT = ("course", "most_drawn", "least_drawn")


def _outputs(model: Any, x: np.ndarray) -> np.ndarray:
    import keras

    parts = [
        keras.ops.convert_to_numpy(model.predict_on_batch(x[i : i + 4096]))
        for i in range(0, len(x), 4096)
    ]
    return np.concatenate(parts).astype(np.float64)


def warm_up(model: Any, training: Any, task: Any, batch_size: int, epochs: int) -> float:
    """Compiles what the run will need and puts the model back to its start; the seconds."""
    import keras

    began = time.perf_counter()
    x, y = (a[: 40 * batch_size] for a in task.train)
    # More than one call of the device.
    few = (3 if model.steps_per_execution == 1 else 40) * batch_size
    model(x[:1])
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    start = [keras.ops.convert_to_numpy(v.value).copy() for v in variables]
    # Twice, because the first pass over the data is uniform.
    options = {"batch_size": batch_size, "epochs": 2, "verbose": 0}
    if training is None:
        model.fit(x[:few], y[:few], **options)
    else:
        training.fit(x[:few], y[:few], **options)
        _train_sizes(training, task, batch_size, epochs)
        for pool in (3 * batch_size, 8 * batch_size):
            training.model.score(x[:pool], y[:pool], batch_size=pool)
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    return time.perf_counter() - began


def _train_sizes(training: Any, task: Any, batch_size: int, epochs: int) -> None:
    """A step of each size that the sampler may draw, and a call of as many as the run's."""
    from importance_sampling.datasets import InMemoryDataset
    from importance_sampling.proposal import Kind, Proposal
    from importance_sampling.training._steps_per_call import steps_for

    x, y = task.train
    dataset = InMemoryDataset(x, y, x[:1], y[:1], categorical=False)
    steps = len(x) // batch_size
    sampler = training.sampler(dataset, batch_size, steps, epochs)
    together = steps_for(training.model, sampler, (x[:8], y[:8]), batch_size, steps, epochs)
    for size in sampler.batch_sizes(batch_size):
        weights = np.ones((size, training.reweighting.weight_size))
        training.model.train_batch(x[:size], y[:size], weights)
        if together > 1:
            rows = x[:size], y[:size]
            proposal = Proposal(np.arange(size), rows, weights, np.ones(size), kind=Kind.HISTORY)
            training.model.train_many(together * [proposal], together)


def run_one(order: dict[str, Any]) -> dict[str, Any]:
    """Trains one arm of one seed."""
    import keras
    from _tasks import TASKS

    task = TASKS[order["task"]]()
    if order["examples_kept"]:
        task.shrink(order["examples_kept"])
    train = task.train
    keras.utils.set_random_seed(order["seed"])
    epochs, size = order["epochs"], order.get("batch_size", task.batch_size)
    # As many steps as uniform training, whatever the size of the batches.
    total = epochs * (len(task.train[0]) // task.batch_size)
    if total < 2:
        raise ValueError(
            f"There are {total} steps of {task.batch_size} examples: keep more --examples, or make "
            "more --epochs."
        )
    by_epoch = order["arm"] in BY_EPOCH
    together = 32 if order["arm"] == TOGETHER else 1
    model = task.compiled(None if by_epoch else make_schedule(task.rate, total), together)
    training = make_training(order["arm"], model, order["seed"])
    if order["arm"] == SMALLER:
        task.cut(size)
    per_epoch = len(task.train[0]) // size
    compiling = warm_up(model, training, task, size, epochs)
    # What is drawn and dropped, whatever the warm-up has drawn.
    keras.utils.set_random_seed(order["seed"])
    begin = sum(float(np.abs(w).sum(dtype=np.float64)) for w in model.get_weights())
    whole, rest = (epochs, 0) if by_epoch else divmod(total, per_epoch)
    clock = make_clock(task.rate, whole + rest / per_epoch, by_epoch)
    options = {"batch_size": size, "verbose": 0, "callbacks": [clock]}
    fit = (model if training is None else training).fit
    history = fit(*task.train, epochs=whole, **options).history
    if rest:
        # The control's last epoch ends with the last step of the others.
        clock.part = rest / per_epoch
        fit(
            *(a[: rest * size] for a in task.train),
            epochs=whole + 1,
            initial_epoch=whole,
            **options,
        )
    result = {
        **order,
        "batch_size": size,
        "steps": int(model.optimizer.iterations),
        "seconds": clock.seconds,
        "epoch_seconds": clock.epoch_seconds,
        "compile_seconds": compiling,
        "start": begin,
    }
    if training is None:
        result["examples"] = result["steps"] * size
    else:
        report = training.report().to_dict()
        result["examples"] = report.get("examples", int(training.report().draws.sum()))
        result["report"] = {k: v for k, v in report.items() if k not in _LEFT_OUT}
        if "batch_size" in history:
            result["batch_sizes"] = [float(size) for size in history["batch_size"]]
    # To compare with uniform training.
    result["uniform_steps"] = total
    result["epoch_examples"] = total * task.batch_size // order["epochs"]
    result["error"] = task.error
    for part, (x, y) in (("train", train), ("test", task.test)):
        loss, error = task.measure(_outputs(model, x), y)
        result |= {f"{part}_loss": loss, f"{part}_error": error}
    return result
