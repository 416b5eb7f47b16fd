"""The report from stored runs: what it chooses, what it says, and that nothing in it runs or lies."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agnews_exp.config.errors import ConfigError
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import confusion_matrix, metric_class_name
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.reporting.record_files import write_predictions
from agnews_exp.reporting.report.build import SECTIONS, build_report
from agnews_exp.reporting.report.content import Cell, Chart, Missing, Picture, Series, Stored, Table
from agnews_exp.reporting.report.inputs import collect
from agnews_exp.reporting.report.page.html import script_json, stored_html
from agnews_exp.reporting.report.page.plotly_specs import plotly_spec
from agnews_exp.reporting.report.page.stills import draw_still
from agnews_exp.reporting.report.page.writing import table_csv
from agnews_exp.reporting.report.recomputed import study_tests
from agnews_exp.reporting.report.sections.claims import answer, claims
from agnews_exp.reporting.report.sections.headline import headline
from agnews_exp.reporting.report.verdicts import FAILS, HOLDS, UNTESTED
from agnews_exp.reporting.study_tables import published
from agnews_exp.tracking.record import RunFolder, write_json

NAMES = ("World", "Sports", "Business", "Sci/Tech")
HOSTILE = "</script><script>alert('x')</script>\"><img src=x onerror=alert(1)>"
N = 240


def store_run(output: Path, number: int, model: str, val: float, test: float, **more: Any) -> RunFolder:
    """Store a run whose answers have the given accuracies, as a real run stores them."""
    names: tuple[str, ...] = more.get("class_names", NAMES)
    rng = np.random.default_rng(number)
    labels = np.arange(N) % len(names)
    parts, answers, metrics, confusion = {}, {}, {}, {}
    for split, accuracy in (("val", val), ("test", test)):
        given = labels.copy()
        wrong = rng.permutation(N)[: round(N * (1 - accuracy))]
        given[wrong] = (given[wrong] + 1 + rng.integers(0, len(names) - 1, len(wrong))) % len(names)
        probabilities = np.full((N, len(names)), 0.1)
        probabilities[np.arange(N), given] = 1 - 0.1 * (len(names) - 1)
        parts[split] = TextRows(tuple(f"text {i}" for i in range(N)), labels, np.arange(N))
        answers[split] = Predictions(given, None, probabilities)
        matrix = confusion_matrix(labels, given, len(names))
        confusion[split] = matrix.tolist()
        f1 = 2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))
        metrics |= {f"{split}/macro_f1": float(f1.mean()), f"{split}/accuracy": float((given == labels).mean())}
        metrics |= {f"{split}/f1/{metric_class_name(c)}": float(v) for c, v in zip(names, f1, strict=True)}
    folder = RunFolder(output / "runs" / f"20260101-000000-{number:06d}-{number:06x}")
    folder.path.mkdir(parents=True)
    seed = more.get("seed", 42)
    folder.start({"model": {"name": model}, "seed": seed}, {"cpu": "test", "command": ["run.py", f"model={model}"]})
    write_predictions(folder.path / "predictions.parquet", parts, answers, names)
    folder.finish(
        {
            "name": more.get("name", f"{model}-hybrid_tfidf"), "model": model, "features": "hybrid_tfidf",
            "family": more.get("family", "classical"), "data_fraction": more.get("fraction", 1.0), "metrics": metrics,
            "timings": {"fit": 1.5}, "class_names": list(names), "folds": {}, "confusion": confusion, "seed": seed,
            "split_seed": 42, "objective": metrics["val/macro_f1"], "fingerprint": f"{number:016x}",
            "group_fingerprint": more.get("group", f"group{number}"),
            "data": {
                "name": "ag_news", "source": more.get("source", "ag_news:csv"), "location": "here", "checksum": "c",
                "evaluation_checksum": more.get("checksum", "rows"), "rows": {"train": 1000, "val": N, "test": N},
            },
        }
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reports of the same two runs, one of which was written by somebody hostile."""
    output = tmp_path_factory.mktemp("outputs")
    hostile = (HOSTILE, "=cmd|' /C calc'!A0", "$\\frac{1}{", "Sci/Tech")
    run = store_run(output, 1, "linear_svc", 0.90, 0.88, class_names=hostile, name=HOSTILE)
    store_run(output, 2, "tiny", 0.86, 0.91, class_names=hostile, family="transformer")
    (run.path / "analysis" / "errors").mkdir(parents=True)
    write_json(run.path / "analysis" / "errors" / "findings.json", {"details": {}})
    summary = f"## Hardest\n\n| text |\n| --- |\n| {HOSTILE} |\n\n[link](javascript:alert(1)) ![x](http://x/y.png)\n"
    (run.path / "analysis" / "errors" / "summary.md").write_text(summary)
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
    sources = [attributes.get("src") or "" for tag, attributes in elements.tags if tag == "img"]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
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
    specs = json.loads(elements.scripts[0])
    places = {a["data-chart"] for tag, a in elements.tags if tag == "div" and "data-chart" in a}
    assert places == set(specs)
    assert len(places) > 8
    assert not [
        tag
        for tag, a in elements.tags
        if tag in ("link", "iframe", "object") or (a.get("src") or "").startswith("http")
    ]
    assert any(
        HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        in json.dumps(s, ensure_ascii=False).replace('\\"', '"')
        for s in specs.values()
    )


