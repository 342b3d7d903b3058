"""What commands say: help, errors with what was meant, options without an effect."""

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import adam_mlp, data
from processes import environment

import importance_sampling
from importance_sampling import _requirements, models, samplers
from importance_sampling.datasets import CIFAR10
from importance_sampling.experiment import cli, registry, startup
from importance_sampling.experiment.options import COMMANDS, PAPERS
from importance_sampling.experiment.recorder import Recorder
from importance_sampling.experiment.results import Result
from importance_sampling.training import HistoryImportanceTraining, ImportanceTraining

pytestmark = pytest.mark.any_backend

exact = pytest.mark.exact
end_to_end = pytest.mark.end_to_end

RUN = ("run", "small_nn", "oracle-loss", "model", "predicted", "canevet-icml2016")
HYPERPARAMS = "N=i64;batch_size=i32;presample=i64"


def said(capsys, *arguments):
    """What a command that ends with status 2 writes: one line on standard error."""
    try:
        status = cli.main(arguments)
    except SystemExit as ended:
        status = ended.code
    out, err = capsys.readouterr()
    assert status == 2 and not out and err.count("\n") == 1, err
    return err


# -- help ------------------------------------------------------------------------------------------


@exact
@pytest.mark.parametrize("name", [*COMMANDS, *PAPERS])
def test_help_has_an_example_that_parses_and_defaults(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    example = re.search(r"example:\n((?:.*\\\n)*.*)\n?", text)[1].replace("\\\n", " ")
    program, command, *arguments = example.split(" > ")[0].split(" < ")[0].split()
    assert (program, command) == ("importance-sampling", name)
    options = cli._parsed(cli._parser(), [command, *(a.strip("'") for a in arguments)])
    assert options.command == name
    # Every option says what it is, and what it is where it is left out.
    parser = cli._script_parser(name, "x.py")
    for action in parser._actions:
        assert action.help, action.dest
        if action.option_strings and action.default not in (None, "==SUPPRESS==", ""):
            shown = f"(default: {action.default if action.default != ' ' else repr(' ')}"
            exempt = action.default is False or isinstance(action.default, list | slice)
            assert exempt or shown in " ".join(text.split()), action.dest


@exact
def test_help_of_commands_that_load_weights_lists_networks_and_data(capsys):
    assert list(registry.NETWORKS) == models.names()
    for name in ("run", "scores", "variance-reduction"):
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        text = capsys.readouterr().out
        for row in (*registry.NETWORKS, *registry.DATASETS):
            assert f"\n  {row} " in text, (name, row)


@exact
def test_a_script_calls_itself_by_its_own_name(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"], script=("list", "lsexp.py"))
    text = capsys.readouterr().out
    assert text.startswith("usage: lsexp.py [-h]") and "\n  lsexp.py runs --latest" in text
    assert cli.main(["nowhere"], script=("list", "lsexp.py")) == 2
    assert capsys.readouterr().err == "lsexp.py: There is no directory nowhere.\n"


# -- slips -----------------------------------------------------------------------------------------


@exact
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plt",), "There is no command 'plt'. Did you mean 'plot'?"),
        (("xyzzy",), "There is no command 'xyzzy'. Commands: demo, run, compare"),
        (("required",), "There is no command 'required'."),
        (("run", "small_nn"), "run: the following arguments are required: wrapper, sampler"),
        (("plot", "curves", "x", "--outputt", "a"), "no option '--outputt'. Did you mean '--outp"),
        (("run", "small_nn", "--lr=0.1"), "a hyper-parameter: --hyperparams 'lr=f0.1'"),
        (
            ("run", "small_nn", "loss", "model", "predicted", "mnist", "x"),
            "There is no wrapper 'loss'. Did you mean 'oracle-loss'?",
        ),
        ((*RUN, "x", "--validate_evry", "3"), "no option '--validate_evry'. Did you mean '--val"),
        ((*RUN, "x", "--lr", "0.1"), "a hyper-parameter: --hyperparams 'lr=fVALUE'"),
        ((*RUN, "x", "--batch_size=128"), "a hyper-parameter: --hyperparams 'batch_size=i128'"),
        ((*RUN, "x", "y"), "There is no argument 'y'."),
        (
            ("demo", "--backend", "jax"),
            "'--backend'. Set the environment variable KERAS_BACKEND=te",
        ),
        (
            ("demo", "--backend=jax"),
            "'--backend=jax'. Set the environment variable KERAS_BACKEND=jax",
        ),
        (("demo", "--dataset", "mnits"), "no data set of the demo 'mnits'. Did you mean 'mnist'"),
        (("scores", "a", "b", "c", "--score", "los"), "no score 'los'. Did you mean 'loss'"),
        (("demo", "--data", "x"), "--data is for --dataset mnist"),
        (("demo", "--steps", "1", "--seconds", "1"), "--seconds: not allowed with argument --st"),
        (("list", "a", "--expdir", "b"), "give one of them"),
        (("plot", "curves", "x", "-o", "a.jpg"), "must end in .png, .svg or .pdf for the kind"),
        (("plot", "curves", "x", "-o", "a.gif"), ".gif and .mp4 are for scores and predictions"),
        (("plot", "curves", "x", "-o", "."), "--output . is a folder; name a file in it, such as"),
        (("plot", "curves", "x", "-o", "a.png", "--frames", "9"), "--frames is for animations"),
        (("plot", "scores", "x", "-o", "a.gif", "--title", "a"), "--title is for pictures that"),
        (
            (*RUN, "x", "--hyperparams", "batch_size=i1,lr=f0.1"),
            "joined by ';', not by ',': --hyperparams 'batch_size=i1;lr=f0.1'.",
        ),
        ((*RUN, "x", "--hyperparams", "opt=ssgd, lr=f0.1"), "'opt=ssgd;lr=f0.1'"),
        (
            (*RUN, "x", "--hyperparams", "lr_reductions=I1,2"),
            "divided by '!', not by ',': lr_reductions=I1!2.",
        ),
    ],
)
def test_slips_are_told_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in said(capsys, *arguments)
    assert not list(tmp_path.iterdir())


