"""Names, readability, topics, class similarity and the leakage probe, on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.model_selection import StratifiedKFold

from agnews_exp.analyses.exploration import topics as model
from agnews_exp.analyses.exploration.audit import find_artefacts, probe
from agnews_exp.analyses.exploration.language import flesch_reading_ease, syllables
from agnews_exp.analyses.exploration.parsing import capitalised_sequences, tree_depth
from agnews_exp.analyses.exploration.space import class_centroids, describe_space, merge_tree, row_cosines


def test_names_are_capitalised_runs_that_do_not_just_open_a_sentence():
    text = "Shares fell. Analysts at Goldman Sachs said Bank of America and Microsoft may gain. Investors wait."
    assert capitalised_sequences(text) == ["Goldman Sachs", "Bank of America", "Microsoft"]


def test_a_headline_in_title_case_is_no_name():
    assert capitalised_sequences("Oil Prices Hit Another Record High Today in London") == ["London"]


@pytest.mark.parametrize(
    ("word", "n"),
    [("cat", 1), ("table", 2), ("make", 1), ("wanted", 2), ("jumped", 1), ("reading", 2), ("boxes", 2), ("the", 1),
     ("America", 4), ("matches", 2), ("shhh", 1)],
)  # fmt: skip
def test_syllables(word, n):
    assert syllables(word) == n


def test_flesch_by_hand():
    # 6 words, 2 sentences, 7 syllables
    expected = 206.835 - 1.015 * 3 - 84.6 * 7 / 6
    assert flesch_reading_ease("The cat sat. It was happy!") == pytest.approx(expected)
    assert np.isnan(flesch_reading_ease("... 12 !"))


def test_topics_separate_words_that_never_meet():
    names = ["oil", "price", "goal", "match"]
    rows = np.array([[1, 1, 0, 0]] * 6 + [[0, 0, 2, 1]] * 4, dtype=float)
    found = model.find_topics(csr_array(rows), names, n_topics=2, n_words=2, max_iter=200, seed=0)
    assert {frozenset(words) for words in found.words} == {frozenset(("oil", "price")), frozenset(("goal", "match"))}
    labels = np.array([0] * 6 + [1] * 4)
    table = model.topic_table(found.assigned, labels, 2, 2)
    assert sorted(table.max(axis=1).tolist()) == [4, 6]
    assert model.conditional_entropy_bits(table) == pytest.approx(0.0)
    assert model.conditional_entropy_bits(np.array([[5, 5], [0, 0]])) == pytest.approx(1.0)


def test_coherence_runs_from_minus_one_to_one():
    rows = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]])
    topics = [["a", "b"], ["a", "c"], ["a", "d"]]
    assert model.npmi_coherence(csr_array(rows), ["a", "b", "c", "d"], topics) == pytest.approx([1.0, -1.0, 0.0])


def test_words_of_one_subject_cohere_more_than_words_of_two():
    """c_v in words: what comes with the same other words coheres, even when the measure is another package's."""
    rng = np.random.default_rng(0)
    oil, sport = ["oil", "price", "barrel", "crude"], ["goal", "match", "team", "cup"]
    documents = [[*rng.choice(subject, 3, replace=False), "the"] for subject in (oil, sport) for _ in range(50)]
    pure, mixed = model.cv_coherence(documents, [oil, [*oil[:2], *sport[:2]]])
    assert 0 <= mixed < pure - 0.1
    assert pure <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("heads", "depth"),
    [([], 0), ([0], 0), ([1, 1, 1], 1), ([1, 2, 2], 2), ([0, 0, 2, 2, 3], 2), ([1, 2, 3, 4, 4], 4)],
)
def test_depth_of_a_tree_is_the_longest_way_to_its_root(heads, depth):
    assert tree_depth(heads) == depth


def test_heads_in_a_circle_are_no_tree():
    with pytest.raises(ValueError, match="circle"):
        tree_depth([1, 2, 0])


def test_centroids_have_length_one_and_the_closest_classes_join_first():
    rows = csr_array(np.array([[1.0, 0, 0], [1, 0.1, 0], [0.9, 0.3, 0], [0, 0, 2]]))
    centroids = class_centroids(rows, np.array([0, 0, 1, 2]), 4)
    assert np.linalg.norm(centroids, axis=1) == pytest.approx([1, 1, 1, 0])
    tree = merge_tree((centroids @ centroids.T)[:3, :3])
    assert set(tree[0, :2].astype(int)) == {0, 1}


def test_cosines_of_rows_are_the_same_sparse_and_dense():
    rng = np.random.default_rng(0)
    one, other = rng.random((5, 4)), rng.random((5, 4))
    one[2] = 0
    expected = [
        0 if i == 2 else a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for i, (a, b) in enumerate(zip(one, other, strict=True))
    ]
    assert row_cosines(one, other) == pytest.approx(expected)
    assert row_cosines(csr_array(one), csr_array(other)) == pytest.approx(expected)


def test_space_of_two_opposite_classes():
    vectors = np.array([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
    space, cosines, same = describe_space(vectors, np.array([0, 0, 1, 1]), ("a", "b"), 500, seed=3)
    assert (space.within, space.between) == (1, -1)
    assert space.spread == {"a": 0, "b": 0}
    assert cosines[same].tolist() == [1.0] * int(same.sum())
    assert space.isotropy == pytest.approx(-1 / 3, abs=0.15)  # each has one like and two unlike others


def test_artefacts_are_found_by_kind():
    texts = ["it #39;s &lt;b&gt;", "call 555-123-4567", "mail a.b@c.org", "plain text", "caf\u00e9"]
    found = find_artefacts(texts)
    assert found["HTML residue"].tolist() == [True, False, False, False, False]
    assert found["phone number"].tolist() == [False, True, False, False, False]
    assert found["e-mail address"].tolist() == [False, False, True, False, False]
    assert found["non-ASCII character"].tolist() == [False, False, False, False, True]


def dealt(labels, folds):
    return list(StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels))


def test_probe_tells_the_class_where_an_artefact_does_and_only_there():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 200)
    marks = {"tag": (labels == 0) & (rng.random(600) < 0.9), "noise": rng.random(600) < 0.5}
    found = probe(marks, labels, 3, dealt(labels, 5))
    assert found.majority == pytest.approx(1 / 3)
    assert 0.5 < found.accuracy < 0.75
    assert int(np.argmax(found.pull["tag"])) == 0
    blind = probe({"noise": marks["noise"]}, labels, 3, dealt(labels, 5))
    assert abs(blind.accuracy - 1 / 3) < 0.08
    first = (labels == 0).astype(int)
    assert probe({"tag": marks["tag"]}, first, 2, dealt(first, 3)).accuracy > 0.9


def test_probe_is_judged_on_rows_that_it_has_not_seen():
    rng = np.random.default_rng(5)
    marks = {str(i): rng.random(60) < 0.5 for i in range(40)}
    found = probe(marks, np.arange(60) % 2, 2, dealt(np.arange(60) % 2, 5))
    assert found.accuracy < 0.75  # of its own rows a model with 40 marks would know all


def test_a_topic_of_one_document_tells_its_class():
    assert model.conditional_entropy_bits(np.array([[1, 0], [0, 1]])) == pytest.approx(0.0)
    assert model.conditional_entropy_bits(np.array([[1, 0], [2, 2]])) == pytest.approx(4 / 5)
