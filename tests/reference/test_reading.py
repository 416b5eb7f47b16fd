"""Published results: read from any folder, judged by equivalence, and never by runs unlike theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agnews_exp.compare.beside import results_table
from agnews_exp.core.errors import ConfigError
from agnews_exp.evaluation.statistics.mcnemar import mcnemar_test
from agnews_exp.reference.ag_news_notebooks.claims import RULES, paired_counts
from agnews_exp.reference.reading import (
    CONTRADICTED,
    REPRODUCED,
    UNJUDGED,
    OwnResult,
    compared,
    find_reference,
    judge_claims,
    judge_measures,
)

NOTEBOOKS = find_reference("ag_news_notebooks")


def own(model: str = "logreg", score: float = 0.92, reach: float = 0.004, **more: Any) -> OwnResult:
    attributes: dict[str, Any] = {
        "name": model, "family": "classical", "corpus": "ag_news:csv",
        "rows": {"train": 102_000, "val": 18_000, "test": 7_600},
        "config": {"model": model, "features": "hybrid_tfidf", "data_fraction": 1.0, "evaluation.folds": 10},
        "metrics": dict.fromkeys(("test/macro_f1", "cv/macro_f1", "val/macro_f1"), score),
        "interval": lambda _: (score - reach, score + reach),
    }  # fmt: skip
    return OwnResult(**attributes | more)


def write(folder: Path, results: str) -> Path:
    folder.mkdir()
    (folder / "source.yaml").write_text("title: A paper\nauthors: Doe\nyear: 2020\nsplit: nine to one\n")
    (folder / "results.csv").write_text(results)
    return folder


def test_a_folder_of_ones_own_is_a_reference(tmp_path: Path) -> None:
    folder = write(tmp_path / "paper", "system,settings,split,metric,value\nTheirs,model=logreg,test,macro_f1,.915\n")
    reference = find_reference(str(folder))
    assert reference.introduction == "The published numbers are those of Doe, 2020: A paper. Its split: nine to one."
    (row,) = results_table(reference, [own(corpus="mine")]).rows
    assert row[0] == "Theirs"
    assert row[5] == REPRODUCED
    assert judge_claims(reference, []) == []


@pytest.mark.parametrize(
    ("name", "results", "message"),
    [
        ("ag_news_notebook", None, "Did you mean 'ag_news_notebooks'"),
        ("paper", "system,split,metric\n", "no column value|value"),
        ("paper", "system,split,metric,value\na,test,f1,high\n", "line 2"),
    ],
)
def test_what_is_no_reference_is_refused_with_its_place(
    name: str, results: str | None, message: str, tmp_path: Path
) -> None:
    if results is not None:
        write(tmp_path / name, results + ("" if results.count("\n") > 1 else "a,test,f1\n"))
    with pytest.raises(ConfigError, match=message):
        find_reference(name, tmp_path)


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.905, 0.915), REPRODUCED), ((0.94, 0.95), CONTRADICTED), ((0.90, 0.925), UNJUDGED), ((0.80, 0.99), UNJUDGED)],
)
def test_a_number_is_judged_by_its_whole_interval_and_a_margin(ends: tuple[float, float], verdict: str) -> None:
    assert compared(sum(ends) / 2, 0.91, ends, 0.01, "").verdict == verdict


@pytest.mark.parametrize(
    ("result", "verdict", "needed"),
    [
        (own(score=0.9207), REPRODUCED, ""),
        (own(score=0.70), CONTRADICTED, ""),
        (
            own(score=0.70, rows={"train": 53_146, "test": 7_600}),
            UNJUDGED,
            "102,000 training rows; this run had 53,146",
        ),
        (own(score=0.70, corpus="sample"), UNJUDGED, "runs on ag_news"),
        (own(score=0.92, reach=0.02), UNJUDGED, "more rows or seeds"),
    ],
)
def test_a_claimed_score_is_judged_on_as_many_rows_of_its_corpus_only(
    result: OwnResult, verdict: str, needed: str
) -> None:
    line, judged = next(
        (one, j) for one, j in judge_claims(NOTEBOOKS, [result]) if one["argument"] == "model=logreg test/macro_f1"
    )
    assert line["id"] == "I1"
    assert judged.verdict == verdict
    assert needed in judged.needed


def test_every_claim_of_the_notebooks_gets_a_verdict_and_what_is_missing() -> None:
    found = judge_claims(NOTEBOOKS, [own()])
    assert {f"I{n}" for n in range(1, 52)} == {line["id"] for line, _ in found}
    for line, judged in found:
        assert judged.verdict in (REPRODUCED, CONTRADICTED, UNJUDGED), line
        assert judged.needed if judged.verdict == UNJUDGED else judged.said, line
    assert {line["rule"] for line, _ in found} >= set(RULES) - {"unjudged"}


def test_the_notebooks_own_counts_give_the_statistics_that_they_left_out() -> None:
    counts = paired_counts(NOTEBOOKS)
    assert mcnemar_test(counts, "corrected").statistic == pytest.approx(47.4447, abs=1e-4)
    assert mcnemar_test(counts, "exact").p_value == pytest.approx(3.57e-12, rel=0.01)
    said = {line["id"]: judged for line, judged in judge_claims(NOTEBOOKS, [])}
    assert "d = 0.547" in said["I40"].said
    assert "p = 0.031, 0.062 after Holm" in said["I41"].said
    assert said["I41"].verdict == UNJUDGED
    assert said["I39"].verdict == REPRODUCED
    assert "54.4%" in said["I43"].said


def test_another_transformer_decides_no_claim_about_distilbert() -> None:
    result = own("minilm", family="transformer", metrics={"val/macro_f1": 0.9, "val/macro_f1_seeds": 0.004})
    judged = next(j for line, j in judge_claims(NOTEBOOKS, [result]) if line["rule"] == "seed_spread")
    assert judged.verdict == UNJUDGED
    assert judged.needed == "a run of DistilBERT, not of minilm"


def test_measures_of_a_corpus_are_judged_by_their_rule() -> None:
    parts = {
        "lengths": {"status": "finished", "metrics": {"words/mean": 37.9, "words/median": 44.0}, "details": {}},
        "vocabulary": {"status": "left out", "reason": "no\nwords"},
    }
    found = {measure.id: measure for measure in judge_measures(NOTEBOOKS, parts)}
    assert len(found) == 58
    assert found["words_mean"].verdict == REPRODUCED
    assert found["words_median"].verdict == CONTRADICTED
    assert found["entropy_order"].verdict == UNJUDGED
    assert "no words" in found["entropy_order"].reason


def test_claims_about_behaviour_are_judged_by_the_stored_findings_of_runs() -> None:
    change = {"before": {"accuracy": 0.9224}, "after": {"accuracy": 0.9230}, "changed_predictions": 0.0001}
    svc = own(
        "linear_svc",
        findings={
            "calibration": {"metrics": {"test/ece_after": 0.01}, "details": {"changes": {"platt": change}}},
            "explanation": {
                "details": {
                    "weights": [
                        {"class_name": "World", "term": "iraq", "block": "word", "weight": 4.6},
                        {"class_name": "World", "term": "ira", "block": "char", "weight": 5.1},
                    ]
                }
            },
            "errors": {
                "metrics": {"test/near_duplicate_rows": 152.0, "test/label_noise_share": 0.0508},
                "details": {
                    "overall": {"rate": 0.08},
                    "by_length": [{"name": "1 to 20 words", "rate": 0.12, "low": 0.10, "high": 0.14}],
                },
            },
            "robustness": {
                "details": {"variants": {"swap": {"metrics": {"macro_f1": {"difference": {"estimate": -0.1}}}}}}
            },
            "cascade": {
                "details": {
                    "fixed_confidence": {
                        "after calibration": {"threshold": 0.9, "answered_fast": 0.6, "accuracy": 0.95}
                    }
                }
            },
        },
    )
    bert = own("distilbert", family="transformer", findings={"calibration": {"metrics": {"test/ece_before": 0.03}}})
    found = {(line["id"], line["rule"]): judged for line, judged in judge_claims(NOTEBOOKS, [svc, bert])}
    assert found["I3", "calibration_gain"].verdict == REPRODUCED
    assert found["I11", "top_features"].verdict == CONTRADICTED  # the first is a piece of a word
    assert found["I22", "family_order"].verdict == REPRODUCED
    assert found["I31", "share"].verdict == CONTRADICTED
    assert found["I32", "share"].verdict == REPRODUCED
    assert found["I36", "short_texts"].verdict == CONTRADICTED
    assert found["I36", "family_order"].needed.startswith("agnews robustness")  # of one family alone
    routed = [j for line, j in judge_claims(NOTEBOOKS, [svc]) if line["rule"] == "router"]
    assert [judged.verdict for judged in routed] == [CONTRADICTED, REPRODUCED]
    few = own("linear_svc", rows={"train": 53_146, "test": 7_600}, findings=svc.findings)
    verdicts = {
        judged.verdict for line, judged in judge_claims(NOTEBOOKS, [few]) if line["rule"] in ("share", "router")
    }
    assert verdicts == {UNJUDGED}
