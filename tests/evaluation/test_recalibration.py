from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax as scipy_softmax

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.calibrators import CALIBRATORS, softmax
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.proper_scores import brier_score, negative_log_likelihood
from agnews_exp.evaluation.recalibration import halves, study_calibration


def scored(seed, n):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 3)) * 4
    p = scipy_softmax(scores / 3, axis=1)
    return scores, (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)


def answers(seed, n, *, probabilities=False):
    scores, labels = scored(seed, n)
    own = scipy_softmax(scores, axis=1) if probabilities else None
    return Predictions(scores.argmax(axis=1), None if probabilities else scores, own), labels


@pytest.mark.parametrize("name", ["platt", "isotonic", "temperature", "vector"])
def test_calibration_is_reported_before_and_after_on_other_rows(name):
    (validation, fit_labels), (test, labels) = answers(0, 4000), answers(1, 3000)
    _, study = study_calibration(
        validation, fit_labels, test, labels, ["a", "b", "c"], calibrators=[name], resamples=500, simulations=100
    )
    change = study.changes[name]
    fit, _ = halves(fit_labels, 0.5, seed=0)
    after = CALIBRATORS[name]().fit(validation.scores[fit], fit_labels[fit]).predict_proba(test.scores)
    assert (study.n_fit, study.before.n_items) == (len(fit), 3000)
    # One class against the rest cannot undo a softmax: Platt and isotonic gain, temperature and vector scaling cure.
    assert change.after.ece < study.before.ece * (0.25 if name in ("temperature", "vector") else 0.8)
    assert change.nll.difference.estimate == pytest.approx(
        negative_log_likelihood(labels, after) - negative_log_likelihood(labels, softmax(test.scores))
    )
    assert change.brier.difference.estimate == pytest.approx(
        brier_score(labels, after) - brier_score(labels, softmax(test.scores))
    )
    assert change.nll.difference.percentile[1] < 0
    assert (change.changed_predictions == 0) == (name == "temperature")


def test_the_models_own_probabilities_can_stand_for_before():
    (validation, labels), (test, test_labels) = answers(2, 500), answers(3, 500)
    own = scipy_softmax(test.scores / 3, axis=1)
    with_both = Predictions(test.labels, test.scores, own)
    _, study = study_calibration(
        validation, labels, with_both, test_labels, ["a", "b", "c"], calibrators=["temperature"], simulations=100
    )
    assert study.before.nll == pytest.approx(negative_log_likelihood(test_labels, own))
    assert set(study.before.classwise_ece_by_class) == {"a", "b", "c"}


def test_an_unknown_calibrator_names_the_nearest():
    validation, labels = answers(4, 100)
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        study_calibration(validation, labels, validation, labels, ["a", "b", "c"], calibrators=["temprature"])


def test_each_class_is_divided_by_the_share_reproducibly():
    labels = np.repeat([0, 1, 2, 3], [100, 40, 7, 1])
    first, second = halves(labels, 0.3, seed=1)
    assert np.array_equal(np.sort(np.concatenate([first, second])), np.arange(148))
    assert np.bincount(labels[first]).tolist() == [30, 12, 2, 1]
    assert np.array_equal(first, halves(labels, 0.3, seed=1)[0])
    assert not np.array_equal(first, halves(labels, 0.3, seed=2)[0])
    with pytest.raises(DataError, match="two classes or more"):
        halves([0, 1, 1, 0], 0.1)
    with pytest.raises(DataError, match="fit_share must lie strictly between"):
        halves(labels, 1.0)


def test_a_study_fits_on_one_part_chooses_on_another_and_reports_on_test():
    validation, labels = answers(5, 1600)
    test, test_labels = answers(6, 900)
    chosen, study = study_calibration(
        validation, labels, test, test_labels, ["a", "b", "c"], fit_share=0.25, resamples=200, simulations=100, seed=3
    )
    fit, choose = halves(labels, 0.25, seed=3)
    assert (study.n_fit, study.n_choose, study.before.n_items) == (len(fit), len(choose), 900)
    by_hand = {n: CALIBRATORS[n]().fit(validation.scores[fit], labels[fit]) for n in CALIBRATORS}
    scores = {n: negative_log_likelihood(labels[choose], c.predict_proba(validation.scores[choose]))
              for n, c in by_hand.items()}  # fmt: skip
    scores["none"] = negative_log_likelihood(labels[choose], softmax(validation.scores[choose]))
    assert {n: s.nll for n, s in study.choice.items()} == pytest.approx(scores)
    unharmed = {name: nll for name, nll in scores.items() if study.choice[name].ece <= study.choice["none"].ece}
    assert study.chosen == min(unharmed, key=unharmed.get) == chosen.name
    expected = by_hand[study.chosen].predict_proba(test.scores)
    assert np.array_equal(chosen.probabilities(test), expected)  # what is stored is what was judged
    assert study.after.nll == pytest.approx(negative_log_likelihood(test_labels, expected))
    assert study.before_is == "softmax of decision scores"
    assert study.after.ece < study.before.ece / 2
    json.dumps(study.to_dict(), allow_nan=False)


