"""evaluation=cv through the real entry point."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest


def test_cv_run_stores_out_of_fold_answers_and_logs_folds_as_steps(project):
    from mlflow.tracking import MlflowClient

    done = project.run(
        "data=sample", "features=word_tfidf", "model=multinomial_nb", "evaluation=cv", "evaluation.folds=4",
        "evaluation.latency_repeats=0", "tracking.log_model=false",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cv, 4 folds" in done.stdout
    result = project.result()
    assert result["objective"] == result["metrics"]["cv/macro_f1"]
    (folder,) = project.run_folders
    table = pq.read_table(folder / "predictions.parquet").to_pandas()
    held_out = table[table["split"] == "cv"]
    assert len(held_out) == result["data"]["rows"]["train"]
    assert held_out["row_id"].is_unique
    accuracies = [(g["label"] == g["prediction"]).mean() for _, g in held_out.groupby("fold")]
    assert result["folds"]["accuracy"] == pytest.approx(accuracies)
    (run,) = project.mlflow_runs()
    client = MlflowClient(f"sqlite:///{project.root}/mlruns/mlflow.db")
    history = client.get_metric_history(run.info.run_id, "cv_fold/macro_f1")
    assert [m.step for m in history] == [0, 1, 2, 3]
    assert np.mean([m.value for m in history]) == pytest.approx(run.data.metrics["cv/macro_f1"])