def test_two_reports_of_the_same_runs_differ_in_the_date_alone(pages: Path) -> None:
    for name in sorted(p.relative_to(pages / "one") for p in (pages / "one").rglob("*") if p.is_file()):
        one = (pages / "one" / name).read_bytes().replace(b"first date", b"DATE")
        two = (pages / "two" / name).read_bytes().replace(b"second date", b"DATE")
        assert one == two, name
    assert (pages / "one" / "report.html").read_text(encoding="utf-8").count("first date") == 1


def test_markdown_names_every_file_and_lets_no_tag_through(pages: Path) -> None:
    text = (pages / "one" / "report.md").read_text(encoding="utf-8")
    for kind, ending in (("figures", "png"), ("tables", "csv")):
        files = {p.name for p in (pages / "one" / kind).glob(f"*.{ending}")}
        assert files
        assert set(re.findall(rf"\({kind}/([^)]+)\)", text)) == files
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


def test_formula_is_defused_and_a_negative_number_kept() -> None:
    table = Table("t", "T", ("=a", "b"), ((Cell("@sum"), Cell("-0.5", -0.5)), (Cell("-x"), Cell("+1", 1.0))), "made")
    rows = list(csv.reader(io.StringIO(table_csv(table))))
    assert rows == [["'=a", "b"], ["'@sum", "-0.5"], ["'-x", "+1"]]


def test_validation_chooses_the_headline_and_test_does_not(tmp_path: Path) -> None:
    store_run(tmp_path, 1, "logreg", 0.90, 0.70)
    store_run(tmp_path, 2, "linear_svc", 0.85, 0.95)
    store_run(tmp_path, 3, "blend", 0.99, 0.80, family="cascade")
    inputs = collect(tmp_path, None)
    assert inputs.best.first.model == "logreg"
    (first, *_) = headline(inputs).blocks
    low, high = inputs.best.first.interval("test/macro_f1") or (0, 0)
    assert f"{inputs.best.first.metrics['test/macro_f1']:.4f}" in first.text  # type: ignore[union-attr]
    assert low < inputs.best.first.metrics["test/macro_f1"] < high
    assert f"{low:.4f} to {high:.4f}" in first.text


def test_seeds_of_one_model_are_one_system_with_a_spread(tmp_path: Path) -> None:
    for number, seed in enumerate((2, 1, 3), start=1):
        store_run(tmp_path, number, "tiny", 0.80 + 0.01 * seed, 0.8, seed=seed, group="same")
    (system,) = collect(tmp_path, None).systems
    assert system.seeds == (1, 2, 3)
    assert system.first.seed == 1
    assert system.mean("val/macro_f1") == pytest.approx(np.mean([r.metrics["val/macro_f1"] for r in system.runs]))
    assert (system.spread("val/macro_f1") or 0) > 0


def test_runs_of_other_rows_are_left_out_and_said(tmp_path: Path) -> None:
    for number in (1, 2):
        store_run(tmp_path, number, "logreg", 0.9, 0.9)
    store_run(tmp_path, 3, "linear_svc", 0.9, 0.9, checksum="other", source="sample")
    inputs = collect(tmp_path, None)
    assert [run.model for run in inputs.runs] == ["logreg", "logreg"]
    assert inputs.left_out == (("000003", "linear_svc-hybrid_tfidf", "judged on other rows: sample (split seed 42)"),)


