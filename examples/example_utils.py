"""What all examples share: the command line, the one line that changes, text to train on.

Imported before Keras, for it has Keras start without the lines that TensorFlow writes then.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from importance_sampling.experiment.startup import load_backend

load_backend()

# What the file of an example keeps of its report.
REPORTED = ("steps", "examples", "variance_reduction", "relative_time", "why_uniform")


def get_parser(description, epochs, data="mnist.npz, or a folder that holds it"):
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--uniform", action="store_true", help="train with plain model.fit")
    parser.add_argument("--epochs", type=int, default=epochs, help="passes over the data")
    if data is not None:
        parser.add_argument("--data", help=data)
    parser.add_argument("--examples", type=int, help="train on the first so many")
    parser.add_argument("--seed", type=int, default=0, help="of weights and draws")
    parser.add_argument("--json", type=Path, help="file to write what came out to")
    return parser


def train(model, options, x, y, training=None, **arguments):
    """The one line that changes, and what it did.

    `training` stands in the place of `ImportanceTraining(model, presample="auto")`, which measures
    which way to draw is worth its time.
    """
    from importance_sampling.training import ImportanceTraining

    x, y = x[: options.examples], y[: options.examples]
    if options.uniform:
        return model.fit(x, y, epochs=options.epochs, verbose=2, **arguments)
    training = training or ImportanceTraining(model, presample="auto", seed=options.seed)
    history = training.fit(x, y, epochs=options.epochs, verbose=2, **arguments)
    options.report = training.report()
    print(options.report)
    return history


def report(model, x_test, y_test, start, options):
    """Prints what came out; `start` is when training began, by `time.perf_counter`."""
    seconds = time.perf_counter() - start
    found = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    print(f"Training: {seconds:.1f} s")
    for name, value in found.items():
        print(f"Test {name.replace('_', ' ')}: {value:.4f}")
    if options.json:
        told = {"arguments": sys.argv[1:], "epochs": options.epochs, "seconds": seconds}
        if hasattr(options, "report"):
            told["report"] = {name: getattr(options.report, name) for name in REPORTED}
        options.json.write_text(json.dumps({**told, **found}, indent=1, default=float) + "\n")


def load_text(name, num_words, path=None):
    """Lists of word numbers and labels: `(x_train, y_train), (x_test, y_test)`.

    From a local `.npz` file with the arrays words_train (all texts in a row), lengths_train and
    y_train and the same for test; else from `keras.datasets`; else made up.
    """
    if path:
        with np.load(path, allow_pickle=False) as file:
            parts = []
            for part in ("train", "test"):
                words = np.minimum(file[f"words_{part}"], num_words - 1)
                ends = np.cumsum(file[f"lengths_{part}"])
                parts.append((np.split(words, ends[:-1]), file[f"y_{part}"]))
        return parts
    try:
        import keras

        return getattr(keras.datasets, name).load_data(num_words=num_words)
    except Exception as error:  # noqa: BLE001 - whatever keeps the download from working
        print(f"{name} could not be downloaded ({error}).")
        print(f"SYNTHETIC TEXT is used in its place: the results say nothing about {name}.")
        return synthetic_text(num_words, classes=2 if name == "imdb" else 46)


def synthetic_text(num_words, classes, n=8000, length=80, seed=0):
    """Texts in which some words are more frequent in some class than in others."""
    rng = np.random.default_rng(seed)
    common = 1.0 / np.arange(10, num_words + 10)
    common /= common.sum()
    # Some classes are much rarer than others, as in news.
    share = 1.0 / np.arange(1, classes + 1) if classes > 2 else np.ones(classes)
    labels = rng.choice(classes, n, p=share / share.sum())
    own = rng.integers(0, num_words, (classes, 30))
    texts = []
    for label in labels:
        size = rng.integers(length // 2, length * 3 // 2)
        words = rng.choice(num_words, size, p=common)
        telling = rng.random(size) < 0.15
        words[telling] = rng.choice(own[label], telling.sum())
        texts.append(words)
    split = n * 4 // 5
    return (texts[:split], labels[:split]), (texts[split:], labels[split:])
