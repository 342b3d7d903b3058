"""What the registry is made of: hyper-parameters, rows and tables of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

from ..._names import unknown

Value: TypeAlias = str | float | list[str] | list[float]
"""What a hyper-parameter may be."""

Hyperparams = Mapping[str, Any]
"""Values of hyper-parameters by name, as `hyperparams.parse` returns them."""


@dataclass(frozen=True)
class Hyperparameter:
    """One key of `--hyperparams`.

    Attributes:
        name: str, the key.
        letter: str, its type: `"s"`, `"f"` or `"i"` for one string, number or integer, a capital
            for a list.
        summary: str, one line of help.
        default: the value where it is not given; None where nothing is set then.
        least: the smallest value allowed.
        most: the largest value allowed.
        above: a value that must be exceeded.
        below: a value that must not be reached.
        choices: all values allowed; empty for any.
    """

    name: str
    letter: str
    summary: str
    default: Any = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()

    def but(self, **changes: Any) -> Hyperparameter:
        """The same with other attributes, for a row with another default for one.

        Args:
            **changes: attributes by name.

        Returns:
            A new `Hyperparameter`.
        """
        return replace(self, **changes)

    def check(self, value: Value) -> None:
        """Refuses a value that makes no sense.

        Args:
            value: a value of the right type, or a list of them.

        Raises:
            ValueError: if a number is not finite or out of range; names the hyper-parameter.
        """
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                continue
            if not math.isfinite(one):
                raise ValueError(f"`{self.name}` must be a finite number, got {one}.")
            if not self._allows(one):
                raise ValueError(f"`{self.name}` must be {self.range}, got {one}.")

    def _allows(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (not self.choices or value in self.choices)
        )

    @property
    def range(self) -> str:
        """What values are allowed, in words."""
        if self.choices:
            return " or ".join(str(choice) for choice in self.choices)
        limits = [
            (self.least, "at least"),
            (self.above, "above"),
            (self.most, "at most"),
            (self.below, "below"),
        ]
        words = [f"{word} {limit:.12g}" for limit, word in limits if limit is not None]
        return " and ".join(words) or "a number"


@dataclass(frozen=True)
class Row:
    """A name on the command line and all that is known of it.

    Attributes:
        name: str.
        summary: str, one line of help.
        build: makes it, called with what its table says and the hyper-parameters by name; None
            in a table of names that only say what there is.
        hyperparameters: those that `build` takes, with the row's own defaults.
    """

    name: str
    summary: str
    build: Callable[..., Any] | None = None
    hyperparameters: tuple[Hyperparameter, ...] = ()

    def values(self, hp: Hyperparams) -> dict[str, Any]:
        """The row's hyper-parameters, with defaults for those that are not given.

        Args:
            hp: hyper-parameters by name; others than the row's are left out.

        Returns:
            dict of name to value.
        """
        return {one.name: hp.get(one.name, one.default) for one in self.hyperparameters}

    def make(self, hp: Hyperparams, *parts: Any) -> Any:
        """Builds it.

        Args:
            hp: hyper-parameters by name.
            *parts: what `build` takes first.

        Returns:
            What `build` returns.
        """
        if self.build is None:
            raise ValueError(f"There is nothing to build of {self.name!r}.")
        return self.build(*parts, **self.values(hp))


AnyRow = TypeVar("AnyRow", bound=Row)


class Table(Mapping[str, AnyRow], Generic[AnyRow]):
    """Rows by name.

    Args:
        kind: str, what the rows are, "sampler" for example; in the plural with an s.
        *rows: the rows, in the order of the documents.
    """

    def __init__(self, kind: str, *rows: AnyRow):
        self.kind = kind
        self._rows = {row.name: row for row in rows}

    def __getitem__(self, name: str) -> AnyRow:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def look_up(self, name: str) -> AnyRow:
        """The row of a name.

        Args:
            name: str.

        Returns:
            The row.

        Raises:
            ValueError: if there is none; names the one most alike and all that there are.
        """
        row = self._rows.get(name)
        if row is None:
            raise unknown(self.kind, name, self._rows)
        return row
