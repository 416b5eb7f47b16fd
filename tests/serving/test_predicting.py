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
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.loading import ClassicalModel
from agnews_exp.ngrams import TfidfVectorizer
from agnews_exp.serving.inputs import Asked, describe_source, read_items
from agnews_exp.serving.predicting import Answering, predict_stream, thresholds_of
from agnews_exp.tracking.record_files import write_predictions

TEXTS = ["goal match team win", "shares profit bank market", "team goal cup", "bank shares fall"] * 5
CLASSES = ("Business", "Sports")


@pytest.fixture(scope="module")
def model():
    pipeline = Pipeline([("features", TfidfVectorizer(n_jobs=1)), ("model", LogisticRegression())])
    return ClassicalModel(pipeline.fit(TEXTS, np.array([1, 0, 1, 0] * 5)), CLASSES)


def source(path, **options):
    return describe_source(str(path), Asked(**options))


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


class Own(LogisticRegression):
    """An estimator of which nobody knows whether several threads may ask it."""


def test_several_threads_ask_only_what_is_known_to_bear_it(model):
    assert model.many_threads
    pipeline = Pipeline([("features", TfidfVectorizer(n_jobs=1)), ("model", Own())])
    assert not ClassicalModel(pipeline.fit(TEXTS, np.array([1, 0, 1, 0] * 5)), CLASSES).many_threads


def test_a_model_without_scores_and_probabilities_gives_labels_and_no_confidence(tmp_path):
    class Labels:
        class_names, family = CLASSES, "classical"

        def predict(self, texts):
            return Predictions(np.zeros(len(texts), dtype=np.int64))

    answer(Labels(), source(written(tmp_path, ".txt", TEXTS[:2])), tmp_path / "out.jsonl")
    assert rows(tmp_path / "out.jsonl") == [{"line": n, "label": CLASSES[0]} for n in (1, 2)]


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


def cut_at(rows):
    def progress(done):
        if done >= rows:
            raise _Cut

    return progress


def cut_off(model, path, output, monkeypatch, *, seconds=0.0, rows=9, **options):
    monkeypatch.setattr("agnews_exp.serving.predicting._SAVE_EVERY_S", seconds)
    with pytest.raises(_Cut):
        answer(model, source(path), output, progress=cut_at(rows), **options)


def rejects(output):
    return output.with_name(output.name + ".rejects.jsonl")


@pytest.mark.parametrize("out", [".csv", ".jsonl", ".parquet"])
def test_a_cut_off_call_is_gone_on_with_and_gives_the_same_files(model, tmp_path, monkeypatch, out):
    path = written(tmp_path, ".txt", [TEXTS[0], "", *TEXTS[1:7], "", *TEXTS[7:]])
    output, again = tmp_path / f"out{out}", tmp_path / f"again{out}"
    answer(model, source(path), again)
    for seconds, resumed_at in ((0.0, 6), (1000.0, 0)):  # saved after two batches of three; never
        cut_off(model, path, output, monkeypatch, seconds=seconds)
        assert not output.exists(), "what is not complete has not the name of what is"
        assert not rejects(output).exists()
        for part in (p for p in tmp_path.glob("out*.part") if p.is_file()):
            part.write_bytes(part.read_bytes() + b"torn" * 1000)  # what the disk had of the rows after the last save
        outcome = answer(model, source(path), output)
        assert (outcome.resumed_at, outcome.answered, outcome.rejected) == (resumed_at, 20, 2)
        assert rows(output) == rows(again)
        assert [row["line"] for row in rows(rejects(output))] == [2, 9]
        assert rejects(output).read_text() == rejects(again).read_text()
        assert sorted(p.name for p in tmp_path.glob("out*")) == [f"out{out}", f"out{out}.rejects.jsonl"]
        output.unlink()
        rejects(output).unlink()


