"""Tables as text: fitted to a terminal, plain where the output is a file or a pipe."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

# So wide that nothing is broken where nobody reads in a window.
_UNLIMITED = 10_000


def _table(
    head: Sequence[str] | None, rows: Iterable[Sequence[str]], left: int, gap: int = 2
) -> Any:
    from rich.table import Table
    from rich.text import Text

    rows = [list(map(Text, row)) for row in rows]
    columns = len(head) if head else max(map(len, rows), default=0)
    table = Table(
        box=None,
        padding=(0, gap, 0, 0),
        pad_edge=False,
        show_header=head is not None,
        header_style="bold",
    )
    for i in range(columns):
        table.add_column(
            Text(head[i]) if head else "",
            justify="left" if i < left else "right",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    return table


def text_table(
    head: Sequence[str] | None,
    rows: Iterable[Sequence[str]],
    left: int = 1,
    width: int = _UNLIMITED,
    gap: int = 2,
) -> str:
    """A table as plain text.

    Args:
        head: names of the columns; None for a table without.
        rows: a sequence of cells for each row.
        left: int, columns at the left whose cells are flush left; figures are flush right.
        width: int, columns of text; longer cells are broken.
        gap: int, blanks between columns.

    Returns:
        str, without a newline at its end.
    """
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=width, no_color=True, force_terminal=False)
    console.print(_table(head, rows, left, gap), highlight=False)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def is_terminal() -> bool:
    """Whether somebody reads standard output in a window.

    Returns:
        bool.
    """
    from rich.console import Console

    return Console().is_terminal


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """Prints a table: fitted to the window on a terminal, one line per row elsewhere.

    Args:
        head: names of the columns.
        rows: a sequence of cells for each row.
        left: int, columns at the left whose cells are flush left; figures are flush right.
    """
    from rich.console import Console

    if is_terminal():
        Console().print(_table(head, rows, left), highlight=False)
    else:
        print(text_table(head, rows, left))  # noqa: T201


def print_paragraph(text: str) -> None:
    """Prints a sentence or two: broken between words on a terminal, one line elsewhere.

    Args:
        text: str, without line breaks.
    """
    from rich.console import Console

    if is_terminal():
        Console().print(text, highlight=False, markup=False, emoji=False)
    else:
        print(text, flush=True)  # noqa: T201
