"""How small a batch may be for its gradient to be no noisier than a uniform one's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Batch sizes to choose from: compiled backends compile a step for each.
_MOST_SIZES = 6
# Sizes are multiples of this where they are large enough, which vector units like.
_MULTIPLE = 8
# A larger batch is taken if its step takes at most so many times as long: less noise for nothing.
_AS_FAST = 1.03


CONSTANTS = ("batch_size", "variance")


def check_constant(constant: Any) -> str:
    """One of `CONSTANTS`, or an error that names them."""
    if constant not in CONSTANTS:
        raise ValueError(f"`constant` must be one of {list(CONSTANTS)}, got {constant!r}.")
    return constant


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


def choose_size(
    sizes: tuple[int, ...], ratio: float, seconds: Mapping[int, float] | None = None
) -> int:
    r"""The batch size at which a weighted gradient is no noisier than a uniform one.

    The mean of $b'$ weighted gradients has the second moment $M_w / b'$, that of $b$ uniformly
    drawn ones $M_u / b$: $b' = b M_w / M_u$ makes them equal. It is rounded up to the next size.

    Args:
        sizes: descending sizes, of which the first is b.
        ratio: float, $M_u / M_w$, the square of the variance reduction.
        seconds: measured times of a step by size, as far as known. Of larger batches whose step
            takes as long as the smallest's that would do, the largest is taken.
    """
    # Rounding must not ask for a larger size than an exact fit.
    needed = sizes[0] / max(ratio, 1.0) - 1e-9
    enough = [size for size in sizes if size >= needed]
    best = enough[-1]
    if not seconds or best not in seconds:
        return best
    limit = _AS_FAST * min(seconds.get(size, math.inf) for size in enough)
    return next((size for size in enough if seconds.get(size, math.inf) <= limit), best)
