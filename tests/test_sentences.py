"""Figures within sentences of the README and the documents are those that were measured."""

import json
import re
import statistics
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from importance_sampling.datasets import InMemoryDataset
from importance_sampling.reweighting import UNBIASED
from importance_sampling.samplers import HistoryMixtureSampler, InfoBatchSampler
from importance_sampling.training import TrainingReport

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "benchmarks"))

from _summary import interval  # noqa: E402

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


def _row(name, arm, **options):
    rows = json.loads((RESULTS / f"{name}.json").read_text())["summary"]
    (row,) = (r for r in rows if r["arm"] == arm and all(r[k] == v for k, v in options.items()))
    return row


def _same(task, arm):
    name = {
        "mnist_conv16": "same_epochs_conv16",
        "canevet": "same_epochs_tasks",
        "friedman": "same_epochs_tasks",
        "mnist_mlp": "same_epochs_mlp",
        "mnist_small_cnn": "same_epochs_small_cnn_5",
        "next_character": "same_epochs_text",
    }.get(task, "same_epochs_rare")
    return _row(name, arm, task=task)


def _whole(task, arm):
    """Of the runs with whole batches."""
    name = "same_epochs_small_cnn_5" if task == "mnist_small_cnn" else "whole_batches"
    return _row(name, arm, task=task)


def _way(arm):
    """Of the table of every way to train."""
    return _row("every_way", arm)


_PAIR = ("model.fit", "auto")
_PAIR_BY_SCORE = ("same noise", "auto")
_WORDS = {1: "one", 2: "two", 3: "three", 5: "five"}


def _runs(name, task, arm, what):
    """A value of each run, in the order of the seeds."""
    rows = json.loads((RESULTS / f"{name}.json").read_text())["runs"]
    rows = sorted((r for r in rows if (r["task"], r["arm"]) == (task, arm)), key=_seed)
    return [row[what] for row in rows]


def _seed(row):
    return row["seed"]


def _demo():
    """The arms of the demo, with their time and examples in units of the uniform one's."""
    results = json.loads((ROOT / "docs" / "demo.json").read_text())["results"]
    uniform = results[0]
    assert uniform["arm"] == "uniform"
    for row in results:
        row["time"] = row["seconds"] / uniform["seconds"]
        row["share"] = row["examples"] / uniform["examples"]
    return {row["arm"]: row for row in results}


def _minutes():
    """How long the demo trains, to which compiling and measuring come."""
    return sum(row["seconds"] for row in _demo().values()) / 60


def _three_times(arm):
    """With two convolutions, five seeds run three times: the mean difference to uniform training's
    test error, and half of the interval of the means of the seeds, as it is written."""
    files = ("same_epochs_conv16", "conv16_before", "single_steps_conv16")
    given = np.array([_apart(name, "mnist_conv16", arm, "model.fit") for name in files])
    assert given.shape == (3, 5)
    mean, half = interval(given.mean(axis=0).tolist())
    # "As high", and "higher".
    assert abs(mean) < 0.005 if arm == "same noise" else mean > 0
    return f"{abs(mean):.2f} ± {half:.2f}"


def _apart(name, task, arm, other, what="test_error"):
    """Differences between two arms, by seed."""
    pairs = zip(_runs(name, task, arm, what), _runs(name, task, other, what), strict=True)
    return [a - b for a, b in pairs]


def _relative(row):
    return f"**{row['time']:.2f}** ± {row['time_ci']:.2f}"


