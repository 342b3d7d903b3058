"""SVRG, SCSG and Katyusha against SGD on a convex problem whose optimum is known.

L2-regularised logistic regression on scikit-learn's digits; the optimum is found by L-BFGS in
float64, and losses are computed in float64 from the weights. Every method may compute as many
gradients of examples: one for each example of a step of SGD, two for variance-reduced ones, and
those of the snapshots. Each is shown at the best of several constant rates.

Example:

    PYTHONPATH=. python benchmarks/svrg_convergence.py --backend torch --output convergence.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np

STRENGTH = 0.02
BATCH = 16
RATES = {
    "SGD": (0.01, 0.02, 0.035, 0.07),
    "SVRG": (0.15, 0.3, 0.6),
    "SCSG": (0.1, 0.2, 0.4),
    "Katyusha": (0.5, 1.0, 1.5),
}


class Digits:
    """The problem."""

    def __init__(self) -> None:
        from scipy.optimize import minimize
        from sklearn.datasets import load_digits

        x, self.y = load_digits(return_X_y=True)
        self.x = (x / 16.0).astype("float32")
        self.inputs = np.hstack([self.x.astype("float64"), np.ones((len(x), 1))])
        self.targets = np.eye(10)[self.y]
        found = minimize(
            self._loss_and_gradient,
            np.zeros(650),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 2000, "ftol": 1e-16, "gtol": 1e-10},
        )
        self.optimum = found.fun

    def _loss_and_gradient(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(65, 10)
        z = self.inputs @ w
        z -= z.max(axis=1, keepdims=True)
        logs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        loss = -(logs * self.targets).sum(axis=1).mean() + STRENGTH * np.square(w).sum()
        gradient = self.inputs.T @ (np.exp(logs) - self.targets) / len(z) + 2 * STRENGTH * w
        return loss, gradient.ravel()

    def gap(self, kernel: np.ndarray, bias: np.ndarray) -> float:
        """How far the loss is above the optimum."""
        w = np.vstack([kernel, bias[None]]).astype("float64")
        return self._loss_and_gradient(w.ravel())[0] - self.optimum


def model(rate: float) -> Any:
    """The classifier, compiled with plain SGD."""
    import keras

    penalty = keras.regularizers.L2(STRENGTH)
    layer = keras.layers.Dense(
        10,
        "softmax",
        kernel_initializer="zeros",
        kernel_regularizer=penalty,
        bias_regularizer=penalty,
    )
    net = keras.Sequential([keras.layers.Input((64,)), layer])
    net.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    return net


def run(method: str, rate: float, passes: int, seed: int, digits: Digits) -> float:
    """The gap to the optimum after as many gradients of examples as `passes` over the data."""
    from importance_sampling.datasets import InMemoryDataset
    from importance_sampling.model_wrappers import KatyushaWrapper, OracleWrapper, SVRGWrapper
    from importance_sampling.reweighting import UNWEIGHTED
    from importance_sampling.samplers import SCSGSampler, UniformSampler

    x, y = digits.x, digits.y
    net = model(rate)
    dataset = InMemoryDataset(x, y, x, y, categorical=False)
    wrapper: Any
    sampler: Any
    if method == "SGD":
        wrapper = OracleWrapper(net, UNWEIGHTED)
        sampler = UniformSampler(dataset, UNWEIGHTED, rng=seed)
        steps = passes * len(x) // BATCH
    else:
        wrapper = KatyushaWrapper(net) if method == "Katyusha" else SVRGWrapper(net)
        every = len(x) // BATCH
        # A batch of a quarter of the data that becomes half as large again with each snapshot.
        large = {"B": len(x) // 4, "B_rate": 1.5} if method == "SCSG" else {"B": 0}
        sampler = SCSGSampler(dataset, UNWEIGHTED, wrapper, B_over_b=every, rng=seed, **large)
        steps, left, size = 0, float(passes * len(x)), float(large["B"] or len(x))
        while left >= size:
            made = int(min(every, (left - size) // (2 * BATCH)))
            left -= size + 2 * BATCH * max(made, 1)
            steps += made
            size = min(size * large.get("B_rate", 1.0), len(x))
    wrapper.build(x, y)
    with wrapper.attached():
        for _ in range(steps):
            wrapper.train(sampler.propose(BATCH))
    return digits.gap(*net.get_weights())


def main() -> None:
    """Prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "torch"))
    parser.add_argument("--passes", type=int, nargs="+", default=[5, 10, 15])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = options.backend
    from _header import header

    digits = Digits()
    rows = []
    for method in options.methods:
        for passes in options.passes:
            gaps = {}
            for rate in RATES[method]:
                found = [run(method, rate, passes, seed, digits) for seed in options.seeds]
                gaps[rate] = statistics.median(found)
            best = min(gaps, key=lambda rate: gaps[rate])
            rows.append({"method": method, "passes": passes, "rate": best, "gap": gaps[best]})
            rows[-1]["gaps"] = {str(rate): gap for rate, gap in gaps.items()}
            print(f"{method:10} {passes:4} passes  rate {best:<6} gap {gaps[best]:.2e}", flush=True)
    if options.output:
        content = {**header(options.backend), "optimum": digits.optimum, "rows": rows}
        options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
