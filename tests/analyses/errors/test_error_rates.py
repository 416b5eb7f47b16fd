"""Error rates of groups, confusions, hardest rows, text attributes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact
from statsmodels.stats.proportion import proportion_confint

from agnews_exp.analyses.errors.attributes import artefacts, length_bins, length_edges, word_counts
from agnews_exp.analyses.errors.confusions import (
    confusions,
    contrasts,
    hardest_rows,
    item_losses,
    rate,
    rates_by_group,
    true_class_margins,
)
from agnews_exp.evaluation.predictions import Predictions

NAMES = ("World", "Sports", "Business", "Sci/Tech")
STUDY_SVC = np.array([[1738, 51, 67, 44], [13, 1865, 16, 6], [53, 12, 1692, 143], [53, 15, 109, 1723]])
"""Confusion matrix of the study's LinearSVC, recomputed from its predictions."""


def test_confusions_of_the_study_come_out_as_counted_there():
    directed = confusions(STUDY_SVC, NAMES, directed=True)
    pairs = confusions(STUDY_SVC, NAMES, directed=False)
    undirected = {(c.first, c.second): c.of_rows.count for c in pairs}
    assert [(c.first, c.second, c.of_rows.count) for c in directed[:2]] == [
        ("Business", "Sci/Tech", 143), ("Sci/Tech", "Business", 109),
    ]  # fmt: skip
    assert undirected == {
        ("World", "Sports"): 64, ("World", "Business"): 120, ("World", "Sci/Tech"): 97,
        ("Sports", "Business"): 28, ("Sports", "Sci/Tech"): 21, ("Business", "Sci/Tech"): 252,
    }  # fmt: skip
    assert sum(c.share_of_errors for c in directed) == pytest.approx(1)
    assert directed[0].of_rows.total == 1900


def test_pairs_that_never_occur_are_left_out_and_a_faultless_model_has_none():
    assert confusions(np.diag([5, 6]), ("a", "b"), directed=True) == ()
    (found,) = confusions(np.array([[5, 1], [0, 6]]), ("a", "b"), directed=True)
    assert found.of_rows.name == "a -> b"


def test_intervals_are_wilsons():
    for count, total in ((0, 12), (3, 40), (12, 12)):
        found = rate("x", count, total)
        assert (found.low, found.high) == pytest.approx(proportion_confint(count, total, method="wilson"), abs=1e-12)


def test_groups_without_rows_are_left_out():
    wrong = np.array([True, False, True, True])
    found = rates_by_group(wrong, np.array([0, 0, 2, 2]), ["few", "none", "all"])
    assert [(r.name, r.count, r.total) for r in found] == [("few", 1, 2), ("all", 2, 2)]


def test_contrast_compares_rows_with_an_attribute_to_the_others_and_skips_what_all_or_none_have():
    rng = np.random.default_rng(0)
    wrong, has = rng.random(300) < 0.2, rng.random(300) < 0.3
    (found,) = contrasts(wrong, {"a": has, "all": np.ones(300, bool), "none": np.zeros(300, bool)})
    table = [[(wrong & has).sum(), (~wrong & has).sum()], [(wrong & ~has).sum(), (~wrong & ~has).sum()]]
    assert found.p_value == pytest.approx(fisher_exact(table).pvalue)
    assert (found.inside.count, found.outside.total) == (table[0][0], int((~has).sum()))


def test_artefacts_are_told_apart():
    texts = ["it #39;s", "quot;so quot; said", r"a second\team", "&lt;b&gt;...&lt;/b&gt;", " #36;10", "plain text"]
    found = artefacts(texts)
    for row, name in enumerate(
        ("apostrophe #39;", "quotation mark quot;", "backslash", "escaped tag", "other numeric entity")
    ):
        assert np.flatnonzero(found[name]).tolist() == [row], name
    assert found["any"].tolist() == [True] * 5 + [False]


def test_length_bins_hold_all_rows_and_say_which_words():
    counts = word_counts(["one", "two words", "three words here", "and four words here", "it is five words here"])
    assert counts.tolist() == [1, 2, 3, 4, 5]
    edges = length_edges(counts, 2)
    groups, names = length_bins(counts, edges)
    assert names == ["up to 2 words", "3 words or more"]
    assert groups.tolist() == [0, 0, 1, 1, 1]


def test_equal_lengths_make_one_bin():
    groups, names = length_bins(np.array([7, 7, 7]), length_edges(np.array([7, 7, 7]), 4))
    assert names == ["all lengths"]
    assert groups.tolist() == [0, 0, 0]


def test_hardest_rows_have_the_lowest_margin_and_are_wrong():
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[2.0, 1.0], [0.0, 3.0], [0.5, 0.4], [9.0, 0.0]])
    answer = Predictions(scores.argmax(axis=1), scores)
    assert true_class_margins(labels, answer) == pytest.approx([1.0, -3.0, -0.1, -9.0])
    assert hardest_rows(labels, answer, 10).tolist() == [3, 1, 2]
    assert hardest_rows(labels, answer, 1).tolist() == [3]


def test_probabilities_stand_in_for_scores_and_labels_alone_still_give_errors():
    labels = np.array([0, 1])
    probabilities = np.array([[0.25, 0.75], [0.9, 0.1]])
    answer = Predictions(np.array([1, 0]), None, probabilities)
    assert true_class_margins(labels, answer) == pytest.approx(np.log([0.25 / 0.75, 0.1 / 0.9]))
    assert item_losses(labels, answer) == pytest.approx(-np.log([0.25, 0.1]))
    bare = Predictions(np.array([1, 1]))
    assert (true_class_margins(labels, bare), item_losses(labels, bare)) == (None, None)
    assert hardest_rows(labels, bare, 5).tolist() == [0]