def _readme():
    conv = _same("mnist_conv16", "auto")
    yield f"took **{conv['time']:.2f}** of the time of ``model.fit``"
    yield f"({conv['epochs']:.0f} epochs, {_WORDS[conv['seeds']]} seeds, each run three times:"
    # "the same test error within the intervals"
    assert abs(conv["minus_uniform"]) < conv["minus_uniform_ci"]
    yield f"*auto* ended {_three_times('auto')} points higher"
    yield f"which draws in the same way, as high: {_three_times('same noise')})"
    name, task, control = "same_epochs_small_cnn_5", "mnist_small_cnn", "uniform, smaller batch"
    yield f"epochs, took {_relative(_same(task, 'auto'))} (*same noise*"
    noise = _same(task, "same noise")
    yield f"noise* {noise['minus_uniform']:.2f} ± {noise['minus_uniform_ci']:.2f} points higher;"
    lower, half = interval(_apart(name, task, "same noise", control))
    yield f"control {_same(task, control)['time']:.2f} of the time and {lower:.2f} ± {half:.2f}"
    dense, other = _same("mnist_mlp", "auto"), _same("mnist_mlp", control)
    yield f"two hidden layers of 512 {_relative(dense)}"
    worse = f"{dense['minus_uniform']:.2f} ± {dense['minus_uniform_ci']:.2f}"
    yield f"({worse} points higher, three seeds), as the control"
    yield f"control ({other['time']:.2f} ± {other['time_ci']:.2f})"
    assert dense["seeds"] == 3
    off = [
        json.loads((RESULTS / f"step_cost_{network}_tensorflow.json").read_text())[0]["off / fit"]
        for network in ("small_cnn", "mlp")
    ]
    yield f"({off[0]:.2f} and {off[1]:.2f} of them)"
    text = {arm: _same("next_character", arm) for arm in ("auto", "same noise")}
    noise, auto = text["same noise"], text["auto"]
    yield f"on text *same noise* took **{noise['time']:.2f}** of the time"
    yield f"and ended {noise['minus_uniform']:.1f} point worse (*auto* **{auto['time']:.2f}**"
    yield f"and {auto['minus_uniform']:.1f} worse; one seed)"
    assert auto["seeds"] == noise["seeds"] == 1
    rare = ("long_tailed_mnist", "rare_positives", "image_field")
    noise, auto = ([_same(task, arm) for task in rare] for arm in ("same noise", "auto"))
    times = [f"**{row['time']:.2f}**" for row in noise]
    yield f"long-tailed MNIST took {times[0]} of the time by *same noise*"
    yield f"one positive in a hundred {times[1]} and an image as a neural field {times[2]}"
    low, high = (each(row["time"] for row in auto) for each in (min, max))
    yield f"(*auto* **{low:.2f}** to **{high:.2f}**)"
    for task, row in zip(rare[1:], noise[1:], strict=True):
        # "Most of it comes of many steps in one call", by which uniform steps go as well.
        fit = np.mean(_runs("same_epochs_rare", task, "model.fit", "epoch_seconds"), axis=0)
        steps = _runs("same_epochs_rare", task, "model.fit", "steps")[0] / row["epochs"]
        reports = _runs("same_epochs_rare", task, "same noise", "report")
        uniform = np.mean([report["step_seconds"]["uniform"] for report in reports])
        assert 1 - uniform * steps / np.median(fit) > (1 - row["time"]) / 2
    # "Two seeds cannot tell the errors, but on the image, where that of same noise was lower."
    told = [abs(r["minus_uniform"]) > r["minus_uniform_ci"] for r in (*noise, *auto)]
    assert told == [False, False, True, False, False, False] and noise[2]["minus_uniform"] < 0
    assert all(r["seeds"] == 2 for r in (*noise, *auto))
    apart = [_apart("same_epochs_rare", task, control, "model.fit") for task in rare]
    assert np.shape(apart) == (3, 2) and np.min(apart) > 0
    whole = _whole("friedman", "auto, full batch")
    half = whole["minus_uniform_ci"]
    fit = _whole("friedman", "model.fit")
    yield f"lower by **{-whole['minus_uniform']:.3f}** ± {half:.3f} of {fit['test_error']:.3f}"
    assert whole["seeds"] == 3 and half < -whole["minus_uniform"]
    history, fit = (_way(arm) for arm in ("history", "model.fit"))
    yield f"the training loss ended at **{history['train_loss'] / fit['train_loss']:.2f}** of"
    yield f"and the test error {history['minus_uniform']:.2f} points above it"
    control = _same("mnist_conv16", "uniform, smaller batch")
    yield f"{_relative(control)} of the time, with the lowest test loss"
    yield f"({abs(control['minus_uniform']):.2f} ± {control['minus_uniform_ci']:.2f}), and needs"
    jax = "same_epochs_jax"
    ways = ("auto", "model.fit, 32 in a call")
    here, keras = (_row("same_epochs_tasks", a, task="canevet") for a in ways)
    yield f"took **{here['time']:.2f}** of the time on TensorFlow"
    yield f"**{keras['time']:.2f}** where it was told to make 32 steps in a call"
    plane, keras = (_row(jax, a, task="canevet") for a in ways)
    yield f"on JAX **{plane['time']:.2f}** and **{keras['time']:.2f}**, no difference"
    apart, half = interval(_apart(jax, "canevet", *ways, "seconds"))
    assert abs(apart) < half and plane["seeds"] == keras["seeds"] == here["seeds"] == 3
    eager = _row("same_epochs_torch", "same noise")
    yield f"Friedman's function (256-256) took **{eager['time']:.2f}** (two seeds)"
    assert eager["seeds"] == 2
    # "compiling for all sizes of batches took longer than the whole training"
    fit = _row(jax, "model.fit", task="canevet")["seconds"]
    assert plane["compile_seconds"] > fit > fit * plane["time"]
    # "its training loss ends higher in all of these tasks, its test error in most"
    rows = [
        {row["arm"]: row for row in summary if (row["task"], row["epochs"]) == key}
        for summary in (
            json.loads(file.read_text())["summary"] for file in RESULTS.glob("same_epochs_*.json")
        )
        for key in {(row["task"], row["epochs"]) for row in summary}
    ]
    pairs = [
        (r["same noise"], r["uniform, smaller batch"])
        for r in rows
        if "uniform, smaller batch" in r
    ]
    assert all(control["train_loss"] > noise["train_loss"] for noise, control in pairs)
    higher = [control["test_error"] > noise["test_error"] for noise, control in pairs]
    assert sum(higher) > len(higher) / 2
    # "on balanced MNIST its test error is uniform training's within the intervals"
    noises, controls = zip(*(p for p in pairs if p[0]["backend"] == "tensorflow"), strict=True)
    balanced = ("mnist_conv16", "mnist_small_cnn", "mnist_mlp")
    found = [(n, c) for n, c in zip(noises, controls, strict=True) if n["task"] in balanced]
    assert len(found) == 3
    assert all(abs(c["minus_uniform"]) < c["minus_uniform_ci"] for _, c in found)
    # "It takes more time than same noise on TensorFlow and less on JAX and PyTorch"
    assert all(c["time"] > n["time"] for n, c in found)
    others = [(n, c) for n, c in pairs if n["backend"] != "tensorflow" and n["task"] in balanced]
    assert others and all(c["time"] < n["time"] for n, c in others)
    assert 2 < _minutes() < 3
    yield "(about three minutes, no data from a network)"


