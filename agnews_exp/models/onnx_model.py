"""ONNX models: exporting a network, its int8 form, and answering by onnxruntime without torch or transformers."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import ConfigError, StorageError, first_line, needs
from agnews_exp.data.batching import evaluation_batches, framed_lengths, padded_ids
from agnews_exp.data.tokens import Frame, TokenTable, encode_plain, frame_of
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.answers import predictions_of
from agnews_exp.models.persistence import add_json, read_manifest, write_manifest

if TYPE_CHECKING:
    from agnews_exp.models.inference import TextPredictor

INPUTS = ("input_ids", "attention_mask")
_FUSED_AS_BERT = frozenset({"bert", "distilbert", "roberta", "xlm-roberta", "electra"})


def write_graph(predictor: TextPredictor, path: Path) -> None:
    """Write a network as an ONNX file with free batch size and length.

    Attention, LayerNorm and GELU become one operator each where onnxruntime knows the architecture.

    The network is left on the CPU, in evaluation mode, with plain attention.
    """
    import torch

    network: Any = predictor.network.cpu().float().eval()
    encoder: Any = getattr(network, "encoder", None)
    if hasattr(encoder, "set_attn_implementation"):
        encoder.set_attn_implementation("eager")  # the fused kernel traces into branches on the batch's shape
    ids = torch.full((2, 24), int(predictor.tokenizer.pad_token_id), dtype=torch.int64)
    ids[:, :16] = torch.arange(1, 17) % len(predictor.tokenizer)
    mask = torch.ones_like(ids)
    ids[1, 20:], mask[1, 20:] = int(predictor.tokenizer.pad_token_id), 0
    try:
        with _quiet(), torch.inference_mode():
            torch.onnx.export(
                network,
                (ids, mask),
                str(path),
                input_names=list(INPUTS),
                output_names=["logits"],
                dynamic_axes={name: {0: "texts", 1: "tokens"} for name in INPUTS} | {"logits": {0: "texts"}},
                opset_version=17,
                dynamo=False,
            )
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{type(network).__name__} cannot be exported to ONNX: {first_line(error)}",
            fix="export an encoder (model=minilm, distilbert, roberta_base, ...)",
        ) from error
    if encoder is not None and encoder.config.model_type in _FUSED_AS_BERT:
        _fuse(path, encoder.config)


def _fuse(path: Path, config: Any) -> None:
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options: Any = FusionOptions("bert")
    # Both fused forms would hide weight matrices inside an operator, where int8 does not reach them.
    options.use_multi_head_attention = True
    options.enable_embed_layer_norm = False
    with _quiet():
        fused = optimize_model(
            str(path),
            model_type="bert",
            num_heads=int(config.num_attention_heads),
            hidden_size=int(config.hidden_size),
            optimization_options=options,
            opt_level=0,
        )
        fused.save_model_to_file(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings of the tracer (branches that these networks do not take) and the optimiser's chatter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


_MIN_TABLE = 10_000
"""Entries of an embedding table from which on it is stored as int8; smaller ones are not worth it."""
_WEIGHT_STEPS, _TABLE_STEPS = 63, 127
"""Largest int8 of a weight and of a table's entry. Without VNNI a processor adds pairs of products of uint8 and int8 in
16 bits: 2 x 255 x 63 fits there and 2 x 255 x 127 does not, so 7 bits make the products exact everywhere."""


def quantise(model: Any) -> int:
    """Turn the products with constant matrices and the embedding tables of a graph into int8; return how many.

    Weights: symmetric, 7 bits, a scale for each column. Activations: symmetric (uint8 around 128, which is what VNNI
    multiplies fastest), a scale for each row, found while the graph runs. Embedding tables: 8 bits, a scale for each
    row. Everything else (softmax, LayerNorm, GELU, attention weights) stays float32.
    """
    from onnx import helper

    graph = _Graph(model)
    turned = 0
    for node in list(model.graph.node):
        if node.op_type == "MatMul" and graph.matrix(node.input[1]) is not None:
            graph.product(node)
        elif node.op_type == "Gather" and getattr(graph.matrix(node.input[0]), "size", 0) >= _MIN_TABLE:
            graph.lookup(node)
        else:
            graph.nodes.append(node)
            continue
        turned += 1
    del model.graph.node[:]
    model.graph.node.extend(graph.nodes)
    graph.drop_unused()
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return turned


class _Graph:
    """An ``onnx.ModelProto``'s graph whose nodes are being replaced."""

    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        self._initialisers = {entry.name: entry for entry in model.graph.initializer}
        self._rows: dict[str, str] = {}
        self.nodes: list[Any] = []

    def matrix(self, name: str) -> NDArray[Any] | None:
        """Return a constant float32 matrix, shape (rows, columns), or None where the name is something else."""
        from onnx import TensorProto, numpy_helper

        entry = self._initialisers.get(name)
        if entry is None or entry.data_type != TensorProto.FLOAT or len(entry.dims) != 2:
            return None
        return np.asarray(numpy_helper.to_array(entry))

    def product(self, node: Any) -> None:
        """Replace ``X @ W`` by an integer product."""
        weights = self.matrix(node.input[1])
        assert weights is not None
        out = node.output[0]
        columns = self._quantised_constant(node.input[1], weights, axis=0, steps=_WEIGHT_STEPS)
        rows = self._quantised_rows(node.input[0], len(weights))
        zero = self._constant("int8/zero", np.array(128, np.uint8))
        one = self._constant("int8/one", np.array(1, np.float32))
        width = self._constant(f"int8/width{weights.shape[1]}", np.array([weights.shape[1]], np.int64))
        inputs = [f"{rows}/values", f"{columns}/int8", one, f"{columns}/scale", zero]
        self._add("MatMulIntegerToFloat", inputs, f"{out}/unscaled", domain="com.microsoft")
        self._add("Mul", [f"{out}/unscaled", f"{rows}/column"], f"{out}/flat")
        self._add("Concat", [f"{rows}/leading", width], f"{out}/shape", axis=0)
        self._add("Reshape", [f"{out}/flat", f"{out}/shape"], out)

    def lookup(self, node: Any) -> None:
        """Replace a look-up in a float table by one in an int8 table."""
        from onnx import TensorProto

        table = self.matrix(node.input[0])
        assert table is not None
        out = node.output[0]
        rows = self._quantised_constant(node.input[0], table, axis=1, steps=_TABLE_STEPS)
        self._add("Gather", [f"{rows}/int8", node.input[1]], f"{out}/int8")
        self._add("Cast", [f"{out}/int8"], f"{out}/float", to=TensorProto.FLOAT)
        self._add("Gather", [f"{rows}/scale", node.input[1]], f"{out}/scale")
        self._add("Mul", [f"{out}/float", f"{out}/scale"], out)

    def drop_unused(self) -> None:
        """Remove the constants that no node takes any more."""
        taken = {name for node in self.nodes for name in node.input} | {out.name for out in self._graph.output}
        kept = [entry for name, entry in self._initialisers.items() if name in taken]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _quantised_constant(self, name: str, matrix: NDArray[Any], axis: int, steps: int) -> str:
        """Store a constant matrix as int8, with one scale a column (axis 0) or row (1); returns a prefix of names."""
        prefix = name if axis == 0 else f"{name}/rows"
        if f"{prefix}/int8" not in self._initialisers:
            largest = np.abs(matrix).max(axis=axis, keepdims=axis == 1) / steps
            scale = np.where(largest == 0, 1, largest).astype(np.float32)
            self._constant(f"{prefix}/int8", np.clip(np.rint(matrix / scale), -steps, steps).astype(np.int8))
            self._constant(f"{prefix}/scale", scale)
        return prefix

    def _quantised_rows(self, name: str, width: int) -> str:
        """Quantise a tensor (..., width) row by row, once for all products that take it; returns a prefix of names."""
        from onnx import TensorProto, helper

        prefix = self._rows.get(name)
        if prefix is not None:
            return prefix
        prefix = self._rows[name] = f"{name}/int8"
        flat = self._constant(f"int8/flat{width}", np.array([-1, width], np.int64))
        last = self._constant("int8/last", np.array([-1], np.int64))
        first = self._constant("int8/first", np.array([0], np.int64))
        tiny = self._constant("int8/tiny", np.array(1e-12, np.float32))
        unit = self._constant("int8/unit", np.array(1 / 127, np.float32))
        self._add("Reshape", [name, flat], f"{prefix}/flat")
        self._add("Abs", [f"{prefix}/flat"], f"{prefix}/absolute")
        self._add("ReduceMax", [f"{prefix}/absolute"], f"{prefix}/largest", axes=[1], keepdims=0)
        self._add("Max", [f"{prefix}/largest", tiny], f"{prefix}/positive")
        self._add("Mul", [f"{prefix}/positive", unit], f"{prefix}/scale")
        self._add("Shape", [f"{prefix}/scale"], f"{prefix}/count")
        middle = helper.make_tensor("value", TensorProto.UINT8, [1], [128])
        self._add("ConstantOfShape", [f"{prefix}/count"], f"{prefix}/zeros", value=middle)
        self._add(
            "QuantizeLinear", [f"{prefix}/flat", f"{prefix}/scale", f"{prefix}/zeros"], f"{prefix}/values", axis=0
        )
        self._add("Unsqueeze", [f"{prefix}/scale", last], f"{prefix}/column")
        self._add("Shape", [name], f"{prefix}/shape")
        self._add("Slice", [f"{prefix}/shape", first, last], f"{prefix}/leading")
        return prefix

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if name not in self._initialisers:
            self._initialisers[name] = numpy_helper.from_array(values, name)
        return name

    def _add(self, operation: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(operation, list(inputs), [output], output, **attributes))


