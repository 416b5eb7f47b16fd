"""Texts of several classes from `inspect` to answers, on the corpus that the page about them makes."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agnews_exp.models.loading import load_model
from agnews_exp.serving.http.app import formatted
from agnews_exp.serving.http.limits import PredictRequest
from agnews_exp.tracking.runs import Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "multi-label.md"
DATA = ("data=csv", "data.train_file=topics.csv", "data.label_column=topics", "data.multilabel=true",
        'data.label_separator="|"', "tracking=none", "evaluation.latency_repeats=0", "features=word_tfidf")  # fmt: skip


@pytest.fixture(scope="module")
def topics(module_project):
    """A project with the page's corpus and a run on it."""
    (script,) = re.findall(r'```python title="make_topics.py"\n(.*?)```', PAGE.read_text(), flags=re.DOTALL)
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (module_project.root / "topics.csv").write_text(made.stdout)
    done = module_project.run(*DATA, "model=logreg", "evaluation.thresholds=per_label")
    assert done.returncode == 0, done.stdout + done.stderr
    return module_project


@pytest.mark.slow
def test_inspect_prints_the_command_that_trains(topics):
    done = topics.agnews("inspect", "topics.csv")
    command = done.stdout.partition("next   ")[2]
    assert "data.multilabel=true 'data.label_separator=\"|\"'" in command
    assert "12 classes" in done.stdout


@pytest.mark.slow
def test_thresholds_beat_a_half_on_test_rows_and_the_model_keeps_them(topics):
    chosen = Run(topics.run_folders[0])
    gain = chosen.result["thresholds"]["splits"]["test"]
    assert 0 < gain["low"] < gain["difference"]
    assert chosen.result["task"] == "multilabel"
    assert gain["chosen"] == chosen.result["metrics"]["test/macro_f1"]
    stored, model = chosen.predictions("val"), load_model(chosen.folder / "model")
    with (topics.root / "topics.csv").open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    answers = model.predict([texts[i] for i in stored["row_id"]])
    assert answers.task.names(answers.labels, model.class_names) == stored["prediction"].tolist()
    (one,) = formatted(answers.take([0]), model.class_names, PredictRequest(texts=["x"], probabilities=True), ())
    assert [round(one["confidences"][name], 6) for name in one["labels"]] == one["confidence"]


@pytest.mark.slow
def test_top_diff_compare_and_predict_know_sets(topics):
    done = topics.run(*DATA, "model=linear_svc")
    assert done.returncode == 0, done.stdout + done.stderr
    for words, said in (
        (("top",), "val/macro_f1"),
        (("diff", "logreg", "linear_svc"), "answers differ"),
        (("compare", "logreg", "linear_svc", "--resamples", "200"), "right about it A"),
        (("predict", "logreg", "topics.csv", "--output", "out.csv", "--top-k", "2"), ""),
        (("drift", "logreg", "topics.csv"), "class_share"),
    ):
        done = topics.agnews(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout
    with (topics.root / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(len(json.loads(row["labels"])) == len(json.loads(row["confidence"])) for row in rows)


@pytest.mark.slow
def test_what_looks_at_one_class_a_text_says_so_before_any_work(topics):
    folders = len(topics.run_folders)
    for words in (
        ("run", *DATA, "model.loss=focal", "model=text_cnn", "features=text"), ("run", *DATA, "evaluation=full"),
        ("run", *DATA, "evaluation.primary=val/mcc"), ("errors", "logreg"), ("eda", *DATA[:5]),
        ("predict", "logreg", "topics.csv", "--sets", "0.9"), ("predict", "logreg", "topics.csv", "--explain"),
    ):  # fmt: skip
        done = topics.agnews(*words)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert "(multilabel)" in done.stderr or "subset_accuracy" in done.stderr, (words, done.stderr)
    statuses = topics.statuses()
    assert statuses.count("finished") == folders
    assert set(statuses[folders:]) <= {"failed"}


@pytest.mark.slow
def test_runs_of_sets_are_not_compared_with_others(topics):
    done = topics.run("data=sample", "tracking=none", "evaluation.latency_repeats=0", "features=word_tfidf",
                      "model=multinomial_nb", "data_fraction=0.1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = topics.agnews("compare", "logreg", "multinomial_nb")
    assert done.returncode == 2
    assert "different tasks" in done.stderr


@pytest.mark.slow
def test_a_network_learns_sets_and_answers_them_by_its_thresholds(topics):
    done = topics.run(*DATA, "model=text_cnn", "features=text", "evaluation.thresholds=one", "trainer.max_epochs=1",
                      "trainer.limit_train_batches=4", "model.max_length=32", "name=net")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = next(
        run for run in map(Run, topics.run_folders) if run.record.status == "finished" and run.given_name == "net"
    )
    stored, model = run.predictions("val"), load_model(run.folder / "model", "cpu")
    with (topics.root / "topics.csv").open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    answers = model.predict([texts[i] for i in stored["row_id"]])
    assert len(set(model.thresholds.tolist())) == 1
    assert answers.task.names(answers.labels, model.class_names) == stored["prediction"].tolist()
    done = topics.agnews("export", "net")
    assert (done.returncode, "multilabel" in done.stderr) == (2, True)