def _install():
    assert 2 < _minutes() < 3
    yield "# about three minutes, no data from a network"


def _results():
    yield from _results_of_the_same_epochs()
    yield from _results_with_whole_batches()
    yield from _conclusions()


def _results_of_the_same_epochs():
    conv = {a: _same("mnist_conv16", a) for a in ("same noise", "uniform, smaller batch")}
    noise, control = conv.values()
    share = noise["examples_relative"]
    yield f"takes {noise['time']:.2f} of the time, on {share:.2f} of the examples"
    uniform = _same("mnist_conv16", "model.fit")
    # "a little below"
    assert 0.8 < noise["train_loss"] / uniform["train_loss"] < 1
    auto = _same("mnist_conv16", "auto")
    before = {a: _row("conv16_before", a) for a in ("same noise", "auto")}
    found = [noise, before["same noise"], auto, before["auto"]]
    told = [f"{abs(r['minus_uniform']):.2f} ± {r['minus_uniform_ci']:.2f}" for r in found]
    assert found[0]["minus_uniform"] < 0 < min(r["minus_uniform"] for r in found[1:])
    yield f"{told[0]} points lower here and {told[1]} higher in the five runs before"
    yield f"in the same way, {told[2]} and {told[3]} higher"
    yield f"auto ended {_three_times('auto')} points higher"
    yield f"the same noise as high, {_three_times('same noise')}"
    # "The fault did not show here"
    assert before["auto"]["examples_relative"] < 1.05 * before["same noise"]["examples_relative"]
    kept = _runs("same_epochs_conv16", "mnist_conv16", "same noise", "report")
    noises = [report["relative_noise"] for report in kept]
    yield f"({min(noises):.2f} to {max(noises):.2f} of it, by the reports)"
    losses = {
        arm: _runs("same_epochs_conv16", "mnist_conv16", arm, "test_loss")
        for arm in ("model.fit", "same noise", "auto", "uniform, smaller batch")
    }
    least = losses.pop("uniform, smaller batch")
    assert all(a < b for a, b in zip(least, losses["model.fit"], strict=True))
    assert all(sum(least) < sum(other) for other in losses.values())
    yield "The control's test loss is the lowest**, below `model.fit`'s in each of the five runs"
    differs = f"{abs(control['minus_uniform']):.2f} ± {control['minus_uniform_ci']:.2f}"
    yield f"its test error does not differ ({differs})"
    ratio = control["train_loss"] / uniform["train_loss"]
    yield f"ends with {ratio:.1f} times uniform training's training loss"
    share = control["examples_relative"]
    yield f"with {share:.2f} of them uniform steps take {control['time']:.2f}"
    rare = ("long_tailed_mnist", "rare_positives", "image_field")
    learnt = ("mnist_conv16", "mnist_small_cnn", "mnist_mlp", "next_character")
    rows = {task: _same(task, "same noise") for task in (*rare, *learnt, "canevet", "friedman")}
    controls = {task: _same(task, "uniform, smaller batch") for task in rows}
    for task, row in rows.items():
        more = controls[task]["test_error"] - row["test_error"]
        assert (more < 0) == (task in ("mnist_small_cnn", "next_character")), task
        # "With 512-512 about the same"
        assert task != "mnist_mlp" or more < 0.02
    control, noise = "uniform, smaller batch", "same noise"
    lower = _apart("same_epochs_small_cnn_5", "mnist_small_cnn", noise, control)
    mean, half = interval(lower)
    yield f"`small_cnn` lower by {mean:.2f} ± {half:.2f} points, in each of five seeds"
    assert min(lower) > 0 and len(lower) == 5
    higher = [
        np.mean(_apart(name, "mnist_conv16", control, noise))
        for name in ("same_epochs_conv16", "single_steps_conv16", "conv16_before")
    ]
    assert [f"{h:.2f}" for h in higher] == ["0.05", "0.05", "-0.08"]
    noise = rows["mnist_conv16"]
    ratios = [controls[task]["train_loss"] / row["train_loss"] for task, row in rows.items()]
    yield f"with a training loss {min(ratios):.1f} to {max(ratios):.1f} times as high"
    shares = {task: row["examples_relative"] for task, row in rows.items()}
    text = shares.pop("next_character")
    least, most = min(shares.values()), max(shares.values())
    yield f"({least:.2f} to {most:.2f} of uniform training's; {text:.2f} on text"
    name, task = "same_epochs_small_cnn_5", "mnist_small_cnn"
    taken = [n for arm in ("same noise", "auto") for n in _runs(name, task, arm, "examples")]
    shares = [n / _runs(name, task, "model.fit", "examples")[0] for n in taken]
    yield f"their runs took {min(shares):.2f} to {max(shares):.2f} of the examples"
    small, whole = _same(task, "same noise"), _same(task, "model.fit")
    against = f"{small['minus_uniform']:.2f} ± {small['minus_uniform_ci']:.2f}"
    yield f"The same noise ends {against} points above uniform"
    ratios = [small[loss] / whole[loss] for loss in ("test_loss", "train_loss")]
    yield f"with {ratios[0]:.1f} times its test loss and {ratios[1]:.2f} times its training loss"
    fit, auto = (_runs("same_epochs_cifar10", "cifar10", a, "epoch_seconds")[0] for a in _PAIR)
    yield f"took {min(fit):.0f} to {max(fit):.0f} s in this run, the fastest as long as auto's"
    assert abs(min(fit) / min(auto) - 1) < 0.02
    (report,) = _runs("same_epochs_cifar10", "cifar10", "auto", "report")
    promised = re.search(r"promise a variance reduction of (\S+);", report["why_uniform"])[1]
    yield f"draws by the history promised a variance reduction of {promised}."
    name = "small_cnn_15"
    (noise,), (fit,) = (_runs(name, task, a, "epoch_seconds") for a in ("same noise", "model.fit"))
    before = sum(noise[:-1]) / (len(noise) - 1) / np.median(fit)
    share = _row(name, "same noise")["examples_relative"]
    yield f"before it took {before:.2f} of the time of as many of `model.fit`, on {share:.2f} of"
    # "more epochs spare no larger share"
    assert abs(share - small["examples_relative"]) < 0.02
    # "Half of the examples take the control more than three quarters of the time"
    half = controls["mnist_mlp"]
    assert abs(half["examples_relative"] - 0.5) < 0.05 and 0.75 < half["time"] < 1
    times = {task: row["time"] for task, row in rows.items()}
    yield f"{times['mnist_conv16']:.2f} and {times['long_tailed_mnist']:.2f} with convolutions"
    together = [times[task] for task in ("image_field", "rare_positives")]
    low, high = min(together), max(together)
    yield f"{low:.2f} to {high:.2f} with the dense networks for rare positives and the image"
    auto, keras = (
        [
            _row(name, arm, task=task)["time"]
            for name in ("same_epochs_tasks", "same_epochs_jax")
            for task in ("canevet", "friedman")
        ]
        for arm in ("auto", "model.fit, 32 in a call")
    )
    yield f'On TensorFlow "auto" took {auto[0]:.2f} and {auto[1]:.2f} of the time'
    yield f"with 32 steps in a call {keras[0]:.2f} and {keras[1]:.2f}"
    yield f"on JAX {auto[2]:.2f} and {auto[3]:.2f} against {keras[2]:.2f} and {keras[3]:.2f}"
    times = [_runs("same_epochs_jax", "friedman", arm, "seconds") for arm in _PAIR_BY_SCORE]
    ratio = max(auto / noise for noise, auto in zip(*times, strict=True))
    yield f"one of three runs took {ratio:.1f} times as long as the same noise"
    taken = np.mean(_runs("same_epochs_torch", "friedman", "same noise", "examples")) / 7800
    yield f"about as long on {taken:.0f} examples as on 128"
    for report in _runs("same_epochs_torch", "friedman", "auto", "report"):
        # "Auto drew uniformly nearly all the time."
        assert report["steps"]["uniform"] > 0.85 * 7800
    yield from _two_sessions()
    noise = _row("same_epochs_jax", "same noise", task="friedman")["time"]
    yield f"Friedman's function with JAX (same noise: {noise:.2f})"
    yield f"The same on JAX, where it took {_ms_per_step('same_epochs_jax'):.1f} ms"
    names = ("same_epochs_tasks", "same_epochs_jax")
    runs = [r for n in names for r in json.loads((RESULTS / f"{n}.json").read_text())["runs"]]
    errors = [r["test_error"] for r in runs if r["task"] == "canevet"]
    yield f"goes from {min(errors):.1f} to {max(errors):.1f} %"
    yield f"took {_ms_per_step('same_epochs_tasks'):.1f} ms on this machine"


