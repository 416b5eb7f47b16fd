"""Unlabelled texts: the rows that were left out, or a file; never a text that the student is judged on."""

from __future__ import annotations

import numpy as np
import pytest

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.corpus import Corpus, TextRows
from agnews_exp.data.splits import make_splits, stratified
from agnews_exp.data.unlabelled import left_out, read_texts, source_identity, unlabelled_texts


def splits(fraction):
    n = 200
    rows = TextRows([f"text {i}" for i in range(n)], np.arange(n) % 2, np.arange(n))
    corpus = Corpus(rows, None, None, ("a", "b"), "made", "here")
    return make_splits(
        corpus, split_seed=1, validation_size=0.2, test_size=0.2, data_fraction=fraction, subset=stratified
    )


def test_rest_and_the_three_splits_are_the_whole_file_without_overlap():
    cut = splits(0.25)
    parts = [set(left_out(cut)), *(set(rows.texts) for rows in (cut.train, cut.validation, cut.test))]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 200


def test_nothing_is_left_of_all_rows():
    with pytest.raises(ConfigError, match="no training rows are left out"):
        left_out(splits(1.0))


def test_texts_of_a_small_limit_are_among_those_of_a_larger_one():
    cut = splits(0.25)
    few, more = (unlabelled_texts(cut, "rest", ["text"], limit, 7)[0] for limit in (10, 40))
    assert few == more[:10]
    assert more != sorted(more)
    assert len(unlabelled_texts(cut, "rest", ["text"], None, 7)[0]) == len(left_out(cut))


def test_validation_and_test_texts_in_a_file_are_left_out(tmp_path):
    cut = splits(0.25)
    file = tmp_path / "more.txt"
    file.write_text("\n".join([cut.validation.texts[0], "new one", "", cut.test.texts[0], "new two"]))
    texts, dropped = unlabelled_texts(cut, str(file), ["text"], None, 0)
    assert sorted(texts) == ["new one", "new two"]
    assert dropped == 2
    file.write_text(cut.test.texts[0])
    with pytest.raises(DataError, match="stand in the validation or test rows"):
        unlabelled_texts(cut, str(file), ["text"], None, 0)


def test_tables_and_json_lines_join_the_columns_that_are_named(tmp_path):
    for name, content in {
        "a.csv": 'id,title,body\n1,"Oil, again",rises\n',
        "a.tsv": "id\ttitle\tbody\n1\tOil, again\trises\n",
        "a.jsonl": '{"title": "Oil, again", "body": "rises"}\n',
    }.items():
        (tmp_path / name).write_text(content)
        assert read_texts(tmp_path / name, ["title", "body"]) == ["Oil, again rises"]
    with pytest.raises(ConfigError, match=r"model\.unlabelled_columns=titel") as error:
        read_texts(tmp_path / "a.csv", ["titel"])
    assert "[title]" in str(error.value)


def test_texts_may_be_longer_than_a_name_and_hold_line_breaks(tmp_path):
    (tmp_path / "a.csv").write_text('text\n"' + "long " * 400 + '"\n"two\nlines"\n')
    assert list(map(len, read_texts(tmp_path / "a.csv", ["text"]))) == [2000, 9]
    (tmp_path / "a.jsonl").write_text('{"text": "' + "long " * 400 + '"}\n')
    assert len(read_texts(tmp_path / "a.jsonl", ["text"])) == 1


def test_a_file_is_known_by_its_content(tmp_path):
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("a\n")
    other.write_text("a\n")
    assert source_identity(str(one)) == source_identity(str(other)) != source_identity("rest")
    other.write_text("b\n")
    assert source_identity(str(one)) != source_identity(str(other))
    with pytest.raises(DataError, match="There is no file"):
        source_identity(str(tmp_path / "none.txt"))
