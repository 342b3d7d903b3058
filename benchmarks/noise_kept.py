"""Whether smaller batches keep the noise of uniform ones, and what other expectations would spare.

At the end of some epochs of a training at constant variance, with the weights as they are then:

* the noise of its batches in units of a uniform one's, from the exact norms of the gradients of
  some examples, and from the scores (bounds of these norms) of all of them;
* by what the ratio of second moments, which divides the batch size, would be under other
  expectations of the scores, all of them mixed with a uniform draw. Their cells are fitted on one
  half of the examples and judged on the other, and the other way round, so that none gains by
  chance: `last` is the score seen last as it is, `size and age` what the library tells examples
  apart by, `exact` needs scores that nobody has.

Example:

    IMPORTANCE_SAMPLING_DATA=../data python benchmarks/noise_kept.py --tasks mnist_conv16 \
        --output benchmarks/results/noise_kept.json
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import numpy as np
from _by_seed import parser_for, trainings, write

MIX = 0.3
# Steps before a look over which the sizes of batches are averaged.
RECENT = 100
# Observations that the larger cell counts for in one of its parts, as in `score_cells`.
PRIOR = 4.0
RESAMPLED = 1000


class LastScores:
    """The last two scores of each example, their steps, and a moving mean.

    Args:
        n: number of examples.
    """

    def __init__(self, n: int):
        self.last, self.before, self.mean = (np.full(n, np.nan) for _ in range(3))
        self.step = np.zeros(n, np.int64)

    def learn(self, idxs: np.ndarray, scores: np.ndarray, step: int) -> None:
        """Keeps the scores of a step's examples."""
        seen = ~np.isnan(self.last[idxs])
        self.before[idxs] = np.where(seen, self.last[idxs], scores)
        self.mean[idxs] = np.where(seen, 0.5 * (self.mean[idxs] + scores), scores)
        self.last[idxs] = scores
        self.step[idxs] = step


def half_octaves(scores: np.ndarray, width: float = 0.5) -> np.ndarray:
    """Bins of scores, half octaves by default."""
    found = np.floor(np.log2(np.maximum(scores, 2.0**-16)) / width)
    return (found - found.min()).astype(np.int64)


def cells_of(*columns: np.ndarray) -> np.ndarray:
    """One number for each combination of bins."""
    return np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def fitted(
    cells: np.ndarray, coarse: np.ndarray, known: np.ndarray, squares: np.ndarray
) -> np.ndarray:
    """For each example the root of the mean square in its cell, among the other half of them.

    A cell with few examples leans on a larger one, and that on what was known being so still.

    Args:
        cells: `(n,)` cell of each example.
        coarse: `(n,)` the larger cell that it is a part of.
        known: `(n,)` squares that would be expected if nothing had changed.
        squares: `(n,)` squared scores.
    """
    half = np.random.default_rng(0).permutation(len(cells)) % 2 == 0
    expected = np.empty(len(cells))
    for other, mine in ((half, ~half), (~half, half)):

        def mean(of: np.ndarray, prior: np.ndarray, other: np.ndarray = other) -> np.ndarray:
            count = np.bincount(of[other], minlength=of.max() + 1)
            total = np.bincount(of[other], squares[other], minlength=of.max() + 1)
            return (total + PRIOR * prior) / (count + PRIOR)

        unchanged = np.bincount(coarse, known) / np.maximum(np.bincount(coarse), 1)
        above = np.zeros(cells.max() + 1)
        above[cells] = mean(coarse, unchanged)[coarse]
        expected[mine] = mean(cells, above)[cells[mine]]
    return np.sqrt(expected)


def ratio_of(expected: np.ndarray, squares: np.ndarray) -> float:
    """The ratio of second moments, uniform over drawn by expectations mixed with a uniform draw."""
    share = (1.0 - MIX) * expected / expected.mean() + MIX
    return float(squares.mean() / (squares / share).mean())


def expectations(known: LastScores, step: int, epoch: int, scores: np.ndarray) -> dict[str, float]:
    """The ratio of second moments by each kind of expectation.

    Args:
        known: what training has seen.
        step: the present step.
        epoch: steps per epoch.
        scores: `(n,)` present scores of all examples.
    """
    squares = scores**2
    size, before = half_octaves(known.last), half_octaves(known.before, 1.0)
    mean = half_octaves(known.mean)
    octaves = np.floor(np.log2(np.maximum(step - known.step, 1) / epoch))
    age = (np.clip(octaves, -4, 3) + 4).astype(np.int64)
    size_and_age = cells_of(size, age)
    ways = {
        "size and age": (size_and_age, size, known.last),
        "two scores": (cells_of(size, before), size, known.last),
        "two scores and age": (cells_of(size, before, age), size_and_age, known.last),
        "moving mean and age": (cells_of(mean, age), mean, known.mean),
        "size, mean and age": (cells_of(size, mean, age), size_and_age, known.last),
    }
    found = {"last": ratio_of(np.maximum(known.last, 0.01 * known.last.mean()), squares)}
    for name, (cells, coarse, guess) in ways.items():
        found[name] = ratio_of(fitted(cells, coarse, guess**2, squares), squares)
    found["exact"] = ratio_of(scores, squares)
    return found


