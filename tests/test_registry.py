"""One row per name: what is known, what is refused, what has no effect, what documents say."""

from pathlib import Path

import numpy as np
import pytest

from importance_sampling import datasets, reweighting, samplers
from importance_sampling.experiment import cli, registry, tables
from importance_sampling.experiment.checks import check, warn_without_effect
from importance_sampling.experiment.commands import plot
from importance_sampling.experiment.hyperparams import KNOWN, parse

ROOT = Path(__file__).parents[1]
NAMES = {
    "model": "small_nn",
    "wrapper": "oracle-loss",
    "sampler": "model",
    "reweighting": "predicted",
    "dataset": "canevet-icml2016",
}

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


# -- names -----------------------------------------------------------------------------------------


def test_the_interfaces_names_are_there():
    before = {
        "model": ("smooth-", "adaptive-smooth-", "power-smooth-"),
        "lstm": ("smooth-", "adaptive-smooth-", "power-smooth-"),
        "pcg": ("smooth-", "adaptive-smooth-", "power-smooth-"),
        "history": ("smooth-", "adaptive-smooth-", "power-smooth-"),
    }
    names = ["uniform", "obs", "cache", "lstm-comparison", *before]
    names += [smoothing + base for base, found in before.items() for smoothing in found]
    conditional = [name for name in names if "model" in name or "lstm" in name]
    names += [c + name for c in ("warmup-", "exp-", "tv-", "vr-") for name in conditional]
    assert set(names) <= set(registry.SAMPLER_NAMES)
    # Nothing else may have a condition before it than what has model or lstm in its name.
    others = set(registry.SAMPLER_NAMES) - set(names)
    assert not [n for n in others if n.startswith(("warmup-", "exp-", "tv-", "vr-"))]
    assert set(registry.REWEIGHTINGS) >= {"unweighted", "predicted", "adjusted", "correcting"}
    assert set(registry.WRAPPERS) >= {
        "oracle-loss",
        "oracle-gnorm",
        "oracle-acc",
        "svrg",
        "katyusha",
    }
    known = """mnist cifar10 cifar100 cifar-sanity-check canevet-icml2016 canevet-icml2016-jittered
    canevet-icml2016-smooth cifar10-augmented cifar100-augmented cifar10-whitened-augmented
    cifar100-whitened-augmented ptb imagenet-32x32 imagenet-64x64 timit mit-67 casia casia-cls
    pixel-mnist"""
    assert set(registry.DATASETS) >= set(known.split())
    keys = """batch_size lr lr_reductions lr_changes lr_targets opt momentum nesterov clipnorm seed
    k presample smooth warmup exp_th tv_th vr_th lstm_log alpha obs_recompute history_recompute
    staleness cache_prob scsg_B scsg_B_over_b scsg_B_rate kat_t1 kat_t2 time_based"""
    assert set(keys.split()) <= set(KNOWN)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no sampler 'smoth-model'\. Did you mean 'smooth-model'"):
        registry.find_sampler("smoth-model")
    with pytest.raises(ValueError, match=r"no wrapper 'oracle-los'\. Did you mean 'oracle-loss'"):
        registry.WRAPPERS.look_up("oracle-los")
    with pytest.raises(ValueError, match=r"no data set 'minst'\. Did you mean 'mnist'"):
        registry.DATASETS.look_up("minst")


def test_a_hyperparameter_has_one_type_and_a_default_of_it():
    kinds = {"s": str, "f": float, "i": int}
    for name, users in registry.HYPERPARAMETERS.items():
        assert len({one.letter for one in users.values()}) == 1, name
        for one in users.values():
            assert one.summary and not one.summary.endswith("."), name
            if one.default is not None:
                assert type(one.default) is kinds[one.letter], name
                one.check(one.default)


