"""The report's files: nothing that users or texts say runs, every chart is drawn, every table is safe to open."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agnews_exp.analyses.findings import Findings, Table, Text, findings_to_json
from agnews_exp.report.build import build_report
from agnews_exp.report.page import script_json
from agnews_exp.tracking.record import RunFolder, write_json

HOSTILE = "</script><script>alert('x')</script>\"><img src=x onerror=alert(1)>"
StoreRun = Callable[..., RunFolder]


@pytest.fixture(scope="module")
def pages(store_run: StoreRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reports of the same two runs, one of which was written by somebody hostile."""
    output = tmp_path_factory.mktemp("outputs")
    hostile = (HOSTILE, "=cmd|' /C calc'!A0", "$\\frac{1}{", "Sci/Tech")
    run = store_run(output, 1, "linear_svc", 0.90, 0.88, class_names=hostile, name=HOSTILE)
    store_run(output, 2, "tiny", 0.86, 0.91, class_names=hostile, family="transformer")
    table = Table(
        "hardest", "Hardest rows", ("text",), ((HOSTILE,), ("[link](javascript:alert(1)) ![x](http://x/y.png)",))
    )
    write_json(
        run.path / "analysis" / "errors" / "findings.json",
        findings_to_json(Findings(HOSTILE, (Text(HOSTILE, HOSTILE), table))),
    )
    folder = tmp_path_factory.mktemp("reports")
    build_report(output, None, folder / "one", "first date", strict=True)
    build_report(output, None, folder / "two", "second date", strict=True)
    return folder


class Elements(HTMLParser):
    """Collects start tags, and the text of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def parsed(page: Path) -> Elements:
    elements = Elements()
    elements.feed(page.read_text(encoding="utf-8"))
    return elements


def test_hostile_names_and_texts_become_no_element(pages: Path) -> None:
    elements = parsed(pages / "one" / "report.html")
    assert sum(tag == "script" for tag, _ in elements.tags) == 3
    assert not [attributes for _, attributes in elements.tags if any(name.startswith("on") for name in attributes)]
    assert not [tag for tag, _ in elements.tags if tag == "img"]
    assert not [a for tag, a in elements.tags if tag == "a" and not (a.get("href") or "").startswith("#")]
    assert "&lt;script&gt;alert(" in (pages / "one" / "report.html").read_text(encoding="utf-8")


def test_policy_allows_exactly_the_scripts_of_the_page(pages: Path) -> None:
    elements = parsed(pages / "one" / "report.html")
    policy = next(a["content"] or "" for tag, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    digests = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in elements.scripts[1:]}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == digests
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert "default-src 'none'" in policy


def test_page_holds_every_chart_and_loads_nothing(pages: Path) -> None:
    elements = parsed(pages / "one" / "report.html")
    drawn = json.loads(elements.scripts[0])
    specs = drawn["charts"]
    assert set(drawn["themes"]) == {"light", "dark"}
    assert (pages / "one" / "report.html").stat().st_size < 2_000_000
    places = {a["data-chart"] for tag, a in elements.tags if tag == "div" and "data-chart" in a}
    assert places == set(specs)
    assert len(places) > 8
    assert not [
        tag
        for tag, a in elements.tags
        if tag in ("link", "iframe", "object") or (a.get("src") or "").startswith("http")
    ]
    assert any(HOSTILE in json.dumps(spec, ensure_ascii=False).replace('\\"', '"') for spec in specs.values())


def test_two_reports_of_the_same_runs_differ_in_the_date_alone(pages: Path) -> None:
    for name in sorted(p.relative_to(pages / "one") for p in (pages / "one").rglob("*") if p.is_file()):
        one = (pages / "one" / name).read_bytes().replace(b"first date", b"DATE")
        two = (pages / "two" / name).read_bytes().replace(b"second date", b"DATE")
        assert one == two or name.suffix == ".svg", name  # an SVG numbers its clips anew
    assert (pages / "one" / "report.html").read_text(encoding="utf-8").count("first date") == 1


def test_markdown_names_every_file_and_lets_no_tag_through(pages: Path) -> None:
    text = (pages / "one" / "report.md").read_text(encoding="utf-8")
    for kind, ending in (("figures", "png"), ("tables", "csv")):
        files = {p.name for p in (pages / "one" / kind).glob(f"*.{ending}")}
        assert files
        assert {Path(name).name for name in re.findall(rf"\({kind}/([^)]+)\)", text)} <= files
    assert "<script" not in text
    assert "<img" not in text
    assert {p.stem for p in (pages / "one" / "figures").glob("*.png")} == {
        p.stem for p in (pages / "one" / "figures").glob("*.svg")
    }


def test_every_exported_table_is_free_of_formulas(pages: Path) -> None:
    cells = []
    for path in (pages / "one" / "tables").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            cells += [cell for row in csv.reader(file) for cell in row]
    assert "'=cmd|' /C calc'!A0" in cells
    starts = [cell for cell in cells if cell.startswith(("=", "@", "+", "-"))]
    assert all(re.match(r"[+-][0-9.]", cell) for cell in starts)


def test_json_for_scripts_cannot_end_its_element() -> None:
    written = str(script_json({"a": "</script><!-- &\u2028"}))
    assert "<" not in written
    assert "&" not in written
    assert json.loads(written) == {"a": "</script><!-- &\u2028"}
