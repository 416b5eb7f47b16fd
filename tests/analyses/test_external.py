"""Scores of foreign texts, their power, and label mappings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from agnews_exp.analyses.external import (
    confidence_scores,
    detection,
    load_mapping,
    map_labels,
    shipped_mappings,
)
from agnews_exp.analyses.perturbations import Variant
from agnews_exp.analyses.robustness import measure_drop
from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.predictions import Predictions

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
NEWSGROUPS = {  # label -> texts in 20news-bydate-test
    "alt.atheism": 319, "comp.graphics": 389, "comp.os.ms-windows.misc": 394, "comp.sys.ibm.pc.hardware": 392,
    "comp.sys.mac.hardware": 385, "comp.windows.x": 395, "misc.forsale": 390, "rec.autos": 396,
    "rec.motorcycles": 398, "rec.sport.baseball": 397, "rec.sport.hockey": 399, "sci.crypt": 396,
    "sci.electronics": 393, "sci.med": 396, "sci.space": 394, "soc.religion.christian": 398,
    "talk.politics.guns": 364, "talk.politics.mideast": 376, "talk.politics.misc": 310, "talk.religion.misc": 251,
}  # fmt: skip


def test_newsgroups_map_to_known_row_counts():
    found = map_labels(list(NEWSGROUPS), load_mapping("newsgroups"), CLASSES)
    rows = {name: sum(NEWSGROUPS[label] for label, k in found.items() if k == i) for i, name in enumerate(CLASSES)}
    assert rows == {"World": 2018, "Sports": 796, "Business": 390, "Sci/Tech": 3534}
    assert sorted(label for label, k in found.items() if k is None) == ["rec.autos", "rec.motorcycles"]


def test_a_label_itself_goes_before_patterns():
    mapping = {"comp.*": "Sci/Tech", "comp.sale": "Business", "*": None}
    assert map_labels(["comp.sale", "comp.x", "other"], mapping, CLASSES) == {
        "comp.sale": 2, "comp.x": 3, "other": None,
    }  # fmt: skip


def test_without_mapping_labels_are_class_names():
    assert map_labels(["Sports", "World"], {}, CLASSES) == {"Sports": 1, "World": 0}


def test_unmapped_labels_and_unknown_classes_are_named():
    with pytest.raises(ConfigError, match=r"(?s)label sprots\..*did you mean the label 'sports'"):
        map_labels(["sprots"], {"sports": "Sports"}, CLASSES)
    with pytest.raises(ConfigError, match=r"Did you mean 'Sports'"):
        map_labels(["a"], {"a": "Sport"}, CLASSES)
    with pytest.raises(ConfigError, match="newsgroups"):
        load_mapping("newsgroup")


def test_a_mapping_file_is_read_and_checked(tmp_path):
    file = tmp_path / "labels.yaml"
    file.write_text("tech: Sci/Tech\n7: null\n")
    assert load_mapping(str(file)) == {"tech": "Sci/Tech", "7": None}
    assert shipped_mappings() == ["newsgroups"]
    for bad in ("- a\n- b\n", "a: {b: c}\n", "a: [\n"):
        file.write_text(bad)
        with pytest.raises(DataError, match=r"labels\.yaml"):
            load_mapping(str(file))


def test_confidence_scores_follow_their_formulas():
    scores = np.array([[2.0, 0.5, -1.0], [0.0, 0.0, 0.0]])
    found = confidence_scores(Predictions(scores.argmax(axis=1), scores))
    assert found["energy"] == pytest.approx(logsumexp(scores, axis=1))
    assert found["margin"] == pytest.approx([1.5, 0.0])
    assert found["max_softmax"] == pytest.approx([np.exp(2) / np.exp(scores[0]).sum(), 1 / 3])


def test_probabilities_alone_give_no_energy_and_labels_alone_give_nothing():
    found = confidence_scores(Predictions(np.array([0]), None, np.array([[0.75, 0.25]])))
    assert set(found) == {"max_softmax", "margin"}
    assert found["margin"] == pytest.approx([np.log(3)])
    assert confidence_scores(Predictions(np.array([0]))) == {}


def test_auroc_agrees_with_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    own, foreign = rng.normal(1, 1, 300).round(1), rng.normal(0, 1, 200).round(1)
    found = detection("x", own, foreign)
    truth = np.r_[np.ones(300), np.zeros(200)]
    assert found.auroc == pytest.approx(roc_auc_score(truth, np.r_[own, foreign]))
    assert found.low < found.auroc < found.high
    assert found.foreign_accepted == np.mean(foreign >= np.sort(own)[14])
    assert np.mean(own >= np.sort(own)[14]) >= 0.95


def test_auroc_interval_covers_as_often_as_it_says():
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    true = norm.cdf(1 / np.sqrt(2))
    draws = [detection("x", rng.normal(1, 1, 120), rng.normal(0, 1, 80)) for _ in range(400)]
    covered = np.mean([d.low <= true <= d.high for d in draws])
    assert 0.92 <= covered <= 0.98


def test_perfect_separation_has_no_interval_to_compute():
    found = detection("x", np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert (found.auroc, found.low, found.high, found.foreign_accepted) == (1.0, 1.0, 1.0, 0.0)


def test_drop_is_paired_and_signed():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    clean = np.where(rng.random(500) < 0.9, labels, (labels + 1) % 3)
    worse = np.where(rng.random(500) < 0.2, (clean + 1) % 3, clean)
    drop = measure_drop(Variant("swap", 0.1), labels, clean, worse, 1.0, class_names=("a", "b", "c"), resamples=300)
    difference = drop.metrics["accuracy"].difference
    assert difference.estimate == pytest.approx(np.mean(worse == labels) - np.mean(clean == labels))
    assert difference.percentile[1] < 0
    assert drop.changed_answers == pytest.approx(np.mean(worse != clean))
    same = measure_drop(Variant("swap", 0.1), labels, clean, clean, 0.0, class_names=("a", "b", "c"), resamples=300)
    assert same.metrics["macro_f1"].difference.percentile == (0.0, 0.0)
