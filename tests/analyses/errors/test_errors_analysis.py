"""The analysis of errors on a real, small model."""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from agnews_exp.analyses.errors.analysis import analyse
from agnews_exp.analyses.findings import to_markdown
from agnews_exp.analyses.performing import write_findings
from agnews_exp.drawing import read_chart
from agnews_exp.evaluation.predictions import Predictions

extra = all(importlib.util.find_spec(name) for name in ("cleanlab", "datasketch"))


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def written_out(context, **options):
    """Analyse and write the files; return the findings."""
    findings = analyse(context, **options)
    write_findings(context.folder, findings, {"analysis": "errors"})
    return findings


def test_errors_are_counted_listed_and_drawn(context):
    findings = written_out(context, near_duplicates=False, label_noise=False, slice_min_rows=10, resamples=100)
    test, answer = context.splits.test, context.answers["test"]
    wrong = int((answer.labels != test.labels).sum())
    assert wrong > 5
    assert findings.metrics["test/errors"] == wrong
    assert sum(c["of_rows"]["count"] for c in findings.details["directed"]) == wrong
    hardest = rows_of(context.folder / "hardest.csv")
    assert len(hardest) == min(30, wrong)
    place = {int(row): i for i, row in enumerate(test.row_ids)}
    for row in hardest:
        i = place[int(row["row_id"])]
        assert (row["text"], row["label"]) == (test.texts[i], context.splits.class_names[test.labels[i]])
        assert row["prediction"] == context.splits.class_names[answer.labels[i]] != row["label"]
    margins = [float(row["margin"]) for row in hardest]
    assert margins == sorted(margins)
    assert margins[-1] <= 0
    drawn = read_chart(context.folder / "error_rates.json").series[0]
    assert dict(zip(drawn.y, drawn.x, strict=True)) == {
        f"{r['name']} (n = {r['total']:,})": r["rate"] for r in findings.details["by_length"]
    }
    json.dumps(findings.details, allow_nan=False)
    assert f"{wrong} of {len(test.labels)} test rows are wrong" in findings.headline


def test_groups_of_each_kind_hold_all_test_rows(context):
    found = analyse(context, near_duplicates=False, label_noise=False, slices=False, resamples=100).details
    assert sum(rate["total"] for rate in found["by_length"]) == len(context.splits.test)
    for contrast in found["by_artefact"]:
        assert contrast["inside"]["total"] + contrast["outside"]["total"] == len(context.splits.test)


def test_texts_stay_out_of_the_files_when_asked(context):
    options = {"near_duplicates": False, "label_noise": extra, "slice_min_rows": 10, "resamples": 100}
    written_out(context, **options, texts=False)
    written = "".join(p.read_text("utf-8") for p in context.folder.iterdir())
    parts = (context.splits.validation, context.splits.test, context.splits.train)
    assert not [text for rows in parts for text in rows.texts if text[:40] in written]
    assert "row_id" in written


@pytest.mark.skipif(not extra, reason="needs the extra errors")
def test_scores_without_doubtful_labels_stand_beside_those_of_all_rows(context):
    labels = context.splits.test.labels.copy()
    sure = np.flatnonzero(context.answers["test"].labels == labels)[:8]
    labels[sure] = (labels[sure] + 1) % len(context.splits.class_names)  # wrong labels
    noisy = replace(context, splits=replace(context.splits, test=replace(context.splits.test, labels=labels)))
    found = analyse(noisy, near_duplicates=False, slices=False, resamples=100)
    doubtful = np.isin(context.splits.test.row_ids, found.details["label_noise"]["test"]["row_ids"])
    right = context.answers["test"].labels == labels
    assert doubtful[sure].any()
    assert found.metrics["test/accuracy_clean"] == pytest.approx(right[~doubtful].mean())
    (table,) = [block for block in found.blocks if getattr(block, "name", "") == "clean_scores"]
    assert str(table.rows[0][2]).startswith(f"{right.mean():.4f}")


@pytest.mark.skipif(not extra, reason="needs the extra errors")
def test_a_test_row_copied_into_train_is_reported_and_cached(context):
    train, test = context.splits.train, context.splits.test
    copied = test.texts[0].upper() + "!"
    with_copy = replace(train, texts=[copied, *train.texts[1:]])
    changed = replace(context, splits=replace(context.splits, train=with_copy))
    findings = written_out(changed, label_noise=False, slices=False, resamples=100)
    listed = rows_of(context.folder / "near_duplicates.csv")
    mine = [row for row in listed if row["split"] == "test" and row["row_id"] == str(test.row_ids[0])]
    assert (mine[0]["train_text"], mine[0]["similarity"]) == (copied, "1")
    counts = findings.details["duplicates"]["rows"]
    assert counts["near-duplicates"]["test"]["train"] >= counts["same words"]["test"]["train"] >= 1
    assert findings.metrics["test/near_duplicate_rows"] == counts["near-duplicates"]["test"]["train"]
    again = analyse(changed, label_noise=False, slices=False, resamples=100)
    assert again.details["duplicates"] == findings.details["duplicates"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("n_hardest", 3), ("n_length_bins", 2), ("slice_pairs", False), ("slice_max_q", 0.999),
     ("similarity", 0.05), ("shingle_words", 1), ("permutations", 8), ("label_noise", False)],
)  # fmt: skip
@pytest.mark.skipif(not extra, reason="needs the extra errors")
def test_an_option_changes_what_is_found(context, tmp_path, option, value):
    found = []
    base = {"slice_min_rows": 10, "resamples": 100, "slice_max_q": 0.3, "similarity": 0.2, "permutations": 32}
    for changed in ({}, {option: value}):
        folder = tmp_path / str(bool(changed))
        folder.mkdir()
        findings = written_out(replace(context, folder=folder), **base | changed)
        files = {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.csv"))}
        found.append((findings.details, to_markdown(findings.blocks), files))
    assert found[0] != found[1]


def test_missing_packages_leave_a_note_and_the_rest(context, hide):
    hide("cleanlab", "datasketch")
    findings = analyse(context, slices=False, resamples=100)
    said = to_markdown(findings.blocks)
    assert said.count("agnews-exp[errors") == 2
    assert "Metrics without near-duplicates" in said


def test_a_model_of_labels_only_has_errors_but_no_noise(context):
    bare = {split: Predictions(answer.labels) for split, answer in context.answers.items()}
    findings = written_out(replace(context, answers=bare), near_duplicates=False, slices=False, resamples=100)
    assert findings.metrics["test/errors"] > 5
    assert "label_noise" not in findings.details
    assert rows_of(context.folder / "hardest.csv")[0]["margin"] == ""