def test_defaults_are_those_of_the_classes():
    """What the command takes where nothing is said is what Python takes."""
    import inspect

    def default(kind, argument):
        return inspect.signature(kind).parameters[argument].default

    def value(table, row, name):
        return table[row].values({})[name]

    for row, name, kind, argument in (
        ("model", "presample", samplers.ModelSampler, "large_batch"),
        ("lstm", "presample", samplers.LSTMSampler, "presample"),
        ("pcg", "alpha", samplers.PerClassGaussian, "alpha"),
        ("mixture", "mix", samplers.HistoryMixtureSampler, "mix"),
        ("cache", "staleness", samplers.CacheSampler, "staleness"),
        ("cache", "cache_prob", samplers.CacheSampler, "cache_prob"),
        ("cache", "smooth", samplers.CacheSampler, "smooth"),
        ("obs", "obs_recompute", samplers.OnlineBatchSelectionSampler, "recompute"),
    ):
        assert value(registry.SAMPLERS, row, name) == default(kind, argument), row
    assert value(registry.SMOOTHINGS, "smooth-", "smooth") == default(
        samplers.AdditiveSmoothingSampler, "c"
    )
    assert value(registry.REWEIGHTINGS, "predicted", "k") == default(
        reweighting.BiasedReweightingPolicy, "k"
    )
    assert value(registry.DATASETS, "canevet-icml2016", "N") == default(
        datasets.CanevetICML2016, "N"
    )


def test_data_sets_get_their_hyperparameters(tmp_path, monkeypatch):
    def make(name, text=""):
        return registry.DATASETS.look_up(name).make(parse(text))

    dataset = make("canevet-icml2016-jittered", "N=i32")
    assert len(dataset.train_data) + len(dataset.test_data) == 32 * 32
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(20) % 10}
    arrays |= {"x_test": images[:10], "y_test": np.arange(10)}
    np.savez(tmp_path / "cifar10.npz", **arrays)
    np.savez(
        tmp_path / "mnist.npz", **arrays | {k: arrays[k][..., 0] for k in ("x_train", "x_test")}
    )
    monkeypatch.setenv("IMPORTANCE_SAMPLING_DATA", str(tmp_path))
    assert make("mnist").shape == (32, 32, 1)
    assert make("pixel-mnist").shape == (1024, 1)
    assert len(make("cifar10-augmented").train_data) == 200
    assert len(make("cifar10-augmented", f"N=i30;data=s{tmp_path}").train_data) == 30
    for name, variable in (("timit", "TIMIT"), ("casia-cls", "CASIA"), ("mit-67", "MIT67")):
        monkeypatch.delenv(variable, raising=False)
        with pytest.raises(ValueError, match=f"environment variable {variable} or the hyper-"):
            make(name)


