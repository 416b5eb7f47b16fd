"""Tables at a sweep's end: students and teachers, runs and a chosen reference; `top` shows validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agnews_exp.compare.beside import distillation_table, print_tables
from agnews_exp.tracking.record import RunFolder

StoreRun = Callable[..., RunFolder]


def test_a_sweep_ends_with_published_numbers_only_where_a_reference_was_chosen(
    store_run: StoreRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [store_run(tmp_path, 1, "logreg", 0.9, 0.9), store_run(tmp_path, 2, "multinomial_nb", 0.8, 0.8)]
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "source.yaml").write_text("title: A paper\n")
    (tmp_path / "paper" / "results.csv").write_text(
        "system,settings,split,metric,value\nTheirs,model=logreg,test,macro_f1,.91\nOther,model=knn,test,macro_f1,.5\n"
    )
    assert print_tables(tmp_path, runs, None) == {}
    found = print_tables(tmp_path, runs, "paper", tmp_path)
    assert found["artifacts"] == [tmp_path / "tables.md"]
    written = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert written == found["note"]
    assert "| Theirs | logreg-hybrid_tfidf | test/macro_f1 | 0.9100 |" in written
    assert "Other" not in written
    assert "Published numbers beside own ones" in capsys.readouterr().out


def test_students_stand_behind_their_teacher_and_other_runs_are_left_out() -> None:
    data = {"name": "x", "source": "here", "rows": {"train": 100}}
    metrics = {"val/macro_f1": 0.9, "test/macro_f1": 0.8, "model_size_mb": 1.0}
    taught = metrics | {"distil/teacher_val_macro_f1": 0.95, "distil/val_agreement": 0.97}
    student = {"student": {"name": "linear"}, "teacher": "minilm", "alpha": 0.5, "temperature": 2.0}
    table = distillation_table([
        ({"metrics": taught, "data": data}, {"model": student}),
        ({"metrics": metrics, "data": data}, {"model": student | {"alpha": 0.0, "teacher": None}}),
        ({"metrics": metrics, "data": data}, {"model": {"name": "logreg"}}),
    ])  # fmt: skip
    assert [row[:2] for row in table.rows] == [
        ("teacher: minilm", "labels"), ("linear", "labels"), ("linear", "teacher (alpha 0.5, T 2)"),
    ]  # fmt: skip
    assert table.texts()[2][5] == "97.0%"
