"""One performer writes, replaces, keeps and reads again what analyses find."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import replace

import pytest
import yaml

from agnews_exp.analyses.performing import perform, perform_all, stored_findings, title_of
from agnews_exp.config.targets import check_arguments, resolve_target
from agnews_exp.core.paths import config_folder

TARGET = {"_target_": "counting_words.analyse"}


MODULE = """
from agnews_exp.analyses.findings import Findings, Number, Table, Text
from agnews_exp.analyses.performing import AnalysisContext, analysis
from agnews_exp.core.errors import DataError
from agnews_exp.drawing import Chart, Series


@analysis("counting", title="How long its texts are")
def analyse(context: AnalysisContext, *, fails: bool = False, longest: int = 3) -> Findings:
    (context.folder / "beside.txt").write_text("x")
    if fails:
        raise DataError("no rows")
    counts = [len(text.split()) for text in context.splits.test.texts]
    chart = Chart("lengths", "Lengths", "columns", "words", "rows", (Series("test", (1.0, 2.0), (3.0, 4.0)),))
    table = Table("longest", "Longest", ("words",), tuple((n,) for n in sorted(counts)[-longest:]), shown=2)
    mean = sum(counts) / len(counts)
    return Findings("Long.", (Number(mean, label="Mean"), table, chart, Text("Done.")), {"test/words": mean})
"""
"""An analysis of a user's own."""


@pytest.fixture
def own(context, tmp_path, monkeypatch):
    """A run that the analysis is to look at; the module is trusted."""
    (tmp_path / "counting_words.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AGNEWS_COMPONENTS", "counting_words")
    yield replace(context, folder=tmp_path / "analysis" / "counting")
    sys.modules.pop("counting_words", None)


def test_findings_come_back_as_they_were_written(own):
    found = perform(TARGET | {"longest": 4}, "counting", own)
    names = {path.name for path in own.folder.iterdir()}
    assert names == {"findings.json", "summary.md", "longest.csv", "lengths.json", "beside.txt"}
    again = stored_findings(own.folder.parents[1], "counting")
    assert (again.headline, again.metrics, again.blocks[2]) == (found.headline, found.metrics, found.blocks[2])
    assert len(again.blocks[1].rows) == 2, "the shown rows"
    assert again.blocks[1].total == 4
    assert json.loads((own.folder / "findings.json").read_text())["arguments"] == {"longest": 4}
    assert (own.folder / "summary.md").read_text().startswith("# How long its texts are\n\nLong.\n")
    assert title_of("counting") == "How long its texts are"


def test_charts_are_drawn_when_somebody_asks(own):
    perform(TARGET, "counting", own, draw=True)
    assert (own.folder / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert "![Lengths](lengths.png)" in (own.folder / "summary.md").read_text()


def test_a_failure_is_a_note_and_leaves_the_earlier_findings(own):
    perform(TARGET, "counting", own)
    metrics, notes = perform_all({"counting": TARGET | {"fails": True}, "off": None}, lambda name: own)
    assert metrics == {}
    assert notes == ["The analysis 'counting' could not be done: no rows"]
    assert stored_findings(own.folder.parents[1], "counting").headline == "Long."
    assert [path.name for path in own.folder.parent.iterdir()] == ["counting"]


def test_what_has_not_been_looked_into_has_no_findings(own):
    assert stored_findings(own.folder.parents[1], "counting") is None


def test_the_yaml_of_every_analysis_has_its_options_with_their_defaults():
    for path in sorted((config_folder() / "evaluation" / "analyses").glob("*.yaml")):
        component = yaml.safe_load(path.read_text(encoding="utf-8"))
        analyse = resolve_target(component.pop("_target_"), path.stem)
        checked = check_arguments(analyse, component, path.stem, ("context",))
        declared = {n: p.default for n, p in inspect.signature(analyse).parameters.items() if n != "context"}
        assert set(checked) == set(declared), path.stem
        shown = {"prices", "perturbations"}  # only the file says them
        for key, default in declared.items():
            given = checked[key]
            assert key in shown or (given or None) == (default or None) or given == [default], (path.stem, key)
