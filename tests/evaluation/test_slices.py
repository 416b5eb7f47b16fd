"""Scores of the slices that users name by columns of their own files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from agnews_exp.core.errors import ConfigError
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.csv_files import column_values
from agnews_exp.evaluation.slices import score_slices, worst_slice
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_metric

DATA = {
    "name": "my", "text_columns": ["text"], "label_column": "label", "delimiter": "auto", "quoting": "auto",
    "encoding": "auto", "has_header": True,
}  # fmt: skip


def test_scores_of_a_slice_are_those_of_scikit_learn_and_differences_are_adjusted() -> None:
    from scipy.stats import fisher_exact
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 1500)
    lang = np.where(np.arange(1500) % 5 == 0, "de", "en")
    wrong = rng.random(1500) < np.where(lang == "de", 0.4, 0.1)
    predicted = np.where(wrong, (labels + 1) % 4, labels)
    source = np.array(["mail", "web", ""])[np.arange(1500) % 3]
    source[:5] = [f"odd {i}" for i in range(5)]
    found = score_slices(labels, predicted, {"lang": lang, "source": source, "same": ["x"] * 1500})
    by_name = {(one.column, one.value): one for one in found}
    assert set(by_name) == {
        ("lang", "de"),
        ("lang", "en"),
        *(("source", v) for v in ("mail", "web", "(none)", "(rare)")),
    }
    p_values = []
    for one in found:
        inside = {"lang": lang, "source": source}[one.column] == {"(none)": ""}.get(one.value, one.value)
        if one.value == "(rare)":
            inside = np.arange(1500) < 5
        assert one.rows == inside.sum()
        assert one.accuracy == pytest.approx(accuracy_score(labels[inside], predicted[inside]))
        assert one.macro_f1 == pytest.approx(f1_score(labels[inside], predicted[inside], average="macro"))
        assert one.accuracy_low <= one.accuracy <= one.accuracy_high
        right = labels == predicted
        assert one.difference == pytest.approx(right[inside].mean() - right[~inside].mean())
        table = [[(right & g).sum(), (~right & g).sum()] for g in (inside, ~inside)]
        p_values.append(fisher_exact(table).pvalue)
    for one, alone in zip(found, p_values, strict=True):  # between the test of one slice and Bonferroni's of all six
        assert max(alone - 0.03, 1 / 2000) <= one.p_value <= min(1.0, 6 * alone + 0.03)
    (only, other) = score_slices(labels[:200], predicted[:200], {"lang": lang[:200]})
    assert only.p_value == other.p_value  # one test: they are each other's other rows
    table = [[one.rows * one.accuracy, one.rows * (1 - one.accuracy)] for one in (only, other)]
    assert only.p_value == pytest.approx(fisher_exact(np.rint(table)).pvalue, abs=0.01)
    worst = worst_slice(found)
    assert worst is not None
    assert (worst.column, worst.value) == ("lang", "de")


def test_slices_that_differ_by_chance_alone_are_hardly_ever_called_worst() -> None:
    rng, called = np.random.default_rng(1), 0
    for _ in range(30):
        labels = rng.integers(0, 2, 400)
        predicted = np.where(rng.random(400) < 0.2, 1 - labels, labels)
        columns = {"a": rng.choice(list("pqrst"), 400), "b": rng.choice(["x", "y"], 400)}
        called += worst_slice(score_slices(labels, predicted, columns)) is not None
    assert called <= 5  # at most 1.5 in the mean


def test_intervals_over_clusters_cover_the_truth_where_those_over_rows_do_not() -> None:
    """60 customers of 10 rows each, whose answers are right or wrong together, 150 times."""
    rng, covered = np.random.default_rng(0), np.zeros(2)
    for _ in range(150):
        truth, names = rng.integers(0, 2, 600), np.repeat(np.arange(60), 10)
        right = rng.random(600) < rng.beta(1.6, 0.4, 60)[names]  # accuracy .8 in the population
        given = np.where(right, truth, 1 - truth)
        over = bootstrap_metric(truth, given, "accuracy", resamples=400, clusters=names).percentile
        rows = bootstrap_metric(truth, given, "accuracy", resamples=400).percentile
        covered += [low <= 0.8 <= high for low, high in (over, rows)]
    share = covered / 150
    assert 0.89 <= share[0] <= 0.99
    assert share[1] < 0.8
    own = bootstrap_metric(truth, given, resamples=4000, clusters=np.arange(600))  # every row a cluster
    plain = bootstrap_metric(truth, given, "macro_f1", resamples=4000)
    assert own.estimate == pytest.approx(plain.estimate)
    assert own.percentile == pytest.approx(plain.percentile, abs=0.004)


def test_columns_are_found_by_row_ids_in_every_format_and_in_own_test_files(tmp_path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "lang": ["de", "en", ""][i % 3]} for i in range(9)]
    for name in ("train.csv", "test.csv"):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label", "lang"])
            writer.writeheader()
            writer.writerows(rows if name == "train.csv" else [row | {"lang": "fr"} for row in rows])
    lines = [json.dumps({k: v for k, v in row.items() if v}) for row in rows]  # the key is missing in some rows
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    part = TextRows(["x", "y", "z"], np.array([0, 1, 0]), np.array([8, 0, 4]))
    for file in ("train.csv", "train.jsonl"):
        data = DATA | {"train_file": str(tmp_path / file), "test_file": str(tmp_path / "test.csv")}
        found = column_values(data, {"val": part, "test": part}, ["lang"], "evaluation.slices")
        assert found == {"lang": {"val": ["", "de", "en"], "test": ["fr"] * 3}}
    with pytest.raises(ConfigError, match=r"evaluation.slices=lnag.*no such column"):
        column_values(DATA | {"train_file": str(tmp_path / "train.csv")}, {"val": part}, ["lnag"], "evaluation.slices")
    with pytest.raises(ConfigError, match="data=sample has none"):
        column_values({"name": "sample"}, {"val": part}, ["lang"], "evaluation.slices")


@pytest.mark.slow
def test_a_run_tells_its_worst_slice_in_the_terminal_the_result_and_the_report(project) -> None:
    rng = np.random.default_rng(0)
    path = project.root / "my.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "lang", "who"])
        for i in range(1500):
            label, lang = ("goal", "bank")[i % 2], ("en", "de")[i % 5 == 0]
            word = ("bank", "goal")[i % 2] if lang == "de" and rng.random() < 0.4 else label
            writer.writerow([f"{word} word{i % 97} word{i % 89} n{i}", label, lang, f"customer {i % 50}"])
    words = (
        f"data.train_file={path}",
        "model=multinomial_nb",
        "evaluation.latency_repeats=0",
        "tracking.enabled=false",
    )
    done = project.run("data=csv", *words, "evaluation.slices=[lang]", "evaluation.cluster_column=who")
    assert done.returncode == 0, done.stderr
    assert "lang=de" in done.stdout
    slices = project.result(project.run_folders[0])["slices"]
    assert [one["value"] for one in slices["test"]] == ["de", "en"]
    assert sum(one["rows"] for one in slices["test"]) == 225
    assert "over 50 of them; 100.0% of the rows have theirs in training too" in done.stdout
    checked = project.agnews("check", project.run_folders[0].name)
    assert "T10" in checked.stdout
    report = project.agnews("report")
    assert report.returncode == 0, report.stderr
    pages = list((project.root / "outputs" / "reports").rglob("*.md"))
    assert any("lang=de" in page.read_text(encoding="utf-8") for page in pages)
    options = ("near_duplicates=false", "label_noise=false", "slice_min_rows=20", "resamples=100")
    searched = project.agnews("errors", project.run_folders[0].name, *options)
    assert searched.returncode == 0, searched.stderr
    assert "lang: de" in (project.run_folders[0] / "analysis" / "errors" / "slices.csv").read_text(encoding="utf-8")
    refused = project.run("data=csv", *words, "evaluation.slices=[lnag]")
    assert refused.returncode == 2
    assert "evaluation.slices" in refused.stderr
