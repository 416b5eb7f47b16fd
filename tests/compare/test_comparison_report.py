"""Loading, comparing and writing runs, from stored predictions."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from agnews_exp.analyses.findings import to_markdown, to_terminal
from agnews_exp.compare.comparison import compare_runs, load_comparable
from agnews_exp.compare.findings import comparison_findings, write_comparison
from agnews_exp.core.errors import ConfigError
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.resampled import corrected_t_test, friedman_test
from agnews_exp.tracking.record import PREDICTIONS, RunFolder
from agnews_exp.tracking.record_files import write_predictions

CLASSES = ("World", "Sports", "Business")
N = 300
LABELS = np.random.default_rng(0).integers(0, 3, N)


@pytest.fixture
def store(tmp_path):
    """Return a maker of finished run records with answers of a given accuracy."""

    def make(
        name,
        accuracy=0.9,
        *,
        seed=1,
        drawn=None,
        folds=None,
        clusters=None,
        split_seed=42,
        fraction=1.0,
        rows=N,
        fold_seed=0,
        **data,
    ):
        path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        rng = np.random.default_rng([seed + (drawn or 0), len(name), int(1e4 * accuracy)])
        right = rng.random(N) < accuracy
        if clusters:  # groups of so many rows are right or wrong together
            right = np.repeat(right[: N // clusters], clusters)
        answer = Predictions(np.where(right, LABELS, (LABELS + 1) % 3))
        parts, answers, held_out = {"test": TextRows([""] * N, LABELS, np.arange(N))}, {"test": answer}, None
        if folds:
            parts["cv"] = parts["test"].take(np.arange(rows))
            answers["cv"] = Predictions(answer.labels[:rows])
            held_out = np.random.default_rng(fold_seed).permutation(rows) % folds
        write_predictions(path / PREDICTIONS, parts, answers, CLASSES, held_out,
                          {"test": [f"g{i // clusters}" for i in range(N)]} if clusters else None)  # fmt: skip
        run = RunFolder(path)
        run.finish({
            "name": name, "seed": seed, "split_seed": split_seed, "data_fraction": fraction,
            "group_fingerprint": f"{name}/{fraction}", "class_names": list(CLASSES),
            "data": {"checksum": "c", "evaluation_checksum": "e", "name": "s", "source": "s",
                     "rows": {"val": 9, "test": N}} | data,
            **({"subset_seed": drawn} if drawn else {}),
        })  # fmt: skip
        return run

    return make


def markdown(found, compared):
    return to_markdown(comparison_findings(found, compared).blocks)


def answers_of(run, split):
    import pyarrow.parquet as pq

    return pq.read_table(run.path / PREDICTIONS).to_pandas().query("split == @split").sort_values("row_id")


def test_folds_are_tested_with_the_scores_of_each_fold(store, tmp_path):
    runs = [store(name, acc, folds=5) for name, acc in (("svc", 0.92), ("sgd", 0.9), ("nb", 0.7))]
    compared = load_comparable(runs, "cv")
    found = compare_runs(compared, metrics=("macro_f1", "accuracy"), resamples=200)
    tables = [answers_of(run, "cv") for run in runs]
    by_hand = [[f1_score(g["label"], g["prediction"], average="macro") for _, g in t.groupby("fold")] for t in tables]
    macro_f1 = found.blocks[0]
    assert [list(scores.values()) for scores in macro_f1.scores.values()] == [pytest.approx(f) for f in by_hand]
    assert macro_f1.pairs[0].test.p_value == pytest.approx(corrected_t_test(by_hand[0], by_hand[1]).p_value)
    assert macro_f1.friedman.p_value == pytest.approx(friedman_test(np.transpose(by_hand)).p_value)
    write_comparison(tmp_path / "out", found, compared)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"comparison.png", "folds_macro_f1.png", "critical_difference_macro_f1.png"} <= written
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "Nadeau-Bengio p" in text
    assert f"{macro_f1.pairs[0].test.p_value:.2g}" in text
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert stored["blocks"][0]["friedman"]["n_blocks"] == 5
    assert stored["pairs"][0]["agreement_table"]["by_class"][-1]["class_name"] == "all"


def test_runs_that_differ_in_their_seed_only_are_one_model(store):
    runs = [store(name, acc, seed=seed) for name, acc in (("bert", 0.95), ("tiny", 0.8)) for seed in (3, 1, 2)]
    runs.append(store("svc", 0.9, seed=7))
    compared = load_comparable(runs, "test")
    assert list(compared.predictions) == ["bert", "tiny", "svc"]
    assert compared.folders["bert"] == runs[1].path  # the lowest common seed, not the first or the best
    found = compare_runs(compared, resamples=200)
    assert len(found.pairs) == 3
    scores = {
        name: [np.mean(answers_of(r, "test").eval("label == prediction")) for r in runs if r.path.name.startswith(name)]
        for name in ("bert", "tiny")
    }
    over_seeds = found.blocks[1]
    assert over_seeds.kind == "seeds"
    means = [np.mean(scores[name]) for name in ("bert", "tiny")]
    assert over_seeds.pairs[0].test.difference == pytest.approx(means[0] - means[1])
    text = markdown(found, compared)
    assert "seed 1, 7" in text
    assert "svc is left out of the tests over seeds" in text


def test_seeds_that_draw_training_rows_are_repetitions_and_it_is_said_what_varies(store):
    runs = [store(n, a, drawn=drawn, fraction=0.5) for n, a in (("bert", 0.95), ("tiny", 0.8)) for drawn in (1, 2, 3)]
    compared = load_comparable(runs, "test")
    assert [len(seeds) for seeds in compared.seeds.values()] == [3, 3]
    (found,) = compare_runs(compared, metrics=["accuracy"], resamples=200).blocks
    assert "From seed to seed the drawn training rows and the random choices" in found.notes[0]
    assert "the split and the judged rows do not" in found.notes[0]


def test_seeds_of_one_model_alone_are_compared_as_runs(store):
    compared = load_comparable([store("bert", seed=1), store("bert", seed=2)], "test")
    assert list(compared.predictions) == ["bert (seed 1, 1)", "bert (seed 2, 1)"]
    assert compared.seeds == {}
    assert compare_runs(compared, resamples=200).blocks == []


def test_one_pair_shows_agreement_and_many_pairs_a_line_of_verdicts(store):
    runs = [store(f"model{i}", 0.9 - 0.1 * i) for i in range(5)]
    pair = load_comparable(runs[:2], "test")
    assert "## Agreement" in markdown(compare_runs(pair, resamples=200), pair)
    many = load_comparable(runs, "test")
    found = compare_runs(many, resamples=200)
    text = markdown(found, many)
    assert "A > E" in comparison_findings(found, many).headline
    assert "has a higher macro_f1 than" not in text
    assert "adjust over these 10 pairs" in text


def test_at_80_columns_no_number_is_cut(store):
    import io
    import re

    from rich.console import Console

    runs = [store("a_model_with_a_rather_long_name", 0.9), store("b", 0.7), store("c", 0.6)]
    compared = load_comparable(runs, "test")
    found = comparison_findings(compare_runs(compared, resamples=200), compared)
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(to_terminal(found.blocks))
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    for name in ("models", "differences", "verdicts", "items", "tests"):
        table = next(block for block in found.blocks if getattr(block, "name", "") == name)
        for number in {n for row in table.texts() for cell in row for n in re.findall(r"[+-]?\d+\.\d+", cell)}:
            assert number in shown, (name, number)


@pytest.mark.parametrize(
    ("change", "split", "reason", "fix"),
    [
        ({"folds": 4}, "cv", r"different folds \(5 and 4 folds\)", "same evaluation.folds"),
        ({"folds": 5, "fold_seed": 1}, "cv", "the rows were dealt otherwise", "split_seed"),
        ({"folds": 5, "rows": 100, "fraction": 0.3}, "cv", r"cv rows \(300 and 100; data_fraction 1 and 0.3\)",
         "same data_fraction"),
        ({}, "cv", "no stored answers for split 'cv'", "evaluation=cv"),
        ({"evaluation_checksum": "f", "split_seed": 7}, "test", r"another split \(split_seed 42 and 7\)", "split_seed"),
        ({"checksum": "d"}, "test", "on other data", "same data"),
    ],
)  # fmt: skip
def test_runs_that_do_not_compare_are_refused_with_reason_and_fix(store, change, split, reason, fix):
    with pytest.raises(ConfigError, match=reason) as refused:
        load_comparable([store("svc", folds=5), store("nb", **change)], split)
    assert fix in refused.value.fix


def test_two_models_without_an_error_are_compared_without_a_number_that_is_none(store):
    compared = load_comparable([store("svc", 1.0), store("nb", 1.0)], "test")
    text = markdown(compare_runs(compared, resamples=200), compared)
    assert "Cohen's kappa" in text
    assert not re.search(r"\bnan\b|\binf\b", text)


def test_rows_in_groups_are_drawn_and_swapped_as_whole_groups(store):
    """Thirty groups of ten rows: a difference that the rows alone would call sure is one of five groups."""
    runs = [store("good", 0.93, clusters=10), store("poor", 0.8, clusters=10)]
    compared = load_comparable(runs, "test")
    assert len(np.unique(compared.clusters)) == N // 10
    options = {"metrics": ("macro_f1", "accuracy"), "resamples": 500}
    (grouped,) = compare_runs(compared, **options).pairs
    (alone,) = compare_runs(replace(compared, clusters=None), **options).pairs
    for metric in options["metrics"]:
        wide, narrow = (pair.metrics[metric].bootstrap.difference.standard_error for pair in (grouped, alone))
        assert 2 < wide / narrow < 5  # sqrt(10) in theory
        assert grouped.metrics[metric].randomisation.p_value > 3 * alone.metrics[metric].randomisation.p_value
    (accuracy,) = compare_runs(compared, metrics=("accuracy",), resamples=500).pairs
    assert (grouped.test, accuracy.test) == ("paired randomisation of whole groups",) * 2
    assert accuracy.interval == accuracy.metrics["accuracy"].bootstrap.difference.percentile
    assert accuracy.detectable_primary > 3 * alone.detectable.detectable / 2
    assert any("30 groups" in note for note in grouped.notes)
    mixed = load_comparable([runs[0], store("plain", 0.7)], "test")
    assert mixed.clusters is None
    assert any("cluster_column" in note for note in mixed.notes)
    three = load_comparable([*runs, store("third", 0.9, clusters=10)], "test")
    assert len(compare_runs(three, metrics=("macro_f1",), resamples=200).pairs) == 3


def test_metrics_of_probabilities_and_seeds_follow_the_groups_too():
    from agnews_exp.evaluation.statistics.bootstrap import bootstrap_difference
    from agnews_exp.evaluation.statistics.mcnemar import randomisation_test

    rng, groups = np.random.default_rng(0), np.repeat(np.arange(30), 10)
    truth = rng.integers(0, 2, 300)
    a, b = (np.where(np.repeat(rng.random(30) < p, 10), truth, 1 - truth) for p in (0.95, 0.75))

    def accuracy(labels, given):
        return float(np.mean(labels == given))

    by_name, by_call = (
        bootstrap_difference(truth, a, b, metric, resamples=400, clusters=groups).difference.standard_error
        for metric in ("accuracy", accuracy)
    )
    assert by_call == pytest.approx(by_name, rel=0.15)
    tests = [randomisation_test(truth, a, b, m, swaps=999, clusters=groups).p_value for m in ("accuracy", accuracy)]
    assert tests[0] == pytest.approx(tests[1], abs=0.03)