def _two_sessions():
    """What the same seeds gave in another session."""
    files = (("tasks_before", "same_epochs_tasks"), ("rare_before", "same_epochs_rare"))
    moved = {}
    for names in files:
        then, now = (
            {
                (row["task"], row["arm"]): row
                for row in json.loads((RESULTS / f"{name}.json").read_text())["summary"]
            }
            for name in names
        )
        moved |= {key: (then[key], now[key]) for key in now}
    most = max(abs(now["time"] - then["time"]) for then, now in moved.values())
    arms = ("same noise", "model.fit, 32 in a call")
    times = [f"{row['time']:.2f}" for arm in arms for row in moved["friedman", arm]]
    yield f"moved times by up to {most:.2f} (Friedman's function on TensorFlow: same noise"
    yield f"{times[0]} then and {times[1]} now, 32 in a call {times[2]} and {times[3]};"
    then, now = moved["rare_positives", "same noise"]
    error = now["minus_uniform"] - then["minus_uniform"]
    yield f"the mean error of the same noise on rare positives by {error:.1f} points"


def _ms_per_step(name):
    """Of `model.fit` on points in the plane, without its stalls."""
    (steps,) = set(_runs(name, "canevet", "model.fit", "steps"))
    return 1000 * _row(name, "model.fit", task="canevet")["seconds"] / steps


