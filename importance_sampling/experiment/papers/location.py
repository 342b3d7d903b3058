"""Where Labeled Faces in the Wild lies."""

from __future__ import annotations

import os


def location(path: str | None) -> str:
    """The directory of LFW, from an option or the environment.

    Args:
        path: what the option `--dataset_path` says; None where it was left out.

    Returns:
        The directory.

    Raises:
        ValueError: if neither says where it is.
    """
    found = path or os.environ.get("LFW")
    if not found:
        raise ValueError(
            "Where LFW lies is not known. Pass --dataset_path or set the environment variable LFW."
        )
    return found
