"""The package in Python: runs, tables, models, comparisons and rivals as the command line has them."""

from __future__ import annotations

import csv
import random
import subprocess
import sys

import numpy as np
import pytest

import agnews_exp as ag
from agnews_exp.core.errors import AgnewsError, ConfigError, DataError

WORDS = {"billing": "invoice charge refund", "delivery": "parcel courier late", "account": "password login email"}
MODEL = ["model=multinomial_nb", "features=word_tfidf", "evaluation.latency_repeats=0", "tracking=none"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project with a file of 90 invented tickets, in which the tests of this module run."""
    folder = tmp_path_factory.mktemp("tickets")
    draw = random.Random(1)
    with (folder / "tickets.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(90):
            label = sorted(WORDS)[number % 3]
            writer.writerow([f"ticket {number} {draw.choice(WORDS[label].split())} please", label])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGNEWS_ROOT", str(folder))
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def data(root):
    """The overrides that name the tickets."""
    return ["data=csv", f"data.train_file={root / 'tickets.csv'}", "data.validation_size=0.3", "tracking=none"]


@pytest.fixture(scope="module")
def trained(data):
    """A finished run."""
    return ag.run([*data, *MODEL, "name=ours"])


def by_words(texts):
    """A rival: the class whose words a text has, with probabilities."""
    hits = np.array([[any(word in text for word in WORDS[name].split()) for name in sorted(WORDS)] for text in texts])
    return (hits + 0.1) / (hits + 0.1).sum(axis=1, keepdims=True)


def test_the_import_is_light_and_gives_the_functions_whatever_was_imported_before():
    code = (
        "import agnews_exp as ag, sys; assert 'numpy' not in sys.modules and 'hydra' not in sys.modules;"
        "import agnews_exp.report.build, agnews_exp.compare.summary;"
        "assert all(callable(getattr(ag, name)) for name in ag.__all__ if name != '__version__'), ag.compare;"
        "assert 'torch' not in sys.modules; ag.compare()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigError: A comparison needs at least two" in done.stderr


def test_a_run_has_its_answers_as_a_table_and_a_model_that_answers_texts(trained):
    answers = trained.predictions("test")
    assert list(answers.columns[:4]) == ["split", "row_id", "label", "prediction"]
    score = float((answers["label"] == answers["prediction"]).mean())
    assert score == pytest.approx(trained.result["metrics"]["test/accuracy"])
    texts = ag.rows(trained).set_index(["split", "row_id"])["text"].loc["test"].loc[answers["row_id"]]
    model = trained.model()
    assert list(model.predict(texts)) == list(answers["prediction"])
    given = answers[[f"probability:{name}" for name in model.classes_]].to_numpy()
    np.testing.assert_allclose(model.predict_proba(list(texts)), given, atol=1e-9)
    assert len(trained.predictions()) == len(answers) + len(trained.predictions("val"))
    with pytest.raises(DataError, match="no answers for split 'cv'"):
        trained.predictions("cv")
    assert "<b>ours-" in trained._repr_html_()


def test_the_same_configuration_is_the_same_run(trained, data):
    assert ag.run([*data, *MODEL, "name=ours"]).folder == trained.folder


def test_the_table_of_runs_can_be_asked_and_keeps_test_scores_for_those_who_ask(trained):
    table = ag.runs("model=multinomial_nb")
    assert trained.name in list(table["name"])
    assert not [column for column in table if column.startswith("test/")]
    assert "test/macro_f1" in ag.runs(test=True)
    assert ag.runs(["model=multinomial_nb", "seed=7"]).empty


def test_mistakes_are_the_errors_of_the_command_line(trained, data):
    for call, message in (
        (lambda: ag.run("model=logreg"), "one text"),
        (lambda: ag.run(["model=logrek"]), "Did you mean 'logreg'"),
        (lambda: ag.compare("ours", "nobody"), "No finished run is called 'nobody'"),
        (lambda: ag.runs("model"), "key=value"),
        (lambda: ag.run([*data, "model=answers", "features=text"]), "agnews evaluate"),
        (lambda: ag.report("nothing"), "nothing"),
    ):
        with pytest.raises(AgnewsError, match=message):
            call()


@pytest.mark.slow
def test_an_estimator_and_a_function_stand_beside_trained_runs(trained, data):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    rows = ag.rows(data)
    train, test = (rows[rows["split"] == split] for split in ("train", "test"))
    own = make_pipeline(CountVectorizer(), MultinomialNB()).fit(train["text"], train["label"])
    judged = ag.evaluate(own, trained, name="mine")
    answers = judged.predictions("test")
    assert list(answers["prediction"]) == list(own.predict(test["text"]))
    np.testing.assert_allclose(answers["probability:account"], own.predict_proba(test["text"])[:, 0], atol=1e-9)
    words = ag.evaluate(by_words, data, name="words")
    assert words.result["data"]["evaluation_checksum"] == trained.result["data"]["evaluation_checksum"]
    assert words.result["metrics"]["test/accuracy"] == 1
    compared = ag.compare(trained, "words", judged, resamples=200)
    assert "words" in compared.verdict + compared._repr_html_()
    assert "<table" in compared._repr_html_()
    with pytest.raises(ConfigError, match="no model folder"):
        words.model()


def test_the_same_answers_under_another_name_are_the_same_run(trained, data):
    one = ag.evaluate(lambda texts: ["billing"] * len(texts), data, name="constant")
    other = ag.evaluate(lambda texts: np.full(len(texts), 1), data, name="always the same")
    assert other.folder == one.folder
    assert ag.find_run("always the same").folder == ag.find_run("constant").folder == one.folder


def test_answers_that_are_none_are_refused_before_anything_is_recorded(root, data):
    before = ag.runs()
    for system, message in (
        (object(), "cannot be asked"),
        (lambda texts: ["billing"], "gave 1 answers to"),
        (lambda texts: ["biling"] * len(texts), "Unknown class in the answers: 'biling'.+ 'billing'"),
        (lambda texts: np.ones((len(texts), 2)), "one column a class"),
        (lambda texts: np.ones((len(texts), 3)), "no probabilities, such as number 1"),
        (lambda texts: np.full((len(texts), 3), np.nan), "no probabilities"),
    ):
        with pytest.raises(ConfigError, match=message):
            ag.evaluate(system, data, name="wrong")
    assert list(ag.runs()["name"]) == list(before["name"])


@pytest.mark.slow
def test_a_sweep_gives_its_runs_and_its_best(root, data):
    swept = ag.sweep([*data, *MODEL, "model.alpha=0.1,1"], name="alphas")
    assert len(swept.runs) == 2
    assert swept.best.result["objective"] == max(one.result["objective"] for one in swept.runs)
    assert len(swept.table()) == 2
    with pytest.raises(ConfigError, match="noc"):
        ag.sweep([*data, "model=logreg,dummy", "noc=1"])
