"""`agnews export`: checked against the original, and refused where it brings nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("onnx", reason="extra onnx")
pytest.importorskip("onnxruntime", reason="extra onnx")

import onnx
import torch
from onnx import numpy_helper

from agnews_exp.cli import run_command
from agnews_exp.core.errors import ConfigError
from agnews_exp.data.bundled import load_sample
from agnews_exp.evaluation.score_calibration import ScoreCalibration
from agnews_exp.models.cascade import CascadeModel, save_cascade
from agnews_exp.models.encoders import build_network, load_tokenizer
from agnews_exp.models.inference import TextPredictor, save_predictor
from agnews_exp.models.loading import load_model
from agnews_exp.models.onnx_model import save_check
from agnews_exp.models.persistence import read_manifest, write_manifest
from agnews_exp.models.recipes import ScratchEncoder
from agnews_exp.serving.exporting import check_parity, export_model

CLASSES = ("World", "Sports", "Business", "Sci/Tech")


@pytest.fixture(scope="module")
def rows():
    return load_sample().train.take(np.arange(64))


@pytest.fixture(scope="module")
def network(rows, tmp_path_factory):
    """The model folder of a small encoder."""
    folder = tmp_path_factory.mktemp("network") / "model"
    recipe = ScratchEncoder(vocabulary=1000, max_length=32, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    torch.manual_seed(0)
    tokenizer = load_tokenizer(recipe, rows.texts)
    predictor = TextPredictor(build_network(recipe, tokenizer, CLASSES), tokenizer, CLASSES, 32, torch.device("cpu"))
    save_predictor(predictor, recipe, folder)
    return folder


@pytest.fixture
def texts_file(rows, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(rows.texts), encoding="utf-8")
    return path


def test_the_command_exports_checks_and_says_what_came_of_it(network, texts_file, tmp_path, capsys):
    output = tmp_path / "small"
    run_command(["export", str(network), "--output", str(output), "--texts", str(texts_file), "--strict"])
    report = json.loads((output / "export.json").read_text())
    assert report["labels_equal"] == 1.0
    assert report["rows"] == 64
    assert report["max_difference"] < 1e-4
    assert report["problems"] == []
    assert read_manifest(output, "onnx")["sha256"]["export.json"]
    shown = capsys.readouterr().out
    assert "100.00 % of 64 labels equal" in shown
    assert f"agnews serve {output}" in shown


@pytest.mark.slow
def test_broken_parity_is_a_warning_and_an_error_when_strict(network, rows, texts_file, tmp_path, capsys, monkeypatch):
    from agnews_exp.serving import exporting

    broken = tmp_path / "broken"
    export_model(network, broken, rows.texts, int8=False)
    graph = onnx.load(str(broken / "model.onnx"))
    usual = np.bincount(load_model(network, "cpu").predict(rows.texts).labels, minlength=len(CLASSES)).argmax()
    for entry in graph.graph.initializer:
        if list(entry.dims) == [len(CLASSES)]:  # the last layer's bias: another class wins everywhere
            other = 9 * np.eye(len(CLASSES), dtype=np.float32)[(usual + 1) % len(CLASSES)]
            entry.CopyFrom(numpy_helper.from_array(other, entry.name))
    onnx.save(graph, str(broken / "model.onnx"))
    manifest = read_manifest_unchecked(broken)
    more = {k: v for k, v in manifest.items() if k not in ("format", "family", "class_names", "sha256")}
    write_manifest(broken, "onnx", CLASSES, **more)
    save_check(broken, rows.texts)
    parity = check_parity(network, broken, rows.texts, rows.labels, precision="float32")
    assert len(parity.problems) == 2
    assert parity.exported.macro_f1 != parity.original.macro_f1

    monkeypatch.setattr(exporting, "MAX_DIFFERENCE", -1.0)  # no export is as good as that
    words = ["export", str(network), "--output", str(tmp_path / "o"), "--texts", str(texts_file)]
    run_command(words)
    assert "warning: probabilities differ" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        run_command([*words, "--force", "--strict"])
    assert stopped.value.code == 1


def test_int8_that_answers_too_differently_is_no_success_and_leaves_float32(network, texts_file, tmp_path, monkeypatch):
    from agnews_exp.serving import exporting

    monkeypatch.setitem(exporting.MIN_EQUAL, "int8", 1.01)  # no export is as good as that
    output = tmp_path / "o"
    with pytest.raises(
        exporting.WorseInt8Error, match=r"of the labels are equal, not 101 %(.|\n)*is float32"
    ) as raised:
        run_command(["export", str(network), "--int8", "--output", str(output), "--texts", str(texts_file)])
    assert raised.value.exit_code == 2
    assert load_model(output).precision == "float32"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["o"]


def test_an_export_that_cannot_be_checked_is_refused(network, tmp_path):
    with pytest.raises(ConfigError, match=r"no validation rows(.|\n)*--texts FILE"):
        run_command(["export", str(network), "--output", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()


def read_manifest_unchecked(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_a_cascade_is_exported_with_its_networks(network, rows, tmp_path):
    cascade = tmp_path / "cascade"
    fast = load_model(network, "cpu")
    plain = ScoreCalibration("none", "log_probabilities", None, CLASSES)
    save_cascade(CascadeModel(fast, fast, (plain, plain), 0.3), cascade, (network, network))
    export_model(cascade, tmp_path / "onnx", rows.texts, int8=False)
    exported = load_model(tmp_path / "onnx")
    assert (exported.fast.family, exported.accurate.family, exported.threshold) == ("onnx", "onnx", 0.3)
    before, after = load_model(cascade, "cpu").predict(rows.texts), exported.predict(rows.texts)
    np.testing.assert_array_equal(before.labels, after.labels)


def test_what_gains_nothing_is_refused_with_what_can_be_exported(network, tmp_path):
    (tmp_path / "classical").mkdir()
    write_manifest(tmp_path / "classical", "classical", CLASSES)
    with pytest.raises(ConfigError, match=r"scikit-learn pipeline(.|\n)*exported are: transformers"):
        export_model(tmp_path / "classical", tmp_path / "out", ["a text"], int8=False)
    export_model(network, tmp_path / "once", ["a text"], int8=False)
    with pytest.raises(ConfigError, match="is an ONNX model already"):
        export_model(tmp_path / "once", tmp_path / "twice", ["a text"], int8=False)
    with pytest.raises(ConfigError, match="is there already"):
        export_model(network, tmp_path / "once", ["a text"], int8=False)


def test_a_folder_that_is_no_model_is_never_replaced(network, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="no model folder"):
        export_model(network, tmp_path / "mine", ["a text"], int8=False, force=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