def interval(u: np.ndarray, w: np.ndarray, away: float, factor: float) -> list[float]:
    """95 % of the noise, by resampling the examples whose norms are known."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(u), (RESAMPLED, len(u)))
    noise = factor * (w[drawn].mean(1) - away) / (u[drawn].mean(1) - away)
    return np.quantile(noise, (0.025, 0.975)).tolist()


def trained(task: Any, epochs: int, looks: list[int], exact: int, seed: int) -> list[dict]:
    """What was found at the end of some epochs of one training.

    Args:
        task: a `Task`.
        epochs: of the training.
        looks: after how many epochs to look.
        exact: examples of which to take the exact norms.
        seed: of weights and draws.
    """
    import keras
    from _clock import make_schedule

    from importance_sampling.model_wrappers import OracleWrapper
    from importance_sampling.reweighting import UNWEIGHTED
    from importance_sampling.training import HistoryImportanceTraining

    keras.utils.set_random_seed(seed)
    x, y = task.train
    steps = len(x) // task.batch_size
    model = task.compiled(make_schedule(task.rate, epochs * steps))
    still = task.compiled()
    norms = OracleWrapper(still, UNWEIGHTED, score="full_gnorm")
    bounds = OracleWrapper(still, UNWEIGHTED, score="gnorm")
    training = HistoryImportanceTraining(model, mix=MIX, constant="variance", seed=seed)
    known, drawn, samplers = LastScores(len(x)), deque(), []
    # Of the first, uniform pass none.
    recent = min(RECENT, steps)
    sizes: list[int] = []
    some = np.random.default_rng(seed).permutation(len(x))[:exact]
    rows: list[dict[str, Any]] = []

    def on_sample(sampler: Any, idxs: np.ndarray, w: np.ndarray, scores: np.ndarray) -> None:
        samplers[:] = [sampler]
        sizes.append(len(idxs))
        drawn.append((np.array(idxs), len(sizes)))

    def on_scores(sampler: Any, scores: np.ndarray) -> None:
        idxs, step = drawn.popleft()
        known.learn(idxs, np.array(scores, np.float64), step)

    def look(epoch: int) -> None:
        still.set_weights(model.get_weights())
        weights = samplers[0].weights_of(np.arange(len(x)))
        factor = float(np.mean(task.batch_size / np.array(sizes[-recent:])))
        scores = bounds.score(x, y, batch_size=1024).astype(np.float64)
        by_bound = scores**2
        squares = norms.score(x[some], y[some], batch_size=128).astype(np.float64) ** 2
        gradient = norms.gradient(x[some], y[some])
        # Less what the mean over so many examples has of noise.
        away = sum(float((g**2).sum()) for g in gradient) - squares.mean() / len(squares)
        weighted = squares * weights[some]
        row = {
            "epoch": epoch,
            "batch_size": float(np.mean(sizes[-recent:])),
            "spared": factor,
            "ratio": float(squares.mean() / weighted.mean()),
            "ratio_by_bound": float(by_bound.mean() / (by_bound * weights).mean()),
            "noise": factor * float((weighted.mean() - away) / (squares.mean() - away)),
            "noise_interval": interval(squares, weighted, away, factor),
            "noise_by_bound": factor * float((by_bound * weights).mean() / by_bound.mean()),
            "gradient": float(away / squares.mean()),
            "expectations": expectations(known, len(sizes), steps, scores),
        }
        rows.append(row)
        print(json.dumps({"seed": seed, **row}), flush=True)

    class Looks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch + 1 in looks:
                look(epoch + 1)

    options = {"batch_size": task.batch_size, "verbose": 0, "callbacks": [Looks()]}
    training.fit(x, y, epochs=epochs, on_sample=on_sample, on_scores=on_scores, **options)
    return rows


def main() -> None:
    """Trains the tasks, prints what each look finds and writes all of it as JSON."""
    parser = parser_for(__doc__.split("\n", 1)[0], "mnist_conv16", 1)
    parser.add_argument(
        "--looks", type=int, nargs="+", help="epochs; 2, and each fifth, by default"
    )
    parser.add_argument("--exact", type=int, default=8192, help="examples with exact norms")
    options = parser.parse_args()
    runs = []
    for name, seed, task, epochs in trainings(options):
        fifths = {max(2, round(epochs * part / 5)) for part in range(1, 6)}
        looks = options.looks or sorted({2} | fifths)
        if min(looks) < 2 or max(looks) > epochs:
            raise SystemExit(f"--looks must be from 2 to {epochs}: the first epoch is uniform.")
        print(f"{name}, seed {seed}:", flush=True)
        found = trained(task, epochs, looks, options.exact, seed)
        runs.append({"task": name, "seed": seed, "looks": found})
    write(options, {"mix": MIX, "runs": runs})


if __name__ == "__main__":
    main()
