#!/usr/bin/env python3
"""Bags of words on film reviews, after the Keras example.

The method is that of "Bag of Tricks for Efficient Text Classification"
(https://arxiv.org/abs/1607.01759) with single words.
"""

import time

from example_utils import get_parser, load_text, report, train

import keras
from keras.layers import Dense, Embedding, GlobalAveragePooling1D, Input
from keras.models import Sequential

MAX_FEATURES = 20000
MAXLEN = 400
EMBEDDING_DIMS = 50

if __name__ == "__main__":
    options = get_parser(__doc__, epochs=8, data="a .npz file of texts").parse_args()
    keras.utils.set_random_seed(options.seed)

    (x_train, y_train), (x_test, y_test) = load_text("imdb", MAX_FEATURES, options.data)
    x_train = keras.utils.pad_sequences(x_train, maxlen=MAXLEN)
    x_test = keras.utils.pad_sequences(x_test, maxlen=MAXLEN)

    model = Sequential(
        [
            Input((MAXLEN,)),
            Embedding(MAX_FEATURES, EMBEDDING_DIMS),
            GlobalAveragePooling1D(),
            Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
    start = time.perf_counter()
    train(model, options, x_train, y_train, batch_size=32, validation_data=(x_test, y_test))
    report(model, x_test, y_test, start, options)