def _results_with_whole_batches():
    for task, unit in (("friedman", ""), ("canevet", " points")):
        auto, half = (_whole(task, arm) for arm in ("auto, full batch", "history, k=0.5"))
        errors = [f"{-r['minus_uniform']:.2f} ± {r['minus_uniform_ci']:.2f}" for r in (auto, half)]
        yield f"by {errors[0]}{unit} with auto, by {errors[1]} with `k=0.5`"
    friedman = [_whole("friedman", arm) for arm in ("auto, full batch", "history, k=0.5")]
    uniform = _whole("friedman", "model.fit")
    losses = [row["test_loss"] / uniform["test_loss"] for row in friedman]
    yield f"test loss is {losses[0]:.2f} and {losses[1]:.2f} of uniform training's"
    text = [_whole("next_character", a) for a in ("auto, full batch", "history, k=0.5")]
    assert text[0]["minus_uniform_ci"] > abs(text[0]["minus_uniform"])
    yield f"`k=0.5` ended {text[1]['minus_uniform']:.1f} ± {text[1]['minus_uniform_ci']:.1f} points"
    name, task, arm = "same_epochs_small_cnn_5", "mnist_small_cnn", "auto, full batch"
    drawn = sorted(zip(*(_runs(name, task, arm, w) for w in ("train_loss", "seed")), strict=True))
    losses = [loss / _row(name, "model.fit")["train_loss"] for loss, _ in drawn]
    yield "ended at " + ", ".join(f"{loss:.2f}" for loss in losses[:-1]) + f" and {losses[-1]:.2f}"
    cnn, uniform = (_whole(task, a) for a in (arm, "model.fit"))
    yield f"its test loss at {cnn['test_loss'] / uniform['test_loss']:.1f} times"
    yield f"{cnn['minus_uniform']:.2f} ± {cnn['minus_uniform_ci']:.2f} points above it"
    assert cnn["seeds"] == 3


