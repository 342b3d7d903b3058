"""`importance-sampling run`: one experiment, written down in text files."""

from __future__ import annotations

import argparse
import contextlib
import platform
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ... import __version__
from ..._files import make_directory, write_json, write_whole
from ..._progress import Progress
from ..._text_tables import print_paragraph
from ...datasets import BaseDataset
from ...model_wrappers.model_state import load_model_state, model_state
from ...training.loop import Loop
from ...utils.keras_utils import DatasetSequence
from .. import build, checks
from ..hyperparams import Hyperparams, parse
from ..lock import locked
from ..logs import Logs
from ..options import SNAPSHOT_PERIOD
from ..recorder import Recorder
from ..registry import find_sampler, forward_batch_size
from ..registry.general import BATCH_SIZE, SEED
from ..results import RUN
from ..resume import (
    BEFORE,
    CHECKPOINT,
    DRAWS,
    Checkpoint,
    go_on_from,
    remove_temporaries,
    save_checkpoint,
    state_to_resume,
)
from ..signals import status


def main(options: argparse.Namespace) -> int:
    """Runs an experiment or continues one."""
    hp = parse(options.hyperparams)
    names = checks.named(options)
    checks.warn_without_effect(names, hp)
    if options.snapshot_period != SNAPSHOT_PERIOD and not options.save_model:
        checks.say_without_effect({"--snapshot_period": "of --save_model"})
    settings = {
        **names,
        "hyperparams": hp,
        "validate_every": options.validate_every,
        "save_predictions": options.save_predictions,
        "save_scores": options.save_scores,
        "save_train_scores": options.save_train_scores,
        "initial_weights": options.initial_weights and str(options.initial_weights),
        "backend": keras.backend.backend(),
    }
    directory = Path(options.output_directory)
    made = not directory.exists()
    make_directory(directory)
    try:
        with locked(directory) as left:
            return _run(options, names, settings, hp, directory, left)
    except BaseException:
        if made:
            # It stays where anything is in it.
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise


def _run(
    options: argparse.Namespace,
    names: dict[str, str],
    settings: dict[str, Any],
    hp: Hyperparams,
    directory: Path,
    begun: bool,
) -> int:
    """The run, in a directory that is its own."""
    found = state_to_resume(directory, settings, options.resume, options.overwrite, begun)
    remove_temporaries(directory)
    experiment = build.build_experiment(names, hp, hp.get(SEED.name, SEED.default))
    if options.initial_weights:
        build.load_initial_weights(experiment.model, Path(options.initial_weights))
    if options.plot_model:
        experiment.model.summary()
        keras.utils.plot_model(
            experiment.model, directory / "model.png", show_shapes=True, show_layer_names=False
        )
    run = _Run(options, settings, hp, directory, experiment, found)
    return run.train()


