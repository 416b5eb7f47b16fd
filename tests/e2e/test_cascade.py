"""A cascade and a blend of finished runs, through the real command."""

from __future__ import annotations

import json

import pytest

SMALL = ("data=sample", "trainer.n_jobs=1", "tracking=none", "evaluation.latency_repeats=0", "data_fraction=0.2")
ROUTED = ("model.fast=multinomial_nb-word_tfidf", "model.accurate=logreg-word_tfidf")


@pytest.mark.slow
def test_cascade_and_blend_are_fitted_on_validation_and_judged_like_any_model(project):
    for model in ("multinomial_nb", "logreg"):
        assert project.run(*SMALL, f"model={model}", "features=word_tfidf").returncode == 0
    done = project.run(*SMALL, "model=cascade", *ROUTED, "model.target=escalation_rate", "model.value=0.25")
    assert done.returncode == 0, done.stderr
    folder = project.run_folders[-1]
    metrics = project.result(folder)["metrics"]
    assert metrics["cascade/val_escalation_rate"] <= 0.25
    findings = json.loads((folder / "analysis" / "cascade" / "findings.json").read_text())
    assert findings["details"]["chosen"]["accuracy"]["estimate"] == pytest.approx(metrics["test/accuracy"])
    assert {"routing.png", "risk_coverage.png"} <= {p.name for p in (folder / "analysis" / "cascade").iterdir()}
    assert "train/macro_f1" not in metrics, "nothing of a cascade is fitted on training rows"

    again = project.run(*SMALL, "model=cascade", *ROUTED, "model.target=escalation_rate", "model.value=0.25")
    assert "Already finished" in again.stdout
    blend = project.run(*SMALL, "model=blend", *ROUTED)
    assert blend.returncode == 0, blend.stderr

    other = project.run(*SMALL, "model=cascade", *ROUTED, "split_seed=7")
    assert other.returncode == 2
    assert "judged on other validation or test rows" in other.stderr
    missing = project.run(*SMALL, "model=cascade", "model.fast=nothing", "model.accurate=logreg-word_tfidf")
    assert missing.returncode == 2
    assert "nothing" in missing.stderr
