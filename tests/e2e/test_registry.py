"""`agnews register | promote | drift` on runs of a project, as processes."""

from __future__ import annotations

import pytest

SMALL = ("data=sample", "features=word_tfidf", "trainer.n_jobs=1", "tracking.system_metrics=false")


@pytest.mark.slow
def test_only_a_better_model_becomes_champion_and_drift_is_told(project, tmp_path):
    for model in ("dummy", "multinomial_nb"):
        done = project.run(*SMALL, f"model={model}", "evaluation.latency_repeats=0")
        assert done.returncode == 0, done.stderr

    first = project.agnews("promote", "dummy-word_tfidf", "--name", "news")
    assert first.returncode == 0, first.stderr
    assert "version 1: champion (there was no champion)" in first.stdout
    better = project.agnews("promote", "multinomial_nb-word_tfidf", "--name", "news")
    assert better.returncode == 0, better.stderr
    assert "version 2: champion (better: val/macro_f1 +" in better.stdout
    worse = project.agnews("promote", "dummy-word_tfidf", "--name", "news")
    assert worse.returncode == 1
    assert "version 1: challenger (not shown to be better" in worse.stdout, "a run makes one version"

    texts = tmp_path / "texts.txt"
    texts.write_text("Lorem ipsum dolor sit amet\n" * 200)
    answered = project.agnews("predict", "models:/news@champion", str(texts))
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.count('"label"') == 200
    drift = project.agnews("drift", "multinomial_nb-word_tfidf", str(texts), "--fail")
    assert drift.returncode == 1, drift.stderr
    assert "moved" in drift.stdout
