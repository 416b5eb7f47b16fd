"""`agnews study` as a user runs it: resumed, interrupted, killed, and with stages that fail."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import time

import pytest

from agnews_exp.cli import run_command
from agnews_exp.core.errors import AgnewsError

STAGES = (
    "eda", "classical", "more", "searches", "ensembles", "transformer", "ablations", "data_efficiency", "seeds",
    "statistics", "analyses", "cascade", "distillation", "report",
)  # fmt: skip


def study_words(**steps):
    """A study of a few stages with commands of our own; all others are left out."""
    left_out = ",".join(stage for stage in STAGES if stage not in steps)

    def listed(own):
        steps = [w if isinstance(w, dict) else {"words": w} for w in own]
        return ",".join("{" + ",".join(f"{key}: '{value}'" for key, value in step.items()) + "}" for step in steps)

    words = [f"study.stages.{stage}.steps=[{listed(own)}]" for stage, own in steps.items()]
    return ["study", "fast", "study.name=small", f"study.leave_out=[{left_out}]", *words]


def stored(project):
    return json.loads((project.root / "outputs" / "studies" / "small" / "study.json").read_text())


def statuses(project):
    return {s["name"]: s["status"] for s in stored(project)["stages"] if s["status"] != "left_out"}


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return found


def test_the_plan_is_printed_and_nothing_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    run_command(["study", "fast", "--plan"])
    said = capsys.readouterr().out
    assert re.search(r"14 +Report +1 +about \d+ s", said)
    assert len(said.splitlines()) < 25, "a table, no list of commands"
    run_command(["study", "fast", "--commands"])
    said = capsys.readouterr().out
    assert "agnews run -m" in said
    assert "agnews external <best_classical> <option:external>\n        left out: study.options.external" in said
    assert not list(tmp_path.iterdir())


def test_a_study_without_its_data_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    with pytest.raises(AgnewsError, match="nowhere"):
        run_command(["study", "full", f"data.dir={tmp_path}/nowhere", "--plan"])


@pytest.mark.slow
def test_what_failed_is_tried_again_what_is_done_is_not_and_the_report_follows(project):
    stages = {"classical": ["list model"], "report": ["list paths"]}
    words = study_words(eda=["list nosuchgroup", "list data"], statistics=["compare <top:2>"], **stages)
    first = project.agnews(*words)
    assert first.returncode == 1
    assert "agnews list nosuchgroup" in first.stdout.split("failed:")[1]
    assert "Unknown group: 'nosuchgroup'" in first.stdout
    assert "Traceback" not in first.stderr
    assert statuses(project) == {
        "eda": "failed", "classical": "finished", "statistics": "pending", "report": "finished"
    }  # fmt: skip
    (eda,) = (s for s in stored(project)["stages"] if s["name"] == "eda")
    assert [step["status"] for step in eda["steps"]] == ["failed", "finished"]
    second = project.agnews(*words)
    assert second.returncode == 1
    done = [line for line in second.stdout.splitlines() if line.startswith("(")]
    assert done == ["(1/2) agnews list nosuchgroup", "(1/1) agnews list paths"]
    mended = project.agnews(*study_words(eda=["list data"], **stages))
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert not [line for line in mended.stdout.splitlines() if line.startswith("(")]
    assert statuses(project) == {"eda": "finished", "classical": "finished", "report": "finished"}
    assert stored(project)["finished"] is not None


LONG = study_words(classical=["run model=random_forest_100 model.n_estimators=100000 features=word_tfidf"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_first_and_the_study_says_so(project, number):
    study = project.start_agnews(*LONG)
    wait_for(lambda: list(project.root.glob("outputs/runs/*/status.json")))
    study.send_signal(number)
    try:
        assert study.wait(60) == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    finally:
        study.kill()
    assert project.statuses() == ["killed"]
    assert statuses(project) == {"classical": "pending"}


SMALL = study_words(
    classical=[
        "run model=dummy features=word_tfidf evaluation.latency_repeats=0",
        "run model=multinomial_nb features=word_tfidf evaluation.latency_repeats=0",
    ],
    statistics=[
        {
            "words": "compare <top:2> --output <folder>/classical --resamples 200",
            "folder": "studies/small/statistics/classical",
        }
    ],
    distillation=["run -m model=distilled_linear features=ngrams model.teacher=<best_classical> seed=1,2"],
    report=["report <study> --strict"],
)

MEASURED = re.compile(r"\b(fit|training)(, s)?$|texts/s|^(p95 )?ms for one text$|^peak memory, MB$")
"""Columns of the report's tables that are measured: the only ones that may differ between two equal studies."""

MADE = re.compile(r"^Made on .* UTC\.$", re.MULTILINE)


def masked_rows(rows):
    """A table without its measured columns' cells; the first row is its header."""
    measured = [bool(MEASURED.search(name.strip())) for name in rows[0]]
    return [rows[0], *([cell for cell, skip in zip(row, measured, strict=True) if not skip] for row in rows[1:])]


def masked_markdown(text):
    lines, table = [], []
    for line in [*MADE.sub("Made on <date>.", text).splitlines(), ""]:
        if line.startswith("|"):
            table.append(re.split(r"(?<!\\)\|", line))
            continue
        lines += masked_rows(table) if table else []
        lines.append(line)
        table = []
    return lines


def written(project):
    """What a study's report says but for what was measured: its Markdown and its tables."""
    folder = project.root / "outputs" / "reports" / "small"
    tables = {path.name: list(csv.reader(path.open(newline=""))) for path in folder.glob("tables/*.csv")}
    return masked_markdown((folder / "report.md").read_text()), {name: masked_rows(t) for name, t in tables.items()}


def test_only_measured_columns_and_the_date_are_masked():
    table = "| model | fit, s | ours: fit, s | benefit |\n| --- | --- | --- | --- |\n| a \\| b | 1.2 | 3 | 4 |"
    said = masked_markdown(f"Made on 2026-01-01 10:00 UTC.\nfit, s: 3\n{table}\n")
    assert said[:2] == ["Made on <date>.", "fit, s: 3"]
    assert said[4] == ["", " a \\| b ", " 4 ", ""]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_study_killed_five_times_writes_the_same_report(make_project, tmp_path):
    whole, killed = make_project(tmp_path / "whole"), make_project(tmp_path / "killed")
    done = whole.agnews(*SMALL, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    seed = time.time_ns()
    chance = random.Random(seed)
    kills = 0
    while kills < 5:
        study = killed.start_agnews(*SMALL)
        try:
            study.wait(chance.uniform(2, 8))
        except subprocess.TimeoutExpired:
            os.kill(study.pid, signal.SIGKILL)
            study.wait()
            kills += 1
        else:
            break  # it was done before it could be killed five times
    assert kills >= 2
    done = killed.agnews(*SMALL, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert statuses(killed) == statuses(whole)
    (markdown, tables), (expected, expected_tables) = written(killed), written(whole)
    assert {"runs.csv", "systems_table.csv", "comparison_classical.csv"} <= set(tables)
    assert tables == expected_tables, f"kills drawn with seed {seed}"
    assert markdown == expected, f"kills drawn with seed {seed}"
    assert not [r for r in killed.mlflow_runs() if r.info.status == "RUNNING"]
