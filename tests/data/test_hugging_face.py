"""Data sets of HuggingFace's `datasets`: the same training as on the arrays, row by row."""

import keras
import numpy as np
import pytest
from helpers import adam_mlp, data

from importance_sampling import HistoryImportanceTraining, ImportanceTraining
from importance_sampling.data import find_kind
from importance_sampling.data.hugging_face import HuggingFaceAdapter

datasets = pytest.importorskip("datasets")

pytestmark = [pytest.mark.any_backend, pytest.mark.exact]

N = 96
X, Y = data(N)
W = np.linspace(0.5, 1.5, N, dtype="float32")


def table(**more):
    return datasets.Dataset.from_dict({"image": X, "label": Y, "weight": W, **more})


def trained(*given, training=HistoryImportanceTraining, net=adam_mlp, **arguments):
    keras.utils.set_random_seed(0)
    model = net()
    fit = training(model, seed=1).fit
    history = fit(*given, batch_size=16, epochs=3, verbose=0, **arguments).history
    return model.get_weights(), history


def pools(model, seed):
    return ImportanceTraining(model, presample=2.0, tau_th=0.0, seed=seed)


def check_equal(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    # On the arrays themselves Keras evaluates in one pass, here batch by batch.
    for name, values in one[1].items():
        np.testing.assert_allclose(values, other[1][name], rtol=1e-6)


def one_by_one(rows):
    return {"image": np.asarray(rows["image"], "float32"), "label": np.asarray(rows["label"])}


def new_columns(rows):
    return {"pixels": np.asarray(rows["image"], "float32"), "classes": np.asarray(rows["label"])}


FORMATS = {
    "columns": lambda rows: (rows["image"], rows["label"]),
    "name of the targets": lambda rows: (rows.select_columns(["label", "image"]), "label"),
    "tensors": lambda rows: (rows.with_format("torch")["image"], "label"),
    "frames": lambda rows: (
        rows.select_columns(["label", "image"]).with_format("pandas"),
        "label",
    ),
    "transform": lambda rows: (rows.with_transform(one_by_one)["image"], "label"),
    "transform to other columns": lambda rows: (rows.with_transform(new_columns), "classes"),
    "shuffled": lambda rows: (rows.select(np.argsort(rows["label"]))["image"], "label"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_training_is_that_on_the_arrays(name):
    order = np.argsort(Y) if name == "shuffled" else slice(None)
    given = FORMATS[name](table())
    check_equal(trained(*given), trained(X[order], Y[order]))


def test_so_it_is_with_weights_pools_and_validation():
    rows = table()
    for arguments, same in (
        ({"sample_weight": "weight", "validation_split": 0.25}, {"sample_weight": W}),
        (
            {"class_weight": {0: 2.0}, "validation_data": (rows["image"], "label")},
            {"validation_data": (X, Y)},
        ),
    ):
        found = trained(rows["image"], rows["label"], training=pools, **arguments)
        check_equal(found, trained(X, Y, training=pools, **{**arguments, **same}))
        assert "val_loss" in found[1] and found[1]["importance_sampling"][-1] == 1.0


def test_columns_named_as_the_inputs_are_found():
    def net():
        image, weight = keras.Input((X.shape[1],), name="image"), keras.Input((1,), name="weight")
        joined = keras.layers.Concatenate()([image, weight])
        out = keras.layers.Dense(4, activation="softmax")(joined)
        model = keras.Model([image, weight], out)
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    rows = table(other=Y).cast_column("weight", datasets.Value("float32"))
    rows = rows.map(lambda row: {"weight": [row["weight"]]})
    arrays = {"image": X, "weight": W[:, None]}
    check_equal(trained(rows, "label", net=net), trained(arrays, Y, net=net))
    given = {name: rows[name] for name in arrays}
    check_equal(trained(given, "label", net=net), trained(arrays, Y, net=net))


def test_rows_are_read_as_they_are_drawn(tmp_path):
    read = []

    def watched(rows):
        read.append(len(rows["image"]))
        return one_by_one(rows)

    table().save_to_disk(tmp_path)
    mapped = datasets.load_from_disk(tmp_path)
    assert mapped.cache_files
    rows = mapped.with_transform(watched)
    # One step of a pool of 16 rows, with those scored or read ahead; and the first five.
    fit = pools(adam_mlp(), 0).fit
    fit(rows["image"], "label", batch_size=8, steps_per_epoch=1, verbose=0)
    assert 16 <= sum(read) <= 5 + 5 + 3 * 16 < N


def test_a_second_fit_goes_on_with_the_history():
    rows, drawn = table(), []
    training = HistoryImportanceTraining(adam_mlp(), seed=0)

    def fit(rows):
        drawn.append(training.fit(rows["image"], rows["label"], batch_size=16, verbose=0).history)

    fit(rows)
    fit(rows)
    fit(rows.select(range(N)))
    # The first pass over data is uniform.
    assert [h["importance_sampling"][0] for h in drawn] == [0.0, 1.0, 0.0]


def test_what_cannot_be_read_is_refused_before_the_first_step():
    rows, words = table(), {"label": [0, 1]}
    missing = datasets.Dataset.from_dict({"image": [1.0, None], **words})
    uneven = datasets.Dataset.from_dict({"image": [[1.0, 2.0], [3.0]], **words})
    deep = datasets.Dataset.from_dict({"image": [[[1.0], [2.0]], [[3.0], [4.0, 5.0]]], **words})
    dicts = datasets.Dataset.from_dict({"image": [{"a": 1.0}, {"a": 2.0}], **words})
    strings = table(bad=[str(w) for w in W])
    infinite = table(bad=np.where(np.arange(N) == 70, np.inf, 1.0))
    for call, said in (
        (lambda fit: fit(rows["image"], "lable"), "no column 'lable'. Did you mean 'label'?"),
        (lambda fit: fit(rows["image"], "label", sample_weight="wieght"), "mean 'weight'?"),
        (lambda fit: fit(rows, "label"), "Which of the columns .'image', 'weight'. are the inputs"),
        (lambda fit: fit(rows.select_columns("label"), "label"), "No column is left"),
        (lambda fit: fit(rows), "`y` of the training data is None: name the column"),
        (lambda fit: fit(rows["image"], Y), "must be a column of the Dataset or its name"),
        (lambda fit: fit(rows["image"], table()["label"]), "of another Dataset object"),
        (lambda fit: fit(rows.to_iterable_dataset(), "label"), "is an IterableDataset"),
        (lambda fit: fit(datasets.DatasetDict(train=rows), "label"), "of the splits .'train'."),
        (lambda fit: fit(missing, "label"), "'image' lacks values, row 1 first"),
        (lambda fit: fit(uneven, "label"), "'image' has rows of different lengths: 2, and 1 in"),
        (lambda fit: fit(deep, "label"), "different lengths: 1, and 2 in one of its lists"),
        (lambda fit: fit(dicts["image"]["a"], "label"), "dataset.flatten"),
        (lambda fit: fit(rows.select([])["image"], "label"), "no column|no examples"),
        (lambda fit: fit(infinite["image"], "label", sample_weight="bad"), "row 70 is not"),
        (
            lambda fit: fit(X, Y, validation_data=(rows["image"], "lable")),
            "no column 'lable'. Did you mean",
        ),
        (
            lambda fit: fit(rows["image"], "label", validation_data=rows),
            r"`y` of the validation data is None: name .* validation_data=\(dataset, 'label'\)",
        ),
        (
            lambda fit: fit(strings["image"], "label", sample_weight="bad"),
            "weights in the column 'bad' must be numbers, one for each row, got string",
        ),
    ):
        model = adam_mlp()
        with pytest.raises((TypeError, ValueError), match=said):
            call(HistoryImportanceTraining(model).fit)
        assert int(model.optimizer.iterations.value) == 0


def test_validation_without_targets_is_refused_where_the_inputs_are_clear():
    inputs = keras.Input((6,), name="image")
    model = keras.Model(inputs, keras.layers.Dense(4, "softmax")(inputs))
    model.compile("sgd", "sparse_categorical_crossentropy")
    rows = table()
    for held_out in (rows, rows.select_columns("image"), (rows["image"], None)):
        with pytest.raises(ValueError, match="`y` of the validation data is None"):
            ImportanceTraining(model).fit(rows, "label", validation_data=held_out)


def test_labels_out_of_range_are_named_when_they_are_drawn():
    rows = datasets.Dataset.from_dict({"image": X, "label": np.where(np.arange(N) == 70, 99, Y)})
    training = HistoryImportanceTraining(adam_mlp())
    with pytest.raises(ValueError, match="99"):
        training.fit(rows["image"], "label", verbose=0)


def test_the_kind_is_known():
    rows = table()
    for data_set in (rows, rows["image"], [rows["image"], rows["weight"]], {"a": rows["image"]}):
        assert find_kind(data_set) is HuggingFaceAdapter
    assert find_kind(X) is not HuggingFaceAdapter


@pytest.mark.parametrize("kind", ["fixed", "two axes"])
def test_values_that_lack_in_lists_of_one_length_are_found(kind):
    rows = X.reshape(N, -1).tolist()
    rows[40][1] = None
    feature = datasets.List(datasets.Value("float32"), length=len(rows[0]))
    if kind == "two axes":
        rows = [[row] for row in rows]
        feature = datasets.Array2D((1, len(rows[0][0])), "float32")
    features = datasets.Features({"image": feature, "label": datasets.Value("int64")})
    lacking = datasets.Dataset.from_dict({"image": rows, "label": Y}, features=features)
    with pytest.raises(ValueError, match="'image' lacks values"):
        trained(lacking, "label")


def test_columns_that_a_transform_makes_are_the_ones_to_name():
    with pytest.raises(ValueError, match=r"no column .label.*pixels.*classes"):
        trained(table().with_transform(new_columns), "label")
