"""How small batches may be for their gradients to be no noisier than uniform ones."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias, get_args

from .._state import Stateful

# Batch sizes to choose from: compiled backends compile a step for each.
_MOST_SIZES = 6
# Sizes are multiples of this where they are large enough, which vector units like.
_MULTIPLE = 8
# A larger batch is taken if its step takes at most so many times as long: less noise for nothing.
_AS_FAST = 1.03


Constant: TypeAlias = Literal["batch_size", "variance"]
"""What draws by score keep of uniform ones; see `HistoryMixtureSampler`."""

CONSTANTS: tuple[Constant, ...] = get_args(Constant)


def check_constant(constant: Constant) -> Constant:
    """One of `CONSTANTS`, or an error that names them."""
    if constant not in CONSTANTS:
        raise ValueError(f"`constant` must be one of {list(CONSTANTS)}, got {constant!r}.")
    return constant


@functools.lru_cache
def batch_sizes(largest: int, smallest: int | None = None) -> tuple[int, ...]:
    """At most six sizes from `largest` down to `smallest`, about equally far apart as ratios.

    Args:
        largest: int, examples of a uniform step.
        smallest: int, the floor. Defaults to an eighth of `largest`.
    """
    smallest = -(-largest // 8) if smallest is None else min(smallest, largest)
    steps = _MOST_SIZES - 1
    sizes = {largest}
    for i in range(1, steps + 1):
        multiple = _MULTIPLE if smallest >= _MULTIPLE else 1
        size = round(largest * (smallest / largest) ** (i / steps) / multiple) * multiple
        sizes.add(min(max(size, smallest), largest))
    return tuple(sorted(sizes, reverse=True))


class BatchSizer(Stateful):
    r"""Chooses batch sizes whose weighted gradients are on average as noisy as uniform ones.

    The mean of $b'$ weighted gradients has the second moment $M_w / b'$, that of $b$ uniformly
    drawn ones $M_u / b$: $b' = b M_w / M_u$ makes them equal. Between two of the sizes there are
    to choose from, steps on the larger save noise that steps on the smaller then spend.
    """

    _state: tuple[str, ...] = ("_saved",)

    def __init__(self) -> None:
        # In units of the noise of a uniform step; no more than one choice spends, and one saves.
        self._saved = 0.0

    def choose(
        self,
        sizes: tuple[int, ...],
        ratio: float,
        steps: Callable[[int], int] = lambda size: 1,
        seconds: Mapping[int, float] | None = None,
    ) -> int:
        """The size of the next batches.

        Args:
            sizes: descending sizes, of which the first is b.
            ratio: float, M_u / M_w, the square of the variance reduction.
            steps: how many batches of a size will be drawn by this choice. One by default.
            seconds: measured times of a step by size, as far as known. Of larger batches whose
                step takes as long as that of the size asked for, the largest is taken.
        """
        needed = sizes[0] / max(ratio, 1.0)
        # Rounding must not ask for a larger size than an exact fit.
        enough = [size for size in sizes if size >= needed - 1e-9]
        size = self._spend(sizes[: len(enough) + 1], enough[-1], needed, steps)
        if not seconds or size not in seconds:
            return size
        limit = _AS_FAST * min(seconds.get(s, math.inf) for s in sizes if s >= size)
        return next((s for s in sizes if s > size and seconds.get(s, math.inf) <= limit), size)

    def _spend(
        self, sizes: tuple[int, ...], larger: int, needed: float, steps: Callable[[int], int]
    ) -> int:
        smaller = sizes[-1]
        cost = steps(smaller) * (needed / smaller - 1.0)
        if smaller == larger:
            # The floor: what it saves cannot be spent on smaller ones.
            return larger
        if self._saved >= cost:
            self._saved -= cost
            return smaller
        self._saved += steps(larger) * (1.0 - needed / larger)
        return larger