FAMILY = "onnx"
GRAPH, TOKENIZER, CHECK = "model.onnx", "tokenizer.json", "check.json"
_AGAIN = "agnews export <run> --force once more"
Precision = Literal["float32", "int8"]
CHECK_ROWS = 32
"""Texts whose answers an exported model carries, so that every machine can see whether it gives the same."""
TOLERANCE = {"float32": 1e-3, "int8": 0.02}
"""Largest allowed difference of a check row's probability from the stored one. Processors round sums of floats
differently, which moves an activation by one step of int8 here and there; a wrong product moves probabilities by much
more."""


@dataclass(eq=False)
class OnnxModel:
    """An exported network with its tokenizer."""

    session: Any  # an ``onnxruntime.InferenceSession`` of (input_ids, attention_mask) -> logits (n, K)
    backend: Any  # a ``tokenizers.Tokenizer`` that neither cuts nor pads
    frame: Frame  # its special tokens
    class_names: tuple[str, ...]  # K names
    max_length: int  # tokens of a text at most
    precision: Precision = "float32"  # of the products: ``float32`` or ``int8``
    batch_size: int = 32  # texts in a batch at most

    family: ClassVar[str] = FAMILY

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer texts; scores are logits, probabilities their softmax."""
        return predictions_of(self.logits(encode_plain(texts, self.backend)))

    def logits(self, table: TokenTable) -> NDArray[np.float32]:
        """Return the logits of tokenised texts; shape (n, K), float32."""
        answers = np.zeros((len(table), len(self.class_names)), dtype=np.float32)
        lengths = framed_lengths(table, self.frame, self.max_length)
        for rows in evaluation_batches(lengths, self.batch_size, None):
            ids, mask = padded_ids(table, rows, self.frame, self.max_length)
            answers[rows] = self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return answers


def save_onnx(
    folder: Path, source: Path, tokenizer: Any, class_names: Sequence[str], *, max_length: int, precision: Precision
) -> None:
    """Complete a model folder in which the graph lies already with what the exported ``source`` has beside it."""
    shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
    manifest = read_manifest(source)
    own = {"config.json", "model.safetensors", TOKENIZER, "tokenizer_config.json", "special_tokens_map.json"}
    for name in sorted(set(manifest["sha256"]) - own):  # calibrators, the reference of the drift monitor
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    more = {"max_length": max_length, "precision": precision, "frame": asdict(frame_of(tokenizer))}
    write_manifest(folder, FAMILY, class_names, **more, recipe=manifest.get("recipe"))


def save_check(folder: Path, texts: Sequence[str]) -> None:
    """Store the first texts with their answers on this machine in an exported folder, for :func:`load_onnx`."""
    rows = list(texts[:CHECK_ROWS])
    probabilities = _load(folder, read_manifest(folder, FAMILY)).predict(rows).probabilities
    assert probabilities is not None
    add_json(folder, CHECK, {"texts": rows, "probabilities": probabilities.round(7).tolist()})


def load_onnx(folder: Path) -> OnnxModel:
    """Load an exported model and answer its check rows, so that it cannot answer otherwise than where it was made.

    As many threads answer as OMP_NUM_THREADS says, which torch obeys as well; without it, one for each core.

    Raises:
        StorageError: A file is missing or was changed, onnxruntime cannot read the graph, or the check rows get other
            answers on this machine.
        MissingDependencyError: onnxruntime is not installed.
    """
    manifest = read_manifest(folder, FAMILY, needs=[GRAPH, TOKENIZER])
    if CHECK not in manifest["sha256"]:
        raise StorageError(f"{folder} has no check rows: an older version exported it.", fix=_AGAIN)
    model = _load(folder, manifest)
    try:
        check = json.loads((folder / CHECK).read_text(encoding="utf-8"))
        texts, expected = [str(text) for text in check["texts"]], np.array(check["probabilities"], np.float64)
        if not texts or expected.shape != (len(texts), len(model.class_names)):
            raise ValueError("it holds no answers of this model")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StorageError(f"{folder / CHECK} cannot be read: {error}", fix=_AGAIN) from error
    found = model.predict(texts).probabilities
    assert found is not None
    difference, allowed = np.abs(found - expected).max(axis=1), TOLERANCE[model.precision]
    if wrong := int((~(difference <= allowed)).sum()):
        import onnxruntime

        raise StorageError(
            f"{folder} answers differently on this machine: {wrong} of its {len(texts)} check rows, "
            f"probabilities by up to {difference.max():.3f} ({allowed:g} is allowed; "
            f"onnxruntime {onnxruntime.__version__}).",
            fix=f"{_AGAIN} on this machine, or use the run itself, which needs no onnxruntime",
        )
    return model


def _load(folder: Path, manifest: Mapping[str, Any]) -> OnnxModel:
    with needs("onnxruntime", f"{folder}, an ONNX model,", "'agnews-exp[onnx]'"):
        import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    try:
        # From its bytes, not from its file: a graph could name other files, which no checksum guards, as its weights.
        graph = (folder / GRAPH).read_bytes()
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        backend = Tokenizer.from_file(str(folder / TOKENIZER))
        stored = manifest["frame"]
        frame = Frame(tuple(stored["prefix"]), tuple(stored["suffix"]), int(stored["pad_id"]))
        max_length, precision = int(manifest["max_length"]), manifest["precision"]
        if precision not in TOLERANCE:
            raise ValueError(f"its precision is {precision!r}")
    except Exception as error:  # onnxruntime's and tokenizers' errors have no common base
        raise StorageError(f"{folder} cannot be loaded: {first_line(error)}", fix=_AGAIN) from error
    backend.no_truncation()
    backend.no_padding()
    return OnnxModel(session, backend, frame, tuple(manifest["class_names"]), max_length, precision)