def test_a_study_takes_its_own_runs_alone(tmp_path: Path) -> None:
    mine = store_run(tmp_path, 1, "logreg", 0.9, 0.9)
    store_run(tmp_path, 2, "linear_svc", 0.95, 0.95)
    stage = {"name": "models", "status": "finished", "runs": [mine.path.name], "sweeps": []}
    write_json(tmp_path / "studies" / "full" / "study.json", {"format": 1, "name": "full", "stages": [stage]})
    inputs = collect(tmp_path, "full")
    assert [run.model for run in inputs.runs] == ["logreg"]
    with pytest.raises(ConfigError, match="Did you mean 'full'"):
        collect(tmp_path, "ful")


def test_without_runs_the_error_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="quickstart"):
        collect(tmp_path, None)


def test_one_run_fills_what_it_can_and_names_commands_for_the_rest(tmp_path: Path) -> None:
    store_run(tmp_path, 1, "logreg", 0.9, 0.88)
    inputs = collect(tmp_path, None)
    for title, make in SECTIONS:
        section = make(inputs)
        assert section.blocks, title
        for block in section.blocks:
            if isinstance(block, Missing):
                assert block.command.startswith(("python run.py", "agnews ")), block
            if isinstance(block, Chart):
                assert all((block.intervals, block.x_title, block.series or block.z)), block.name
            if isinstance(block, Chart | Table | Picture | Stored):
                assert block.provenance.endswith("."), block


def test_a_damaged_finding_costs_its_section_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = store_run(tmp_path, 1, "logreg", 0.9, 0.88)
    folder = run.path / "analysis" / "robustness"
    folder.mkdir(parents=True)
    write_json(folder / "findings.json", {"details": {"variants": {"swap_0.1": {"metrics": "torn"}}}})
    report = build_report(tmp_path, None, tmp_path / "report", "today")
    section = next(s for s in report.sections if s.title == "Robustness")
    assert isinstance(section.blocks[0], Missing)
    assert "Robustness" in caplog.text
    with pytest.raises(TypeError):
        build_report(tmp_path, None, tmp_path / "report", "today", strict=True)


def test_every_published_claim_gets_an_answer(tmp_path: Path) -> None:
    store_run(tmp_path, 1, "logreg", 0.9, 0.88)
    inputs = collect(tmp_path, None)
    lines = published("claims")
    assert {f"I{n}" for n in range(1, 52)} == {line["id"] for line in lines}
    for line in lines:
        found = answer(inputs, line)
        assert found.said, line
        assert found.verdict in (HOLDS, FAILS, UNTESTED), line
    (_, table) = claims(inputs).blocks
    assert isinstance(table, Table)
    assert len(table.rows) == len(lines)


@pytest.mark.parametrize(
    ("test", "source", "fraction", "verdict"),
    [
        (0.92, "ag_news:csv", 1.0, HOLDS),
        (0.70, "ag_news:csv", 1.0, FAILS),
        (0.70, "sample", 1.0, UNTESTED),
        (0.92, "ag_news:csv", 0.05, UNTESTED),
    ],
)
def test_a_score_is_judged_by_its_interval_on_the_whole_of_ag_news_only(
    tmp_path: Path, test: float, source: str, fraction: float, verdict: str
) -> None:
    store_run(tmp_path, 1, "logreg", 0.9, test, source=source, fraction=fraction)
    line = next(row for row in published("claims") if row["argument"] == "logreg test")
    assert answer(collect(tmp_path, None), line).verdict == verdict


def test_another_transformer_decides_no_claim_about_distilbert(tmp_path: Path) -> None:
    for number, seed in enumerate((1, 2), start=1):
        store_run(tmp_path, number, "minilm", 0.8 + 0.05 * seed, 0.8, family="transformer", seed=seed, group="same")
    line = next(row for row in published("claims") if row["answer"] == "seed_spread")
    found = answer(collect(tmp_path, None), line)
    assert found.verdict == UNTESTED
    assert "the transformer is minilm" in found.said


def test_the_studys_own_counts_give_the_statistics_it_left_out() -> None:
    cells = study_tests()
    assert cells["McNemar, continuity-corrected: chi-square"].sort == pytest.approx(47.4447, abs=1e-4)
    assert cells["McNemar, exact: p"].sort == pytest.approx(3.57e-12, rel=0.01)
    assert cells["odds ratio of discordant items"].sort == pytest.approx(2.014, abs=1e-3)
    assert cells["pooled Cohen's d over 4 class F1s (published as 2.59)"].sort == pytest.approx(0.547, abs=1e-3)
    assert cells["Wilcoxon over 4 class F1s: p (its minimum)"].sort == pytest.approx(0.125)
    corrected = cells["SGD modified_huber over LinearSVC C=1, 10 folds: corrected p"].sort
    assert corrected == pytest.approx(0.0311, abs=2e-4)


