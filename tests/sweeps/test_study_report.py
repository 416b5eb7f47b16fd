"""The study's sweep: a union of grids, with the study's numbers beside its own at the end."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_grids_make_one_sweep_and_its_report_names_the_split_of_every_number(project):
    done = project.run(
        "-m", "experiment=study_classical", "data=sample", "data_fraction=0.2",
        "hydra.sweeper.grids=[{model: 'dummy,multinomial_nb', features: hybrid_tfidf, evaluation.folds: '10'},"
        "{model: logreg, features: word_tfidf, evaluation.folds: '5'}]",
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = (project.root / "outputs" / "sweeps").iterdir()
    assert len(list(sweep.glob("*/result.json"))) == 3
    text = (sweep / "study_tables.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith(("| dummy ", "| multinomial_nb ", "| baseline "))]
    assert len(lines) == 3
    assert not any("–" in line for line in lines)
    (parent,) = [run for run in project.mlflow_runs() if "mlflow.parentRunId" not in run.data.tags]
    assert "Classical models" in parent.data.tags["mlflow.note.content"]
