"""What cannot work is refused before the first step: with clear words, and nothing changed."""

import re
import threading

import keras
import numpy as np
import pytest
from features.compiling import two_headed
from features.data import Batches, two_inputs
from helpers import CLASSES, FEATURES, data, mlp
from keras import layers

from importance_sampling import (
    BiasedImportanceTraining,
    ConstantTimeImportanceTraining,
    ConstantVarianceImportanceTraining,
    ImportanceTraining,
)
from importance_sampling.datasets import GeneratorDataset, InMemoryDataset

pytestmark = [pytest.mark.exact, pytest.mark.timeout(90), pytest.mark.two_backends]

X, Y = data(64)
NAN = float("nan")


def train(**kwargs):
    """A case of `fit` with one argument changed."""
    arguments = {"x": X, "y": Y, "batch_size": 16} | kwargs
    return lambda model: ImportanceTraining(model).fit(arguments.pop("x"), **arguments)


def make(kind=ImportanceTraining, **kwargs):
    """A case of a constructor with one argument changed."""
    return lambda model: kind(model, **kwargs)


def generator(*batches, **kwargs):
    """A case of `fit` on a generator."""
    return lambda model: ImportanceTraining(model).fit(
        iter(batches), **{"steps_per_epoch": 2} | kwargs
    )


def heads(**kwargs):
    def call(model):
        net = two_headed(False)
        net.compile("sgd", ["sparse_categorical_crossentropy", "mse"])
        ImportanceTraining(net).fit(X, [Y, X[:, :1]], batch_size=16, **kwargs)

    return call


def without(name):
    def call(model):
        net = two_inputs(True)
        inputs = {"a": X[:, :3], "b": X[:, 3:]}
        inputs.pop(name)
        ImportanceTraining(net).fit(inputs, Y, batch_size=16)

    return call


def hanging():
    release = threading.Event()

    def never():
        release.wait(30)
        yield X, Y

    def call(model):
        with GeneratorDataset(never(), timeout=0.3) as dataset:
            try:
                ImportanceTraining(model).fit_dataset(dataset, steps_per_epoch=2)
            finally:
                release.set()

    return call


def tf_data(model):
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((X[:0], Y[:0])).batch(8)
    ImportanceTraining(model).fit(rows)


class Endless(Batches):
    """A data set that says that it has no end."""

    num_batches = None


