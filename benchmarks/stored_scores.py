"""Samplers that keep a score for every example: time of a draw with its update, and memory.

Draws read no data, so that what is timed is the sampler's own work. Memory is what the sampler
adds to the process.

Example:

    PYTHONPATH=. python benchmarks/stored_scores.py --examples 10000000 --output stored.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
from _header import header

from importance_sampling.proposal import StepRecord
from importance_sampling.reweighting import BiasedReweightingPolicy
from importance_sampling.samplers import (
    CacheSampler,
    HistoryMixtureSampler,
    HistorySampler,
    OnlineBatchSelectionSampler,
)
from importance_sampling.samplers.compatibility import GivenScores


class NoData:
    """A data set of a length, whose rows are nothing."""

    def __init__(self, n: int):
        self.n = n
        self.train_data = self

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, idxs: Any) -> tuple[Any, Any]:
        return idxs, idxs


def mixture(data: Any, policy: Any, rng: np.random.Generator) -> HistoryMixtureSampler:
    """Past its first pass, whose draws are uniform."""
    sampler = HistoryMixtureSampler(data, policy, rng=rng)
    sampler.end_first_pass()
    return sampler


SAMPLERS = {
    "HistoryMixtureSampler": mixture,
    "HistorySampler": lambda d, p, r: HistorySampler(d, p, None, recompute=0, rng=r),
    "CacheSampler": lambda d, p, r: CacheSampler(d, p, rng=r),
    "OnlineBatchSelectionSampler": lambda d, p, r: OnlineBatchSelectionSampler(
        d, p, None, steps_per_epoch=10**9, s_e=(10, 1), rng=r
    ),
}


def measure(name: str, options: argparse.Namespace, seed: int) -> tuple[float, float]:
    """Milliseconds of a draw with its update, and MiB that the sampler holds at its peak."""
    rng = np.random.default_rng(seed)
    data = NoData(options.examples)
    tracemalloc.start()
    sampler = SAMPLERS[name](data, BiasedReweightingPolicy(), rng)
    for _ in range(5):
        step(sampler, options.batch_size, rng)
    memory = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    times = []
    for _ in range(options.rounds):
        begin = time.perf_counter()
        for _ in range(options.steps):
            step(sampler, options.batch_size, rng)
        times.append((time.perf_counter() - begin) / options.steps)
    return 1e3 * statistics.median(times), memory


def step(sampler: Any, batch_size: int, rng: np.random.Generator) -> None:
    """One draw and the update that follows it."""
    draw = sampler.propose(batch_size)
    sampler.observe(StepRecord(draw, GivenScores(rng.random(batch_size))))


def main() -> None:
    """Prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--examples", type=int, default=10_000_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    rows = {}
    print(f"{'sampler':30} {'ms per draw and update':>24} {'MiB':>8}")
    for name in SAMPLERS:
        found = [measure(name, options, seed) for seed in options.seeds]
        milliseconds, memory = (statistics.median(values) for values in zip(*found, strict=True))
        rows[name] = {"milliseconds": milliseconds, "mebibytes": memory}
        print(f"{name:30} {milliseconds:24.3f} {memory:8.1f}")
    if options.output:
        settings = {key: value for key, value in vars(options).items() if key != "output"}
        content = header(None) | {"settings": settings, "rows": rows}
        options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
