"""Corpora made of pairs, as sources of one's own make them."""

from __future__ import annotations

import numpy as np
import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.corpus import Corpus, TextRows
from agnews_exp.data.splits import make_splits, stratified
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits

PLACE = {"source": "mine", "location": "here"}


def test_classes_are_numbered_by_their_sorted_names():
    corpus = Corpus.from_pairs([("t0", "b"), ("t1", "a"), ("t2", "b")], test=[("t3", "a")], **PLACE)
    assert corpus.class_names == ("a", "b")
    assert corpus.train.labels.tolist() == [1, 0, 1]
    assert corpus.train.row_ids.tolist() == [0, 1, 2]
    assert corpus.test.labels.tolist() == [0]
    assert corpus.validation is None


def test_class_without_a_training_row_is_named():
    with pytest.raises(DataError, match="'c'"):
        Corpus.from_pairs([("t", "a"), ("u", "b")], test=[("v", "c")], **PLACE)


def test_one_class_is_refused():
    with pytest.raises(DataError, match="at least two"):
        Corpus.from_pairs([("t", "a"), ("u", "a")], **PLACE)


def test_source_that_returns_something_else_is_told_what_to_return(tmp_path, monkeypatch):
    (tmp_path / "my_source.py").write_text("def load():\n    return [('text', 'class')]\n")
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "wrong.yaml").write_text(
        "name: wrong\n_target_: my_source.load\nvalidation_size: 0.15\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AGNEWS_COMPONENTS", "my_source")
    checked = check_config(compose_config(["data=wrong"], extra=[tmp_path / "conf"]))
    with pytest.raises(ConfigError, match=r"returned list.*\n.*from_pairs"):
        load_splits(checked, Stages(quiet=True))


def test_texts_are_those_of_all_splits_in_order():
    corpus = Corpus.from_pairs([("t0", "b"), ("t1", "a")], test=[("t3", "a")], **PLACE)
    assert corpus.texts == ["t0", "t1", "t3"]


def test_the_checksum_is_of_every_row_of_long_splits_too():
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(20_001)]
    whole = Corpus.from_pairs(rows, **PLACE).checksum()
    for i in (9_999, 10_000, 20_000):
        changed = [*rows[:i], (f"tExt {i}", rows[i][1]), *rows[i + 1 :]]
        assert Corpus.from_pairs(changed, **PLACE).checksum() != whole


def test_the_checksum_tells_labels_lengths_classes_and_parts_apart():
    def corpus(train, names=("a", "b"), validation=None, test=None):
        parts = [
            None if rows is None
            else TextRows([t for t, _ in rows], np.array([k for _, k in rows]), np.arange(len(rows)))
            for rows in (train, validation, test)
        ]  # fmt: skip
        return Corpus(*parts, names, "mine", "here").checksum()

    rows = [("ab", 0), ("c", 1), ("d", 0)]
    others = {
        "a label": corpus([("ab", 0), ("c", 0), ("d", 0)]),
        "labels swapped": corpus([("ab", 1), ("c", 0), ("d", 0)]),
        "where a text ends": corpus([("a", 0), ("bc", 1), ("d", 0)]),
        "an empty text": corpus([("ab", 0), ("cd", 1), ("", 0)]),
        "the order": corpus([("c", 1), ("ab", 0), ("d", 0)]),
        "a class's name": corpus(rows, ("a", "c")),
        "names run together": corpus(rows, ("ab",)),
        "a test part": corpus(rows[:2], test=rows[2:]),
        "a validation part": corpus(rows[:2], validation=rows[2:]),
    }
    whole = corpus(rows)
    assert whole == corpus(list(rows))
    assert [what for what, checksum in others.items() if checksum == whole] == []
    assert len({*others.values()}) == len(others)


def test_the_evaluation_checksum_and_digests_tell_which_rows_are_judged():
    rows = [(f"text {i}", "ab"[i % 2]) for i in range(40)]
    cut = {"validation_size": 0.2, "test_size": 0.2, "data_fraction": 1.0, "subset": stratified}
    one, same, other = (make_splits(Corpus.from_pairs(rows, **PLACE), split_seed=seed, **cut) for seed in (1, 1, 2))
    fewer = make_splits(Corpus.from_pairs(rows, **PLACE), split_seed=1, **cut | {"data_fraction": 0.5})
    assert one.evaluation_checksum() == same.evaluation_checksum() == fewer.evaluation_checksum()
    assert one.evaluation_checksum() != other.evaluation_checksum()
    changed = make_splits(Corpus.from_pairs([("tExt 0", "a"), *rows[1:]], **PLACE), split_seed=1, **cut)
    assert changed.evaluation_checksum() != one.evaluation_checksum()
    assert one.digest(one.train) == same.digest(same.train) != one.digest(one.test)