class Named:
    """A loader of the user's own whose batches are wrong."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return 3

    def __iter__(self):
        return iter([self.batch] * 3)


CASES = {
    # -- the model
    "no model": (lambda m: ImportanceTraining("model"), "compiled keras.Model, got str"),
    "model is None": (lambda m: ImportanceTraining(None), "got NoneType"),
    "a layer": (lambda m: ImportanceTraining(layers.Dense(1)), "got Dense"),
    "a model class": (lambda m: ImportanceTraining(keras.Sequential), "compiled keras.Model"),
    "uncompiled": (
        lambda m: ImportanceTraining(keras.Sequential([layers.Dense(1)])),
        "not compiled .* Call `model.compile",
    ),
    "reduction none": (
        lambda m: ImportanceTraining(
            mlp(loss=keras.losses.SparseCategoricalCrossentropy(reduction="none"))
        ).fit(X, Y),
        "reduction='none'.*Use reduction='sum_over_batch_size'",
    ),
    # -- the training's own arguments
    "presample below 1": (make(presample=0.5), "`presample` .* of at least 1, got 0.5"),
    "presample NaN": (make(presample=NAN), "`presample` .* of at least 1, got nan"),
    "presample infinite": (make(presample=float("inf")), "`presample` .* got inf"),
    "presample a string": (make(presample="3"), "`presample` .* at least 1 or .auto., got '3'"),
    "presample a flag": (make(presample=True), "`presample` .* of at least 1, got True"),
    "presample as samples": (make(presample=1024), "`presample`=1024 .* counts samples"),
    "k above 1": (make(k=2), "`k` must be a number of at most 1 .* got 2"),
    "k NaN": (make(k=NAN), "`k` must be .* got nan"),
    "k a string": (make(k="half"), "`k` must be .* got 'half'"),
    "smooth negative": (make(smooth=-1), "`smooth` must be a number of at least 0, got -1"),
    "smooth NaN": (make(smooth=NAN), "`smooth` must be a number of at least 0, got nan"),
    "tau_th NaN": (make(tau_th=NAN), "`tau_th` must be a number, got nan"),
    "tau_th a string": (make(tau_th="2"), "`tau_th` .* .measured. or None, got '2'"),
    "forward_batch_size 0": (make(forward_batch_size=0), "`forward_batch_size` .* got 0"),
    "forward_batch_size 1.5": (make(forward_batch_size=1.5), "`forward_batch_size` .* got 1.5"),
    "unknown score": (make(score="los"), "`score` must be one of .*'loss'.*got 'los'"),
    "score None": (make(score=None), "`score` must be one of .* got None"),
    "layer out of range": (make(layer=7), "`layer`=7 is out of range: the model has 2 layers"),
    "a foreign layer": (make(layer=layers.Dense(2)), "`layer`=.* is not a layer of"),
    "layer a name": (make(layer="dense"), "`layer` must be None, an index .* got 'dense'"),
    "seed a string": (make(seed="a"), "`seed` must be an integer of at least 0, got 'a'"),
    "seed negative": (make(seed=-1), "`seed` must be an integer of at least 0, got -1"),
    "unknown option": (make(presamples=3), "no argument 'presamples'. Did you mean 'presample'"),
    "biased: presample 0": (
        make(BiasedImportanceTraining, presample=0),
        "`presample` must be an integer of at least 1, got 0",
    ),
    "biased: presample 3.0": (
        make(BiasedImportanceTraining, presample=3.0),
        "`presample` must be an integer of at least 1, got 3.0",
    ),
    "backward_time 0": (
        make(ConstantVarianceImportanceTraining, backward_time=0),
        "`backward_time` must be a number above 0, got 0",
    ),
    "backward_time negative": (
        make(ConstantTimeImportanceTraining, backward_time=-2.0),
        "`backward_time` must be a number above 0, got -2.0",
    ),
    "extra_samples negative": (
        make(ConstantVarianceImportanceTraining, extra_samples=-0.1),
        "`extra_samples` must be a number of at least 0, got -0.1",
    ),
    "extra_samples too large": (
        lambda m: ConstantVarianceImportanceTraining(m, extra_samples=0.9).fit(X, Y, 16),
        "extra_samples < backward_time",
    ),
    # -- sizes and counts
    "batch_size 0": (train(batch_size=0), "`batch_size` must be an integer of at least 1, got 0"),
    "batch_size negative": (train(batch_size=-3), "`batch_size` .* got -3"),
    "batch_size 2.5": (train(batch_size=2.5), "`batch_size` must be an integer .* got 2.5"),
    "batch_size a string": (train(batch_size="16"), "`batch_size` .* got '16'"),
    "epochs negative": (train(epochs=-1), "`epochs` must be an integer of at least 0, got -1"),
    "epochs 1.5": (train(epochs=1.5), "`epochs` .* got 1.5"),
    "initial_epoch negative": (train(initial_epoch=-1), "`initial_epoch` .* got -1"),
    "steps_per_epoch 0": (train(steps_per_epoch=0), "`steps_per_epoch` .* got 0"),
    "verbose negative": (train(verbose=-1), '`verbose` must be "auto", 0, 1 or 2, got -1'),
    "verbose a word": (train(verbose="loud"), "`verbose` must be .* got 'loud'"),
    "callbacks no callback": (train(callbacks=[print]), "`callbacks` must be a list of"),
    "callbacks a class": (
        train(callbacks=[keras.callbacks.History]),
        "Pass an instance, not the class",
    ),
    "on_sample no function": (train(on_sample=3), "`on_sample` must be a function .* got 3"),
    "on_scores no function": (train(on_scores="f"), "`on_scores` must be a function .* got 'f'"),
    "unknown argument": (train(workers=2), r"fit\(\) has no argument 'workers'\.$"),
    # -- the data
    "x None": (train(x=None), "`x` holds no arrays"),
    "x a number": (train(x=5), "`x` must be an array with one row per example, got a scalar"),
    "x a path": (train(x="data.csv"), "`x` must be an array .* got a scalar"),
    "y None": (train(y=None), "`y` is None: importance sampling needs targets"),
    "lengths": (train(y=Y[:-1]), r"same number of rows, got x: \[64\], y: \[63\]"),
    "a list of rows": (
        train(x=list(X), y=list(Y)),
        r"x: \[6(, 6){7}, \.\.\.\] \(64 arrays\), y: \[64\]\. .* these are rows, pass `np.stack\(x",
    ),
    "a function": (train(x=lambda: iter([]), y=None), "`x` is a function, which nobody has called"),
    "no rows": (train(x=X[:0], y=Y[:0]), "`x` has no rows"),
    "objects": (
        train(x=np.array([[1], [1, 2]], object), y=Y[:2], batch_size=1),
        "`x` is an array of Python objects .list.*pad them",
    ),
    "mixed objects": (
        train(y=np.array([1, "a"] * 32, object)),
        r"`y` is an array of Python objects \(int, str\)",
    ),
    "ragged lists": (
        train(x=[[1.0, 2.0], [3.0]], y=[0, 1], batch_size=1),
        "`x` is a list of rows of different lengths",
    ),
    "dates": (
        train(x=np.zeros((64, FEATURES), "datetime64[s]")),
        "`x` has the type datetime64.*Convert it",
    ),
    "strings": (train(x=np.full((64, FEATURES), "a")), "array of strings|cannot be called on `x`"),
    "too few features": (
        train(x=X[:, :4]),
        r"cannot be called on `x`, whose rows have the shapes \[\(4,\)\].*\(None, 6\)",
    ),
    "too many axes": (train(x=X[:, None, :, None]), "cannot be called on `x`"),
    "an input missing": (without("b"), "cannot be called on `x`"),
    "label too large": (
        train(y=np.where(np.arange(64) == 63, CLASSES, Y)),
        r"`y` holds the label 4, but the model's output has 4 classes, 0 to 3 \(1 of 64",
    ),
    "label negative": (train(y=Y - 1), "`y` holds the label -1"),
    "too few classes": (
        lambda m: ImportanceTraining(mlp(loss="categorical_crossentropy")).fit(
            X, np.eye(3, dtype="float32")[Y % 3], 16
        ),
        r"cannot compare the outputs .*\[\(4,\)\].* with `y`, .*\[\(3,\)\]",
    ),
    "one-hot labels, sparse loss": (
        train(y=np.eye(4, dtype="float32")[Y]),
        r"look like one-hot labels, .* \"categorical_crossentropy\", or pass `y.argmax\(-1\)`",
    ),
    "class numbers, one-hot loss": (
        lambda m: ImportanceTraining(mlp(loss="categorical_crossentropy")).fit(X, Y, 16),
        'look like numbers of classes, .* "sparse_categorical_crossentropy", or pass `keras.util',
    ),
    "a data set": (
        lambda m: ImportanceTraining(m).fit(InMemoryDataset(X, Y, X, Y, False)),
        "use `fit_dataset",
    ),
    "no data set": (
        lambda m: ImportanceTraining(m).fit_dataset((X, Y)),
        "`fit_dataset` takes a BaseDataset, or .*, got tuple",
    ),
    # -- weights
    "class_weight and sample_weight": (
        train(class_weight={0: 1.0}, sample_weight=np.ones(64)),
        "Give either `class_weight` or `sample_weight`, not both",
    ),
    "class_weight a list": (train(class_weight=[1, 2]), "`class_weight` must be a dict"),
    "class_weight of a name": (train(class_weight={"a": 1.0}), "`class_weight` .* class 'a'"),
    "class_weight negative": (train(class_weight={0: -1.0}), "`class_weight` of class 0 .* -1.0"),
    "class_weight NaN": (train(class_weight={1: NAN}), "`class_weight` of class 1 .* got nan"),
    "class_weight, two outputs": (heads(class_weight={0: 2.0}), "needs a model with one output"),
    "sample_weight too short": (train(sample_weight=np.ones(63)), r"sample_weight: \[63\]"),
    "sample_weight NaN": (
        train(sample_weight=np.where(np.arange(64) == 3, NAN, 1.0)),
        "`sample_weight` must be finite, but 1 of its 64 .* row 3",
    ),
    "sample_weight of words": (
        train(sample_weight=np.full(64, "heavy")),
        "`sample_weight` must hold numbers",
    ),
    # -- validation
    "validation_split 1": (train(validation_split=1.0), r"`validation_split` .* \[0, 1\), got 1.0"),
    "validation_split negative": (train(validation_split=-0.1), "`validation_split` .* got -0.1"),
    "validation_split a word": (train(validation_split="a"), "`validation_split` .* got 'a'"),
    "validation_split of nothing": (
        train(validation_split=0.999999),
        "leaves 0 to train on and 64 to validate on",
    ),
    "validation of one": (train(validation_data=(X,)), "`validation_data` must be .* of length 1"),
    "validation a number": (train(validation_data=3), "`validation_data` must be .* got int"),
    "validation lengths": (
        train(validation_data=(X, Y[:-1])),
        "All arrays of `validation_data` need the same number of rows",
    ),
    "validation empty": (train(validation_data=(X[:0], Y[:0])), "`validation_data` has no rows"),
    "validation features": (
        train(validation_data=(X[:, :3], Y)),
        "cannot be called on the inputs of `validation_data`",
    ),
    "validation features of a stream": (
        train(validation_data=Batches(X[:, :3], Y, 8)),
        "cannot be called on the inputs of `validation_data`",
    ),
    "validation generator": (
        train(validation_data=iter([(X, Y)])),
        "`validation_data` is a generator .* pass `validation_steps`",
    ),
    "validation_steps 0": (
        train(validation_data=iter([(X, Y)]), validation_steps=0),
        "`validation_steps` must be an integer of at least 1, got 0",
    ),
    "validation_freq 0": (
        train(validation_data=(X, Y), validation_freq=0),
        "`validation_freq` must be an integer of at least 1, got 0",
    ),
    "validation_freq a word": (
        train(validation_data=(X, Y), validation_freq="often"),
        "`validation_freq` must be .* got 'often'",
    ),
    "validation_batch_size negative": (
        train(validation_data=(X, Y), validation_batch_size=-1),
        "`validation_batch_size` must be an integer of at least 1, got -1",
    ),
    # -- streams
    "endless stream without steps": (
        lambda m: ImportanceTraining(m).fit(Endless(X, Y, 8)),
        "Endless of training data needs `steps_per_epoch`: it never ends",
    ),
    "fit_generator without steps": (
        lambda m: ImportanceTraining(m).fit_generator(Endless(X, Y, 8)),
        "needs `steps_per_epoch`",
    ),
    "fit_generator on arrays": (
        lambda m: ImportanceTraining(m).fit_generator((X, Y), 3),
        "takes a generator of batches, got tuple",
    ),
    "empty generator": (generator(), "is empty: it gave no batch"),
    "generator of arrays": (generator(X), "must yield .*, got inputs without targets"),
    "generator of four": (generator((X, Y, Y, Y)), "must yield .* of length 4"),
    "generator of lengths": (generator((X, Y[:-1])), r"arrays with \[63, 64\] rows"),
    "generator of nothing": (generator((X[:0], Y[:0])), "at least one"),
    "generator of scalars": (generator((1.0, 2)), "yielded scalars"),
    "generator of objects": (
        generator((np.array([[1], [1, 2]], object), Y[:2])),
        "array of Python objects",
    ),
    "generator of few features": (generator((X[:, :2], Y)), "cannot be called on `x`"),
    "generator of labels": (generator((X, Y + 1)), "`y` holds the label 4"),
    "hanging generator": (hanging(), "gave no batch for 0.3 seconds"),
    "stream with y": (train(x=Batches(X, Y, 8)), "`y` cannot be given with a Batches"),
    "stream with a split": (
        lambda m: ImportanceTraining(m).fit(Batches(X, Y, 8), validation_split=0.2),
        "`validation_split` cannot be given with a Batches.*pass `validation_data`",
    ),
    "stream with weights": (
        lambda m: ImportanceTraining(m).fit(Batches(X, Y, 8), sample_weight=Y),
        "`sample_weight` cannot be given with a Batches.*let it give",
    ),
    "two sets of weights in a stream": (
        generator((X, Y, np.ones(64)), class_weight={0: 1.0}),
        "`class_weight` was given, but the batches already hold sample weights",
    ),
    "the root of a mean as loss": (
        lambda m: train(y=X[:, :CLASSES])(
            mlp(loss=lambda t, p: keras.ops.sqrt(keras.ops.mean((t - p) ** 2)))
        ),
        "the root of a mean is not.*one loss per example",
    ),
    "empty PyDataset": (
        lambda m: ImportanceTraining(m).fit(Batches(X[:0], Y[:0], 8)),
        "is empty: it has 0 batches",
    ),
    "empty tf.data": (tf_data, "is empty: it gave no batch|gave no batches"),
    "batch_size 0 beside a stream": (
        lambda m: ImportanceTraining(m).fit(Batches(X, Y, 8), batch_size=0),
        "`batch_size` must be an integer of at least 1, got 0",
    ),
    "loader of wrong batches": (
        lambda m: ImportanceTraining(m).fit(Named((X,))),
        "Named of training data must yield .* inputs without targets",
    ),
}


def test_there_are_many():
    assert len(CASES) >= 100


@pytest.mark.parametrize("name", CASES)
def test_refused_before_the_first_step(name):
    call, message = CASES[name]
    model = mlp(metrics=["accuracy"])
    threads = threading.active_count()
    before = [np.copy(w) for w in model.get_weights()]
    with pytest.raises((ValueError, TypeError, TimeoutError)) as error:
        call(model)
    text = str(error.value).replace("\n", " ")
    assert re.search(message, text), text
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not {"train_step", "compute_loss", "jax_state_sync"} & set(vars(model))
    # whatever was opened is closed: the reading thread ends at its next batch
    for thread in threading.enumerate()[threads:]:
        thread.join(5)


DURING = {
    "NaN in the data": (lambda x: x.__setitem__((5, 0), np.nan), [5]),
    "infinity in the data": (lambda x: x.__setitem__((7, slice(None)), np.inf), [7]),
}


@pytest.mark.parametrize("training", ["pool", "uniform"])
@pytest.mark.parametrize("name", DURING)
def test_bad_scores_stop_with_step_and_rows(name, training):
    spoil, rows = DURING[name]
    x, y = data(64)
    x = np.abs(x)
    spoil(x)
    model = keras.Sequential([layers.Input((FEATURES,)), layers.Dense(CLASSES, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    tau_th = 0.0 if training == "pool" else 1e9
    wrapped = ImportanceTraining(model, presample=4.0, tau_th=tau_th, seed=0)
    drawn = []
    with pytest.raises(
        ValueError, match=r"At step \d+ \(counted from 1\): \d+ of \d+ scores"
    ) as error:
        wrapped.fit(x, y, batch_size=16, epochs=20, verbose=0, on_sample=lambda *a: drawn.append(a))
    text = str(error.value)
    assert re.search(r"index \[(\d+, )*" + str(rows[0]) + r"\b", text), text
    assert "Check these rows of the data" in text and "clip the gradients" in text
    assert len(drawn) <= 4 + 1


def test_scores_that_are_all_zero_make_a_uniform_batch():
    x, y = data(64)
    model = mlp()
    drawn = []
    ImportanceTraining(model, tau_th=0.0, seed=0).fit(
        x,
        y,
        batch_size=16,
        epochs=3,
        verbose=0,
        sample_weight=np.zeros(64, "float32"),
        on_sample=lambda sampler, idxs, w, scores: drawn.append((idxs, w)),
    )
    assert len(drawn) == 12
    for idxs, w in drawn:
        assert len(np.unique(idxs)) > 4
        np.testing.assert_allclose(w, 1, rtol=1e-6)


def test_an_error_of_the_generator_comes_through():
    def broken():
        yield X, Y
        raise KeyError("from the generator")

    model = mlp()
    with pytest.raises(KeyError, match="from the generator"):
        ImportanceTraining(model).fit(broken(), steps_per_epoch=50, verbose=0)


def test_a_stream_that_ends_early_ends_the_training_after_its_epoch():
    model = mlp()
    with pytest.warns(UserWarning, match="ended after 4 of 50 steps"):
        history = ImportanceTraining(model, tau_th=1e9).fit(
            iter([(X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16)]),
            steps_per_epoch=50,
            epochs=3,
            verbose=0,
            validation_data=(X, Y),
        )
    assert len(history.history["val_loss"]) == 1


def test_a_stream_that_ends_with_an_epoch_adds_no_epoch_without_steps(tmp_path):
    callback = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}-{loss:.2f}.weights.h5", save_weights_only=True
    )
    with pytest.warns(UserWarning, match="ended after 0 of 2 steps"):
        history = ImportanceTraining(mlp(), tau_th=1e9).fit(
            iter([(X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16)]),
            steps_per_epoch=2,
            epochs=5,
            verbose=0,
            validation_data=(X, Y),
            callbacks=[callback],
        )
    assert history.epoch == [0, 1]
    assert {len(values) for values in history.history.values()} == {2}
    assert len(list(tmp_path.iterdir())) == 2