@pytest.mark.parametrize("out", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("damage", ["shorter", "missing"])
@pytest.mark.parametrize("which", ["answers", "rejects"])
def test_a_cut_off_call_whose_files_are_shorter_or_gone_is_refused(model, tmp_path, monkeypatch, out, damage, which):
    path, output = written(tmp_path, ".txt", ["", *TEXTS]), tmp_path / f"out{out}"
    cut_off(model, path, output, monkeypatch)
    (tmp_path / "another").write_text("")
    part = tmp_path / (f"out{out}.part" if which == "answers" else f"out{out}.rejects.jsonl.part")
    part = part / "000000.parquet" if part.is_dir() else part
    if damage == "missing" or part.suffix == ".parquet":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-9] if part.suffix != ".part" else part.read_bytes()[:5])
    with pytest.raises(ConfigError, match="is shorter than an earlier call left it, or gone") as caught:
        answer(model, source(path), output)
    assert "--force" in caught.value.fix
    outcome = answer(model, source(path), output, force=True)
    assert (outcome.resumed_at, outcome.answered, outcome.rejected) == (0, 20, 1)


@pytest.mark.parametrize("change", ["model", "input", "columns", "encoding"])
def test_another_model_input_or_option_does_not_go_on_with_a_cut_off_file(model, tmp_path, monkeypatch, change):
    path = written(tmp_path, ".csv", TEXTS)
    cut_off(model, path, tmp_path / "out.csv", monkeypatch)
    if change == "input":
        path.write_text("text\nbank")
    options = {"columns": {"columns": ["n"]}, "encoding": {"encoding": "latin-1"}}.get(change, {})
    with pytest.raises(ConfigError, match="is there already, unfinished"):
        answer(model, source(path, **options), tmp_path / "out.csv", identity="other" if change == "model" else "m")


def test_a_wrong_column_or_option_leaves_no_file_that_blocks_the_right_call(model, tmp_path):
    path, output = written(tmp_path, ".csv", TEXTS), tmp_path / "new" / "out.csv"
    for wrong in (
        {"columns": ["txt"]},
        {"encoding": "utf-99"},
        {"header": False, "columns": ["7"]},
        {"format": "parquet"},
    ):
        with pytest.raises((ConfigError, DataError)):
            answer(model, source(path, **wrong), output)
        assert not output.parent.exists(), wrong
    assert answer(model, source(path), output).answered == 20


def test_what_training_files_were_read_with_is_used_unless_the_command_says_otherwise(tmp_path):
    remembered = {"text_columns": ["title", "body"], "delimiter": ";", "quoting": "none", "encoding": "cp1252",
                  "has_header": True, "width": None}  # fmt: skip
    path = tmp_path / "in.csv"
    path.write_bytes('id;title;body\n1;"Caf\xe9;news, more\n2;T2;"B2"\n'.encode("latin-1"))

    def texts(remembered, **asked):
        return [item.text for item in read_items(describe_source(str(path), Asked(**asked), remembered))]

    assert texts(remembered) == ['"Café news, more', 'T2 "B2"']
    assert texts(remembered, columns=["id"]) == ["1", "2"]
    of_parquet = {"text_columns": ["body"], "delimiter": "auto", "quoting": "auto", "encoding": "auto"}
    assert len(texts(of_parquet, delimiter=";", encoding="cp1252")) == len(texts(of_parquet)) == 2
    assert texts(remembered, quoting="auto", columns=["body"])[-1] == "B2"
    path.write_text("body,title\nnews é,Café\n", encoding="utf-8-sig")
    assert texts(remembered) == ["Café news é"], "a mark of another encoding, and another delimiter, are seen"
    path.write_text("a,b,c\nd,e,f\n")
    headless = {"text_columns": [1, 2], "has_header": False, "width": 3}
    assert texts(headless) == ["b c", "e f"]
    path.write_text("b,c\ne,f\n")
    assert texts(headless) == [None, None], "positions of training mean nothing in rows of another width"
    assert texts(headless, columns=["0", "1"]) == ["b c", "e f"]


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


