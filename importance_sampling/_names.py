"""Errors for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """An error that names what is most alike and what there is.

    Args:
        kind: what it is the name of, "model" for example.
        name: the name that was given.
        known: all names that there are.
    """
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"There is no {kind} {name!r}.{hint} Known: {', '.join(known)}.")
