"""Runs that start at the same moment on an empty store."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_eight_runs_at_once_on_an_empty_store_all_finish_in_folders_of_their_own(project):
    processes = [
        project.start(
            "data=sample", "features=word_tfidf", "model=multinomial_nb", f"seed={seed}", "trainer.n_jobs=1",
            "evaluation.latency_repeats=0",
        )
        for seed in range(8)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [p.returncode for p in processes] == [0] * 8, "\n".join(outputs)
    assert project.statuses() == ["finished"] * 8
    runs = project.mlflow_runs()
    assert [r.info.status for r in runs] == ["FINISHED"] * 8
    assert len({r.data.tags["run_folder"] for r in runs}) == 8
    assert all("test/macro_f1" in r.data.metrics for r in runs)
