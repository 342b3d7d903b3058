"""Errors for names that do not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# So many names are still read; of more, the one most alike is of use, if there is one.
_LISTED = 12
# Below this likeness a guess misleads: `workers` is no slip for `on_scores`.
_ALIKE = 0.7


def nearest(name: object, known: Iterable[str]) -> str:
    """The question whether the name most alike was meant, after a blank; empty if none is alike.

    Args:
        name: the name that was given.
        known: all names that there are.
    """
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=_ALIKE)
    if not near and name:
        # A word of a longer name, if only one has it.
        having = [other for other in known if str(name) in re.split("[-_]", other)]
        near = having if len(having) == 1 else []
    return f" Did you mean {near[0]!r}?" if near else ""


def unknown(
    kind: str, name: object, known: Iterable[str], listed: Iterable[str] | None = None
) -> ValueError:
    """An error that names what is most alike, and what there is where that is not too much.

    Args:
        kind: what it is the name of, "model" for example.
        name: the name that was given.
        known: all names that there are.
        listed: what to say there is instead, of names that are put together of parts.
    """
    known = list(known)
    listed = known if listed is None else list(listed)
    hint = nearest(name, known)
    all_names = "" if hint and len(listed) > _LISTED else f" Known: {', '.join(listed)}."
    return ValueError(f"There is no {kind} {name!r}.{hint}{all_names}")
