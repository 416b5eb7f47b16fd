"""The report from stored runs: what it chooses and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agnews_exp.analyses.findings import Missing, Table, Text, table_csv
from agnews_exp.core.errors import ConfigError
from agnews_exp.drawing import Chart
from agnews_exp.reference.reading import find_reference
from agnews_exp.report.answer import answer
from agnews_exp.report.build import SECTIONS, make_report
from agnews_exp.report.inputs import collect
from agnews_exp.report.page import render_markdown, render_page
from agnews_exp.tracking.record import RunFolder, write_json

StoreRun = Callable[..., RunFolder]
TICKETS = {"class_names": ("billing", "delivery", "technical fault", "praise"), "source": "csv:tickets.csv"}


def said(inputs: object) -> str:
    return "\n".join(b.text for b in answer(inputs).blocks if isinstance(b, Text))  # type: ignore[arg-type]


def test_validation_chooses_the_answer_and_test_does_not(store_run: StoreRun, tmp_path: Path) -> None:
    store_run(tmp_path, 1, "logreg", 0.95, 0.70)
    store_run(tmp_path, 2, "linear_svc", 0.75, 0.95)
    store_run(tmp_path, 3, "blend", 0.99, 0.80, family="cascade")
    inputs = collect(tmp_path, None)
    assert inputs.best.first.model == inputs.chosen.first.model == "logreg"
    low, high = inputs.best.first.interval("test/macro_f1") or (0, 0)
    assert low < inputs.best.first.metrics["test/macro_f1"] < high
    assert f"{low:.4f} to {high:.4f}" in said(inputs)
    assert "told apart from every other system" in said(inputs)


def test_ties_are_named_as_ties_and_the_cheapest_of_them_is_chosen(store_run: StoreRun, tmp_path: Path) -> None:
    for number, (model, val, speed) in enumerate((("slow", 0.91, 10), ("quick", 0.90, 1000), ("bad", 0.5, 9999)), 1):
        run = store_run(tmp_path, number, model, val, 0.9)
        result = run.result() or {}
        run.finish(result | {"metrics": {**result["metrics"], "throughput_batch": speed}})
    inputs = collect(tmp_path, None)
    assert [system.first.model for system in inputs.tied] == ["quick", "slow"]
    assert inputs.chosen.first.model == "quick"
    assert "does not tell 2 systems apart, which lie within 0.0" in said(inputs)
    assert "the cheapest of them is quick" in said(inputs)


def test_seeds_of_one_model_are_one_system_whose_interval_holds_rows_and_seeds(
    store_run: StoreRun, tmp_path: Path
) -> None:
    for seed, accuracy in ((2, 0.99), (1, 0.90), (3, 0.95)):
        store_run(tmp_path, seed, "tiny", accuracy, 0.8, seed=seed, group="same")
    (system,) = collect(tmp_path, None).systems
    assert [run.seed for run in system.runs] == [1, 2, 3]
    scores = [run.metrics["val/accuracy"] for run in system.runs]
    mean, low, high = system.joint_interval("val/accuracy")
    assert mean == system.mean("val/accuracy") == pytest.approx(np.mean(scores))
    half = 4.303 * np.std(scores, ddof=1) / np.sqrt(3)  # of the seeds alone
    own = system.first.interval("val/accuracy")
    assert low == pytest.approx(mean - np.hypot(half, scores[0] - own[0]), abs=1e-3)  # type: ignore[index, operator]
    assert high == 1.0, "no interval of a score goes beyond it"


def test_runs_of_other_rows_are_left_out_and_said(store_run: StoreRun, tmp_path: Path) -> None:
    for number in (1, 2):
        store_run(tmp_path, number, "logreg", 0.9, 0.9)
    store_run(tmp_path, 3, "linear_svc", 0.9, 0.9, checksum="other", source="sample")
    inputs = collect(tmp_path, None)
    assert [run.model for run in inputs.runs] == ["logreg", "logreg"]
    assert inputs.left_out == (("00000000", "linear_svc-hybrid_tfidf", "judged on other rows: sample (split seed 42)"),)
    assert inputs.others == {"sample": 1}
    assert [run.model for run in collect(tmp_path, None, data_name="sample").runs] == ["linear_svc"]
    with pytest.raises(ConfigError, match="Did you mean 'sample'"):
        collect(tmp_path, None, data_name="sampel")


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
    for make in SECTIONS:
        section = make(inputs)
        if section is None:  # no reference was chosen
            continue
        assert section.blocks or section.more, section.title
        for block in (*section.blocks, *section.more):
            if isinstance(block, Missing):
                assert block.command.startswith(("python run.py", "agnews ")), block
            if isinstance(block, Chart):
                assert all((block.intervals, block.caption or block.z, block.series or block.z)), block.name
                assert block.provenance.endswith("."), block


def test_a_report_of_own_data_speaks_of_nobody_elses(store_run: StoreRun, tmp_path: Path) -> None:
    store_run(tmp_path, 1, "logreg", 0.9, 0.88, **TICKETS)
    store_run(tmp_path, 2, "linear_svc", 0.85, 0.82, **TICKETS)
    store_run(tmp_path, 3, "tiny", 0.86, 0.91, family="transformer", **TICKETS)
    report = make_report(collect(tmp_path, None), "today", strict=True)
    page = render_page(report)
    written = [render_markdown(report), page[: page.index('<script type="application/json"')]]
    written += [table_csv(block) for block in report.blocks if isinstance(block, Table)]
    for text in written:
        for word in ("study", "Study", "World", "Sports", "Business", "Sci/Tech", "ag_news", "AG News", "Newsgroups"):
            assert word not in text.replace("data=ag_news", ""), word
    assert "technical fault" in written[0]


def test_a_reference_stands_beside_the_runs_only_where_it_was_chosen(store_run: StoreRun, tmp_path: Path) -> None:
    store_run(tmp_path, 1, "logreg", 0.9, 0.88, n_train=102_000)
    assert "published" not in [s.name for s in make_report(collect(tmp_path, None), "today").sections]
    report = make_report(collect(tmp_path, None, find_reference("ag_news_notebooks")), "today", strict=True)
    section = next(section for section in report.sections if section.name == "published")
    assert isinstance(section.blocks[0], Text)
    assert "Its split: AG News" in section.blocks[0].text
    claims = next(block for block in section.more if isinstance(block, Table))
    assert len(claims.rows) == 64


def test_a_damaged_finding_costs_its_section_only(
    store_run: StoreRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = store_run(tmp_path, 1, "logreg", 0.9, 0.88)
    result = run.result() or {}
    run.finish(result | {"slices": {"test": "torn"}})
    report = make_report(collect(tmp_path, None), "today")
    section = next(s for s in report.sections if s.name == "errors")
    assert isinstance(section.blocks[0], Missing)
    assert "Errors" in caplog.text
    with pytest.raises((TypeError, ValueError, IndexError)):
        make_report(collect(tmp_path, None), "today", strict=True)


def test_the_command_writes_the_report_where_it_says(
    store_run: StoreRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agnews_exp.cli import run_command

    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match="of one study"):
        run_command(["report", "a", "b"])
    store_run(tmp_path / "outputs", 1, "logreg", 0.9, 0.88)
    run_command(["report", "reference=ag_news_notebooks", "--date", "today", "--output", str(tmp_path / "r")])
    assert (tmp_path / "r" / "report.html").is_file()
    shown = capsys.readouterr().out
    assert "Answer" in shown
    assert "Published results" in shown
