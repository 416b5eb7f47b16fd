"""The analyses of robustness and external data on a real, small model."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from agnews_exp.analyses import external, robustness
from agnews_exp.config.targets import check_arguments
from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.tables import Reading
from agnews_exp.evaluation.metrics import judge
from agnews_exp.evaluation.predictions import Predictions

STRENGTHS = {"swap": (0.1, 0.5), "delete": (0.1, 0.5), "truncate": (1,), "html_removed": (1.0,), "upper": None}


def block(findings, name):
    """Return the last block of this name."""
    return [found for found in findings.blocks if getattr(found, "name", "") == name][-1]


def test_as_many_examples_of_perturbed_rows_are_written_as_asked(context):
    for n in (2, 1):
        options = {"n_rows": 50, "perturbations": {"upper": [1.0]}, "parts": False, "resamples": 100}
        examples = block(robustness.analyse(context, n_examples=n, **options), "examples")
        assert len({row_id for row_id, *_ in examples.rows}) == n


def test_robustness_is_measured_against_the_same_rows_and_repeats_itself(context):
    options = {"n_rows": 150, "perturbations": STRENGTHS, "resamples": 100}
    findings = robustness.analyse(context, **options)
    variants = findings.details["variants"]
    assert set(variants) == {
        "swap_0.1", "swap_0.5", "delete_0.1", "delete_0.5", "truncate_1", "html_removed", "title_only",
        "description_only",
    }  # fmt: skip
    clean = {v["metrics"]["macro_f1"]["b"]["estimate"] for v in variants.values()}
    assert len(clean) == 1
    place = {int(row): i for i, row in enumerate(context.splits.test.row_ids)}
    rows = np.array([place[row] for row in findings.details["row_ids"]])
    assert len(rows) == 150
    test = context.splits.test.take(rows)
    answer = Predictions(context.answers["test"].labels[rows])
    expected = judge(test.labels, answer, context.splits.class_names)
    assert clean.pop() == pytest.approx(expected["macro_f1"])
    assert findings.metrics["test/accuracy_change_truncate_1"] < -0.1
    assert variants["truncate_1"]["changed_texts"] == 1.0
    assert dict(robustness.analyse(context, **options).metrics) == dict(findings.metrics)
    change = findings.metrics["test/macro_f1_change_swap_0.5"]
    (swaps,) = [series for series in block(findings, "strengths").series if series.name == "two letters swapped"]
    assert swaps.x == (0.0, 10.0, 50.0)
    assert swaps.y[2] - swaps.y[0] == pytest.approx(change)
    texts = {variant: text for _, variant, text in block(findings, "examples").rows}
    assert f"{texts['title_only']} {texts['description_only']}" == texts["unchanged"]
    assert len(texts["truncate_1"].split()) == 1


def test_robustness_refuses_a_strength_out_of_range_before_work(context):
    with pytest.raises(ConfigError, match="share of words"):
        robustness.analyse(context, perturbations={"swap": (5.0,)})


def test_a_misspelt_perturbation_is_refused_before_any_work():
    with pytest.raises(ConfigError, match="swop"):
        check_arguments(robustness.analyse, {"perturbations": {"swop": [0.1]}}, "robustness", ("context",))


def write_external(path, context):
    """Write 60 test rows under other label names, and 20 of a label to leave out; return the rows used."""
    test = context.splits.test.take(np.arange(60))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["topic", "body"])
        for text, label in zip(test.texts, test.labels, strict=True):
            writer.writerow([f"src.{label}", text])
        for i in range(20):
            writer.writerow(["junk", f"zzyzx qwrtp xkcd {i} vvvv"])
    return test


def test_external_rows_are_judged_through_the_mapping(context, tmp_path):
    file = tmp_path / "other.csv"
    test = write_external(file, context)
    mapping = {f"src.{i}": name for i, name in enumerate(context.splits.class_names)} | {"junk": None}
    findings = external.analyse(
        context, path=str(file), mapping=mapping, text_columns=["body"], label_column="topic", resamples=100
    )
    answer = Predictions(context.answers["test"].labels[:60])
    expected = judge(test.labels, answer, context.splits.class_names)
    assert findings.metrics["external/macro_f1"] == pytest.approx(expected["macro_f1"])
    assert findings.metrics["external/accuracy"] == pytest.approx(expected["accuracy"])
    assert (findings.details["rows"], findings.details["kept"]) == (80, 60)
    assert {"external/auroc_max_softmax", "external/auroc_margin", "external/auroc_energy"} <= set(findings.metrics)
    assert findings.metrics["external/auroc_known_words"] > 0.55  # the junk rows' words were never seen
    assert len(block(findings, "scores").series) == 2 * len(block(findings, "detection").rows)
    assert block(findings, "confusion_external").labels[0] == context.splits.class_names
    json.dumps(findings.details, allow_nan=False)


def test_external_without_a_path_does_nothing(context):
    findings = external.analyse(context)
    assert not findings.metrics
    assert not list(context.folder.iterdir())


def test_external_mistakes_are_named(context, tmp_path):
    file = tmp_path / "other.csv"
    write_external(file, context)
    columns = {"path": str(file), "text_columns": ["body"], "label_column": "topic"}
    with pytest.raises(ConfigError, match=r"(?s)mapping says nothing of the labels junk, src\.0"):
        external.analyse(context, **columns)
    with pytest.raises(ConfigError, match=r"(?s)evaluation\.analyses\.external\.label_column=topik.*topic"):
        external.analyse(context, **columns | {"label_column": "topik"})
    with pytest.raises(DataError, match="leaves out all 80 rows"):
        external.analyse(context, **columns, mapping={"*": None})
    with pytest.raises(DataError, match="no file"):
        external.analyse(context, path=str(tmp_path / "none.csv"))


def test_a_folder_of_newsgroup_posts_is_read_and_stripped(context, tmp_path):
    root = tmp_path / "posts"
    post = "From: a@b.c\nSubject: orbit\n\nIn article <1> x writes:\n> quoted line\nThe shuttle reached orbit.\n"
    for group in ("sci.space", "rec.autos"):
        (root / group).mkdir(parents=True)
        (root / group / "1").write_text(post.replace("shuttle", group), encoding="latin-1")
    parts = ("headers", "footers", "quotes")
    rows, label_names = external.read_external(root, ["text"], "label", Reading(), parts)
    assert label_names == ["rec.autos", "sci.space"]
    assert "quoted" not in rows.texts[0] + rows.texts[1]
    assert "Subject" not in rows.texts[0]
    assert "rec.autos reached orbit" in rows.texts[0]
    findings = external.analyse(context, path=str(root), mapping="newsgroups", strip=parts, resamples=100)
    assert (findings.details["rows"], findings.details["kept"]) == (2, 1)