@exact
def test_what_stands_before_a_sampler_is_no_list_of_all_combinations():
    for name, message in (
        ("modl", r"no sampler 'modl'\. Did you mean 'model'\?$"),
        ("xyzzy", r"Known: uniform, model, .*, scsg, smooth-\.\.\., .*, vr-\.\.\.\.$"),
        ("vr-uniform", r"'vr-' does not go before 'uniform'\. It goes before model, lstm, lstm-c"),
        ("smooth-vr-model", r"'smooth-' does not go before 'vr-model'\. .* model, lstm, pcg, hist"),
    ):
        with pytest.raises(ValueError, match=message):
            registry.find_sampler(name)


@exact
def test_paths_with_commas_are_no_slip():
    from importance_sampling.experiment.hyperparams import parse

    assert parse("data=s/a,b/c=d;opt=ssgd") == {"data": "/a,b/c=d", "opt": "sgd"}


@exact
def test_unknown_backends_are_named_with_what_there_is(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflw")
    message = "'tensorflw', which is no backend. Did you mean 'tensorflow'. Set .* jax or torch"
    with pytest.raises(ImportError, match=message):
        _requirements.check_backend()
    # One line of what to do, and nothing of it where no backend is needed.
    told = said(capsys, "demo", "--steps", "1")
    assert "Did you mean 'tensorflow'" in told and "Traceback" not in told
    assert "holds no run" in said(capsys, "compare", "nowhere")
    # Nothing is trained with it, but what runs wrote can be read.
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    _requirements.check_backend()


@exact
def test_commands_that_compute_refuse_a_backend_that_cannot_train(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    told = "run on numpy, which cannot train. Set KERAS_BACKEND to tensorflow, jax or torch."
    assert told in said(capsys, "demo", "--steps", "1")
    assert "holds no run" in said(capsys, "compare", "nowhere")


@exact
def test_rich_comes_with_keras():
    """Which is why it is none of the dependencies here."""
    needed = importlib.metadata.requires("keras")
    assert any(re.match(r"rich\b", line) and "extra ==" not in line for line in needed)


# -- a start without the frameworks' own lines -----------------------------------------------------


@exact
def test_lines_of_a_start_are_held_back_and_others_are_not(capfd):
    with startup.without_startup_lines():
        for line in (
            b"WARNING: All log messages before absl::InitializeLog() is called are written\n",
            b"I0000 00:00:1795867138.454891   13708 port.cc:153] oneDNN custom operations.\n",
            b"E0000 00:00:1795867138.454891   13708 cuda_executor.cc:1] failed call to cuInit\n",
            b"2026-11-28 12:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN\n",
            b"Killed\n",
        ):
            os.write(2, line)
    assert capfd.readouterr().err == "Killed\n"
    with pytest.raises(OSError), startup.without_startup_lines():
        os.write(2, b"a reason\n")
        raise OSError
    print("and on", file=sys.stderr)
    assert capfd.readouterr().err == "a reason\nand on\n"


@end_to_end
def test_output_that_nobody_reads_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "importance_sampling", "list", str(tmp_path)]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "train.txt").write_text("")
    done = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, env=environment(), text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


# -- runs ------------------------------------------------------------------------------------------