class _Run:
    """One run of an experiment."""

    def __init__(
        self,
        options: argparse.Namespace,
        settings: dict[str, Any],
        hp: Hyperparams,
        directory: Path,
        experiment: build.Experiment,
        found: Checkpoint | None,
    ):
        self.options, self.settings, self.hp = options, settings, hp
        self.directory = directory
        self.timed = bool(hp.get("time_based"))
        self.dataset: BaseDataset = experiment.dataset
        self.model, self.wrapper = experiment.model, experiment.wrapper
        self.sampler = experiment.sampler
        metrics = self.wrapper.metrics_names[1:-1]
        self.metric = metrics[0] if metrics else None
        if found is None:
            # Of a run that was here before, from which this one must not go on.
            for name in (CHECKPOINT, BEFORE, DRAWS):
                (directory / name).unlink(missing_ok=True)
            # Before all else, so that whatever is here can go on.
            self._describe("begun", 0, 0.0, 0.0)
        else:
            go_on_from(found)
            # Of where it was stopped; the checkpoint has the same until the next.
            (directory / DRAWS).unlink(missing_ok=True)
        self.logs = Logs(directory, found.state["sizes"] if found else None)
        batch_size = hp.get(BATCH_SIZE.name, BATCH_SIZE.default)
        self.loop = Loop(
            self.wrapper,
            self.sampler,
            self.model,
            batch_size,
            wait=True,
        )
        self.recorder = Recorder(self.loop, self.logs, hp, self.metric, self._show, self.dataset)
        self.loop.on_sample = self.recorder.on_sample
        self.last: dict[str, float] = {}
        if found:
            self._load(found)
        # Where no bar is drawn: a line an epoch, or a quarter of a shorter run.
        epoch = max(1, len(self.dataset.train_data) // batch_size)
        every = options.train_for / 4 if self.timed else min(epoch, options.train_for / 4)
        self.bar = Progress(
            "",
            options.train_for,
            "s" if self.timed else "steps",
            every=every,
            begin=self.recorder.progress,
        )

    def _load(self, found: Checkpoint) -> None:
        state = found.state
        try:
            load_model_state(self.model, state["model"])
            self.sampler.load_state_dict(state["sampler"])
            self.wrapper.load_state_dict(state["wrapper"])
            self.loop.load_state_dict(state["loop"])
            self.recorder.load_state_dict(state["recorder"])
            self.last = dict(state["last"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError(f"{found.path} is no checkpoint of this run: {error!r}.") from error

    def train(self) -> int:
        """Trains, measures and saves until the end; the exit status."""
        s, r, options = self.settings, self.recorder, self.options
        if self.timed:
            r.deadline = float(options.train_for)
        print_paragraph(
            f"{s['model']} on {s['dataset']}: {len(self.dataset.train_data)} training examples, "
            f"sampler {s['sampler']}, {s['wrapper']}, {s['reweighting']}, {s['backend']} backend"
            + (f", from step {r.steps} on" if r.steps else "")
        )
        self._note("running")
        try:
            with self.bar, r.interruptible(), r.listening(options.save_predictions):
                while r.progress < options.train_for and r.stopped_by is None:
                    self._segment()
            self._end()
        except BaseException as error:
            # What is on disk is whole, and goes on from the last checkpoint.
            with contextlib.suppress(OSError):
                self._note("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        finally:
            self.logs.close()
        return 0 if r.stopped_by is None else status(r.stopped_by)

    def _end(self) -> None:
        """Writes what a run leaves behind, and evaluates where it has come to."""
        r = self.recorder
        write_whole(self.directory / DRAWS, lambda path: np.save(path, r.draws))
        if r.stopped_by is None:
            if self.options.save_model:
                self._save_weights("")
        else:
            # All is on disk: whoever does not want to wait for the evaluation ends it again.
            self._note("interrupted")
            print(
                f"Interrupted after {r.steps} steps; --resume goes on from there.",
                file=sys.stderr,
                flush=True,
            )
        if r.steps % self.options.validate_every and r.steps:
            # After the checkpoint, from which a run goes on that is to be as one that went through.
            self._validate()
        if r.stopped_by is None:
            self._note("finished")
        self._summarize()

    def _segment(self) -> None:
        """Trains up to the next step at which something else is to be done."""
        r, options = self.recorder, self.options
        periods = [options.validate_every, options.checkpoint_every]
        if options.save_model:
            periods.append(options.snapshot_period)
        following = [period * (r.steps // period + 1) for period in periods]
        if not self.timed:
            following.append(options.train_for)
        self.loop.run(
            epochs=1,
            steps_per_epoch=min(following) - r.steps,
            callbacks=[r],
            verbose=0,
            validation=None,
        )
        if r.steps % options.validate_every == 0:
            self._validate()
        if options.save_model and r.steps % options.snapshot_period == 0:
            self._save_weights(f".{r.steps:06d}")
        ended = r.progress >= options.train_for or r.stopped_by is not None
        if ended or r.steps % options.checkpoint_every == 0:
            self._save_state()

    def _show(self, recorder: Recorder, values: dict[str, float]) -> None:
        done = min(recorder.progress, self.options.train_for)
        shown = (
            f"{name} {value:.0f}" if abs(value) >= 1000 else f"{name} {value:.4g}"
            for name, value in values.items()
        )
        self.bar.update(done, "  ".join(shown))

    def _validate(self) -> None:
        self.last = self._evaluate("val", train=False, part=slice(None))
        if self.options.save_train_scores:
            step = max(1, len(self.dataset.train_data) // max(1, len(self.dataset.test_data)))
            self._evaluate("train", train=True, part=slice(None, None, step))

    def _evaluate(self, name: str, train: bool, part: slice) -> dict[str, float]:
        """Mean loss and metric over a part of the data, and its scores if wanted."""
        size = forward_batch_size(self.dataset, self.hp)
        batches = DatasetSequence(self.dataset, train, part, size)
        if not len(batches):
            return {}
        logs = self.model.evaluate(batches, verbose=0, return_dict=True)
        metric = logs[self.metric] if self.metric else 0.0
        self.logs.write(f"{name}_eval.txt", [(logs["loss"], metric)])
        if self.options.save_scores:
            for i in range(len(batches)):
                scores = np.asarray(self.wrapper.score_batch(*batches[i]), dtype=float).reshape(-1)
                self.logs.write(f"{name}_scores.txt", [(score,) for score in scores])
        return {"loss": float(logs["loss"]), "metric": float(metric)}

    def _save_weights(self, suffix: str) -> None:
        network = getattr(self.sampler, "model", None)
        for name, model in (("model", self.model), ("sampler_model", network)):
            if isinstance(model, keras.Model):
                path = self.directory / f"{name}{suffix}.weights.h5"
                write_whole(path, model.save_weights)

    def _save_state(self) -> None:
        state = {
            "model": model_state(self.model),
            "sampler": self.sampler.state_dict(),
            "wrapper": self.wrapper.state_dict(),
            "loop": self.loop.state_dict(),
            "recorder": self.recorder.state_dict(),
            "sizes": self.logs.sizes(),
            "last": self.last,
        }
        save_checkpoint(self.directory, state)

    def _note(self, state: str) -> None:
        r = self.recorder
        self._describe(state, r.steps, r.seconds, r.compiling)

    def _describe(self, state: str, steps: int, seconds: float, compiling: float) -> None:
        versions = {"importance_sampling": __version__, "keras": keras.__version__}
        content = {
            "settings": self.settings,
            "state": state,
            "train_for": self.options.train_for,
            "steps": steps,
            "seconds": round(seconds, 3),
            "compiling_seconds": round(compiling, 3),
            "train_size": len(self.dataset.train_data),
            "test_size": len(self.dataset.test_data),
            "metric": self.metric,
            "versions": {**versions, "python": platform.python_version()},
        }
        write_json(self.directory / RUN, content)

    def _summarize(self) -> None:
        r = self.recorder
        text = f"{r.steps} steps in {r.seconds:.1f} s of training"
        text += f", and {r.compiling:.1f} s of compiling that the clock leaves out"
        if find_sampler(self.settings["sampler"]).base.by_score:
            text += f"; {r.steps_by_score} of the steps were drawn by score"
            if not r.steps_by_score:
                text += ", which begins later: by the history, after a pass over the data"
        if self.last:
            loss, metric = self.last["loss"], self.last["metric"]
            accuracy = self.metric is not None and "accuracy" in self.metric
            text += f"; test loss {loss:.4f}"
            text += f", test error {100 * (1 - metric):.2f} %" if accuracy else ""
        print_paragraph(f"{text}. Written to {self.directory}.")
