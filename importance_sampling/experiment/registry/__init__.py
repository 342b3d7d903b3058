"""One row per name on the command line: scores, samplers, reweightings, data sets, optimizers.

The command's help, its errors for unknown names and the tables of the documents are made from
these rows, so that a new sampler, score or data set is one row. `tables --write docs` brings the
documents up to date.
"""

from .datasets import DATASETS
from .decorators import CONDITIONS, SMOOTHINGS
from .general import OF_EVERY_RUN, OPTIMIZERS, WEIGHTS
from .known import HYPERPARAMETERS, Meaning, check_values, meanings_of, without_effect
from .networks import NETWORKS
from .pictures import PICTURES
from .reweightings import REWEIGHTINGS
from .rows import Hyperparameter, Hyperparams, Row, Table
from .sampler_names import SAMPLER_NAMES, build_sampler, find_sampler, forward_batch_size
from .samplers import SAMPLERS
from .scores import SCORES, WRAPPERS

__all__ = [
    "CONDITIONS",
    "DATASETS",
    "HYPERPARAMETERS",
    "NETWORKS",
    "OF_EVERY_RUN",
    "OPTIMIZERS",
    "PICTURES",
    "REWEIGHTINGS",
    "SAMPLERS",
    "SAMPLER_NAMES",
    "SCORES",
    "SMOOTHINGS",
    "WEIGHTS",
    "WRAPPERS",
    "Hyperparameter",
    "Hyperparams",
    "Meaning",
    "Row",
    "Table",
    "build_sampler",
    "check_values",
    "find_sampler",
    "forward_batch_size",
    "meanings_of",
    "without_effect",
]
