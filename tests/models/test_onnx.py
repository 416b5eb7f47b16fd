"""Networks as ONNX model folders: the same answers from another engine, and int8 that depends on no batch-mates."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("onnx", reason="extra onnx")
pytest.importorskip("onnxruntime", reason="extra onnx")

import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from agnews_exp.cli import run_command
from agnews_exp.core.errors import StorageError
from agnews_exp.data.bundled import load_sample
from agnews_exp.models.encoders import build_network, load_tokenizer
from agnews_exp.models.inference import TextPredictor, save_predictor
from agnews_exp.models.loading import load_model
from agnews_exp.models.onnx_model import quantise
from agnews_exp.models.persistence import add_json
from agnews_exp.models.recipes import BiLSTM, ScratchEncoder, TextCNN
from agnews_exp.serving.exporting import export_model

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
SMALL = {"vocabulary": 1000, "max_length": 32}
ENCODER = SMALL | {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
RECIPES = {
    "head": ScratchEncoder(**ENCODER, pooling="head"),
    "mean": ScratchEncoder(**ENCODER, pooling="mean"),
    "text_cnn": TextCNN(**SMALL, embedding_dim=16, n_filters=8),
    "bilstm": BiLSTM(**SMALL, embedding_dim=16, hidden_dim=8),
}


@pytest.fixture(scope="module")
def texts():
    return ["goal", *load_sample().train.texts[:40], "\ud800 half a character", "a " * 100]


@pytest.fixture(scope="module")
def folders(texts, tmp_path_factory):
    """Model folders of untrained networks whose weights are large enough for clear answers, by recipe."""
    root = tmp_path_factory.mktemp("networks")
    for name, recipe in RECIPES.items():
        torch.manual_seed(0)
        tokenizer = load_tokenizer(recipe, texts)
        network = build_network(recipe, tokenizer, CLASSES)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4)
        predictor = TextPredictor(network, tokenizer, CLASSES, recipe.max_length, torch.device("cpu"))
        save_predictor(predictor, recipe, root / name)
        add_json(root / name, "drift.json", {"words": []})
    return root


@pytest.fixture(scope="module")
def exported(folders, texts):
    """The same networks as ONNX folders: ``<recipe>-float32`` and, for the encoders, ``<recipe>-int8``."""
    for name in RECIPES:
        export_model(folders / name, folders / f"{name}-float32", texts, int8=False)
    export_model(folders / "mean", folders / "mean-int8", texts, int8=True)
    return folders


@pytest.mark.parametrize("name", RECIPES)
def test_float32_answers_are_those_of_torch_for_every_length_and_batch_size(exported, texts, name):
    ours, theirs = load_model(exported / f"{name}-float32"), load_model(exported / name, "cpu")
    expected = theirs.predict(texts)
    assert np.ptp(expected.scores, axis=0).min() > 0.01, "the texts must have different answers"
    answers = ours.predict(texts)
    np.testing.assert_array_equal(answers.labels, expected.labels)
    np.testing.assert_allclose(answers.probabilities, expected.probabilities, atol=1e-4)
    one = ours.predict(texts[5:6])
    np.testing.assert_allclose(one.probabilities[0], expected.probabilities[5], atol=1e-4)


def test_int8_stays_near_and_stores_every_large_matrix_as_int8(exported, texts):
    ours, theirs = load_model(exported / "mean-int8"), load_model(exported / "mean", "cpu")
    difference = np.abs(ours.predict(texts).scores - theirs.predict(texts).scores)
    spread = theirs.predict(texts).scores.std()
    assert 0 < difference.mean() < 0.1 * spread
    stored = onnx.load(str(exported / "mean-int8" / "model.onnx")).graph.initializer
    large = [entry for entry in stored if np.prod(entry.dims) >= 2048]
    assert large
    assert {entry.data_type for entry in large} == {TensorProto.INT8}


def test_int8_answers_do_not_depend_on_the_rest_of_the_batch(exported, texts):
    model = load_model(exported / "mean-int8")
    together, alone = model.predict(texts).scores, np.vstack([model.predict([text]).scores for text in texts])
    np.testing.assert_allclose(alone, together, atol=0.02 * together.std())


def test_an_exported_folder_keeps_names_length_and_what_was_added_to_the_model(exported):
    model = load_model(exported / "mean-int8")
    assert (model.family, model.class_names, model.max_length) == ("onnx", CLASSES, 32)
    assert json.loads((exported / "mean-int8" / "drift.json").read_text()) == {"words": []}


def test_a_changed_graph_is_refused(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported / "mean-int8", folder)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(StorageError, match=r"model\.onnx is damaged"):
        load_model(folder)


def test_a_model_that_answers_its_check_rows_differently_is_refused(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported / "mean-int8", folder)
    check = json.loads((folder / "check.json").read_text())
    assert len(check["texts"]) == 32
    check["probabilities"][7][0] += 0.1
    add_json(folder, "check.json", check)
    with pytest.raises(
        StorageError, match=r"answers differently on this machine: 1 of its 32(.|\n)*fix: agnews export"
    ):
        load_model(folder)
    texts_file = tmp_path / "texts.txt"
    texts_file.write_text("goal")
    with pytest.raises(StorageError, match="answers differently on this machine"):
        run_command(["predict", str(folder), str(texts_file)])


def test_a_model_without_check_rows_is_refused(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported / "mean-int8", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]["check.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StorageError, match="has no check rows"):
        load_model(folder)


def test_an_exported_model_answers_without_torch_and_transformers(exported):
    code = (
        "import sys; from pathlib import Path; from agnews_exp.models.loading import load_model; "
        f"print(load_model(Path({str(exported / 'mean-int8')!r})).predict(['goal']).labels.tolist(), "
        "[m for m in ('torch', 'transformers', 'pytorch_lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith(" []")


def product(weights: np.ndarray):
    """Return a graph X @ weights, and its int8 form as a function of X."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [value("x", TensorProto.FLOAT, ["n", "t", weights.shape[0]])],
        [value("y", TensorProto.FLOAT, ["n", "t", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert quantise(model) == 1
    assert {entry.data_type for entry in model.graph.initializer if entry.dims == [32, 8]} == {TensorProto.INT8}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def test_a_quantised_product_is_within_the_rounding_of_its_two_scales():
    generator = np.random.default_rng(0)
    weights = (generator.normal(size=(32, 8)) * 10.0 ** np.arange(-4, 4)).astype(np.float32)
    weights[:, 3] = 0  # a column of zeros has no scale of its own
    x = generator.normal(size=(3, 5, 32)).astype(np.float32) * np.array([1, 100, 0.01], np.float32)[:, None, None]
    x[1, 2] = 0
    y = product(weights)(x)
    row, column = np.abs(x).max(-1, keepdims=True) / 127, np.abs(weights).max(0) / 63
    bound = row / 2 * np.abs(weights).sum(0) + np.abs(x).sum(-1, keepdims=True) * column / 2 + 32 * row * column / 4
    assert (np.abs(y - x @ weights) <= 1.001 * bound).all()
    assert (y[1, 2] == 0).all()


def integer_product(weights: np.ndarray):
    """Return the operator of an int8 product alone: (n, width) uint8 -> the product before it is scaled."""
    value = helper.make_tensor_value_info
    inputs, constants = ["x", "w", "one", "ones", "zero"], [np.float32(1), np.ones(weights.shape[1], np.float32)]
    constants = [weights, *constants, np.uint8(128)]
    graph = helper.make_graph(
        [helper.make_node("MatMulIntegerToFloat", inputs, ["y"], domain="com.microsoft")],
        "product",
        [value("x", TensorProto.UINT8, ["n", weights.shape[0]])],
        [value("y", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(np.asarray(c), n) for n, c in zip(inputs[1:], constants, strict=True)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def integer_weights(path) -> dict[str, np.ndarray]:
    """Return the int8 matrix of every product of an exported graph."""
    graph = onnx.load(str(path)).graph
    constants = {entry.name: entry for entry in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "MatMulIntegerToFloat"]
    return {node.name: numpy_helper.to_array(constants[node.input[1]]) for node in nodes}


@pytest.mark.parametrize("extreme", [False, True], ids=["random", "extreme"])
def test_the_integer_products_of_every_layer_are_exact(exported, extreme):
    generator = np.random.default_rng(0)
    layers = integer_weights(exported / "mean-int8" / "model.onnx")
    assert len(layers) >= 2 * 6, "four of attention and two of the feed-forward part in each of two blocks"
    for weights in layers.values():
        assert np.abs(weights.astype(np.int64)).max() == 63
        chosen = generator.choice([-63, 63], weights.shape).astype(np.int8) if extreme else weights
        shape = (40, len(weights))
        x = (generator.choice([0, 255], shape) if extreme else generator.integers(0, 256, shape)).astype(np.uint8)
        if extreme:
            x[0], x[1], chosen[:, 0], chosen[:, 1] = 255, 0, 63, -63
        expected = (x.astype(np.int32) - 128) @ chosen.astype(np.int32)
        np.testing.assert_array_equal(integer_product(chosen)(x), expected.astype(np.float32))
        # What keeps pairs of products within 16 bits on processors that add them there.
        assert 2 * 255 * int(np.abs(chosen.astype(np.int64)).max()) < 2**15


def test_one_large_row_does_not_coarsen_the_others():
    generator = np.random.default_rng(1)
    multiply = product(generator.normal(size=(32, 8)).astype(np.float32))
    x = generator.normal(size=(1, 4, 32)).astype(np.float32)
    loud = x.copy()
    loud[0, 3] *= 1e4
    np.testing.assert_array_equal(multiply(x)[0, :3], multiply(loud)[0, :3])


def test_weights_that_two_products_share_are_stored_once():
    weights = numpy_helper.from_array(np.eye(8, dtype=np.float32), "w")
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 8])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("MatMul", ["y", "w"], ["z"])]
    graph = helper.make_graph(nodes, "two", [info], [out], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert quantise(model) == 2
    onnx.checker.check_model(model)
    assert [entry.name for entry in model.graph.initializer].count("w/int8") == 1
    assert "w" not in [entry.name for entry in model.graph.initializer]


@pytest.mark.parametrize("place", ["weights.bin", "../weights.bin"])
def test_a_graph_that_takes_its_weights_from_another_file_is_refused(exported, tmp_path, place):
    """No checksum guards such a file, and it may lie anywhere on the disk."""
    from agnews_exp.models.persistence import MANIFEST, write_manifest

    folder = shutil.copytree(exported / "text_cnn-float32", tmp_path / "model")
    graph = onnx.load(str(folder / "model.onnx"))
    weights = next(found for found in graph.graph.initializer if len(found.raw_data) > 64)
    (folder / place).write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=place)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    manifest = json.loads((folder / MANIFEST).read_text())
    more = {k: v for k, v in manifest.items() if k not in ("format", "family", "class_names", "sha256")}
    write_manifest(folder, manifest["family"], manifest["class_names"], **more)
    with pytest.raises(StorageError, match="cannot be loaded"):
        load_model(folder)