def _conclusions():
    fit, history, half = (_way(arm) for arm in ("model.fit", "history", "history, k=0.5"))
    losses = [row["train_loss"] / fit["train_loss"] for row in (history, half)]
    yield f"to {losses[0]:.2f} of uniform training's (512-512; {losses[1]:.2f} with `k=0.5`)"
    pool, reused = (_way(arm) for arm in ("pool", "pool, reused"))
    yield f"took {pool['seconds'] / history['seconds']:.1f} times as long as the history's"
    rows = json.loads((RESULTS / "every_way.json").read_text())["summary"]
    assert min(rows, key=_train_loss)["arm"] == "pool, reused"
    assert fit["train_loss"] > history["train_loss"] > pool["train_loss"] > reused["train_loss"]
    by_score = ("history", "history, k=0.5", "robust", "pool", "pool, measured", "pool, reused")
    assert all(_way(arm)["test_loss"] > 1.1 * fit["test_loss"] for arm in by_score)
    assert all(0 < row["minus_uniform"] < 0.22 for row in rows if "model.fit" not in row["arm"])
    losses = [
        _runs("whole_batches", "next_character", a, "test_loss")
        for a in ("history, k=0.5", "model.fit")
    ]
    assert all(more > less for more, less in zip(*losses, strict=True))


def _train_loss(row):
    return row["train_loss"]


def _faq():
    rows = json.loads((RESULTS / "same_epochs_jax.json").read_text())["summary"]
    yield f"On JAX that was up to {max(row['compile_seconds'] for row in rows):.0f} s"


def _choosing():
    files = RESULTS.glob("same_epochs_*.json")
    rows = [row for file in files for row in json.loads(file.read_text())["summary"]]
    most = max(row["time"] for row in rows if row["arm"] == "auto")
    yield f"trained to their end it took at most {most:.2f} of the time of `model.fit`"
    whole = [_whole(task, "auto, full batch")["time"] for task in ("friedman", "canevet")]
    yield f"it took {whole[0]:.2f} and {whole[1]:.2f} of the time"
    streams = [
        json.loads((RESULTS / f"step_cost_stream_{backend}.json").read_text())[0]
        for backend in ("tensorflow", "jax", "torch")
    ]
    off, auto = (max(row[f"{way} / fit"] for row in streams) for way in ("off", "auto"))
    yield f'uniform ones cost up to {off:.2f} times `model.fit`\'s, with "auto" up to {auto:.2f}'


def _gradients():
    size = {
        backend: json.loads((RESULTS / f"exact_norms_{backend}.json").read_text())["gibibytes"]
        for backend in ("torch", "jax", "tensorflow")
    }
    assert f"{size['jax']:.1f}" == f"{size['torch']:.1f}"
    yield f"take {size['torch']:.1f} (PyTorch, JAX) to {size['tensorflow']:.1f} GiB (TensorFlow)"
    points = json.loads((RESULTS / "gradient_quality.json").read_text())["cifar10"]
    saved = {
        steps: {row["draw"]: 100 - 100 * row["second_moment"] for row in point["draws"]}
        for steps, point in points.items()
    }
    exact = [f"{saved[steps]['full_gnorm']:.0f}" for steps in ("40", "80")]
    assert exact == ["1", "3"]
    yield "would take away one and three per cent of the second moment"
    late = saved["120"]
    assert abs(late["full_gnorm"] - 100 / 3) < 1
    assert (f"{late['loss']:.0f}", f"{late['gnorm']:.0f}") == ("7", "2")
    yield "a third, of which `loss` finds seven per cent and `gnorm` two"


def _scores():
    costs = [
        row["in_steps"]["full_gnorm"]
        for path in RESULTS.glob("exact_norms_*.json")
        for row in json.loads(path.read_text())["rows"].values()
    ]
    yield f"{min(costs):.1f} to {max(costs):.1f} training steps"


