"""A cascade and a blend of finished runs, through the flow of every run."""

from __future__ import annotations

import json

import pytest

from agnews_exp.core.errors import AgnewsError

SMALL = ("data=sample", "trainer.n_jobs=1", "tracking=none", "evaluation.latency_repeats=0", "data_fraction=0.2")
ROUTED = ("model.fast=multinomial_nb-word_tfidf", "model.accurate=logreg-word_tfidf")
AT_MOST_A_QUARTER = ("model=cascade", *ROUTED, "model.target=escalation_rate", "model.value=0.25")


@pytest.fixture(scope="module")
def run(start_project):
    """Return ``run(*overrides) -> Outcome``, in a project that has a fast and an accurate run."""
    done, _ = start_project(*SMALL)
    for model in ("multinomial_nb", "logreg"):
        done(f"model={model}", "features=word_tfidf")
    return done


def test_cascade_is_fitted_on_validation_and_judged_like_any_model(run):
    done = run(*AT_MOST_A_QUARTER)
    metrics = done.result["metrics"]
    assert metrics["cascade/val_escalation_rate"] <= 0.25
    findings = json.loads((done.folder / "analysis" / "cascade" / "findings.json").read_text())
    assert findings["details"]["chosen"]["accuracy"]["estimate"] == pytest.approx(metrics["test/accuracy"])
    charts = {"routing.json", "routing_cost.json", "risk_coverage.json"}
    assert charts <= {p.name for p in (done.folder / "analysis" / "cascade").iterdir()}
    assert "train/macro_f1" not in metrics, "nothing of a cascade is fitted on training rows"
    again = run(*AT_MOST_A_QUARTER)
    assert again.skipped
    assert again.folder == done.folder


def test_a_price_turns_cost_into_money_and_another_confidence_is_judged_beside_the_chosen_one(run):
    options = ("model.price_per_hour=3.6", "model.timing_rows=16", "evaluation.analyses.cascade.fixed_confidence=0.6")
    done = run(*AT_MOST_A_QUARTER, *options)
    folder = done.folder / "analysis" / "cascade"
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    assert "cost of a million texts [money]" in summary.replace("\\", "")
    assert "## A fixed confidence of 0.6" in summary
    fixed = json.loads((folder / "findings.json").read_text())["details"]["fixed_confidence"]
    assert {kind["threshold"] for kind in fixed.values()} == {0.6}


def test_a_calibrator_that_harms_either_model_is_not_applied_and_it_is_said(run):
    """Isotonic regression on 40 rows is sure of what it has seen: log-loss rises for at least one of the two."""
    done = run(*AT_MOST_A_QUARTER, "model.calibrator=isotonic")
    said = [note for note in done.result["notes"] if "not applied" in note]
    stored = {path.stem: json.loads(path.read_text())["name"] for path in (done.folder / "model").glob("*calib*.json")}
    assert said
    assert sum(name == "none" for name in stored.values()) == len(said)


def test_blend_is_judged_like_any_model(run):
    metrics = run("model=blend", *ROUTED).result["metrics"]
    assert {"val/macro_f1", "test/macro_f1"} <= set(metrics)


def test_parts_that_were_judged_on_other_rows_or_do_not_exist_are_refused(run):
    with pytest.raises(AgnewsError, match="judged on other validation or test rows"):
        run("model=cascade", *ROUTED, "split_seed=7")
    with pytest.raises(AgnewsError, match="nothing"):
        run("model=cascade", "model.fast=nothing", "model.accurate=logreg-word_tfidf")
