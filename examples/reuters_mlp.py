#!/usr/bin/env python3
"""A fully connected network on the topics of Reuters' news, after the Keras example."""

import time

from example_utils import get_parser, load_text, report, train

import keras
import numpy as np
from keras.layers import Activation, Dense, Dropout, Input
from keras.models import Sequential

MAX_WORDS = 1000


def which_words(texts):
    """Rows of 0 and 1: which of the words a text has."""
    rows = np.zeros((len(texts), MAX_WORDS), dtype="float32")
    for row, text in zip(rows, texts, strict=True):
        row[np.asarray(text, dtype=int)] = 1.0
    return rows


if __name__ == "__main__":
    options = get_parser(__doc__, epochs=8, data="a .npz file of texts").parse_args()
    keras.utils.set_random_seed(options.seed)

    (x_train, y_train), (x_test, y_test) = load_text("reuters", MAX_WORDS, options.data)
    num_classes = int(np.max(y_train)) + 1
    x_train, x_test = which_words(x_train), which_words(x_test)
    y_train = keras.utils.to_categorical(y_train, num_classes)
    y_test = keras.utils.to_categorical(y_test, num_classes)

    model = Sequential(
        [
            Input((MAX_WORDS,)),
            Dense(512),
            Activation("relu"),
            Dropout(0.5),
            Dense(num_classes),
            Activation("softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    start = time.perf_counter()
    train(model, options, x_train, y_train, batch_size=32, validation_split=0.1)
    report(model, x_test, y_test, start, options)
