"""What the noise of draws by the history is made of, and what another `mix` would have had.

The second moment of a weighted gradient is a mean over the examples drawn, of squared weight times
squared score. From the weight of a draw follows the one that the same example would have had under
another share of uniform draws, so that all of them are compared on one training, draw by draw. How
much of the second moment the ten largest terms of an epoch make says how much of it is chance.

Example:

    PYTHONPATH=. python benchmarks/history_noise.py --tasks mnist_small_cnn mnist_conv16 \
        --output benchmarks/results/history_noise.json
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from _by_seed import parser_for, trainings, write

MIX = 0.3
OTHERS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
LARGEST = 10


def second_moments(weights: np.ndarray, scores: np.ndarray, mix: float) -> dict[str, Any]:
    """Second moments on examples that were drawn with a share `mix` of uniform draws.

    Args:
        weights: `(n,)` weights 1/(N p) of the draws.
        scores: `(n,)` the scores of the training pass.
        mix: float, the share that was drawn with.

    Returns:
        The ratio of second moments, uniform over weighted; the same for `OTHERS`; the share of the
        weighted one that the ten largest terms make.
    """
    squares = weights * scores**2
    # N q of the scores alone, by 1 / w = (1 - mix) N q + mix.
    by_score = np.maximum((1.0 / weights - mix) / (1.0 - mix), 0.0)
    others = {m: 1.0 / ((1.0 - m) * by_score + m) for m in OTHERS}
    terms = np.sort(squares * weights)
    return {
        "drawn": len(weights),
        "ratio": squares.mean() / terms.mean(),
        "ratios": {str(m): squares.mean() / (squares * w).mean() for m, w in others.items()},
        "largest": terms[-LARGEST:].sum() / terms.sum(),
    }


def trained(task: Any, epochs: int, seed: int) -> list[dict[str, Any]]:
    """The second moments of each epoch that is drawn by score, of a training at equal noise."""
    import keras
    from _clock import make_schedule

    from importance_sampling.training import HistoryImportanceTraining

    keras.utils.set_random_seed(seed)
    steps = len(task.train[0]) // task.batch_size
    model = task.compiled(make_schedule(task.rate, epochs * steps))
    training = HistoryImportanceTraining(model, mix=MIX, constant="variance", seed=seed)
    drawn: deque[np.ndarray] = deque()
    found: list[tuple[np.ndarray, np.ndarray]] = []

    def on_sample(sampler: Any, idxs: np.ndarray, w: np.ndarray, scores: np.ndarray) -> None:
        drawn.append(np.array(w[:, 0]))

    def on_scores(sampler: Any, scores: np.ndarray) -> None:
        # Of steps in the order of their draws, one draw behind them at most.
        found.append((drawn.popleft(), np.array(scores, np.float64)))

    options = {"batch_size": task.batch_size, "verbose": 0}
    training.fit(*task.train, epochs=epochs, on_sample=on_sample, on_scores=on_scores, **options)
    rows = []
    for epoch in range(1, epochs):
        part = found[epoch * steps : (epoch + 1) * steps]
        weights, scores = (np.concatenate(arrays) for arrays in zip(*part, strict=True))
        rows.append({"epoch": epoch + 1, **second_moments(weights, scores, MIX)})
    return rows


def main() -> None:
    """Trains the tasks, prints a line for each epoch and writes all of it as JSON."""
    options = parser_for(__doc__.split("\n", 1)[0], "mnist_small_cnn", 0).parse_args()
    runs = []
    for name, seed, task, epochs in trainings(options):
        rows = trained(task, epochs, seed)
        runs.append({"task": name, "seed": seed, "epochs": rows})
        for row in rows:
            cells = "  ".join(f"{mix}: {ratio:.2f}" for mix, ratio in row["ratios"].items())
            print(
                f"{name}, seed {seed}, epoch {row['epoch']}: {row['drawn']} drawn, ratio "
                f"{row['ratio']:.2f}, of which ten examples {row['largest']:.0%}; {cells}",
                flush=True,
            )
    write(options, {"mix": MIX, "runs": runs})


if __name__ == "__main__":
    main()
