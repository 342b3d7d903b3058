"""The command line that all examples share."""

import argparse

from importance_sampling.training import ImportanceTraining


def get_parser(description, epochs):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--uniform", action="store_true", help="train with plain model.fit")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--data", help="mnist.npz or a folder that holds it")
    parser.add_argument("--examples", type=int, help="train on the first so many")
    return parser


def train(model, options, x, y, **arguments):
    """The one line that changes."""
    trainer = model if options.uniform else ImportanceTraining(model)
    x, y = x[: options.examples], y[: options.examples]
    return trainer.fit(x, y, epochs=options.epochs, verbose=2, **arguments)
