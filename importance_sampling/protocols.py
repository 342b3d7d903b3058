"""What users may bring of their own: any object with these methods will do.

| protocol | what it is | who asks it |
|---|---|---|
| `Dataset` | a training and a test set that can be indexed | samplers, `fit_dataset` |
| `ScoringModel` | says how much examples matter | samplers |
| `SnapshotModel` | keeps its weights, and the mean gradient at them | `SCSGSampler` |
| `Sampler` | proposes batches, observes steps | the training loop |

Nothing has to be derived from them. They are for type checkers and readers: a class that has the
methods is accepted where one of them stands in a signature.

```python
class Mine:
    def score(self, x, y, batch_size):
        return np.abs(y - self.predict(x)).mean(axis=1)

model: ScoringModel = Mine()
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .proposal import Proposal, StepRecord


class DataPart(Protocol):
    """The training or the test set of a `Dataset`."""

    def __len__(self) -> int:
        """Number of examples; a RuntimeError for a stream, which has none."""

    def __getitem__(self, idxs: np.ndarray, /) -> tuple[Any, ...]:
        """`(x, y)` or `(x, y, sample_weight)` of some examples.

        Args:
            idxs: `(n,)` indices from 0 on.

        Returns:
            Arrays with n rows, or lists, tuples and dicts of such arrays.
        """


class Dataset(Protocol):
    """A training and a test set; `datasets.BaseDataset` is one and offers more."""

    @property
    def train_data(self) -> DataPart:
        """The training set."""

    @property
    def test_data(self) -> DataPart:
        """The test set."""


class ScoringModel(Protocol):
    """What a sampler needs of a model; every `model_wrappers.ModelWrapper` is one.

    Where the data has sample weights, `score` is given them as one more keyword argument,
    `sample_weight`.
    """

    def score(self, x: Any, y: Any, /, batch_size: int) -> np.ndarray:
        """How much examples matter.

        Args:
            x: inputs, an array with n rows or a nest of them.
            y: targets, likewise.
            batch_size: int, examples to look at in one forward pass.

        Returns:
            `(n,)` finite scores of at least 0, to which probabilities are proportional.
        """


@runtime_checkable
class AsynchronousScoringModel(ScoringModel, Protocol):
    """A scoring model that can begin to score while the device is busy with something else."""

    def score_later(self, x: Any, y: Any, /, batch_size: int) -> Callable[[], np.ndarray]:
        """As `score`, without waiting for the device.

        Args:
            x: inputs, an array with n rows or a nest of them.
            y: targets, likewise.
            batch_size: int, examples to look at in one forward pass.

        Returns:
            A function that waits for the scores `(n,)` and returns them.
        """


class Sampler(Protocol):
    """Decides which examples to train on; `samplers.BaseSampler` is one and the base of all."""

    def propose(self, batch_size: int) -> Proposal:
        """The next mini-batch.

        Args:
            batch_size: int, number of examples asked for.

        Returns:
            A `Proposal`: indices, rows and weights, and how they were drawn.
        """

    def observe(self, step: StepRecord) -> None:
        """Learns from a step; called once for each, in order.

        Args:
            step: the proposal that was trained on, and what the model said of it.
        """


class SnapshotModel(Protocol):
    """What `SCSGSampler` needs of a model; `SVRGWrapper` and `KatyushaWrapper` are two."""

    def take_snapshot(self, batches: Iterable[tuple[Any, ...]], /) -> None:
        """Keeps the weights as they are, and computes the mean gradient at them.

        Args:
            batches: `(x, y)` or `(x, y, sample_weight)`, the data to take the gradient of, in
                parts; they can be gone through more than once.
        """

    def snapshot_batch_size(self, batch_size: int, /) -> int:
        """How many examples a part should have.

        Args:
            batch_size: int, examples of a step.
        """
