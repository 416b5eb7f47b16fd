"""Run records that are damaged or come from elsewhere: named, left out, and never obeyed."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agnews_exp.compare.comparison import load_comparable
from agnews_exp.compare.difference import difference
from agnews_exp.compare.leaderboard import rank_runs
from agnews_exp.core.errors import AgnewsError, StorageError
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.stored_answers import read_table
from agnews_exp.tracking import record
from agnews_exp.tracking.record import CONFIG, PREDICTIONS, RESULT, RunFolder
from agnews_exp.tracking.record_files import write_predictions

NAMES = ("a", "b")
TRUTH = np.array([0, 1, 0, 1, 0, 1])


def finished(folder, name="logreg"):
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.start({"name": name, "seed": 1, "model": {"name": name, "C": 1e-05}}, {"packages": {}})
    rows = TextRows(list("abcdef"), TRUTH, np.arange(6))
    answers = {"val": Predictions(TRUTH), "test": Predictions(1 - TRUTH)}
    write_predictions(folder / PREDICTIONS, {"val": rows, "test": rows}, answers, NAMES)
    data = {"name": "csv", "source": "csv", "checksum": "c", "evaluation_checksum": "e", "rows": {"val": 6, "test": 6}}
    run.finish({
        "name": name, "model": name, "features": "f", "family": "classical", "seed": 1, "split_seed": 1,
        "data_fraction": 1.0, "primary": "val/macro_f1", "metrics": {"val/macro_f1": 1.0, "test/macro_f1": 0.0},
        "class_names": list(NAMES), "fingerprint": f"{name}-1", "group_fingerprint": name, "data": data,
    })  # fmt: skip
    return run


def names(groups):
    return [entry.folder.path.name for group in groups for entry in group]


def changed(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:90]),
    "gone": lambda path: path.unlink(),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\0"),
    "a list": lambda path: path.write_text("[]"),
    "nested without end": lambda path: path.write_text("[" * 200_000),
    "metrics are words": changed(metrics={"val/macro_f1": "<b>"}),
    "no metrics": changed(metrics=None),
    "data is a word": changed(data="e"),
    "rows are words": changed(data={"evaluation_checksum": "e", "source": "s", "rows": {"val": "\x1b[2J"}}),
    "no name": changed(name=None),
    "name clears the screen": changed(name="\x1b[2J"),
    "name is endless": changed(name="x" * 10_000),
    "name has lines": changed(name="a\n| b |"),
    "fraction is a word": changed(data_fraction="all"),
    "class is a number": changed(class_names=["a", 1]),
}


@pytest.fixture(autouse=True)
def warn_again():
    record._warn_once.cache_clear()


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_leaderboard_names_a_damaged_record_and_goes_on(tmp_path, caplog, damage):
    runs = [finished(tmp_path / "good"), finished(tmp_path / "bad")]
    DAMAGES[damage](tmp_path / "bad" / RESULT)
    with caplog.at_level(logging.WARNING):
        assert names(rank_runs(runs, "val/macro_f1")) == ["good"]
    assert str(tmp_path / "bad") in caplog.text
    assert "damaged" in caplog.text


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_comparison_and_a_difference_name_the_damaged_record(tmp_path, damage):
    good, bad = finished(tmp_path / "good"), finished(tmp_path / "bad", "nb")
    DAMAGES[damage](tmp_path / "bad" / RESULT)
    for compare in (lambda: load_comparable([good, bad], "test"), lambda: difference(good, bad)):
        with pytest.raises(StorageError, match="bad") as caught:
            compare()
        assert "\x1b" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return finished(folder / "good"), finished(folder / "bad", "nb")


@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from(["name", "metrics", "data", "seed", "class_names", "data_fraction", "model"]), value=json_values
)
def test_a_result_with_any_value_under_a_key_is_listed_or_left_out(pair, key, value):
    good, bad = pair
    whole = (bad.path / RESULT).read_text()
    changed(**{key: value})(bad.path / RESULT)
    try:
        assert "good" in names(rank_runs([good, bad], "val/macro_f1"))
        try:
            load_comparable([good, bad], "test")
        except AgnewsError as error:
            refused = str(error)
            assert refused
    finally:
        (bad.path / RESULT).write_text(whole)


def test_a_predictions_file_with_any_flipped_byte_is_read_or_named(tmp_path):
    good, bad = finished(tmp_path / "good"), finished(tmp_path / "bad", "nb")
    path = bad.path / PREDICTIONS
    whole = path.read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(150):
        position = draw.randrange(len(whole))
        path.write_bytes(whole[:position] + bytes([draw.randrange(256)]) + whole[position + 1 :])
        try:
            load_comparable([good, bad], "test")
        except AgnewsError:
            refused += 1
    assert refused > 20
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(StorageError, match=r"bad.predictions\.parquet is damaged"):
            difference(good, bad)


@pytest.mark.parametrize(
    "columns",
    [
        {"row_id": [0], "label": ["a"], "prediction": [0], "split": ["test"]},
        {"row_id": [0], "label": [9], "prediction": [0], "split": ["test"]},
        {"row_id": [0], "label": [0], "prediction": [-1], "split": ["test"]},
        {"row_id": [0], "label": [0], "prediction": [None], "split": ["test"]},
        {"row_id": [0], "label": [0], "prediction": [0.5], "split": ["test"]},
        {"row_id": [0], "label": [0], "prediction": [0], "split": [None]},
        {"row_id": [0], "label": [0], "split": ["test"]},
    ],
)
def test_predictions_of_other_types_or_unknown_classes_are_refused(tmp_path, columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / PREDICTIONS
    pq.write_table(pa.table(columns), path)
    with pytest.raises(StorageError, match="damaged"):
        read_table(path, n_classes=2)


class Harmful:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_pickle_as_predictions_or_inside_their_schema_does_not_run(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, mark = tmp_path / PREDICTIONS, tmp_path / "ran"
    path.write_bytes(pickle.dumps(Harmful(mark)))
    with pytest.raises(StorageError, match="damaged"):
        read_table(path)
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Harmful(mark)),
    }
    fields = [pa.field(n, pa.int64(), metadata=metadata) for n in ("row_id", "label", "prediction")]
    schema = pa.schema([*fields, pa.field("split", pa.string())])
    pq.write_table(
        pa.table({n: [0] for n in ("row_id", "label", "prediction")} | {"split": ["test"]}, schema=schema), path
    )
    with suppress(StorageError):
        read_table(path)
    assert not mark.exists()


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: !!python/object/apply:os.system ['true']", "constructor"),
        ("name: ${oc.env:HOME}", "interpolation"),
        ("model:\n  ${oc.env:HOME}: 1", "was changed"),  # a key refers to nothing
        (BOMB, "alias"),
        ("x" * (1 << 21), "more than"),
        ("[" * 5000, "damaged"),
        ("a: [", "damaged"),
        ("\0", "damaged"),
        ("- 1", "damaged"),
        ("", "damaged"),
        ("a: 1\na: 2", "constructing"),
    ],
)
def test_a_stored_configuration_that_no_run_wrote_is_refused(tmp_path, text, reason):
    run = finished(tmp_path / "run")
    (run.path / CONFIG).write_text(text)
    with pytest.raises(StorageError, match="damaged") as caught:
        run.config()
    assert reason in str(caught.value)
    assert os.environ["HOME"] not in str(caught.value).replace(str(tmp_path), "")


def test_a_stored_configuration_comes_back_as_it_was(tmp_path):
    assert finished(tmp_path / "run").config()["model"] == {"name": "logreg", "C": 1e-05}


def test_a_filter_over_configurations_goes_on_past_a_damaged_one(tmp_path, caplog):
    runs = [finished(tmp_path / "good"), finished(tmp_path / "bad")]
    (runs[1].path / CONFIG).write_text(BOMB)
    with caplog.at_level(logging.WARNING):
        assert names(rank_runs(runs, "val/macro_f1", ["model.C=1e-05"])) == ["good"]
    assert str(runs[1].path) in caplog.text


def test_a_record_whose_configuration_names_a_writer_writes_nothing(tmp_path):
    from agnews_exp.analyses.performing import stored_config
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain

    run = finished(tmp_path / "run")
    plain = to_plain(compose_config(["data=sample", "model=linear_svc"]))
    target = "agnews_exp.analyses.findings.write_table"
    plain["model"] |= {"_target_": target, "path": str(tmp_path / "written.csv"), "rows": [{"a": "b"}]}
    run.start(plain, {})
    with pytest.raises(AgnewsError, match="may not be built"):
        stored_config(run)
    assert not (tmp_path / "written.csv").exists()


def test_top_and_compare_and_diff_of_a_project_with_a_damaged_record(project):
    runs = project.root / "outputs" / "runs"
    for name in ("1-aaaaaa", "2-bbbbbb", "3-cccccc"):
        finished(runs / name, name[-6:])
    (runs / "3-cccccc" / RESULT).write_text('{"name": "\x1b[2J"')
    top = project.agnews("top")
    assert top.returncode == 0, top.stderr
    assert "aaaaaa" in top.stdout
    assert "3-cccccc" in top.stderr
    for words in (("diff", "aaaaaa", "cccccc"), ("compare", "aaaaaa", "bbbbbb", "cccccc")):
        done = project.agnews(*words)
        assert done.returncode == 3, done.stderr
        assert "3-cccccc" in done.stderr
        assert "Traceback" not in done.stderr
    assert project.agnews("compare", "aaaaaa", "bbbbbb", "--resamples", "100").returncode == 0
