"""Class names that meet once they are cleaned: every class keeps its own column, metric and row."""

from __future__ import annotations

import csv
import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score, log_loss

from agnews_exp.cli import run_command
from agnews_exp.config.compose import compose_config
from agnews_exp.evaluation.metrics import column_key
from agnews_exp.experiment import execute

CLASSES = ("体育", "国际", "C++", "C#", "café", "cafè", "👎", "👍", "sport", "Sport")
RUN = ("data=csv", "evaluation.latency_repeats=0", "tracking=none")


@pytest.fixture
def named(tmp_path, monkeypatch):
    """A project with rows of ten classes; each class has words of its own, and some rows those of the next class."""
    monkeypatch.setenv("AGNEWS_ROOT", str(tmp_path))
    rng = np.random.default_rng(0)
    with (tmp_path / "named.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(40 * len(CLASSES)):
            k = number % len(CLASSES)
            shown = (k + int(rng.random() < 0.2)) % len(CLASSES)
            writer.writerow([" ".join(f"word{shown}x{i}" for i in rng.integers(0, 20, 6)), CLASSES[k]])

    def run(name, *overrides):
        folder = tmp_path / "outputs" / "runs" / name
        folder.mkdir(parents=True)
        words = (*RUN, f"data.train_file={tmp_path / 'named.csv'}", f"name={name}", *overrides)
        return execute(compose_config(words), folder)

    return run


@pytest.mark.slow
def test_no_class_overwrites_another(named):
    words = ("features=word_tfidf", "features.blocks.word.min_df=1", "evaluation.primary=val/f1/Sport")
    fast, _ = (named(model, f"model={model}", *words) for model in ("multinomial_nb", "logreg"))
    names, metrics = fast.result["class_names"], fast.result["metrics"]
    assert set(names) == set(CLASSES)
    keys = [column_key(name, names) for name in names]
    rows = pq.read_table(fast.folder / "predictions.parquet").to_pandas()
    test = rows[rows["split"] == "test"]
    probabilities = test[[f"probability:{key}" for key in keys]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == test["prediction"]).all()
    expected = f1_score(test["label"], test["prediction"], average=None, labels=range(len(names)))
    assert [metrics[f"test/f1/{key}"] for key in keys] == pytest.approx(expected.tolist())
    assert metrics["test/log_loss"] == pytest.approx(log_loss(test["label"], probabilities))
    assert fast.objective == metrics[f"val/f1/{column_key('Sport', names)}"]
    with (fast.folder / "classification_report.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["class"] for line in lines] == [*names, "macro average"]
    assert [float(line["f1"]) for line in lines[:-1]] == pytest.approx(expected.tolist())
    for command in (["calibrate", "multinomial_nb"], ["errors", "multinomial_nb"]):
        run_command(command)
    found = json.loads((fast.folder / "analysis" / "errors" / "findings.json").read_text(encoding="utf-8"))
    pairs = {(pair["first"], pair["second"]): pair["of_rows"]["count"] for pair in found["details"]["directed"]}
    wrong = test[test["label"] != test["prediction"]]
    confused = Counter((names[a], names[b]) for a, b in zip(wrong["label"], wrong["prediction"], strict=True))
    assert {pair: n for pair, n in pairs.items() if n} == confused
    routed = named("both", "model=cascade", "model.fast=multinomial_nb", "model.accurate=logreg", "features=text")
    assert routed.result["class_names"] == names
