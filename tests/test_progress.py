"""What is shown while something works: on a terminal, and in a file."""

import io
import re
import sys

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data

from importance_sampling import _progress
from importance_sampling._progress import Progress, duration, shown
from importance_sampling.training import ImportanceTraining, _bar
from importance_sampling.training._bar import Bar

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact


class Terminal(io.StringIO):
    """What would be seen on a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def drawn(self):
        """Every line as it was when something was drawn over it, or it was left."""
        return [line for line in re.split(r"[\r\n]", self.getvalue()) if line.strip()]


class Clock:
    """Seconds that pass as they are told to."""

    def __init__(self, step=0.0):
        self.now, self.step = 0.0, step

    def monotonic(self):
        self.now += self.step
        return self.now


@exact
def test_durations():
    assert [duration(s) for s in (0.4, 59.4, 60, 3599, 3661)] == [
        *("0s", "59s", "1:00", "59:59"),
        "1:01:01",
    ]


@exact
def test_a_file_gets_a_line_a_quarter_with_the_time_left(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(_progress, "time", clock)
    with Progress("uniform", 100, "%") as progress:
        for percent in range(101):
            clock.now = percent / 10
            progress.update(percent, f"loss {percent}")
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "uniform:  25 %  loss 25  (2s, 8s left)",
        "uniform:  50 %  loss 50  (5s, 5s left)",
        "uniform:  75 %  loss 75  (8s, 2s left)",
        "uniform: 100 %  loss 100  (10s)",
    ]
    # One that goes on counts what it does itself.
    clock.now = 0.0
    with Progress("", 40, every=10, begin=20) as progress:
        for step in range(21, 41):
            clock.now += 1.0
            progress.update(step)
    assert capsys.readouterr().out.splitlines() == [
        "30/40 steps  (10s, 10s left)",
        "40/40 steps  (20s)",
    ]
    assert list(shown(range(3), "quiet", 3, quiet=True)) == [0, 1, 2]
    assert capsys.readouterr().out == ""


@exact
def test_a_terminal_gets_a_bar_with_the_time_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_progress, "_INTERVAL", 0.0)
    file, clock = Terminal(), Clock()
    monkeypatch.setattr(_progress, "time", clock)
    name = "random third of each pool"
    with Progress(name, 4, file=file) as progress:
        assert progress.is_live
        for _ in range(4):
            clock.now += 50.0
            progress.advance(1, "loss 0.1234  accuracy 0.5678")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    lines = [line.rstrip() for line in re.split(r"[\r\n]", text) if line.strip()]
    assert max(map(len, lines)) <= 80 and all(line.startswith(name) for line in lines)
    # What does not fit beside the time is left out whole.
    assert any(line.endswith(" 1/4 steps 50s, 2:30 left  loss 0.1234") for line in lines)
    assert lines[-1].endswith(" 4/4 steps 3:20  loss 0.1234")


def fit(capsys=None, **arguments):
    x, y = data(96)
    training = ImportanceTraining(adam_mlp(), tau_th=0.0, seed=0)
    training.fit(x, y, batch_size=16, epochs=2, validation_data=(x, y), **arguments)
    return training.history.history


@pytest.mark.end_to_end
@pytest.mark.parametrize("verbose", [1, "auto"])
def test_fit_writes_a_line_an_epoch_into_a_file(capsys, verbose):
    history = fit(verbose=verbose)
    out = capsys.readouterr().out
    assert not re.search(r"[\r\b\x1b]", out)
    lines = out.splitlines()
    assert len(lines) == 4 and lines[0] == "Epoch 1/2" and lines[2] == "Epoch 2/2"
    assert f"importance_sampling: {history['importance_sampling'][-1]:.4f}" in lines[3]
    assert "val_accuracy: " in lines[3]


@pytest.mark.end_to_end
def test_the_bar_of_fit_fits_a_terminal_of_80_columns(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(_bar, "_INTERVAL", 0.0)
    monkeypatch.setenv("COLUMNS", "80")
    history = fit()
    monkeypatch.undo()
    drawn = terminal.drawn()
    assert max(map(len, drawn)) < 80
    # Six steps an epoch, each drawn once; what came of it takes its place.
    bars = [line for line in drawn if re.match(r"\d/6 [━─]+ ", line)]
    assert [line[0] for line in bars] == list("123456") * 2
    assert all(re.search(r" \d+s \d+[mu]s/step  loss \d", line) for line in bars)
    # The same name means the same in the epoch and at its end: the share so far.
    at_end = " ".join(" ".join(drawn[drawn.index("Epoch 2/2") :]).split())
    share = history["importance_sampling"][-1]
    assert f"by score {100 * share:.0f}%" in bars[-1] and at_end.count(bars[-1].split("  ")[-1])
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert f" {name} {history[name][-1]:.4f}" in at_end
    assert f" vr {history['variance_reduction'][-1]:.2f}" in at_end


@exact
def test_what_a_step_of_the_users_own_logs_is_shown_as_far_as_it_is_numbers(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(_bar, "_INTERVAL", 0.0)

    class Guide(keras.Sequential):
        """Keras' guide returns the compiled metrics as a dictionary."""

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            super().compute_metrics(x, y, y_pred, sample_weight)
            return {metric.name: metric.result() for metric in self.metrics}

    model = Guide([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    # One number for each class.
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy", keras.metrics.F1Score()])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 4)).astype("float32"), np.eye(3)[rng.integers(0, 3, 32)]
    ImportanceTraining(model, tau_th=1e9, seed=0).fit(x, y, batch_size=8, verbose=1)
    drawn = [line for line in terminal.drawn() if "/4 " in line]
    assert drawn and all(re.search(r" accuracy 0\.\d{4}", line) for line in drawn[1:])
    assert "f1" not in terminal.getvalue()


@exact
@pytest.mark.one_backend("torch")
@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="compiled, they cost next to nothing"
)
def test_metrics_are_read_when_the_bar_draws_and_no_more(monkeypatch):
    terminal, (x, y) = Terminal(), data(64)
    monkeypatch.setattr(sys, "stdout", terminal)
    model, read = adam_mlp(), []
    result = keras.metrics.Mean.result
    monkeypatch.setattr(keras.metrics.Mean, "result", lambda m: read.append(m.name) or result(m))
    training = ImportanceTraining(model, tau_th=1e9, seed=0)

    def reads(interval):
        read.clear()
        monkeypatch.setattr(_bar, "_INTERVAL", interval)
        training.fit(x, y, batch_size=8, verbose=1)
        return read.count("loss")

    # The first call tries the model out.
    training.fit(x, y, batch_size=8, verbose=0)
    # The end of an epoch reads them, too.
    assert reads(1e9) == 1
    assert any(line.startswith("8/8") for line in terminal.drawn())
    assert reads(0.0) == 8
    assert any(re.match(r"7/8 .* loss \d", line) for line in terminal.drawn())


@exact
@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("steps", [None, 1875])
def test_what_matters_most_stays_where_there_is_little_room(monkeypatch, columns, steps):
    logs = {"accuracy": 0.91234, "loss": np.float32(1e-5), "score": 0.5, "batch_size": 20.0}
    logs |= {"top_5_accuracy": 0.99, "variance_reduction": 1.234, "importance_sampling": 0.456}
    terminal, clock = Terminal(), Clock()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(_bar, "time", clock)
    monkeypatch.setenv("COLUMNS", str(columns))
    bar = Bar()
    bar.set_params({"epochs": 1, "steps": steps, "verbose": 1})
    bar.on_epoch_begin(0)
    for step in (0, 1, 2, 3):
        # The first step takes 9 s, the others 2 ms.
        clock.now = 9.0 + 0.002 * step
        bar.on_train_batch_end(step, logs)
    clock.now = 9.2
    bar.on_train_batch_end(100, logs)
    lines = terminal.drawn()
    assert len(lines) == 2 and max(map(len, lines)) < columns
    if steps:
        # 1774 steps of 2 ms are left; compiling is no part of a step.
        assert lines[-1].startswith(" 101/1875 ") and " 4s 2ms/step" in lines[-1]
    else:
        assert lines[-1].startswith("101/? 9s 2ms/step")
    everything = ["loss 1.00e-05", "accuracy 0.9123", "by score 46%", "vr 1.23", "score 0.5000"]
    found = [value for value in everything if f"  {value}" in lines[-1]]
    assert found == everything[: {40: len(found), 80: 2, 200: 5}[columns]] or steps is None
    assert columns == 40 or len(found) >= 2
    bar.on_epoch_end(0, logs)
    at_end = terminal.drawn()[2:]
    assert max(map(len, at_end)) < columns
    assert all(value in " ".join(" ".join(at_end).split()) for value in everything)


@exact
def test_characters_that_a_terminal_lacks_are_not_drawn(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert Bar._characters() == ("━", "─")
    monkeypatch.setattr(Terminal, "encoding", "ascii")
    assert Bar._characters() == ("=", ".")


@pytest.mark.end_to_end
def test_a_bar_of_the_users_own_is_the_only_one(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    fit(callbacks=[keras.callbacks.ProgbarLogger()], verbose=1)
    monkeypatch.undo()
    assert terminal.getvalue().count("Epoch 2/2") == 1
    assert "by score" not in terminal.getvalue()
