"""Tables fit a terminal and are plain elsewhere."""

import pytest

from importance_sampling._text_tables import print_paragraph, print_table, text_table

HEAD = ("run", "seconds", "training loss", "test error", "to 5 %")
ROWS = [
    ["a run with quite a long name", "12.5", "0.1234", "3.21 %", "1200 steps, 30.5 s"],
    ["[b]", "7.0", "0.5", "-", "-"],
]

pytestmark = [pytest.mark.exact, pytest.mark.any_backend]


def test_columns_are_aligned():
    lines = text_table(HEAD, ROWS).splitlines()
    assert len(lines) == 3 and len(set(map(len, lines))) == 1
    assert lines[0].split() == " ".join(HEAD).split()
    # Names are flush left, figures flush right; nothing is taken for markup.
    assert lines[2].startswith("[b]  ") and lines[2].endswith("  -")
    end = lines[0].index("seconds") + len("seconds")
    assert lines[1][:end].endswith("  12.5") and lines[2][:end].endswith("  7.0")


def test_a_table_fits_the_width_it_is_given():
    lines = text_table(HEAD, ROWS, width=50).splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 50
    words = " ".join(text_table(HEAD, ROWS, width=50).split())
    assert all(word in words for word in ("training", "12.5", "0.1234", "steps,", "30.5"))


def test_without_a_head():
    assert text_table(None, [("1.00", "a"), ("20", "bc")], left=2).splitlines() == [
        "1.00  a",
        "20    bc",
    ]


def test_a_terminal_gets_a_fitted_table_and_a_pipe_whole_lines(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    print_table(HEAD, ROWS)
    assert capsys.readouterr().out == text_table(HEAD, ROWS) + "\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table(HEAD, ROWS)
    out = capsys.readouterr().out
    assert "\x1b[1m" in out and len(out.splitlines()) > 3


def test_a_terminal_gets_a_paragraph_broken_between_words(monkeypatch, capsys):
    text = "One network, [b]five[/b] ways :smile: " + "from the same start " * 6
    print_paragraph(text.strip())
    assert capsys.readouterr().out == text.strip() + "\n"
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_paragraph(text)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 40
    assert " ".join(lines).split() == text.split()