def test_test_rows_choose_nothing():
    validation, labels = answers(5, 1600)
    test, test_labels = answers(6, 900)
    options = {"resamples": 200, "simulations": 100}
    chosen, right = study_calibration(validation, labels, test, test_labels, ["a", "b", "c"], **options)
    wrong = (test_labels + 1) % 3
    again, study = study_calibration(validation, labels, test, wrong, ["a", "b", "c"], **options)
    assert again.name == chosen.name
    assert np.array_equal(again.probabilities(test), chosen.probabilities(test))
    assert study.after.nll > 2 * right.after.nll  # and yet the labels are read


def test_calibrated_probabilities_may_be_left_alone():
    scores, labels = scored(7, 3000)
    fair = Predictions(scores.argmax(axis=1), None, scipy_softmax(scores / 3, axis=1))
    chosen, study = study_calibration(
        fair, labels, fair, labels, ["a", "b", "c"], calibrators=["isotonic"], fit_share=0.05, resamples=200
    )
    assert (chosen.name, chosen.calibrator, study.source) == ("none", None, "log_probabilities")
    assert study.after is study.before


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_class_without_validation_rows_is_left_alone_and_named(name):
    scores, labels = scored(8, 6000)
    own = scipy_softmax(scores / 3, axis=1)
    given = Predictions(scores.argmax(axis=1), None, own)
    known = np.flatnonzero(labels[:3000] != 2)
    validation, test = given.take(known), given.take(np.arange(3000, 6000))
    names = ["a", "b", "c"]
    chosen, study = study_calibration(
        validation, labels[known], test, labels[3000:], names, calibrators=[name], resamples=100, simulations=100
    )
    assert study.left_alone == ("c",)
    after = CALIBRATORS[name]().fit(np.log(own[known]), labels[known]).predict_proba(np.log(own[3000:]))
    assert after.sum(axis=1) == pytest.approx(1)
    if name != "temperature":
        assert after[:, 2] == pytest.approx(own[3000:, 2])
        assert chosen.probabilities(test)[:, 2] == pytest.approx(own[3000:, 2])
    right = [np.mean(p.argmax(axis=1) == labels[3000:]) for p in (own[3000:], after)]
    assert right[1] > right[0] - 0.03  # it fell by a third of the rows when the class was taken for impossible


def test_a_calibration_that_worsens_the_calibration_error_of_held_back_rows_is_not_applied():
    scores, labels = scored(9, 500)
    fair = Predictions(scores.argmax(axis=1), None, scipy_softmax(scores / 3, axis=1))
    names = ["a", "b", "c"]
    for seed in range(8):
        chosen, study = study_calibration(
            fair, labels, fair, labels, names, calibrators=["vector"], resamples=100, simulations=100, seed=seed
        )
        worse = study.choice["vector"].ece > study.choice["none"].ece
        assert (study.refused == ("vector",)) == (worse and study.choice["vector"].nll < study.choice["none"].nll)
        if worse or study.choice["vector"].nll > study.choice["none"].nll:
            assert chosen.calibrator is None


def test_a_study_needs_scores():
    labels = np.array([0, 1] * 50)
    with pytest.raises(DataError, match="labels only"):
        study_calibration(Predictions(labels), labels, Predictions(labels), labels, ["a", "b"])


def test_halves_keep_groups_together_and_fit_on_the_older_rows():
    labels, keys = np.arange(120) % 3, [f"{i // 6:02}" for i in range(120)]
    for split in ("group", "time"):
        fit, choose = halves(labels, 0.5, seed=1, keys=keys, split=split)
        assert sorted([*fit, *choose]) == list(range(120))
        assert abs(len(fit) - 60) <= 12
        assert not {keys[i] for i in fit} & {keys[i] for i in choose}
    assert fit.max() < choose.min(), "time: the older rows fit"
    with pytest.raises(DataError, match="fit_share"):
        halves(labels, 0.5, keys=["one"] * 120, split="group")
