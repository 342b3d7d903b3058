"""Several inputs and outputs, dictionaries, strings."""

from collections import OrderedDict

import keras
import numpy as np
from keras import layers, ops

from . import STREAM, program
from ._synthetic import table, tokens


def tickets():
    """A title, tags, how urgent it is and whose it is."""
    title, department = tokens(length=5, vocabulary=12)
    tags = np.random.default_rng(0).integers(0, 2, (50, 4)).astype("float32")
    priority = tags[:, :1] * 0.8 + 0.1
    return title, tags, priority, np.eye(2, dtype="float32")[department]


def ticket_network():
    title = keras.Input((5,), name="title", dtype="int32")
    tags = keras.Input((4,), name="tags")
    words = layers.Flatten()(layers.Embedding(12, 4)(title))
    both = layers.concatenate([words, tags])
    priority = layers.Dense(1, name="priority", activation="sigmoid")(both)
    department = layers.Dense(2, name="department")(both)
    return title, tags, priority, department


@program()
def several_inputs_and_outputs_as_lists():
    title, tags, priority, department = ticket_network()
    model = keras.Model([title, tags], [priority, department])
    model.compile(
        keras.optimizers.RMSprop(0.02),
        loss=[
            keras.losses.BinaryCrossentropy(),
            keras.losses.CategoricalCrossentropy(from_logits=True),
        ],
        loss_weights=[1.0, 0.2],
        metrics=[["mae"], ["accuracy"]],
    )
    *x, one, two = tickets()
    return model, {"x": x, "y": [one, two], "epochs": 4, "batch_size": 16, "shuffle": False}


@program()
def several_inputs_and_outputs_as_dicts():
    title, tags, priority, department = ticket_network()
    model = keras.Model(
        {"title": title, "tags": tags}, {"priority": priority, "department": department}
    )
    model.compile(
        keras.optimizers.RMSprop(0.02),
        loss={
            "priority": keras.losses.BinaryCrossentropy(),
            "department": keras.losses.CategoricalCrossentropy(from_logits=True),
        },
        loss_weights={"priority": 1.0, "department": 0.2},
        metrics={"department": ["accuracy"]},
    )
    words, marks, one, two = tickets()
    return model, {
        "x": {"title": words, "tags": marks},
        "y": {"priority": one, "department": two},
        "epochs": 4,
        "batch_size": 16,
        "shuffle": False,
    }


@program()
def loss_for_one_output_only():
    """The second output is there to look at."""
    title, tags, priority, department = ticket_network()
    outputs = {"priority": priority, "department": department}
    model = keras.Model([title, tags], outputs)
    model.compile(keras.optimizers.Adam(0.03), loss={"priority": "mse"})
    words, marks, one, _ = tickets()
    return model, {
        "x": [words, marks],
        "y": {"priority": one},
        "epochs": 4,
        "batch_size": 16,
        "shuffle": False,
    }