def small_run(directory, *more, **options):
    settings = {"train_for": 8, "validate_every": 100, "hyperparams": HYPERPARAMS} | options
    flat = [str(part) for key, value in settings.items() for part in (f"--{key}", value)]
    return cli.main([*RUN, str(directory), *flat, *more])


@end_to_end
def test_an_interrupted_run_is_evaluated_and_drawn_and_goes_on(tmp_path, capsys, monkeypatch):
    """Ctrl-C in the fifth step, whatever the period of evaluations is."""
    step = Recorder.on_train_batch_end

    def stopping(self, batch, logs):
        if self.steps == 4:
            signal.raise_signal(signal.SIGINT)
        step(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_end", stopping)
        assert small_run(tmp_path / "a") == 130
    out, err = capsys.readouterr()
    assert err == "Interrupted after 5 steps; --resume goes on from there.\n"
    assert "5 steps in" in out and "test error" in out and not re.search(r"[\r\b\x1b]", out)
    result = Result(tmp_path / "a")
    assert result.description["state"] == "interrupted"
    assert result.validated_at.tolist() == [5] and len(result.validation) == 1
    assert result.draws.sum() == 5 * 32
    # Nothing was asked for but these.
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        *("train.txt", "clock.txt", "sampling.txt", "val_eval.txt", "run.json"),
        *("draws.npy", "checkpoint.npz"),
    }
    assert cli.main(["plot", "draws", str(tmp_path / "a"), "-o", str(tmp_path / "a.png")]) == 0
    # One that was killed is drawn from its checkpoint.
    (tmp_path / "a" / "draws.npy").unlink()
    assert Result(tmp_path / "a").draws.sum() == 5 * 32
    # It ends as one that went through; the evaluation in between is none of its own.
    assert small_run(tmp_path / "a", "--resume") == 0
    assert small_run(tmp_path / "b") == 0
    for name in ("train.txt", "sampling.txt", "val_eval.txt"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    assert Result(tmp_path / "a").validated_at.tolist() == [8]
    # 8 steps of 32 of 2745 examples
    assert Result(tmp_path / "a").epochs == pytest.approx(8 * 32 / 2745)


@end_to_end
def test_a_second_ctrl_c_does_not_wait_for_the_evaluation(tmp_path, capsys, monkeypatch):
    from importance_sampling.experiment.commands import run

    step = Recorder.on_train_batch_end

    def stopping(self, batch, logs):
        signal.raise_signal(signal.SIGINT)
        step(self, batch, logs)

    def evaluating(self):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Recorder, "on_train_batch_end", stopping)
    monkeypatch.setattr(run._Run, "_validate", evaluating)
    assert small_run(tmp_path / "a") == 130
    assert capsys.readouterr().err.endswith("importance-sampling: interrupted\n")
    assert Result(tmp_path / "a").description["state"] == "interrupted"
    assert Result(tmp_path / "a").draws.sum() == 32


@end_to_end
def test_the_clock_leaves_compiling_out(tmp_path, monkeypatch):
    """Steps of a kind and size that was not there before; of others every second counts."""
    kinds = iter([("uniform", 32), ("uniform", 32), ("pool", 32), ("pool", 32), ("pool", 16)])
    now = iter([0.0, 7.0, 8.0, 13.0, 15.0, 18.0])
    written = []

    class Loop:
        class logs:
            mean_score = estimate = 1.0
            last = None

        batch_size = 32

    class Logs:
        def write(self, name, rows):
            if name == "clock.txt":
                written.append(float(rows[0][0]))

    class Dataset:
        train_data = range(4)

    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    shown = []

    def bar(_, values):
        shown.append(values.get("samples/s"))

    recorder = Recorder(Loop, Logs(), {}, None, bar, Dataset)
    recorder.on_train_begin()
    for kind, size in kinds:
        Loop.logs.last = kind, size, kind == "pool"
        recorder.on_train_batch_end(0, {"loss": 1.0, "variance_reduction": 1.0})
    assert written == [0.0, 1.0, 1.0, 3.0, 3.0]
    assert recorder.seconds == 3.0 and recorder.compiling == 7.0 + 5.0 + 3.0
    # Before there is a time, there is no speed.
    assert shown[0] is None and shown[1] == 2 * 32 / 1.0


@end_to_end
def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path, capsys):
    mnist = [*RUN[:-1], "mnist", str(tmp_path / "a"), "--hyperparams", "data=snowhere"]
    assert "No mnist.npz at nowhere" in said(capsys, *mnist)
    assert not (tmp_path / "a").exists()
    # One that was there stays.
    (tmp_path / "a").mkdir()
    said(capsys, *mnist)
    assert (tmp_path / "a").is_dir()


@end_to_end
def test_options_without_an_effect_are_named(tmp_path, capsys):
    assert small_run(tmp_path / "a", train_for=1, snapshot_period=7) == 0
    err = capsys.readouterr().err
    assert err == "importance-sampling: without effect here: --snapshot_period (of --save_model)\n"


