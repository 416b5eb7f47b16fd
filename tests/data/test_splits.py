import hashlib
import logging

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.corpus import Corpus, TextRows
from agnews_exp.data.splits import cross_split_duplicates, make_splits, stratified


def rows_of(labels, name="row"):
    labels = np.asarray(labels, dtype=np.int64)
    return TextRows([f"{name} {i}" for i in range(len(labels))], labels, np.arange(len(labels), dtype=np.int64))


def corpus_of(train, validation=None, test=None, n_classes=4):
    parts = [None if p is None else rows_of(p, n) for p, n in ((validation, "validation"), (test, "test"))]
    names = tuple(f"class {i}" for i in range(n_classes))
    return Corpus(rows_of(train), *parts, class_names=names, source="made", location="here")


def split(corpus, **options):
    defaults = {
        "split_seed": 42,
        "validation_size": 0.15,
        "test_size": 0.15,
        "data_fraction": 1.0,
        "subset": stratified,
    }
    return make_splits(corpus, **(defaults | options))


LABELS = np.arange(2000) * 7919 % 2000 * 4 // 2000


def ids(rows):
    return rows.row_ids.tolist()


def test_validation_rows_are_those_of_a_stratified_train_test_split():
    splits = split(corpus_of(LABELS, test=LABELS[:100]))
    rest, cut = train_test_split(np.arange(2000), test_size=0.15, stratify=LABELS, random_state=42)
    assert ids(splits.train) == rest.tolist()
    assert ids(splits.validation) == cut.tolist()
    assert ids(splits.test) == list(range(100))
    assert np.bincount(splits.validation.labels).tolist() == [75, 75, 75, 75]
    assert splits.train.texts == [f"row {i}" for i in rest]


def test_the_split_is_the_same_on_every_machine():
    splits = split(corpus_of(LABELS), data_fraction=0.5)
    digest = hashlib.sha256()
    for rows in (splits.train, splits.validation, splits.test):
        digest.update(rows.row_ids.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "0dffff9ed0581a70"


def test_a_corpus_without_test_rows_gets_all_three_parts_from_its_training_file():
    splits = split(corpus_of(LABELS), test_size=0.2, validation_size=0.1)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [1440, 160, 400]
    assert sorted(ids(splits.train) + ids(splits.validation) + ids(splits.test)) == list(range(2000))


def test_own_validation_and_test_files_are_used_whole():
    splits = split(corpus_of(LABELS, validation=[0, 1, 2, 3], test=[3, 2, 1, 0, 0]))
    assert len(splits.train) == 2000
    assert splits.validation.texts == [f"validation {i}" for i in range(4)]
    assert splits.test.texts == [f"test {i}" for i in range(5)]


def test_the_fraction_shortens_training_rows_only_and_is_nested():
    corpus = corpus_of(LABELS, test=LABELS[:100])
    quarter, half, whole = (split(corpus, data_fraction=f) for f in (0.25, 0.5, 1.0))
    assert set(ids(quarter.train)) < set(ids(half.train)) < set(ids(whole.train))
    assert [len(s.train) for s in (quarter, half, whole)] == [424, 852, 1700]
    assert quarter.evaluation_checksum() == half.evaluation_checksum() == whole.evaluation_checksum()


def test_another_split_seed_gives_other_validation_rows_and_another_checksum():
    a, b = (split(corpus_of(LABELS, test=LABELS[:100]), split_seed=seed) for seed in (42, 43))
    assert set(ids(a.validation)) != set(ids(b.validation))
    assert a.evaluation_checksum() != b.evaluation_checksum()
    assert a.data_checksum == b.data_checksum


@pytest.mark.parametrize(
    ("option", "value", "key"),
    [
        ("validation_size", 0.0, "validation_size"),
        ("validation_size", 1.0, "validation_size"),
        ("test_size", 1.5, "test_size"),
        ("data_fraction", 0.0, "data_fraction"),
        ("data_fraction", 1.5, "data_fraction"),
    ],
)
def test_shares_outside_their_range_are_refused(option, value, key):
    with pytest.raises(ConfigError, match=f"{key}={value}"):
        split(corpus_of(LABELS), **{option: value})


def test_a_class_with_one_row_is_named():
    with pytest.raises(DataError, match=r"class 3 \(1\)"):
        split(corpus_of([0, 1, 2] * 50 + [3], test=[0, 1, 2, 3]))


def test_a_class_too_small_to_reach_validation_is_named():
    with pytest.raises(DataError, match=r"leaves no validation row of class class 3 \(2 rows\)"):
        split(corpus_of([0, 1, 2] * 50 + [3, 3], test=[0, 1, 2, 3]), validation_size=0.1)


def test_a_split_with_fewer_rows_than_classes_is_refused():
    with pytest.raises(DataError, match="fewer than the 4 classes"):
        split(corpus_of([0, 1, 2, 3] * 3, test=[0, 1, 2, 3]))


def test_a_test_file_without_a_class_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        split(corpus_of(LABELS, test=[0, 1, 3]))
    assert "test rows have no row of class class 2" in caplog.text


def test_texts_that_stand_in_two_splits_are_counted():
    def texts(*items):
        return TextRows(list(items), np.zeros(len(items), dtype=np.int64), np.arange(len(items), dtype=np.int64))

    corpus = Corpus(
        texts("a", "b", "b", "c"), texts("b", "x", "B"), texts("a", "a", "x", "y"), ("k", "l"), "made", "here"
    )
    assert cross_split_duplicates(split(corpus)) == {
        "train_validation": 1,
        "train_test": 2,
        "validation_test": 1,
    }
