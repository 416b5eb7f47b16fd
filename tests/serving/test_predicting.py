"""Streams of texts answered: every format, bad rows, cut-offs."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.models.loading import ClassicalModel
from agnews_exp.ngrams import TfidfVectorizer
from agnews_exp.serving.inputs import describe_source, read_items
from agnews_exp.serving.predicting import Answering, predict_stream

TEXTS = ["goal match team win", "shares profit bank market", "team goal cup", "bank shares fall"] * 5
CLASSES = ("Business", "Sports")


@pytest.fixture(scope="module")
def model():
    pipeline = Pipeline([("features", TfidfVectorizer(n_jobs=1)), ("model", LogisticRegression())])
    return ClassicalModel(pipeline.fit(TEXTS, np.array([1, 0, 1, 0] * 5)), CLASSES)


def source(path, **options):
    return describe_source(str(path), **{"format": None, "columns": ["text"], "header": True} | options)


def answer(model, source, output, **options):
    settings = {"answering": Answering(batch_size=3), "identity": "m"} | options
    return predict_stream(source, model, output, **settings)


def rows(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def written(tmp_path, suffix, texts):
    path = tmp_path / f"in{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"n": range(len(texts)), "text": texts}), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    elif suffix == ".txt":
        path.write_text("\n".join(texts))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows([["n", "text"], *enumerate(texts)])
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt", ".parquet"])
@pytest.mark.parametrize("out", [".csv", ".jsonl", ".parquet"])
def test_every_format_gets_the_model_s_own_answers(model, tmp_path, suffix, out):
    path, output = written(tmp_path, suffix, TEXTS), tmp_path / f"out{out}"
    outcome = answer(model, source(path), output)
    expected = [CLASSES[k] for k in model.predict(TEXTS).labels]
    assert [row["label"] for row in rows(output)] == expected
    assert (outcome.answered, outcome.rejected) == (20, 0)
    assert not list(tmp_path.glob("out*.progress*")), "nothing is left to go on with"


def test_confidence_top_k_and_every_probability(model, tmp_path):
    output = tmp_path / "out.jsonl"
    full = Answering(top_k=5, probabilities=True, with_text=True)
    answer(model, source(written(tmp_path, ".txt", TEXTS[:2])), output, answering=full)
    first = rows(output)[0]
    expected = model.predict(TEXTS[:1]).probabilities[0]
    assert first["text"] == TEXTS[0]
    assert first["label"] == first["label_1"] == "Sports"
    assert first["label_2"] == "Business"
    assert first["confidence"] == pytest.approx(expected[1], abs=1e-6)
    assert first["confidence:Business"] == pytest.approx(expected[0], abs=1e-6)


def test_bad_csv_rows_are_rejected_with_line_and_reason_and_good_ones_answered(model, tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(b'n,text\n1,team goal\n2\n3,"  "\n4,bank\xff\n5,"open quote\n6,bank shares\n')
    outcome = answer(model, source(path), tmp_path / "out.csv")
    assert [row["line"] for row in rows(tmp_path / "out.csv")] == ["2", "7"]
    rejects = rows(tmp_path / "out.csv.rejects.jsonl")
    assert [r["line"] for r in rejects] == [3, 4, 5, 6]
    for reject, words in zip(rejects, ["1 field instead of 2", "empty", "0xff", "quote"], strict=True):
        assert words in reject["reason"]
    assert (outcome.answered, outcome.rejected) == (2, 4)


def test_bad_json_lines_are_rejected(model, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "team"}\nnope\n{"txt": "a"}\n{"text": 3}\n"bank shares"\n[1]\n{"text": "\\ud800"}\n')
    answer(model, source(path), tmp_path / "out.jsonl")
    assert [row["line"] for row in rows(tmp_path / "out.jsonl")] == [1, 5]
    reasons = [r["reason"] for r in rows(tmp_path / "out.jsonl.rejects.jsonl")]
    for reason, words in zip(
        reasons, ["not JSON", "did you mean 'txt'", "not a string", "neither", "surrogate"], strict=True
    ):
        assert words in reason


def test_two_columns_of_a_headless_csv_are_joined(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text('"3","Title","Body, more"\n"4","T2","B2"\n')
    items = list(read_items(source(path, columns=["1", "2"], header=False)))
    assert [(i.line, i.text) for i in items] == [(1, "Title Body, more"), (2, "T2 B2")]


class _Cut(Exception):
    pass


@pytest.mark.parametrize("out", [".csv", ".jsonl", ".parquet"])
def test_a_cut_off_call_is_gone_on_with_and_gives_the_same_file(model, tmp_path, monkeypatch, out):
    monkeypatch.setattr("agnews_exp.serving.predicting._SAVE_EVERY_S", 0.0)
    path = written(tmp_path, ".txt", [*TEXTS[:7], "", *TEXTS[7:]])
    output = tmp_path / f"out{out}"

    def cut(done):
        if done >= 9:
            raise _Cut

    with pytest.raises(_Cut):
        answer(model, source(path), output, progress=cut)
    outcome = answer(model, source(path), output)
    assert outcome.resumed_at == 6, "two batches of three were saved; the third was not yet"
    assert outcome.answered == 20
    again = tmp_path / f"again{out}"
    answer(model, source(path), again)
    assert rows(output) == rows(again)
    assert (tmp_path / f"out{out}.rejects.jsonl").read_text() == (tmp_path / f"again{out}.rejects.jsonl").read_text()


@pytest.mark.parametrize("change", ["model", "input"])
def test_another_model_or_input_does_not_go_on_with_a_cut_off_file(model, tmp_path, monkeypatch, change):
    monkeypatch.setattr("agnews_exp.serving.predicting._SAVE_EVERY_S", 0.0)
    path = written(tmp_path, ".txt", TEXTS)

    def cut(done):
        raise _Cut

    for _ in range(2):
        with pytest.raises(_Cut):
            answer(model, source(path), tmp_path / "out.csv", progress=lambda d: cut(d) if d > 3 else None)
    if change == "input":
        path.write_text("bank")
    with pytest.raises(ConfigError, match="is there already"):
        answer(model, source(path), tmp_path / "out.csv", identity="other" if change == "model" else "m")


def test_a_finished_output_is_not_overwritten_unless_forced(model, tmp_path):
    path = written(tmp_path, ".txt", TEXTS)
    answer(model, source(path), tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="--force"):
        answer(model, source(path), tmp_path / "out.csv")
    assert answer(model, source(path), tmp_path / "out.csv", force=True).answered == 20


def test_a_cell_that_a_spreadsheet_would_compute_is_quoted(model, tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("=HYPERLINK(1) team goal\n")
    answer(model, source(path), tmp_path / "out.csv", answering=Answering(with_text=True))
    assert rows(tmp_path / "out.csv")[0]["text"] == "'=HYPERLINK(1) team goal"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("in.csv", {"columns": ["txt"]}, "no such column"),
        ("in.doc", {}, "--format"),
        ("absent.csv", {}, "no file"),
    ],
)
def test_what_cannot_be_read_is_explained(model, tmp_path, name, options, words):
    (tmp_path / "in.csv").write_text("text\na\n")
    (tmp_path / "in.doc").write_text("a")
    with pytest.raises((ConfigError, DataError), match=words):
        answer(model, source(tmp_path / name, **options), tmp_path / "out.csv")
