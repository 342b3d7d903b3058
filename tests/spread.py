"""Which tests run where: `CI_FULL=1` all of them on every backend, `CI_PART=2` a part of them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Iterable

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

# Into how many parts what takes time is divided, of which one job of CI runs one.
PARTS = 4


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


def in_part(name: str, lasting: bool) -> bool:
    """Whether a test belongs to the part that `CI_PART` names, from 1 to `PARTS`.

    Args:
        name: what the test is called; the same part in every run.
        lasting: whether it takes time: whatever is not long belongs to every part.

    Returns:
        True where `CI_PART` is not set, or `CI_FULL=1` asks for everything.

    Raises:
        ValueError: there is no such part.
    """
    part = os.environ.get("CI_PART")
    if not part or full():
        return True
    if part not in map(str, range(1, PARTS + 1)):
        raise ValueError(f"CI_PART={part!r}: a number from 1 to {PARTS} is expected")
    # Not by the remainder of the same number, by which backends are chosen.
    return not lasting or zlib.crc32(name.encode()) // 2**16 % PARTS == int(part) - 1


def runs_on(backend: str, nodeid: str, marks: Iterable[tuple[str, tuple[str, ...]]]) -> bool:
    """Whether a test runs on a backend, in this part.

    Args:
        backend: one of `BACKENDS`.
        nodeid: pytest's name of the test.
        marks: names and arguments of its marks, those of the test before those of its file.
    """
    path, _, rest = nodeid.partition("::")
    # Of the path the file's name: where tests are started from does not matter.
    name = f"{path.rsplit('/', 1)[-1]}::{rest}"
    found = list(marks)
    lasting = backend in COMPILING or any(mark == "slow" for mark, _ in found)
    if not in_part(name, lasting):
        return False
    if full():
        return True
    mark, arguments = next((one for one in found if one[0] in SPREAD), (None, ()))
    if mark == "any_backend":
        return one_backend(name, shares=SMALL_NETWORKS) == backend
    if mark == "one_backend":
        return one_backend(name, arguments or BACKENDS) == backend
    return mark != "two_backends" or backend in two_backends(name)
