"""Class names that meet once they are cleaned: every class keeps its own column, metric and row."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score, log_loss

from agnews_exp.evaluation.metrics import column_key

CLASSES = ("体育", "国际", "C++", "C#", "café", "cafè", "👎", "👍", "sport", "Sport")
RUN = ("data=csv", "features=word_tfidf", "features.blocks.word.min_df=1", "evaluation.latency_repeats=0")


@pytest.fixture
def named(project):
    """Rows of ten classes; each class has words of its own, and half of its rows those of the next class."""
    rng = np.random.default_rng(0)
    with (project.root / "named.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(40 * len(CLASSES)):
            k = number % len(CLASSES)
            shown = (k + int(rng.random() < 0.2)) % len(CLASSES)
            writer.writerow([" ".join(f"word{shown}x{i}" for i in rng.integers(0, 20, 6)), CLASSES[k]])
    return project


def test_no_class_overwrites_another(named):
    train = f"data.train_file={named.root / 'named.csv'}"
    for name, model in (("fast", "multinomial_nb"), ("accurate", "logreg")):
        done = named.run(*RUN, train, f"model={model}", f"name={name}", "evaluation.primary=val/f1/Sport")
        assert done.returncode == 0, done.stderr
    fast = named.run_folders[0]
    result = named.result(fast)
    names = result["class_names"]
    assert set(names) == set(CLASSES)
    keys = [column_key(name, names) for name in names]
    rows = pq.read_table(fast / "predictions.parquet").to_pandas()
    test = rows[rows["split"] == "test"]
    probabilities = test[[f"probability:{key}" for key in keys]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == test["prediction"]).all()
    expected = f1_score(test["label"], test["prediction"], average=None, labels=range(len(names)))
    assert [result["metrics"][f"test/f1/{key}"] for key in keys] == pytest.approx(expected.tolist())
    assert result["metrics"]["test/log_loss"] == pytest.approx(log_loss(test["label"], probabilities))
    assert result["objective"] == result["metrics"][f"val/f1/{column_key('Sport', names)}"]
    with (fast / "classification_report.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["class"] for line in lines] == [*names, "macro average"]
    assert [float(line["f1"]) for line in lines[:-1]] == pytest.approx(expected.tolist())
    for words in (("calibrate", "fast"), ("errors", "fast"), ("report",)):
        done = named.agnews(*words)
        assert done.returncode == 0, (words, done.stderr)
    found = json.loads((fast / "analysis" / "errors" / "findings.json").read_text(encoding="utf-8"))
    assert all(name in json.dumps(found, ensure_ascii=False) for name in CLASSES)
    done = named.run(*RUN, train, "model=cascade", "model.fast=fast", "model.accurate=accurate", "features=text")
    assert done.returncode == 0, done.stderr
