"""The experiment of few labels on the shipped sample: grids with sweeps in common, numbers of rows, and the verdict."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_few_labels_end_with_a_sentence_on_what_is_worth_it_and_go_on_where_they_were(project):
    words = (
        "-m", "experiment=few_labels", "data=sample", "features=word_tfidf", "tracking=none", "sweep.name=few",
        "data_fraction=24,48,96,192", "seed=1", "held_out=0.25", "evaluation.latency_repeats=1",
        "hydra.sweeper.grids=[{model: multinomial_nb},{model: linear_svc}]",
    )  # fmt: skip
    done = project.run(*words)
    assert done.returncode == 0, done.stderr
    assert "Worth it, by training rows: " in done.stdout
    table = (project.root / "outputs" / "sweeps" / "few" / "aggregate.md").read_text(encoding="utf-8")
    rows = [line for line in table.split("Scores and costs")[1].splitlines() if "_tfidf | 1 |" in line]
    assert [int(row.split("|")[1]) for row in rows] == [18, 18, 36, 36, 72, 72, 144, 144]
    again = project.run(*words)
    assert again.returncode == 0
    assert "#0 finished" not in again.stderr
