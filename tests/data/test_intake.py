"""Doubtful rows and classes: refused, dropped, merged or kept as asked, and always counted and said."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.csv_files import load_csv
from agnews_exp.data.inspection import find_leaks, inspect_file, languages_of
from agnews_exp.data.splits import make_splits, stratified
from agnews_exp.data.tables import Reading

ROWS = [("a", "x"), ("b", "y"), ("", "x"), ("a", "x"), ("c", "x"), ("c", "y"), ("a", "x"), ("d", "y")]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, ROWS)
    return path


def write(path, rows):
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))


def read(path, **options):
    return load_csv(train_file=path, **({"empty_texts": "drop"} | options))


def test_each_kind_of_doubtful_row_is_refused_with_lines_dropped_or_kept_and_counted(file):
    refused = {"empty_texts": "line 3: the text is empty", "duplicate_rows": r"line 4: .* \(line 1\)",
               "conflicting_labels": r"line 5: .*\n.*line 6: .* \(line 5\)"}  # fmt: skip
    for key, message in refused.items():
        with pytest.raises(DataError, match=message) as caught:
            read(file, **{key: "refuse"})
        assert f"data.{key}=drop" in caught.value.fix
    counts = {"empty_texts": 1, "duplicate_rows": 2, "conflicting_labels": 2, "rare_classes": 2}
    kept = read(file, empty_texts="keep")
    assert (kept.train.texts, kept.counts) == ([text for text, _ in ROWS], counts)
    few = read(file, duplicate_rows="drop", conflicting_labels="drop")
    assert (few.train.texts, few.counts) == (["a", "b", "d"], counts)
    assert few.train.row_ids.tolist() == [0, 1, 7], "a row keeps its number, whatever was dropped"
    for key in refused:
        assert any(f"data.{key}=" in note for note in few.notes), key
    assert read(file).train.texts == ["a", "b", "a", "c", "c", "a", "d"]


def test_a_file_of_which_nothing_is_left_is_refused(tmp_path):
    write(tmp_path / "rows.jsonl", [("a", "x"), ("a", "y")])
    with pytest.raises(DataError, match="no rows"):
        read(tmp_path / "rows.jsonl", conflicting_labels="drop")


def corpus_with_rare(path, **options):
    write(path, [(f"text {i}", "xyz"[i % 3]) for i in range(60)] + [("r1", "tiny"), ("s1", "small"), ("s2", "small")])
    return read(path, **options)


def split(corpus):
    return make_splits(corpus, split_seed=1, validation_size=0.15, test_size=0.15, data_fraction=1, subset=stratified)


def test_rare_classes_are_refused_with_the_key_dropped_merged_or_kept_for_training(file, caplog):
    with pytest.raises(DataError, match=r"Too few rows .* tiny \(1\)") as caught:
        split(corpus_with_rare(file))
    assert "data.rare_classes=drop" in caught.value.fix
    dropped = corpus_with_rare(file, rare_classes="drop")
    assert (dropped.class_names, len(dropped.train)) == (("x", "y", "z"), 60)
    merged = corpus_with_rare(file, rare_classes="merge")
    assert merged.class_names == ("other", "x", "y", "z")
    assert np.bincount(merged.train.labels).tolist() == [3, 20, 20, 20]
    parts = split(corpus_with_rare(file, rare_classes="keep"))
    names = [[parts.class_names[k] for k in set(rows.labels.tolist())] for rows in (parts.validation, parts.test)]
    assert sorted(names[0]) == sorted(names[1]) == ["x", "y", "z"]
    assert {"r1", "s1", "s2"} <= set(parts.train.texts)
    for corpus in (dropped, merged):
        assert corpus.counts["rare_classes"] == 2
        assert any("tiny (1), small (2)" in note for note in corpus.notes)
    assert "tiny (1), small (2)" in caplog.text, "said before training"
    with pytest.raises(DataError, match="leaves 0 class"):
        read(file, rare_classes="drop", rare_rows=100)


def test_a_kept_rare_class_leaves_the_split_of_the_others_as_it_was(file):
    whole = split(corpus_with_rare(file, rare_classes="keep"))
    without = split(corpus_with_rare(file, rare_classes="drop"))
    assert whole.validation.texts == without.validation.texts
    checksums = {corpus_with_rare(file, rare_classes="keep", rare_rows=n).checksum() for n in (3, 7)}
    assert len({*checksums, corpus_with_rare(file).checksum()}) == 3, "another split is another run"
    assert whole.test.texts == without.test.texts


def test_classes_that_look_alike_are_said_and_stay_apart(tmp_path):
    pairs = [("é", "e\u0301"), ("A", "A\u200b"), ("Sport", "sport"), ("a b", "a  b"), ("１", "1")]
    for one, other in pairs:
        write(tmp_path / "rows.jsonl", [("a", one), ("b", other), ("c", "another")])
        corpus = read(tmp_path / "rows.jsonl")
        assert len(corpus.class_names) == 3
        assert any("look alike" in note and ascii(other) in note for note in corpus.notes), (one, other)
    write(tmp_path / "rows.jsonl", [("a", "x"), ("b", "y")])
    assert not any("look alike" in note for note in read(tmp_path / "rows.jsonl").notes)


def test_the_column_of_the_classes_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_text("subject,message,team\n" + "".join(
        f"a subject {i},some words of a message {i},{'xy'[i % 2]}\n" for i in range(40)))  # fmt: skip
    with pytest.raises(ConfigError, match="a model would read"):
        load_csv(train_file=tmp_path / "a.csv", text_columns=["subject", "team"], label_column="team")
    with pytest.raises(ConfigError) as caught:
        load_csv(train_file=tmp_path / "a.csv", text_columns=["teem"], label_column="label")
    assert caught.value.fix == "data.label_column=team 'data.text_columns=[subject,message]'"


def test_the_columns_of_a_file_are_recognised_by_what_they_hold(tmp_path):
    path = tmp_path / "reviews.csv"
    lines = ["date;number;rating;comment;lang;note", *(
        f"2024-01-{i % 28 + 1};{i * 7919};{i * 31 % 5};a comment of some words {i};{'de' if i % 7 else 'en'};"
        for i in range(100)), "x"]  # fmt: skip
    path.write_bytes("\n".join(lines).encode("utf-16"))
    found = inspect_file(path, Reading())
    kinds = {column.name: column.kind for column in found.guess.columns}
    assert kinds | {"date": ""} == {
        "date": "", "number": "id", "rating": "class", "comment": "text", "lang": "class", "note": "empty"
    }  # fmt: skip
    assert (found.guess.texts, found.guess.label, found.rows, found.duplicates) == (["comment"], "rating", 100, 0)
    assert found.bad.shown == ["line 102: 1 field instead of 6"]
    assert any("may also be" in note and "lang" in note for note in found.notes)
    assert shlex.split(found.command) == [
        "agnews", "run", "data=csv", f"data.train_file={path}", "data.text_columns=[comment]",
        "data.label_column=rating", 'data.delimiter=";"', "model=linear_svc",
    ]  # fmt: skip


def leaks(columns, texts=None, n=60):
    labels = np.arange(n) % 3
    columns = {name: [make(i, int(labels[i])) for i in range(n)] for name, make in columns.items()}
    texts = texts or (lambda i, k: f"some words {i * 7919 % 100} and {i * 31 % 17}")
    return find_leaks([texts(i, int(labels[i])) for i in range(n)], labels, ["x", "y", "z"], columns)


def test_a_column_that_tells_the_class_by_itself_is_named_and_others_are_not():
    telling = {
        "queue": lambda i, k: f"q{k}", "ticket_id": lambda i, k: f"{'ABC'[k]}-{i}",
        "number": lambda i, k: str(1000 * k + i),
    }  # fmt: skip
    harmless = {"id": lambda i, k: str(i), "day": lambda i, k: f"2024-0{i % 7}", "body": lambda i, k: None}
    for name, make in telling.items():
        (note,) = leaks(harmless | {name: make})
        assert repr(name) in note
        assert "leave it out with 'data.text_columns=[id,day,body]'" in note
    assert leaks(harmless) == []


def test_a_word_that_tells_the_class_by_itself_is_named():
    notes = leaks({}, lambda i, k: f"ref {'T' if k == 1 else 'U'}-{i}: some words {i * 31 % 17}")
    assert len(notes) == 1, "the other word stands in two classes"
    assert "'y'" in notes[0]
    assert "'t-9'" in notes[0]
    assert leaks({}) == []


def test_leaks_are_in_the_notes_of_a_corpus(tmp_path):
    (tmp_path / "a.csv").write_text("ticket_id,message,team\n" + "".join(
        f"{'AB'[i % 2]}-{i},words {i * 31 % 17} of a message,{'xy'[i % 2]}\n" for i in range(60)))  # fmt: skip
    corpus = load_csv(train_file=tmp_path / "a.csv", text_columns=["ticket_id", "message"], label_column="team")
    assert any("'ticket_id' predicts the class of 100.0% of the rows by itself" in note for note in corpus.notes)
    assert corpus.reading["text_columns"] == ["ticket_id", "message"]


def test_languages_are_those_of_the_texts_and_what_is_not_certain_is_said():
    pytest.importorskip("py3langid", reason="extra eda")
    english = "The minister said on Monday that the new budget would be discussed by parliament next week."
    german = "Der Minister sagte am Montag, dass der neue Haushalt kommende Woche im Parlament beraten wird."
    assert languages_of([english] * 3 + [german] + ["", "12 34"]) == "en 75%, other or uncertain 25% (of 4 texts)"
    assert languages_of([english, german] * 2) == "en 50%, de 50% (of 4 texts)"
    assert languages_of(["", "12"]) == "none (of 0 texts)"
