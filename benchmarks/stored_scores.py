r"""Samplers that keep a score for every example: time of a draw with its update, and memory.

Draws read no data, so that what is timed is the sampler's own work. Memory is what the sampler
adds to the process, at its peak; what lies in files that are mapped to memory is not counted. The
first draw works out what to expect of all examples, where a sampler does that: it is timed alone.

Example:

    PYTHONPATH=. python benchmarks/stored_scores.py --examples 10000000 --output stored.json
    PYTHONPATH=. python benchmarks/stored_scores.py --examples 100000000 --memory-map /tmp/scores \
        --samplers HistoryMixtureSampler "HistoryMixtureSampler, memory map" HistorySampler \
        --clock cpu --output benchmarks/results/stored_scores_100m.json
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


def mixture(
    data: Any, policy: Any, rng: np.random.Generator, folder: Path | None = None
) -> HistoryMixtureSampler:
    """Before the last batch of its first pass, whose draws are uniform."""
    sampler = HistoryMixtureSampler(data, policy, rng=rng, memory_map=folder)
    # A draw of it, for what it takes to have an order.
    sampler.propose(1)
    sampler.end_first_pass()
    return sampler


MAPPED = "HistoryMixtureSampler, memory map"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


SAMPLERS = {
    "HistoryMixtureSampler": mixture,
    "HistorySampler": lambda d, p, r: HistorySampler(d, p, None, recompute=0, rng=r),
    "CacheSampler": lambda d, p, r: CacheSampler(d, p, rng=r),
    "OnlineBatchSelectionSampler": lambda d, p, r: OnlineBatchSelectionSampler(
        d, p, None, steps_per_epoch=10**9, s_e=(10, 1), rng=r
    ),
}


def measure(name: str, options: argparse.Namespace, seed: int) -> tuple[float, float, float]:
    """Milliseconds of a draw with its update, MiB at the peak, and seconds of the first draw."""
    rng = np.random.default_rng(seed)
    data, policy, now = NoData(options.examples), BiasedReweightingPolicy(), CLOCKS[options.clock]
    tracemalloc.start()
    if name == MAPPED:
        sampler: Any = mixture(data, policy, rng, options.memory_map)
    else:
        sampler = SAMPLERS[name](data, policy, rng)
    begin = now()
    step(sampler, options.batch_size, rng)
    first = now() - begin
    for _ in range(5):
        step(sampler, options.batch_size, rng)
    memory = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    times = []
    for _ in range(options.rounds):
        begin = now()
        for _ in range(options.steps):
            step(sampler, options.batch_size, rng)
        times.append((now() - begin) / options.steps)
    return 1e3 * statistics.median(times), memory, first


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
    parser.add_argument("--samplers", nargs="+", choices=[*SAMPLERS, MAPPED], default=[*SAMPLERS])
    parser.add_argument("--memory-map", type=Path, help="folder for scores in files")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="time that is told")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if MAPPED in options.samplers and options.memory_map is None:
        parser.error(f"{MAPPED!r} needs --memory-map")
    rows = {}
    print(f"{'sampler':34} {'ms per draw and update':>24} {'MiB':>8} {'s of the first draw':>20}")
    for name in options.samplers:
        found = [measure(name, options, seed) for seed in options.seeds]
        told = (statistics.median(values) for values in zip(*found, strict=True))
        milliseconds, memory, first = told
        rows[name] = {"milliseconds": milliseconds, "mebibytes": memory, "first_seconds": first}
        print(f"{name:34} {milliseconds:24.3f} {memory:8.1f} {first:20.2f}")
    if options.output:
        left_out = ("output", "samplers", "memory_map")
        settings = {key: value for key, value in vars(options).items() if key not in left_out}
        content = header(None) | {"settings": settings, "rows": rows}
        options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