def _gallery():
    demo = _demo()
    milliseconds = 1e3 * demo["uniform"]["seconds"] / demo["uniform"]["steps"]
    yield f"Beside a step of {milliseconds:.1f} ms"
    noise = demo["same noise, less work"]
    assert noise["time"] == min(row["time"] for row in demo.values())
    worse = 100 * (noise["test_error"] - demo["uniform"]["test_error"])
    first = f"The same noise is done first, on {noise['share']:.2f} of the examples"
    yield f"{first}, and its test error is {worse:.2f} points above that of uniform training"
    history = demo["history of scores"]
    yield f"in whole batches takes {history['time']:.2f} times uniform training's time"
    assert history["test_error"] == min(row["test_error"] for row in demo.values())
    yield f"scored pools take {demo['importance sampling']['time']:.2f} times"
    examples = json.loads((ROOT / "examples" / "results.json").read_text())["runs"]
    measures = ("accuracy", "mean_absolute_error")
    better, sooner, by_score = set(), set(), set()
    for name, ways in examples.items():
        drawn, uniform = ways["by score"], ways["uniform"]
        measure = next(m for m in measures if m in drawn)
        gained = drawn[measure] - uniform[measure]
        if (gained < 0) == (measure == "mean_absolute_error"):
            better.add(name)
        if drawn["seconds"] < uniform["seconds"]:
            sooner.add(name)
        if set(drawn["report"]["steps"]) != {"uniform"}:
            by_score.add(name)
    mnist = {"mnist_mlp", "mnist_cnn", "mnist_history"}
    streams = {"mnist_tf_data", "mnist_dataloader"}
    worse = {"long_tailed_mnist", "friedman_regression"}
    assert mnist <= sooner and not streams & sooner and streams <= better
    assert worse <= sooner and not worse & better
    assert by_score == mnist | streams | worse | {"mnist_jax", "mnist_fine_tuning"}
    assert "cifar10_resnet" not in better
    yield "set and Friedman's function were done sooner and ended worse"
    assert all(
        run["made"]["machine"]["cores"] == 1 for ways in examples.values() for run in ways.values()
    )
    yield "on one core of a shared machine"


def _limits():
    ratios = [
        json.loads((RESULTS / f"step_cost_stream_{backend}.json").read_text())[0]["off / fit"]
        for backend in ("tensorflow", "jax", "torch")
    ]
    yield f"cost {min(ratios):.1f} to {max(ratios):.1f} times `model.fit`'s"


def _history_card():
    dense = json.loads((RESULTS / "step_cost_dense_jax.json").read_text())
    alone = [row["history / fit"] for row in dense]
    yield f"took {min(alone):.2f} to {max(alone):.2f} times as long as those of `model.fit`"
    friedman = [_whole("friedman", a) for a in ("history, k=0.5", "model.fit")]
    ratio = friedman[0]["train_loss"] / friedman[1]["train_loss"]
    yield f"ended at {ratio:.2f} of uniform training's training loss"
    losses = [_way(arm)["train_loss"] for arm in ("history", "model.fit")]
    yield f"with {losses[0] / losses[1]:.2f} of its training loss"
    runs = json.loads((RESULTS / "history_noise.json").read_text())["runs"]
    epochs = [row for run in runs for row in run["epochs"]]
    assert max(row["largest"] for row in epochs if row["drawn"] > 1000) > 0.9
    for task in {run["task"] for run in runs}:
        rows = [row for run in runs if run["task"] == task for row in run["epochs"]]
        for mix in ("0.2", "0.4"):
            shares = [row["ratios"][mix] / row["ratio"] for row in rows]
            assert 0.9 < sum(shares) / len(shares) < 1.1, (task, mix)
    yield "Between 0.2 and 0.4 it matters by less than a tenth"
    yield from _noise_kept()
    large = json.loads((RESULTS / "stored_scores_100m.json").read_text())["rows"]
    peak = large["HistoryMixtureSampler"]["mebibytes"] * 2**20 / 1e9
    yield f"**A hundred million examples** take {peak:.1f} GB at the peak"


def _noise_kept():
    runs = json.loads((RESULTS / "noise_kept.json").read_text())["runs"]
    looks = [(run["task"], run["seed"], look) for run in runs for look in run["looks"]]
    noise = {
        task: [look["noise"] for name, _, look in looks if name == task]
        for task in ("friedman", "mnist_conv16")
    }
    low, high = min(noise["friedman"]), max(noise["friedman"])
    yield f"that of a uniform batch ({low:.2f} to {high:.2f})"
    assert sum(n < 1 for n in noise["mnist_conv16"]) == 10 and len(noise["mnist_conv16"]) == 12
    above = [look for task, _, look in looks if task == "mnist_conv16" and look["noise"] > 1]
    assert all(look["noise_interval"][0] < 0.5 and look["noise_interval"][1] > 2 for look in above)
    most = [
        max(look["noise"] for task, own, look in looks if (task, own) == ("mnist_mlp", seed))
        for seed in (1, 2)
    ]
    assert most[1] < 1
    yield f"the other did not (up to {most[0]:.1f}, with"
    by_score = [look["noise_by_bound"] for _, _, look in looks]
    yield f"it is {min(by_score):.2f} to {max(by_score):.2f} in all looks"

    def relative(way, *tasks):
        found = [look["expectations"] for task, _, look in looks if task in tasks]
        return statistics.geometric_mean(row[way] / row["size and age"] for row in found)

    every = relative("two scores and age", "mnist_conv16", "mnist_mlp", "friedman")
    yield f"({every:.2f} times the ratio of size and age"
    means = [relative("moving mean and age", task) for task in ("mnist_conv16", "mnist_mlp")]
    yield f"give {means[0]:.2f} times the ratio with two convolutions and {means[1]:.2f} times"


