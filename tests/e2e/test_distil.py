"""`experiment=distil`: a teacher, and its student with and without it, through the real command."""

from __future__ import annotations

import pytest

SMALL = (
    "data=sample", "data_fraction=0.1", "features=word_tfidf", "trainer.n_jobs=1", "tracking=none",
    "evaluation.latency_repeats=0",
)  # fmt: skip


@pytest.mark.slow
def test_experiment_sets_the_student_beside_its_teacher_and_beside_itself(project):
    assert project.run(*SMALL, "model=multinomial_nb").returncode == 0
    teacher = project.result()["metrics"]
    done = project.run("-m", "experiment=distil", *SMALL, "model.teacher=multinomial_nb-word_tfidf")
    assert done.returncode == 0, done.stderr
    (table,) = project.root.glob("outputs/sweeps/*/distil_table.md")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.read_text().splitlines() if "0." in line]
    assert [row[:3] for row in rows] == [
        ["teacher: multinomial_nb-word_tfidf", "labels", "–"],
        ["ngram_softmax", "labels", "–"],
        ["ngram_softmax", "teacher (alpha 0.5, T 2)", "–"],
        ["ngram_softmax", "teacher (alpha 0.5, T 2)", "3,060"],
    ]
    assert rows[0][3:5] == [f"{teacher[f'{split}/macro_f1']:.4f}" for split in ("val", "test")]
    assert all(row[3] in done.stdout for row in rows)
