"""Splits by group, by time and by files: what may never meet, and what they change."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import numpy as np
import pytest

from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.csv_files import load_csv
from agnews_exp.data.splits import make_folds, make_splits, stratified

PARTS = ("train", "validation", "test")


def written(path, rows):
    path.write_text("".join(json.dumps(dict(zip(("text", "label", "key"), row, strict=True))) + "\n" for row in rows))
    return path


def made(split, train, seed=1, **files):
    corpus = load_csv(train_file=train, split=split, split_column="key", **files)
    return make_splits(corpus, split=split, split_seed=seed, validation_size=0.15, test_size=0.15,
                       data_fraction=1, subset=stratified)  # fmt: skip


def by_author(n_authors=40, each=6):
    return [(f"text {a} {i}", f"c{(a + i) % 3}", f"author {a}") for a in range(n_authors) for i in range(each + a % 5)]


def by_day(n=300):
    return [(f"text {i} of c{i % 3}", f"c{i % 3}", f"2026-{1 + i // 30:02}-{1 + i // 3 % 10:02}") for i in range(n)]


def texts_of(splits):
    return {part: set(getattr(splits, part).texts) for part in PARTS}


def test_other_groups_of_the_same_texts_are_other_data(tmp_path):
    rows = by_author()
    swapped = [(text, label, f"author {int(key.split()[1]) // 2}") for text, label, key in rows]
    sums = [
        load_csv(train_file=written(tmp_path / "a.jsonl", given), split=split, split_column="key").checksum()
        for given in (rows, swapped) for split in ("group", "stratified")
    ]  # fmt: skip
    assert sums[0] != sums[2]
    assert sums[1] == sums[3], "a column that nobody asked for is not part of the data"


def test_groups_never_meet_and_classes_keep_their_shares(tmp_path):
    file = written(tmp_path / "a.jsonl", by_author())
    for seed in range(20):
        splits = made("group", file, seed)
        keys = {part: set(getattr(splits, part).keys) for part in PARTS}
        assert sum(map(len, keys.values())) == len(set.union(*keys.values())) == 40
        for part in ("validation", "test"):
            assert abs(len(getattr(splits, part)) / 320 - 0.14) < 0.05
            assert min(np.bincount(getattr(splits, part).labels, minlength=3)) > 8
        for inside, outside in make_folds(splits, 4, seed):
            assert not set(splits.train.take(inside).keys) & set(splits.train.take(outside).keys)
    assert texts_of(made("group", file, 1)) != texts_of(made("group", file, 2))


def test_no_row_is_older_than_those_trained_on_and_one_moment_stays_together(tmp_path):
    splits = made("time", written(tmp_path / "a.jsonl", by_day()))
    assert max(splits.train.keys) < min(splits.validation.keys) <= max(splits.validation.keys) < min(splits.test.keys)
    assert [len(getattr(splits, part)) for part in PARTS] == [216, 39, 45]
    folds = make_folds(splits, 4, 1)
    for inside, outside in folds:
        assert max(splits.train.take(inside).keys) < min(splits.train.take(outside).keys)
    assert [len(i) < len(j) for (i, _), (j, _) in pairwise(folds)] == [True] * 3
    assert sum(len(outside) for _, outside in folds) + len(folds[0][0]) == 216


def test_the_order_of_the_rows_does_not_matter(tmp_path):
    for split, rows in (("group", by_author()), ("time", by_day())):
        shuffled = random.Random(1).sample(rows, len(rows))
        one, other = (made(split, written(tmp_path / f"{i}.jsonl", part)) for i, part in enumerate((rows, shuffled)))
        assert texts_of(one) == texts_of(other)


def test_moments_are_compared_across_zones_and_a_bad_one_is_named_by_its_line(tmp_path):
    rows = [("a", "x", "2026-01-01T01:00:00+02:00"), ("b", "y", "2025-12-31T23:30:00Z"), ("c", "x", "2026-01-01")]
    keys = load_csv(train_file=written(tmp_path / "a.jsonl", rows), split="time", split_column="key").train.keys
    assert sorted(keys) == keys
    for wrong in ("29.11.2026", "2026-02-30", "soon", "", None, "1764452520"):
        file = written(tmp_path / "b.jsonl", [*rows, ("d", "y", wrong)])
        with pytest.raises(DataError, match=r"line 4: .*(ISO 8601|is empty)"):
            load_csv(train_file=file, split="time", split_column="key")


def test_what_cannot_be_split_is_said_with_the_fix(tmp_path):
    one_author = written(tmp_path / "one.jsonl", [(f"t {i}", f"c{i % 2}", "me") for i in range(50)])
    two = written(tmp_path / "two.jsonl", [(f"t {i}", f"c{i % 2}", f"a{i % 3 % 2}") for i in range(50)])
    late = written(tmp_path / "late.jsonl", [(f"t {i}", f"c{i // 45}", f"2026-01-{1 + i // 2:02}") for i in range(50)])
    authors, days = written(tmp_path / "a.jsonl", by_author()), written(tmp_path / "d.jsonl", by_day())
    for match, act in (
        ("too few", lambda: made("group", one_author)),
        ("too few", lambda: made("group", two)),
        ("no training row of class c1", lambda: made("time", late)),
        ("share 34 groups", lambda: made("group", authors, test_file=authors)),
        ("rows go on until", lambda: made("time", days, test_file=days)),
        ("folds=40 needs 40 groups", lambda: make_folds(made("group", authors), 40, 1)),
    ):
        with pytest.raises(DataError, match=match):
            act()
    with pytest.raises(ConfigError, match="no validation and no test rows"):
        made("files", authors)
    assert len(made("files", authors, validation_file=authors, test_file=authors).train) == len(by_author())


def poisoned(days=40, each=16):
    """Rows whose words are noise but for a mark of their author, or day, which gives the class away."""
    draw, rows = random.Random(5), []
    for day in range(days):
        for _ in range(each):
            noise = " ".join(draw.choices(["one", "two", "three", "four", "five", "six", "seven", "eight"], k=4))
            rows.append((f"{noise} signed{day}", f"c{day % 2}", f"2026-{1 + day // 28:02}-{1 + day % 28:02}"))
    return rows


@pytest.mark.parametrize("split", ["group", "time"])
def test_a_group_or_moment_that_gives_the_class_away_counts_for_nothing_under_its_split(project, split):
    written(project.root / "a.jsonl", poisoned())
    words = ["data=csv", "data.train_file=a.jsonl", "model=calibrated_svc", "features=word_tfidf", "tracking=none",
             "evaluation.latency_repeats=0"]  # fmt: skip
    scores, records = {}, {}
    for name, more in (("stratified", []), (split, ["split.column=key"])):
        done = project.run(*words, f"split={name}", *more, "evaluation=cv", "evaluation.folds=3", f"name={name}")
        assert done.returncode == 0, done.stderr
        records[name] = project.result(project.run_folders[-1])
        scores[name] = {k: records[name]["metrics"][k] for k in ("val/macro_f1", "test/macro_f1", "cv/macro_f1")}
    assert min(scores["stratified"].values()) > 0.95
    assert max(scores[split].values()) < 0.7
    assert records[split]["data"]["split"] == {"name": split, "column": "key"}
    assert records[split]["fingerprint"] != records["stratified"]["fingerprint"]
    refused = project.agnews("compare", *(folder.name for folder in project.run_folders))
    assert refused.returncode == 2
    assert f"split={split} split.column=key" in refused.stderr


def test_a_stack_of_models_under_a_split_by_group_is_saved_and_answers(project):
    """Each has folds of its own within, and the matrix that carries the groups is no part of the model."""
    written(project.root / "a.jsonl", by_author())
    words = ["data=csv", "data.train_file=a.jsonl", "features=word_tfidf", "tracking=none", "split=group",
             "split.column=key", "model=stacking", "model/members=linear", "evaluation.latency_repeats=0"]  # fmt: skip
    refused = project.run(*words)
    assert refused.returncode == 2
    assert "fix: model.members.sgd.early_stopping=false" in refused.stderr
    done = project.run(*words, "model.members.sgd.early_stopping=false")
    assert done.returncode == 0, done.stderr
    (project.root / "texts.txt").write_text("text 1 c1\n")
    answered = project.agnews("predict", project.run_folders[-1].name, "texts.txt")
    assert answered.returncode == 0, answered.stderr


def test_a_split_by_a_column_needs_one_and_others_take_none(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,author\na,b,c\n")
    with pytest.raises(ConfigError, match=r"(?s)split\.column=autor.*no such column.*fix: split\.column=author$"):
        load_csv(train_file=tmp_path / "a.csv", split="group", split_column="autor")
    for words, said in ((["split=group"], "needs split.column"), (["split.column=a"], "takes no split.column")):
        with pytest.raises(ConfigError, match=said):
            check_config(compose_config(["data=csv", "data.train_file=a.csv", *words]))


def test_folds_in_time_answer_all_rows_but_those_of_the_first_window(project):
    written(project.root / "a.jsonl", by_day())
    done = project.run("data=csv", "data.train_file=a.jsonl", "model=logreg", "features=word_tfidf", "split=time",
                       "split.column=key", "evaluation=cv", "evaluation.folds=3", "tracking.enabled=false")  # fmt: skip
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet as pq

    table = pq.read_table(next(project.run_folders[0].glob("*.parquet"))).to_pydict()
    folds = [fold for fold, split in zip(table["fold"], table["split"], strict=True) if split == "cv"]
    assert set(folds) == {0, 1, 2}
    assert 216 * 0.7 < len(folds) < 216 * 0.8
