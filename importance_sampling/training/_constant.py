"""What draws by score keep constant: what the model says to smaller batches."""

from __future__ import annotations

from ..model_wrappers import OracleWrapper
from ..model_wrappers.introspection import normalizes_batches
from ..samplers import Constant
from ._arguments import check_optional_count

# The floor of the batch size where batches are normalized by their own statistics.
_NORMALIZED_SHARE = 2


def _obstacle(wrapper: OracleWrapper) -> str:
    """Why a model cannot be trained on batches of several sizes; nothing if it can."""
    if wrapper.sums_its_loss:
        return (
            "the compiled loss has reduction='sum', so that the size of a step would change with "
            "them (reduction='sum_over_batch_size' averages)"
        )
    if wrapper.fixed_batch_size is not None:
        return f"the model was built for batches of {wrapper.fixed_batch_size}"
    return ""


def check_smallest(smallest: object, constant: Constant) -> int | None:
    """The argument `min_batch_size`, or an error where it would have no effect.

    Args:
        smallest: what was given; an int of at least 1, or None.
        constant: what draws by score keep of uniform ones.

    Raises:
        ValueError: if it is no such int, or `constant` is not `"variance"`.
    """
    smallest = check_optional_count("min_batch_size", smallest)
    if smallest is not None and constant != "variance":
        raise ValueError(
            f'`min_batch_size`={smallest} goes with constant="variance", got '
            f"constant={constant!r}, which trains on whole batches."
        )
    return smallest


def smallest_batch(wrapper: OracleWrapper, batch_size: int, given: int | None) -> int | None:
    """The smallest batch that a model may be trained on at constant variance.

    Args:
        wrapper: the wrapped model, built.
        batch_size: int, examples of a uniform step.
        given: int or None, the user's choice.

    Returns:
        int, or None for the sampler's own default.

    Raises:
        ValueError: if the model cannot be trained on batches of several sizes.
    """
    obstacle = _obstacle(wrapper)
    if obstacle:
        raise ValueError(
            f'constant="variance" trains on batches of several sizes, and {obstacle}. Use '
            'constant="batch_size".'
        )
    if given is None and normalizes_batches(wrapper.model):
        return -(-batch_size // _NORMALIZED_SHARE)
    return given


def choose_constant(
    wrapper: OracleWrapper, batch_size: int, constant: Constant | None, given: int | None
) -> tuple[Constant, int | None]:
    """What `"auto"` keeps constant: the variance, unless it was told or the model forbids it.

    Args:
        wrapper: the wrapped model, built.
        batch_size: int, examples of a uniform step.
        constant: `"variance"`, `"batch_size"` or None.
        given: int or None, the smallest batch.

    Returns:
        `(constant, smallest batch)`; see `smallest_batch`.
    """
    if constant == "batch_size" or (constant is None and _obstacle(wrapper)):
        return "batch_size", given
    return "variance", smallest_batch(wrapper, batch_size, given)
