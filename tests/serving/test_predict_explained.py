"""`agnews predict --explain`: the words behind each answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

from agnews_exp.analyses.explanation.words import Explanation
from agnews_exp.core.errors import ConfigError
from agnews_exp.evaluation.score_calibration import ScoreCalibration
from agnews_exp.models.cascade import CascadeModel
from agnews_exp.models.loading import ClassicalModel
from agnews_exp.ngrams import TfidfVectorizer
from agnews_exp.serving.explaining import top_words, word_explainer
from agnews_exp.serving.inputs import Asked, describe_source
from agnews_exp.serving.predicting import Answering, predict_stream

TEXTS = ["goal match team win", "shares profit bank market", "team goal cup", "bank shares fall"] * 5
CLASSES = ("Business", "Sports")


def fitted(estimator, **options):
    steps = [("blocks", TfidfVectorizer(n_jobs=1, **options))]
    pipeline = Pipeline([("features", Pipeline(steps)), ("model", estimator)])
    return ClassicalModel(pipeline.fit(TEXTS, np.array([1, 0, 1, 0] * 5)), CLASSES)


@pytest.fixture(scope="module")
def model():
    return fitted(LogisticRegression())


def test_words_of_one_text_count_together_whatever_their_case_and_the_strongest_come_first():
    explanation = Explanation("m", "Goal bank goal the", 1, np.array([0.5, -0.75, 0.5, 0.0]))
    assert top_words(explanation, 5) == "goal:+1 bank:-0.75"
    assert top_words(explanation, 1) == "goal:+1"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_answer_has_the_words_that_speak_for_it(model, tmp_path, suffix):
    path, output = tmp_path / "in.txt", tmp_path / f"out{suffix}"
    path.write_text("the bank\ngoal against goal\nzzz\n")
    source = describe_source(str(path), Asked())
    predict_stream(source, model, output, answering=Answering(batch_size=2, explain=2), identity="m")
    if suffix == ".jsonl":
        words = [json.loads(line)["words"] for line in output.read_text().splitlines()]
    elif suffix == ".csv":
        import csv

        with output.open(newline="") as file:
            words = [row["words"] for row in csv.DictReader(file)]
    else:
        import pyarrow.parquet as pq

        words = pq.read_table(output).column("words").to_pylist()
    assert words[0].startswith("bank:+")
    assert words[1].startswith("goal:+")
    assert not words[2], "a text without a known word has nothing to show"


def test_word_weights_add_up_to_the_score(model):
    texts = ["team shares goal", "profit"]
    answer = model.predict(texts)
    explained = word_explainer(model)(texts, answer.labels)
    for row, explanation in enumerate(explained):
        total = explanation.base + explanation.weights.sum() + explanation.elsewhere
        assert total == pytest.approx(answer.scores[row, answer.labels[row]], abs=1e-9)


def test_a_cascade_is_explained_by_the_model_that_answered(model):
    calibration = ScoreCalibration("none", "log_probabilities", None, CLASSES)
    accurate = fitted(LogisticRegression(C=100), ngram_range=(1, 2))
    texts = ["goal goal team match", "market cup"]
    sure = model.predict(texts).probabilities.max(axis=1)
    assert sure[0] > sure[1]
    cascade = CascadeModel(model, accurate, (calibration, calibration), float(sure.mean()))
    labels = cascade.predict(texts).labels
    found = word_explainer(cascade)(texts, labels)
    for explanation, member, text, label in zip(found, (model, accurate), texts, labels, strict=True):
        (expected,) = word_explainer(member)([text], np.array([label]))
        np.testing.assert_allclose(explanation.weights, expected.weights)


def test_a_model_without_such_words_is_refused_with_what_can_be_explained():
    with pytest.raises(ConfigError, match=r"not linear(.|\n)*can be explained: linear models"):
        word_explainer(fitted(KNeighborsClassifier(1)))
