"""What arguments on the command line are made of."""

from __future__ import annotations

import argparse


def numbers(text: str) -> list[float]:
    """Numbers divided by commas.

    Args:
        text: str, such as "5,2.5".

    Returns:
        list of float.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers divided by commas, got {text!r}"
        ) from None


def slice_of(text: str) -> slice:
    """A slice as Python writes it.

    Args:
        text: str, such as "10:100:2".

    Returns:
        slice.
    """
    try:
        return slice(*(int(part) if part else None for part in text.split(":")))
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"expected START:STOP[:STEP], got {text!r}") from None