@program()
def ordered_dict_inputs():
    """A wide and a deep path over columns in an OrderedDict."""
    x, y = table(columns=3)
    columns = OrderedDict((name, x[:, i : i + 1]) for i, name in enumerate(("c", "a", "b")))
    inputs = OrderedDict((name, keras.Input((1,), name=name)) for name in columns)
    wide = layers.concatenate(list(inputs.values()))
    deep = layers.Dense(4, activation="relu")(wide)
    model = keras.Model(inputs, layers.Dense(2, "softmax")(layers.concatenate([wide, deep])))
    model.compile(
        keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model, {"x": columns, "y": y, "epochs": 4, "batch_size": 16, "shuffle": False}


@program(refused_ways=STREAM)
def scalars_into_columns():
    """Rows of a table as dictionaries of scalars, which Keras makes columns of."""
    import tensorflow as tf

    x, y = table(columns=3)
    columns = {name: x[:, i] for i, name in enumerate("abc")}
    inputs = {name: keras.Input((1,), name=name) for name in columns}
    hidden = layers.Dense(6, activation="relu")(layers.concatenate(list(inputs.values())))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
    rows = tf.data.Dataset.from_tensor_slices((columns, y.astype("float32")))
    return model, {"x": rows.batch(16), "epochs": 4, "validation_data": rows.take(9).batch(4)}


def patients():
    """A word, a whole number, a number, and who is ill."""
    rng = np.random.default_rng(0)
    columns = {
        "thal": np.array(["normal", "fixed", "reversible"])[rng.integers(0, 3, 50)],
        "vessels": rng.integers(0, 4, 50),
        "age": rng.normal(50, 10, 50).astype("float32"),
    }
    return columns, ((columns["thal"] != "normal") ^ (columns["vessels"] > 2)).astype("float32")


@program(backends=("tensorflow",), refused_ways=STREAM)
def strings_looked_up_in_the_model():
    """Every column has a layer of its own that knows its words or its scale."""
    import tensorflow as tf

    columns, y = patients()
    rows = tf.data.Dataset.from_tensor_slices((columns, y))
    thal = keras.Input((1,), name="thal", dtype="string")
    vessels = keras.Input((1,), name="vessels", dtype="int64")
    age = keras.Input((1,), name="age")
    words = layers.StringLookup(output_mode="binary")
    words.adapt(rows.map(lambda x, _: tf.expand_dims(x["thal"], -1)))
    counts = layers.IntegerLookup(output_mode="binary")
    counts.adapt(rows.map(lambda x, _: tf.expand_dims(x["vessels"], -1)))
    scale = layers.Normalization()
    scale.adapt(columns["age"][:, None])
    every = layers.concatenate([words(thal), counts(vessels), scale(age)])
    hidden = layers.Dropout(0.1)(layers.Dense(8, activation="relu")(every))
    model = keras.Model([thal, vessels, age], layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(keras.optimizers.Adam(0.03), "binary_crossentropy", metrics=["accuracy"])
    return model, {"x": rows.batch(16), "epochs": 4}


@program(refused_ways=STREAM)
def feature_space():
    """Columns are encoded in the stream, the model gets numbers."""
    import tensorflow as tf

    columns, y = patients()
    rows = tf.data.Dataset.from_tensor_slices((columns, y))
    space = keras.utils.FeatureSpace(
        features={
            "thal": keras.utils.FeatureSpace.string_categorical(num_oov_indices=0),
            "vessels": keras.utils.FeatureSpace.integer_categorical(num_oov_indices=0),
            "age": keras.utils.FeatureSpace.float_normalized(),
        },
        output_mode="concat",
    )
    space.adapt(rows.map(lambda x, _: x))
    encoded = space.get_encoded_features()
    hidden = layers.Dense(8, activation="relu")(encoded)
    model = keras.Model(encoded, layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(keras.optimizers.Adam(0.03), "binary_crossentropy", metrics=["accuracy"])
    return model, {"x": rows.batch(16).map(lambda x, y: (space(x), y)), "epochs": 4}


@program(backends=("tensorflow",))
def texts_vectorized_in_the_model():
    """Sentences as they are."""
    import tensorflow as tf

    words = np.array(["good", "bad", "film", "actor", "very"])
    rng = np.random.default_rng(0)
    chosen = rng.integers(1, 5, (50, 4))
    chosen[:, 0] = rng.integers(0, 2, 50)
    texts = np.array([" ".join(row) for row in words[chosen]])
    vectorize = layers.TextVectorization(max_tokens=10, output_sequence_length=4)
    vectorize.adapt(texts)
    inputs = keras.Input((1,), dtype="string")
    embedded = layers.Embedding(10, 4)(vectorize(inputs))
    hidden = layers.GlobalAveragePooling1D()(embedded)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(keras.optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    return model, {
        "x": tf.constant(texts[:, None]),
        "y": chosen[:, 0].astype("float32"),
        "epochs": 4,
        "batch_size": 16,
        "shuffle": False,
    }


class OwnLossOfDicts(keras.Model):
    """Two outputs by name, one of which says how sure the other is."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8, activation="tanh")
        self.mean = layers.Dense(1)
        self.doubt = layers.Dense(1, activation="softplus")

    def call(self, x):
        hidden = self.hidden(x)
        return {"mean": self.mean(hidden), "doubt": self.doubt(hidden) + 0.1}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        doubt = y_pred["doubt"][:, 0]
        losses = ops.square(y - y_pred["mean"][:, 0]) / doubt + ops.log(doubt)
        if sample_weight is not None:
            losses = losses * ops.reshape(sample_weight, (-1,))
        return ops.mean(losses)


@program(warns=("score='gnorm'.* of 'own_loss_of_dicts",))
def dict_outputs_with_an_own_loss():
    x, _ = table()
    y = (2 * x[:, 0] - x[:, 1]).astype("float32")
    model = OwnLossOfDicts()
    model.compile(keras.optimizers.Adam(0.03))
    return model, {"x": x, "y": y, "epochs": 4, "batch_size": 16, "shuffle": False}