# -- data, trainings, the package ------------------------------------------------------------------


@exact
def test_a_file_found_by_a_pattern_is_named(tmp_path, capsys):
    x, y = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)
    np.savez(tmp_path / "cifar10_few.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.warns(UserWarning, match=r"cifar10 is read from .*cifar10_few\.npz: .* no cifar10"):
        CIFAR10(tmp_path)
    (tmp_path / "cifar10_few.npz").rename(tmp_path / "cifar10.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CIFAR10(tmp_path)


@end_to_end
def test_commands_tell_warnings_in_a_line(capsys, monkeypatch):
    def warned(options):
        warnings.warn("cifar10 is read\nfrom elsewhere", stacklevel=1)
        return 0

    monkeypatch.setattr("importance_sampling.experiment.commands.list.main", warned)
    assert cli.main(["list", "."]) == 0
    assert capsys.readouterr().err == "importance-sampling: cifar10 is read from elsewhere\n"


@exact
def test_an_argument_that_fit_does_not_have_names_the_training():
    x, y = data(32)
    training = HistoryImportanceTraining(adam_mlp())
    for call, name, near in (
        (training.fit, "HistoryImportanceTraining.fit", "batch_size"),
        (training.fit_generator, "HistoryImportanceTraining.fit_generator", "batch_size"),
        (training.fit_dataset, "HistoryImportanceTraining.fit_dataset", "batch_size"),
    ):
        message = rf"{name}\(\) has no argument 'batchsize'\. Did you mean '{near}'\?"
        with pytest.raises(TypeError, match=message):
            call(x, batchsize=3)
    with pytest.raises(TypeError, match=r"fit\(\) has no argument 'xyzzy'\.$"):
        training.fit(x, y, xyzzy=3)


@exact
def test_a_setting_that_a_training_does_not_have():
    class Own(ImportanceTraining):
        def __init__(self, model, **settings):
            super().__init__(model, **settings)

    class Mine(ImportanceTraining):
        def __init__(self, model, mine=1):
            super().__init__(model)
            self.mine = mine

    for kind, name, near in (
        (ImportanceTraining, "pre_sample", " Did you mean 'presample'\\?"),
        (HistoryImportanceTraining, "min_batchsize", " Did you mean 'min_batch_size'\\?"),
        (HistoryImportanceTraining, "xyzzy", ""),
        (Mine, "presample", ""),
    ):
        message = rf"{kind.__name__}\(\) has no argument '{name}'\.{near}$"
        with pytest.raises(TypeError, match=message):
            kind(adam_mlp(), **{name: 3})
    # What hands settings on is asked about them where they arrive.
    with pytest.raises(TypeError, match="pre_sample"):
        Own(adam_mlp(), pre_sample=3)
    assert Mine(adam_mlp(), mine=2).mine == 2 and Own(adam_mlp(), presample=2.0)


@exact
def test_a_stream_is_told_what_takes_it():
    class Part:
        def __len__(self):
            raise RuntimeError("a stream")

    class Stream:
        train_data = Part()

    with pytest.raises(NotImplementedError, match=r'ImportanceTraining\(model, presample="auto"\)'):
        samplers.HistorySampler(Stream(), None, None)


@end_to_end
def test_a_training_answers_for_its_model(tmp_path, capsys):
    x, y = data(32)
    model = adam_mlp()
    training = ImportanceTraining(model)
    np.testing.assert_array_equal(
        training.predict(x, verbose=0), model.predict(x, batch_size=32, verbose=0)
    )
    assert training.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    training.save(tmp_path / "a.keras")
    assert (tmp_path / "a.keras").stat().st_size > 1000
    training.summary()
    assert "Total params" in capsys.readouterr().out
    with pytest.raises(AttributeError, match=r"no attribute 'layers'; the model .*_model\.layers`"):
        training.layers  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'$"):
        training.xyzzy  # noqa: B018
    with pytest.raises(AttributeError) as raised:
        training.evalute(x, y)
    # What Python needs to ask "Did you mean: 'evaluate'?".
    assert (raised.value.name, raised.value.obj) == ("evalute", training)
    assert repr(training).startswith(f"{type(training).__name__}(<Sequential name=")
    assert not hasattr(training, "_xyzzy")


@exact
def test_dir_lists_what_there_is():
    public = [name for name in dir(importance_sampling) if not name.startswith("__")]
    rooms = {p.stem for p in Path(importance_sampling.__file__).parent.iterdir()}
    trainings = {name for name in importance_sampling.__all__ if name != "__version__"}
    assert set(public) == trainings | {name for name in rooms if name[0] != "_"} - {"py"}
