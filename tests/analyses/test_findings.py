"""Blocks are written once and come out as Markdown, HTML, terminal text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from agnews_exp.analyses.findings import (
    Column,
    Findings,
    Missing,
    Number,
    Table,
    Text,
    findings_to_json,
    read_findings,
    table_csv,
    to_html,
    to_markdown,
    to_terminal,
)
from agnews_exp.core.numbers import format_number
from agnews_exp.drawing import Chart, Series, save

HOSTILE = "a|b <img src=x onerror=alert(1)> [link](http://x) *bold* `code` \\ \x1b[31m"
CHART = Chart("rates", f"Rates {HOSTILE}", "dots", "rate", "", (Series("s", (0.5,), ("a",), (0.4,), (0.6,)),))
TABLE = Table(
    "classes", "Classes",
    ("class", Column("F1", "metric"), Column("time", "time", width=0), Column("text", width=12), "n"),
    ((HOSTILE, Number(0.91234, low=0.9, high=0.92), 0.5, "a very long text indeed", 1200),
     ("=1+1", Number(None), None, "", 7), ("x", Number(float("nan")), 90.0, "short", 8)),
    provenance="run 1", note="A note.", shown=2,
)  # fmt: skip
BLOCKS = (
    Text(f"Said {HOSTILE}", "Title"),
    TABLE,
    CHART,
    Number(0.5, "share", label="Half"),
    Missing("No.", "agnews x"),
)


def test_numbers_are_written_one_way():
    cases = {
        (0.91234, "metric"): "0.9123", (0.123, "share"): "12.3%", (1234, "count"): "1,234", (1e-20, "p"): "< 1e-16",
        (0.0321, "p"): "0.032", (0.0123, "time"): "12.3 ms", (90, "time"): "90 s", (7300, "time"): "2 h 02 min",
        (None, "metric"): "–", (float("inf"), "p"): "–", (0.123, ".2f"): "0.12",
    }  # fmt: skip
    assert {case: format_number(*case) for case in cases} == cases
    assert str(Number(0.91234, low=0.9, high=0.92)) == "0.9123 [0.9000, 0.9200]"


def test_markdown_shows_text_of_users_as_it_is():
    html = MarkdownIt("commonmark").enable("table").render(to_markdown(BLOCKS, figures=""))
    for forbidden in ('<img src="x', "\x1b", '<a href="http', "<em>bold", "<code>code"):
        assert forbidden not in html
    assert html.count("<tr>") == 3, "the bar in a name is no column, and one row is only in the CSV file"
    assert "The first 2 of 3 rows; classes.csv has all." in html
    assert "![" not in to_markdown(BLOCKS), "a chart that is not drawn has no picture"


def test_html_escapes_everything_and_sorts_by_numbers():
    page = to_html(BLOCKS)
    assert "<img src=x" not in page
    assert 'data-v="0.91234"' in page
    assert 'data-chart="rates"' in page
    assert "a very long…" in page


def test_a_terminal_gets_no_escape_sequences():
    console = Console(file=io.StringIO(), width=200)
    console.print(to_terminal(BLOCKS))
    said = console.file.getvalue()
    assert "\x1b" not in said
    assert "0.9123 [0.9000, 0.9200]" in said
    assert "[link](http://x)" in said


def test_csv_holds_all_rows_and_both_ends_of_intervals():
    head, first, second, third = csv.reader(io.StringIO(table_csv(TABLE)))
    assert head == ["class", "F1", "F1_low", "F1_high", "time", "text", "n"]
    assert first[1:] == ["0.91234", "0.9", "0.92", "0.5", "a very long text indeed", "1200"]
    assert second[0] == "'=1+1"
    assert third[-1] == "8"


def test_findings_survive_being_stored(tmp_path):
    found = Findings("One sentence.", BLOCKS, {"test/x": 1.0}, {"k": [1]})
    content = json.loads(json.dumps(findings_to_json(found), allow_nan=False))
    save(CHART, tmp_path / "rates.json")
    again = read_findings(tmp_path, content)
    assert to_html(again.blocks) == to_html(found.blocks)
    assert to_markdown(again.blocks) == to_markdown(found.blocks)
    assert (again.headline, again.metrics, again.details) == (found.headline, found.metrics, found.details)


@pytest.mark.parametrize("cell", ["", None, "–"])
def test_a_column_with_gaps_is_still_one_of_numbers(cell):
    assert Table("t", "T", ("a",), ((1,), (cell,))).is_numeric(0)
    assert not Table("t", "T", ("a",), (("x",), (1,))).is_numeric(0)


def test_a_wide_table_keeps_the_names_of_its_rows_and_every_digit_at_80_columns():
    headings = ("true class", "both right", "only A", "only B", "same wrong", "different wrong", "same answer")
    rows = tuple((name, 1_234, 12, 34, 56, 78, 0.9876) for name in ("billing", "delivery"))
    console = Console(width=80, file=io.StringIO(), legacy_windows=False)
    console.print(to_terminal([Table("agreement", "Agreement", tuple(map(Column, headings)), rows)]))
    shown = console.file.getvalue().splitlines()
    for row in rows:
        (line,) = [line for line in shown if row[0] in line]
        assert [word.replace(",", "") for word in line.split()] == [str(cell) for cell in row]
    assert max(map(len, shown)) <= 80