def test_published_intervals_of_the_study_do_not_hold(tmp_path: Path) -> None:
    store_run(tmp_path, 1, "logreg", 0.9, 0.88)
    inputs = collect(tmp_path, None)
    found = [answer(inputs, line) for line in published("claims") if line["answer"] == "study_interval"]
    assert [a.verdict for a in found] == [FAILS, FAILS]
    low, high = map(float, re.findall(r"0\.\d+", found[0].said)[:2])
    assert (low, high) == pytest.approx((0.9370, 0.9474), abs=0.001)


def charts() -> list[Chart]:
    labelled = Series("a", (0.5, 0.6, None), ("x", "y", "z"), (0.4, 0.55, None), (0.6, 0.65, None))
    numbers = Series("b", (1.0, 2.0), (0.5, 0.6), (0.4, 0.5), (0.6, 0.7), published=True)
    kinds: list[tuple[Any, tuple[Series, ...]]] = [
        ("dots", (labelled,)), ("columns", (numbers,)), ("lines", (numbers,)), ("points", (numbers,)),
        ("box", (Series("m", (0.1, 0.2, 0.3), ()),)), ("heatmap", ()),
    ]  # fmt: skip
    matrix = {"z": ((0.9, 0.1), (0.2, 0.8)), "labels": (("A", "B"), ("A", "B")), "texts": (("9", "1"), ("2", "8"))}
    return [
        Chart(k, "T", k, "x", "y", series, "made.", "none", **(matrix if k == "heatmap" else {}))  # type: ignore[arg-type]
        for k, series in kinds
    ]


@pytest.mark.parametrize("chart", charts(), ids=lambda chart: chart.kind)
def test_every_kind_of_chart_is_valid_for_plotly_and_drawn_the_same_each_time(chart: Chart, tmp_path: Path) -> None:
    import plotly.graph_objects as go

    spec = plotly_spec(chart)
    figure = go.Figure(spec)  # refuses what Plotly does not know
    assert len(figure.data) == max(1, len(chart.series))
    for name in ("one", "two"):
        draw_still(chart, tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
    for ending in ("png", "svg"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_intervals_reach_the_plot_as_distances() -> None:
    trace = plotly_spec(charts()[0])["data"][0]
    assert trace["error_x"]["array"][:2] == pytest.approx([0.1, 0.05])
    assert trace["error_x"]["arrayminus"][:2] == pytest.approx([0.1, 0.05])


def test_json_for_scripts_cannot_end_its_element() -> None:
    written = str(script_json({"a": "</script><!-- &\u2028"}))
    assert "<" not in written
    assert "&" not in written
    assert json.loads(written) == {"a": "</script><!-- &\u2028"}


def test_stored_summaries_keep_tables_and_lose_tags() -> None:
    shown = str(stored_html(Stored("t", "| a |\n| --- |\n| <b>x</b> |\n\n<script>1</script>", "made.")))
    assert "<table>" in shown
    assert 'class="scroll"' in shown
    assert "<b>" not in shown
    assert "<script" not in shown
    assert "&lt;b&gt;" in shown


def test_covered_identifiers_are_known_and_every_other_says_why(tmp_path: Path) -> None:
    store_run(tmp_path, 1, "logreg", 0.9, 0.88)
    store_run(tmp_path, 2, "tiny", 0.9, 0.88, family="transformer")
    inputs = collect(tmp_path, None)
    known = {line["id"] for kind in ("figures", "tables") for line in published(kind)}
    makers: list[Callable[..., Any]] = [make for _, make in SECTIONS]
    used = {c for make in makers for block in make(inputs).blocks for c in getattr(block, "covers", ())}
    assert used <= known
    assert len(used) > 15
    for kind in ("figures", "tables"):
        assert all(bool(line["fill"]) != bool(line["why_not"]) for line in published(kind))


def test_the_command_writes_the_report_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agnews_exp.cli import run_command

    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="of one study"):
        run_command(["report", "a", "b"])
    store_run(tmp_path / "outputs", 1, "logreg", 0.9, 0.88)
    run_command(["report", "--date", "today", "--output", str(tmp_path / "r")])
    assert (tmp_path / "r" / "report.html").is_file()
    assert "Headline" in capsys.readouterr().out
