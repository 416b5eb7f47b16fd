"""The report from stored runs: what it chooses and what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agnews_exp.analyses.errors.confusions import contrasts
from agnews_exp.core.errors import ConfigError
from agnews_exp.reference.ag_news_notebooks.claims import answer, claims
from agnews_exp.reference.ag_news_notebooks.claims_recomputed import study_tests
from agnews_exp.reference.ag_news_notebooks.study_tables import published
from agnews_exp.reference.ag_news_notebooks.verdicts import FAILS, HOLDS, UNTESTED
from agnews_exp.report.build import SECTIONS, build_report
from agnews_exp.report.content import Chart, Missing, Picture, Stored, Table
from agnews_exp.report.inputs import collect
from agnews_exp.report.sections.headline import headline
from agnews_exp.tracking.record import RunFolder, write_json

StoreRun = Callable[..., RunFolder]


def test_validation_chooses_the_headline_and_test_does_not(store_run: StoreRun, tmp_path: Path) -> None:
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


def test_seeds_of_one_model_are_one_system_with_a_spread(store_run: StoreRun, tmp_path: Path) -> None:
    for number, seed in enumerate((2, 1, 3), start=1):
        store_run(tmp_path, number, "tiny", 0.80 + 0.01 * seed, 0.8, seed=seed, group="same")
    (system,) = collect(tmp_path, None).systems
    assert system.seeds == (1, 2, 3)
    assert system.first.seed == 1
    assert system.mean("val/macro_f1") == pytest.approx(np.mean([r.metrics["val/macro_f1"] for r in system.runs]))
    assert (system.spread("val/macro_f1") or 0) > 0


def test_interval_over_few_seeds_ends_where_the_score_does(store_run: StoreRun, tmp_path: Path) -> None:
    for number, accuracy in enumerate((0.90, 0.99), start=1):
        store_run(tmp_path, number, "tiny", accuracy, 0.8, seed=number, group="same")
    (system,) = collect(tmp_path, None).systems
    mean, low, high = system.mean_interval("val/accuracy")
    assert mean == pytest.approx(0.945, abs=0.01)
    assert (low, high) == (pytest.approx(0.945 - 12.706 * 0.045, abs=0.02), 1.0)


def test_runs_of_other_rows_are_left_out_and_said(store_run: StoreRun, tmp_path: Path) -> None:
    for number in (1, 2):
        store_run(tmp_path, number, "logreg", 0.9, 0.9)
    store_run(tmp_path, 3, "linear_svc", 0.9, 0.9, checksum="other", source="sample")
    inputs = collect(tmp_path, None)
    assert [run.model for run in inputs.runs] == ["logreg", "logreg"]
    assert inputs.left_out == (("00000000", "linear_svc-hybrid_tfidf", "judged on other rows: sample (split seed 42)"),)


def test_a_study_takes_its_own_runs_alone(store_run: StoreRun, tmp_path: Path) -> None:
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


def test_one_run_fills_what_it_can_and_names_commands_for_the_rest(store_run: StoreRun, tmp_path: Path) -> None:
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


def test_rows_with_an_artefact_stand_beside_those_without_it(store_run: StoreRun, tmp_path: Path) -> None:
    run = store_run(tmp_path, 1, "logreg", 0.9, 0.88)
    rates = contrasts(np.arange(80) % 4 == 0, {"escaped tag": np.arange(80) % 2 == 0})
    folder = run.path / "analysis" / "errors"
    folder.mkdir(parents=True)
    write_json(folder / "findings.json", {"details": {"by_artefact": [rate.to_dict() for rate in rates]}})
    (folder / "summary.md").write_text("# Errors\n")
    report = build_report(tmp_path, None, tmp_path / "report", "today", strict=True)
    section = next(s for s in report.sections if s.title == "Errors and confusions")
    chart = next(b for b in section.blocks if isinstance(b, Chart) and "artefact" in b.name)
    assert [series.name for series in chart.series] == ["rows with it", "rows without it"]


def test_a_damaged_finding_costs_its_section_only(
    store_run: StoreRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_every_published_claim_gets_an_answer(store_run: StoreRun, tmp_path: Path) -> None:
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
    store_run: StoreRun, tmp_path: Path, test: float, source: str, fraction: float, verdict: str
) -> None:
    store_run(tmp_path, 1, "logreg", 0.9, test, source=source, fraction=fraction)
    line = next(row for row in published("claims") if row["argument"] == "logreg test")
    assert answer(collect(tmp_path, None), line).verdict == verdict


def test_another_transformer_decides_no_claim_about_distilbert(store_run: StoreRun, tmp_path: Path) -> None:
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


def test_published_intervals_of_the_study_do_not_hold(store_run: StoreRun, tmp_path: Path) -> None:
    store_run(tmp_path, 1, "logreg", 0.9, 0.88)
    inputs = collect(tmp_path, None)
    found = [answer(inputs, line) for line in published("claims") if line["answer"] == "study_interval"]
    assert [a.verdict for a in found] == [FAILS, FAILS]
    low, high = map(float, re.findall(r"0\.\d+", found[0].said)[:2])
    assert (low, high) == pytest.approx((0.9370, 0.9474), abs=0.001)


def test_covered_identifiers_are_known_and_every_other_says_why(store_run: StoreRun, tmp_path: Path) -> None:
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
    store_run: StoreRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agnews_exp.cli import run_command

    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="of one study"):
        run_command(["report", "a", "b"])
    store_run(tmp_path / "outputs", 1, "logreg", 0.9, 0.88)
    run_command(["report", "--date", "today", "--output", str(tmp_path / "r")])
    assert (tmp_path / "r" / "report.html").is_file()
    assert "Headline" in capsys.readouterr().out