def test_every_picture_has_what_draws_it():
    assert list(registry.PICTURES) == list(plot._KINDS)
    assert {row.name for row in registry.PICTURES.values() if row.animated} == set(plot._ANIMATED)


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr=fnan", "`lr` must be a finite number, got nan"),
        ("lr=f-1", "`lr` must be at least 0, got -1.0"),
        ("lr=finf", "`lr` must be a finite number, got inf"),
        ("lr_changes=I1;lr_targets=Fnan", "`lr_targets` must be a finite number, got nan"),
        ("lr_reductions=I-5", "`lr_reductions` must be at least 0"),
        ("seed=i-1", "`seed` must be at least 0 and at most 4294967295, got -1"),
        ("seed=i4294967296", "`seed` must be at least 0 and at most"),
        ("k=f1e400", "`k` must be a finite number, got inf"),
        ("k=f2", "`k` must be at most 1, got 2.0"),
        ("momentum=f1", "`momentum` must be at least 0 and below 1"),
        ("nesterov=i3", "`nesterov` must be 0 or 1, got 3"),
        ("clipnorm=f0", "`clipnorm` must be above 0"),
        ("presample=i0", "`presample` must be at least 1"),
        ("mix=f1", "`mix` must be above 0 and below 1"),
        ("N=i0", "`N` must be at least 1"),
    ],
)
def test_values_without_sense_are_refused(text, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse(text)


def test_a_value_may_make_no_sense_for_one_row_only():
    hp = parse("smooth=f1.5")
    check({**NAMES, "sampler": "smooth-model"}, hp)
    with pytest.raises(ValueError, match=r"`smooth` must be at least 0 and at most 1, got 1.5"):
        check({**NAMES, "sampler": "power-smooth-model"}, hp)
    with pytest.raises(ValueError, match="`N` must be at least 2, got 1"):
        check(NAMES, parse("N=i1"))


@pytest.mark.parametrize("text", ["lr=fnan", "lr=f-1", "seed=i-1", "k=f1e400", "N=i1"])
def test_nothing_is_written_before_values_are_checked(text, tmp_path, capsys):
    directory = tmp_path / "out"
    assert cli.main(["run", *NAMES.values(), str(directory), "--hyperparams", text]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not directory.exists()


@pytest.mark.parametrize(
    ("names", "text", "told"),
    [
        ({}, "presample=i64;k=f0.5;lr=f0.1;N=i64;forward_batch_size=i8", ""),
        ({}, "opt=ssgd;momentum=f0.9;nesterov=i1", ""),
        ({"sampler": "vr-power-smooth-lstm"}, "vr_th=f1.5;smooth=f0.1;lstm_log=i1", ""),
        ({}, "momentum=f0.9", "momentum (of sgd, rmsprop)"),
        ({}, "opt=ssgd;nesterov=i1", "nesterov (there is no momentum)"),
        ({}, "warmup=i3;alpha=f0.5", "warmup (of warmup-); alpha (of pcg)"),
        ({"sampler": "uniform"}, "presample=i9;k=f0.5", "presample (of model, lstm, pcg, lstm-com"),
        ({"sampler": "uniform"}, "k=f0.5", "k (draws are uniform)"),
        ({"reweighting": "unweighted"}, "k=f0.5", "k (of predicted, adjusted, correcting)"),
        ({"dataset": "mnist"}, "N=i9", "N (of cifar10-augmented"),
        ({}, "scsg_B=i9", "scsg_B (of scsg)"),
        (
            {"sampler": "scsg", "wrapper": "svrg", "reweighting": "unweighted"},
            "scsg_B=i0;scsg_B_rate=f2",
            "scsg_B_rate (scsg_B=i0 takes the whole training set)",
        ),
        (
            {"sampler": "scsg", "wrapper": "svrg", "reweighting": "unweighted"},
            "scsg_B=i9;scsg_B_rate=f2",
            "",
        ),
        (
            {},
            "opt=srmsprop;lr_decay=f0.1;lr_reductions=I5",
            "lr_reductions (lr_decay sets the rate)",
        ),
    ],
)
def test_what_has_no_effect_is_named(names, text, told, capsys):
    warn_without_effect({**NAMES, **names}, parse(text))
    out, err = capsys.readouterr()
    assert not out
    if told:
        assert err.startswith(f"importance-sampling: without effect here: {told}")
        assert err.count("\n") == 1
    else:
        assert not err


def test_without_training_its_hyperparameters_have_no_effect(capsys):
    names = {"model": "small_nn", "dataset": "canevet-icml2016"}
    warn_without_effect(names, parse("N=i64;lr=f0.1;k=f0.5"))
    err = capsys.readouterr().err
    assert "lr (of every run); k (of predicted" in err and "N (" not in err


# -- help and documents ----------------------------------------------------------------------------


def test_help_has_every_name(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    shown = (registry.WRAPPERS, registry.SAMPLERS, registry.SMOOTHINGS, registry.CONDITIONS)
    for table in (*shown, registry.REWEIGHTINGS, registry.DATASETS):
        for row in table.values():
            assert f"\n  {row.name} " in text, row.name
    for name in registry.HYPERPARAMETERS:
        assert f"\n  {name}=" in text, name
    assert max(map(len, text.splitlines())) <= 80
    with pytest.raises(SystemExit):
        cli.main(["plot", "--help"])
    # Long names are broken at the end of a line.
    text = "".join(capsys.readouterr().out.split())
    assert all(f"{name}:" in text for name in registry.PICTURES)


@pytest.mark.parametrize("page", ["experiments.md", "datasets.md"])
def test_tables_of_the_documents_are_those_of_the_registry(page):
    text = (ROOT / "docs" / page).read_text()
    assert tables.updated(text) == text, (
        "run `python -m importance_sampling.experiment.tables --write docs`"
    )


def test_every_table_stands_in_a_document():
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert all(f"<!-- table: {name} -->" in pages for name in tables.TABLES)


def test_writing_tables(tmp_path, capsys):
    page = tmp_path / "a.md"
    page.write_text("before\n<!-- table: scores -->\nold\n<!-- end of table -->\nafter\n")
    assert tables.main(["--write", str(tmp_path)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- table: scores -->\n| name |") and "old" not in text
    assert "| `oracle-loss` | the loss |  |\n" in text and text.endswith("-->\nafter\n")
    assert "a.md is up to date now" in capsys.readouterr().out
    assert tables.main(["--write", str(tmp_path)]) == 0
    assert not capsys.readouterr().out and page.read_text() == text
    with pytest.raises(ValueError, match=r"no table 'score'\. Did you mean 'scores'"):
        tables.updated("<!-- table: score -->\n<!-- end of table -->\n")
