import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agnews_exp.core.errors import ConfigError
from agnews_exp.data import splits as subsets

WAYS = [subsets.stratified, subsets.random, subsets.balanced]
fractions = st.floats(0.0001, 1.0)


def take(way, labels, fraction, seed=42):
    labels = np.asarray(labels, dtype=np.int64)
    return way(labels, fraction=fraction, seed=seed, n_classes=int(labels.max()) + 1)


@st.composite
def label_arrays(draw):
    """Labels of 2 to 6 classes of very unequal sizes, each with at least one row."""
    counts = draw(st.lists(st.integers(1, 80), min_size=2, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=150, deadline=None)
@given(labels=label_arrays(), a=fractions, b=fractions, seed=st.integers(0, 2**32 - 1))
def test_a_smaller_share_is_part_of_a_larger_one(way, labels, a, b, seed):
    small, large = (set(take(way, labels, f, seed).tolist()) for f in sorted((a, b)))
    assert small <= large


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=100, deadline=None)
@given(labels=label_arrays(), fraction=fractions)
def test_positions_ascend_and_every_class_is_kept(way, labels, fraction):
    found = take(way, labels, fraction)
    assert (np.diff(found) > 0).all()
    assert set(labels[found]) == set(labels)


@pytest.mark.parametrize("way", WAYS)
def test_the_whole_is_everything(way):
    labels = np.repeat([0, 1, 2], [5, 50, 7])
    assert take(way, labels, 1.0).tolist() == list(range(62))


@settings(max_examples=100, deadline=None)
@given(labels=label_arrays(), fraction=fractions)
def test_stratified_takes_the_same_share_of_every_class(labels, fraction):
    counts, taken = np.bincount(labels), np.bincount(labels[take(subsets.stratified, labels, fraction)])
    assert (np.abs(taken - np.maximum(1, counts * fraction)) <= 0.5 + 1e-9).all()


def test_random_takes_the_share_of_all_rows_in_unequal_class_shares():
    labels = np.tile([0, 1, 2, 3], 500)
    found = take(subsets.random, labels, 0.25)
    assert len(found) == 500
    assert len(set(np.bincount(labels[found]))) > 1


def test_balanced_evens_the_classes_out_as_far_as_they_go():
    labels = np.repeat([0, 1, 2], [1000, 600, 20])
    assert np.bincount(labels[take(subsets.balanced, labels, 0.03)]).tolist() == [16, 16, 16]
    assert np.bincount(labels[take(subsets.balanced, labels, 0.1)]).tolist() == [71, 71, 20]
    assert np.bincount(labels[take(subsets.balanced, labels, 0.9)]).tolist() == [838, 600, 20]


@pytest.mark.parametrize("way", WAYS)
def test_another_seed_takes_other_rows(way):
    labels = np.tile([0, 1, 2, 3], 100)
    assert take(way, labels, 0.25, seed=1).tolist() != take(way, labels, 0.25, seed=2).tolist()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fraction", [0, -0.1, 1.0001, float("nan")])
def test_a_fraction_outside_its_range_is_refused(way, fraction):
    with pytest.raises(ConfigError, match="data_fraction"):
        take(way, [0, 1, 0, 1], fraction)


GOLDEN = {
    "stratified": "e9c9dc961b0a5a32",
    "random": "cb0d7a9c74b53789",
    "balanced": "dd04f8a54ae6d38a",
}


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_the_same_on_every_machine(way):
    labels = np.arange(10_007) * 7919 % 10_007 * 5 // 10_007
    found = take(way, labels, 0.25)
    assert hashlib.sha256(found.astype("<i8").tobytes()).hexdigest()[:16] == GOLDEN[way.__name__]
