"""Which tests run on which backend; `CI_FULL=1` runs all of them on every backend."""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection

BACKENDS = ("tensorflow", "jax", "torch")
# Those that trace and compile a network before they run it.
COMPILING = ("tensorflow", "jax")
# PyTorch compiles nothing, so that a small network takes it a quarter of the others' time.
SMALL_NETWORKS = ("tensorflow", "jax", *16 * ("torch",))
# Small networks take longer to compile than to run: XLA is told to take less trouble.
QUICK_XLA = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_multi_thread_eigen=false --xla_cpu_use_fusion_emitters=false"
)
# The marks that say where a test runs.
SPREAD = ("any_backend", "one_backend", "two_backends")


def full() -> bool:
    """Whether everything is to run everywhere."""
    return os.environ.get("CI_FULL") == "1"


def one_backend(
    name: str, among: Collection[str] = BACKENDS, shares: tuple[str, ...] = BACKENDS
) -> str:
    """The backend to run a test on that runs on one; the same in every run.

    Args:
        name: what the test is called.
        among: the backends that it can run on.
        shares: how tests are to be spread; evenly by default.
    """
    spots = [backend for backend in shares if backend in among]
    return spots[zlib.crc32(name.encode()) % len(spots)]


def two_backends(name: str, among: Collection[str] = BACKENDS) -> list[str]:
    """PyTorch and one of those that compile; the same in every run.

    Args:
        name: what the test is called.
        among: the backends that it can run on.
    """
    compiling = [backend for backend in among if backend in COMPILING]
    # Where there is but one of them, or none, nothing is to be chosen.
    chosen = one_backend(name, compiling) if compiling else None
    return [backend for backend in among if backend == chosen or backend not in COMPILING]
