"""Near-duplicates within and across splits, and what they do to a metric."""

from __future__ import annotations

import random

import numpy as np
import pytest

from agnews_exp.analyses.errors.near_duplicates import (
    Matches,
    NearDuplicates,
    best_matches,
    component_numbers,
    count_across,
    duplicate_effect,
    exact_duplicates,
    find_near_duplicates,
    shingles,
)

PARTS = {"train": slice(0, 3), "test": slice(3, 6)}


def news(rng: random.Random, n: int = 30) -> list[str]:
    return [f"w{rng.randrange(3000)}" for _ in range(n)]


def corpus_with_copies() -> tuple[list[str], set[tuple[int, int]]]:
    """Return 400 random texts, of which 100 are others with one to three words changed, and the pairs."""
    rng = random.Random(5)
    words = [news(rng) for _ in range(300)]
    pairs = set()
    for i in range(100):
        copy = list(words[i])
        for place in rng.sample(range(len(copy)), 1 + i % 3):
            copy[place] = "changed"
        pairs.add((i, len(words)))
        words.append(copy)
    return [" ".join(row) for row in words], pairs


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one, 3), shingles(other, 3)
    return len(a & b) / len(a | b)


def test_minhash_finds_what_an_exhaustive_search_finds():
    pytest.importorskip("datasketch", reason="needs the extra errors")
    texts, _ = corpus_with_copies()
    found = find_near_duplicates(texts, threshold=0.5)
    exact = {
        (i, j): jaccard(texts[i], texts[j])
        for j in range(len(texts))
        for i in range(j)
        if set(texts[i].split()) & set(texts[j].split()) and jaccard(texts[i], texts[j]) >= 0.5
    }
    pairs = dict(zip(zip(found.first.tolist(), found.second.tolist(), strict=True), found.similarity, strict=True))
    assert set(pairs) <= set(exact)
    assert len(pairs) >= 0.97 * len(exact) > 80
    assert all(pairs[pair] == pytest.approx(exact[pair]) for pair in pairs)


def test_letter_case_and_punctuation_do_not_tell_texts_apart():
    found = exact_duplicates(["Oil rises -- again!", "oil RISES again", "Oil falls", "x", "X.", "oil rises, again"])
    assert found.keys.tolist() == [0, 0, 1, 2, 2, 0]
    assert count_across(found, PARTS) == {"train": {"train": 2, "test": 2}, "test": {"train": 1, "test": 2}}


def test_counts_and_matches_follow_near_pairs():
    # keys: train 0, 1, 2; test 3 (near 0 and nearer 1), 4 (near 3 only), 2 again.
    found = NearDuplicates(
        np.array([0, 1, 2, 3, 4, 2]), np.array([0, 1, 3]), np.array([3, 3, 4]), np.array([0.6, 0.8, 0.9])
    )
    assert count_across(found, PARTS) == {"train": {"train": 0, "test": 3}, "test": {"train": 2, "test": 2}}
    matches = best_matches(found, PARTS["test"], PARTS["train"])
    assert matches.position.tolist() == [1, -1, 2]
    assert matches.similarity.tolist() == [0.8, 0.0, 1.0]


def test_a_short_text_is_one_shingle():
    assert shingles("two words", 3) == {"two words"}
    assert shingles("a b c d", 3) == {"a b c", "b c d"}


def test_effect_compares_metrics_with_and_without_and_counts_conflicting_labels():
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 1])
    predicted = np.array([0, 0, 1, 1, 1, 0, 1, 1])
    train_labels = np.array([1, 0])
    # Rows 0, 1, 2 match training rows 1, 1, 0: the last one's label differs, and the model repeats it.
    matches = Matches(np.array([1, 1, 0, -1, -1, -1, -1, -1]), np.array([1, 1, 0.7, 0, 0, 0, 0, 0]))
    groups = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    effect = duplicate_effect(labels, predicted, train_labels, matches, ("a", "b"), groups, resamples=100)
    assert effect.in_groups["accuracy"].estimate == effect.all_rows["accuracy"].estimate
    assert (effect.n_rows, effect.n_near) == (8, 3)
    assert effect.all_rows["accuracy"].estimate == pytest.approx(5 / 8)
    assert effect.without["accuracy"].estimate == pytest.approx(3 / 5)
    assert (effect.errors.inside.count, effect.errors.outside.count) == (1, 2)
    assert (effect.conflicts.count, effect.conflicts.total) == (1, 3)
    assert (effect.follows_train.count, effect.follows_train.total) == (1, 1)


def test_texts_that_a_chain_of_near_duplicates_links_are_of_one_group():
    found = NearDuplicates(np.array([0, 1, 2, 0, 3]), np.array([0, 1]), np.array([1, 2]), np.array([0.9, 0.8]))
    groups = component_numbers(found)
    assert len(set(groups[:4].tolist())) == 1
    assert groups[4] != groups[0]


def test_effect_without_any_duplicate_says_so():
    none = Matches(np.full(4, -1), np.zeros(4))
    labels, predicted = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 1])
    effect = duplicate_effect(labels, predicted, np.array([0]), none, ("a", "b"), np.zeros(4, int), resamples=100)
    assert effect.in_groups is None
    assert (effect.errors, effect.conflicts, effect.follows_train) == (None, None, None)
    assert effect.without["accuracy"].estimate == effect.all_rows["accuracy"].estimate == 0.75
