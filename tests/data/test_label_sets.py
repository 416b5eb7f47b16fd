"""Files whose texts have any number of classes: how labels are written, divided and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agnews_exp.core.errors import AgnewsError
from agnews_exp.data.csv_files import load_csv
from agnews_exp.data.label_sets import guess_sets
from agnews_exp.data.splits import make_folds, make_splits, random, stratified
from agnews_exp.data.stratification import stratified_cut
from agnews_exp.data.tables import Reading, open_table

TOPICS = ("art", "law", "music", "sport")
CUT = {"split_seed": 1, "validation_size": 0.2, "test_size": 0.2, "data_fraction": 1.0, "subset": stratified}


def sets_of(n=200):
    rng = np.random.default_rng(0)
    return (rng.random((n, 4)) < (0.5, 0.3, 0.3, 0.08)).astype(int)


def written(folder, kind, sets):
    """Write a file of one of the three kinds; return its path and the keys that read it."""
    names = [[name for name, bit in zip(TOPICS, row, strict=True) if bit] for row in sets]
    path = folder / {"list": "x.jsonl"}.get(kind, f"{kind}.csv")
    texts = [f"text number {i} of these" for i in range(len(sets))]
    if kind == "list":
        path.write_text("".join(json.dumps({"text": t, "topics": n}) + "\n" for t, n in zip(texts, names, strict=True)))
        return path, {"label_column": "topics"}
    if kind == "sign":
        lines = [f"{t},{' | '.join(n)}" for t, n in zip(texts, names, strict=True)]
        path.write_text("\n".join(["text,topics", *lines]) + "\n")
        return path, {"label_column": "topics", "label_separator": "|"}
    lines = [f"{t},{','.join(map(str, row))}" for t, row in zip(texts, sets, strict=True)]
    path.write_text("\n".join([f"text,{','.join(TOPICS)}", *lines]) + "\n")
    return path, {"label_column": list(TOPICS)}


def test_three_ways_of_writing_sets_are_one_corpus_and_inspect_knows_them(tmp_path):
    sets, sums = sets_of(), set()
    for kind in ("sign", "list", "bits"):
        path, keys = written(tmp_path, kind, sets)
        corpus = load_csv(train_file=path, multilabel=True, **keys)
        assert corpus.class_names == TOPICS
        np.testing.assert_array_equal(corpus.train.labels, sets)
        sums.add(corpus.checksum())
        with open_table(path, Reading()) as table:
            cells = [
                [json.dumps(v) if isinstance(v, list) else v for v in row] for _, row, _ in table.rows(table.names)
            ]
        found = guess_sets(dict(zip(table.names, zip(*cells, strict=True), strict=True)))
        assert (found.names, found.separator) == (
            [*TOPICS] if kind == "bits" else ["topics"],
            keys.get("label_separator"),
        )
        assert dict(found.classes) == dict(zip(TOPICS, sets.sum(axis=0).tolist(), strict=True))
    assert len(sums) == 1


def test_one_class_a_text_is_not_taken_for_a_set():
    texts = [f"a text, of {i} words; or some more" for i in range(90)]
    for cells in (["art", "law", "music"], ["Arts, Crafts", "Law; Order", "Rhythm | Blues"], ["0", "1", "2"]):
        assert guess_sets({"text": texts, "topic": cells * 30, "more": ["0", "1", "1"] * 30}) is None
    assert guess_sets({name: [str(int(i % 3 == k)) for i in range(90)] for k, name in enumerate("abc")}) is None


def test_every_part_and_fold_has_its_share_of_each_class_also_of_the_rare_one(tmp_path):
    path, keys = written(tmp_path, "list", sets_of(500))
    corpus = load_csv(train_file=path, multilabel=True, **keys)
    splits, again = make_splits(corpus, **CUT), make_splits(corpus, **CUT)
    everywhere = corpus.train.labels.mean(axis=0)
    for part, same in zip(vars(splits).values(), vars(again).values(), strict=True):
        if hasattr(part, "row_ids"):
            np.testing.assert_array_equal(part.row_ids, same.row_ids)
            assert np.abs(part.labels.mean(axis=0) - everywhere).max() < 0.02
    ids = np.concatenate([splits.train.row_ids, splits.validation.row_ids, splits.test.row_ids])
    assert sorted(ids.tolist()) == list(range(500))
    held_out = [outside for _, outside in make_folds(splits, 5, seed=1)]
    assert sorted(np.concatenate(held_out).tolist()) == list(range(len(splits.train)))
    for rows in held_out:
        assert np.abs(splits.train.labels[rows].sum(axis=0) - splits.train.labels.sum(axis=0) / 5).max() <= 1.5


def test_fractions_are_nested_and_hold_every_class():
    labels = sets_of(400)
    for subset in (stratified, random):
        tenth, half = (set(subset(labels, fraction=f, seed=3, n_classes=4).tolist()) for f in (0.1, 0.5))
        assert tenth < half
        assert labels[sorted(tenth)].sum(axis=0).min() > 0
    shares = labels[sorted(half)].mean(axis=0) if subset is stratified else None
    assert shares is None or np.abs(shares - labels.mean(axis=0)).max() < 0.05


def test_rows_without_any_class_are_dealt_too():
    labels = np.zeros((40, 3), dtype=np.int64)
    labels[:4, 0] = 1
    rest, cut = stratified_cut(labels, 0.25, seed=0)
    assert (len(rest), len(cut), labels[cut, 0].sum()) == (30, 10, 1)


def test_rare_classes_leave_their_texts_or_become_other(tmp_path):
    sets = sets_of()
    sets[3:, 3] = 0
    sets[:3, 3] = 1
    path, keys = written(tmp_path, "sign", sets)
    dropped = load_csv(train_file=path, multilabel=True, rare_classes="drop", **keys)
    assert (dropped.class_names, len(dropped.train)) == (TOPICS[:3], 200)
    merged = load_csv(train_file=path, multilabel=True, rare_classes="merge", **keys)
    assert merged.class_names == ("art", "law", "music", "other")


def test_labels_that_are_no_sets_are_refused_with_their_line(tmp_path):
    sign, keys = written(tmp_path, "sign", sets_of())
    bits, columns = written(tmp_path, "bits", sets_of())
    (tmp_path / "two.csv").write_text(bits.read_text().replace("of these,0", "of these,2", 1))
    (tmp_path / "new.csv").write_text("text,topics\nsome text,art|spart\n")
    for words, options in (
        (["no JSON list"], {"train_file": sign, "label_column": "topics"}),
        (["line", "'art' holds '2'"], {"train_file": tmp_path / "two.csv", **columns}),
        (
            ["line 2", "unknown class 'spart'", "did you mean"],
            {"train_file": sign, "test_file": tmp_path / "new.csv", **keys},
        ),
        (["divides the cells of one column"], {"train_file": bits, **columns, "label_separator": ";"}),
        (["data.class_names"], {"train_file": sign, **keys, "class_names": ["a", "b"]}),
        (["data.multilabel=true"], {"train_file": sign, **keys, "multilabel": False}),
    ):
        with pytest.raises(AgnewsError) as error:
            load_csv(**{"multilabel": True, **options})
        assert all(word in str(error.value) for word in words), (words, str(error.value))