def _approximate_card():
    lstm, history = (_way(arm) for arm in ("approximate", "history"))
    yield f"steps took {lstm['seconds'] / history['seconds']:.1f} times as long as the history's"
    assert lstm["train_loss"] > _way("model.fit")["train_loss"]


def _robust_card():
    history, robust = (_way(arm) for arm in ("history", "robust"))
    assert abs(robust["seconds"] / history["seconds"] - 1) < 0.1
    assert robust["test_error"] > history["test_error"]
    yield "took about as long as the history and ended no better"


def _other_cards():
    """What the cards of biased, constant time and constant variance say."""
    fit = _way("model.fit")
    for card, arm in (
        ("biased", "biased"),
        ("constant-time", "constant time"),
        ("constant-variance", "constant variance"),
    ):
        row = _way(arm)
        share = f"{row['train_loss'] / fit['train_loss']:.2f} of uniform training's training loss"
        yield card, share
        if arm != "biased":
            yield card, f"on {row['examples_relative']:.2f} of the examples"


def _scaling():
    found = json.loads((RESULTS / "many_devices_torch.json").read_text())
    (row,) = (row for row in found["rows"] if row["devices"] == 2)
    plain = {"history": row["fit_ms"], "pool": row["fit_ms"] + row["forward_ms"]}
    times = {
        way: [row[f"{way}_ms"] / base, 1 / row[f"{way} of fit"]] for way, base in plain.items()
    }
    # Nearly the same by either way to count.
    assert all(max(both) - min(both) < 0.03 for both in times.values())
    yield "medians of 21 rounds"
    assert found["settings"]["rounds"] == 21
    assert all(1.05 < ratio < 1.15 for ratio in times["history"])
    yield "a step takes about 1.1 times as long as the plain loop's"
    assert all(1.155 < ratio < 1.185 for ratio in times["pool"])
    yield "and about 1.17 times where a pool is scored"


SENTENCES = {
    "README.rst": _readme,
    "docs/faq.md": _faq,
    "docs/choosing.md": _choosing,
    "docs/gallery.md": _gallery,
    "docs/gradients.md": _gradients,
    "docs/install.md": _install,
    "docs/limits.md": _limits,
    "docs/methods/approximate.md": _approximate_card,
    "docs/methods/history.md": _history_card,
    "docs/methods/robust.md": _robust_card,
    "docs/results.md": _results,
    "docs/scaling.md": _scaling,
    "docs/scores.md": _scores,
}


@pytest.mark.parametrize("page", SENTENCES)
def test_figures_in_sentences(page):
    text = " ".join((ROOT / page).read_text().split())
    told = list(SENTENCES[page]())
    assert told and not [sentence for sentence in told if sentence not in text]


def test_figures_of_the_other_cards():
    for card, sentence in _other_cards():
        text = " ".join((ROOT / "docs" / "methods" / f"{card}.md").read_text().split())
        assert sentence in text, (card, sentence)


def test_bytes_for_each_example_are_those_of_the_cards():
    """What is not measured but follows from what is stored."""
    n = 640_000
    zeros = np.zeros((n, 1), np.float32), np.zeros(n, np.int64)
    dataset = InMemoryDataset(*zeros, *(a[:1] for a in zeros), categorical=False)
    for card, told, make in (
        ("history", "It keeps 9 bytes", lambda: HistoryMixtureSampler(dataset, UNBIASED)),
        ("history", "the report's counts 4 more", lambda: TrainingReport(n, 32).draws),
        ("infobatch", "4 bytes for each example", lambda: InfoBatchSampler(dataset, UNBIASED)),
    ):
        tracemalloc.start()
        kept = make()
        size = tracemalloc.get_traced_memory()[0] / n
        tracemalloc.stop()
        # Sums of blocks of 64 are the rest.
        assert int(size) == int(re.search(r"\d", told)[0]) and size % 1 < 0.2, (told, size, kept)
        assert told in " ".join((ROOT / "docs" / "methods" / f"{card}.md").read_text().split())