def test_prediction_sets_hold_the_right_class_as_often_as_asked_on_new_texts(tmp_path):
    """Thresholds from 2,000 stored validation answers; sets of a model that answers 4,000 new texts, 3 classes."""
    names, rng = ("a", "b", "c"), np.random.default_rng(0)
    probabilities = rng.dirichlet([0.5, 0.5, 0.5], 6000)
    labels = np.array([rng.choice(3, p=row**2 / (row**2).sum()) for row in probabilities])  # too unsure of itself
    given = Predictions(probabilities.argmax(axis=1), None, probabilities)
    rows = TextRows([str(i) for i in range(2000)], labels[:2000], np.arange(2000))
    write_predictions(tmp_path / "predictions.parquet", {"val": rows}, {"val": given.take(np.arange(2000))}, names)

    class Stored:
        class_names, family = names, "classical"

        def predict(self, texts):
            return given.take(np.array([int(text) for text in texts]))

    new = range(2000, 6000)
    (tmp_path / "in.txt").write_text("\n".join(map(str, new)))
    for share in (0.8, 0.95):
        sets = thresholds_of(tmp_path / "model", names, share)
        output = tmp_path / f"{share}.csv"
        answer(Stored(), source(tmp_path / "in.txt"), output, answering=Answering(sets=sets))
        found = [json.loads(row["set"]) for row in csv.DictReader(output.open(newline=""))]
        held = np.mean([names[labels[i]] in one for i, one in zip(new, found, strict=True)])
        assert abs(held - share) < 0.02
        assert max(map(len, found)) < 4
    (tmp_path / "result.json").write_text('{"family": "cascade"}')
    with pytest.raises(ConfigError, match="fitted nothing"):
        thresholds_of(tmp_path / "model", names, 0.95)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        thresholds_of(tmp_path / "model", names, 95)
    with pytest.raises(ConfigError, match="is not there"):
        thresholds_of(tmp_path / "elsewhere" / "model", names, 0.95)


def test_a_rule_chosen_by_costs_gives_the_labels_and_the_probabilities_stay(tmp_path, model):
    from agnews_exp.evaluation.costs import DECISION, Decision
    from agnews_exp.models.persistence import add_json, write_manifest
    from agnews_exp.serving.predicting import decision_of

    (tmp_path / "model").mkdir()
    write_manifest(tmp_path / "model", "classical", CLASSES)
    assert decision_of(tmp_path / "model") is None
    stored = {"rule": "threshold", "threshold": 0.01, "costs": [[0.0, 1.0], [9.0, 0.0]]}
    add_json(tmp_path / "model", DECISION, stored)
    decision = decision_of(tmp_path / "model")
    assert decision.said(CLASSES) == "'Sports' from a probability of 0.01 on"
    (tmp_path / "in.txt").write_text("\n".join(TEXTS[:4]))
    found = {}
    for name, rule in (("own", None), ("costs", decision), ("least", Decision("expected cost", decision.costs))):
        told = Answering(top_k=2, decision=rule)
        answer(model, source(tmp_path / "in.txt"), tmp_path / f"{name}.jsonl", answering=told)
        found[name] = rows(tmp_path / f"{name}.jsonl")
    assert [row["label"] for row in found["own"]] == ["Sports", "Business"] * 2
    assert [row["label"] for row in found["costs"]] == ["Sports"] * 4
    for own, other in zip(found["own"], found["costs"], strict=True):
        assert own["confidence_1"] == other["confidence_1"]
        assert other["confidence"] == other[f"confidence_{1 if other['label_1'] == 'Sports' else 2}"]
    for row in found["least"]:  # the answer of least expected cost: Sports from a tenth on
        sports = row["confidence_1"] if row["label_1"] == "Sports" else row["confidence_2"]
        assert row["label"] == ("Sports" if sports > 0.1 else "Business")
