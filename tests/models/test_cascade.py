"""A cascade and a blend answer as their parts do, routed or combined; their folder loads to the same answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline

from agnews_exp.core.errors import StorageError
from agnews_exp.evaluation.calibrators import CALIBRATORS
from agnews_exp.evaluation.score_calibration import ScoreCalibration, score_source, scores_for_calibration
from agnews_exp.models.cascade import BlendModel, CascadeModel, confidence, save_cascade
from agnews_exp.models.loading import ClassicalModel, load_model
from agnews_exp.models.persistence import save_pipeline
from agnews_exp.ngrams import TfidfVectorizer

NAMES = ("Business", "Sports", "World")
WORDS = {0: "bank profit shares market", 1: "team goal cup match", 2: "minister treaty border vote"}


def corpus(n, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    noise = " ".join(WORDS.values()).split()
    texts = [" ".join([*rng.choice(WORDS[k].split(), 2), *rng.choice(noise, 3)]) for k in labels]
    return texts, labels


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    texts, labels = corpus(150, 0)
    held, truth = corpus(90, 1)
    models, calibrations, folders = [], [], []
    for i, (estimator, rows) in enumerate([(MultinomialNB(), 15), (LogisticRegression(), 150)]):
        pipeline = Pipeline([("features", TfidfVectorizer(n_jobs=1)), ("model", estimator)])
        model = ClassicalModel(pipeline.fit(texts[:rows], labels[:rows]), NAMES)
        answer = model.predict(held)
        source = score_source(answer)
        fitted = CALIBRATORS["temperature"]().fit(scores_for_calibration(answer, source), truth)
        folders.append(tmp_path_factory.mktemp("models") / str(i))
        save_pipeline(pipeline, folders[-1], NAMES)
        models.append(model)
        calibrations.append(ScoreCalibration("temperature", source, fitted, NAMES))
    return models, tuple(calibrations), tuple(folders)


@pytest.fixture
def new():
    return corpus(60, 2)[0]


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9, np.inf])
def test_each_text_is_answered_by_the_model_that_its_confidence_chooses(parts, new, threshold):
    (fast, accurate), calibrations, _ = parts
    cascade = CascadeModel(fast, accurate, calibrations, threshold)
    first, second = (c.apply(m.predict(new)) for c, m in zip(calibrations, (fast, accurate), strict=True))
    asked = confidence(first) < threshold
    answer = cascade.predict(new)
    np.testing.assert_array_equal(answer.labels, np.where(asked, second.labels, first.labels))
    expected = np.where(asked[:, None], second.probabilities, first.probabilities)
    np.testing.assert_allclose(answer.probabilities, expected)
    if threshold in (0.6, 0.9):
        assert 0 < asked.sum() < len(new), "the case must exercise both ways"


def test_a_blend_that_weighs_one_model_only_answers_like_it(parts, new):
    models, calibrations, _ = parts
    coefficients = np.vstack([np.zeros((3, 3)), np.eye(3)])
    answer = BlendModel(*models, calibrations, coefficients, np.zeros(3)).predict(new)
    second = calibrations[1].apply(models[1].predict(new))
    np.testing.assert_allclose(answer.probabilities, second.probabilities, atol=1e-4)


@pytest.mark.parametrize("kind", ["cascade", "blend", "cascade that hands over everything"])
def test_a_saved_folder_loads_to_the_same_answers(parts, new, tmp_path, kind):
    models, calibrations, folders = parts
    rng = np.random.default_rng(0)
    model = (
        BlendModel(*models, calibrations, rng.normal(size=(6, 3)), rng.normal(size=3))
        if kind == "blend"
        else CascadeModel(*models, calibrations, 0.7 if kind == "cascade" else np.inf)
    )
    save_cascade(model, tmp_path / "model", folders)
    loaded = load_model(tmp_path / "model")
    assert loaded.class_names == NAMES
    np.testing.assert_array_equal(loaded.predict(new).probabilities, model.predict(new).probabilities)
    assert not list(tmp_path.rglob("*.pkl"))


@pytest.mark.parametrize("file", ["cascade.json", "fast_calibrator.json", "accurate/model.skops"])
def test_a_changed_part_is_refused(parts, tmp_path, file):
    models, calibrations, folders = parts
    save_cascade(CascadeModel(*models, calibrations, 0.7), tmp_path / "model", folders)
    path = tmp_path / "model" / file
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(StorageError, match="damaged"):
        load_model(tmp_path / "model")
