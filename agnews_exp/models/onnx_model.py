"""The model folder of the onnx family, answered by onnxruntime: neither torch nor transformers is imported."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import MissingDependencyError, StorageError
from agnews_exp.data.batching import evaluation_batches, framed_lengths, padded_ids
from agnews_exp.data.tokens import Frame, TokenTable, encode_plain, frame_of
from agnews_exp.evaluation.calibrators import softmax
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.manifest import read_manifest, write_manifest

FAMILY = "onnx"
GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
Precision = Literal["float32", "int8"]


@dataclass(eq=False)
class OnnxModel:
    """An exported network with its tokenizer.

    Attributes:
        session: An ``onnxruntime.InferenceSession`` of (input_ids, attention_mask) -> logits (n, K).
        backend: A ``tokenizers.Tokenizer`` that neither cuts nor pads.
        frame: Its special tokens.
        class_names: K names.
        max_length: Tokens of a text at most.
        precision: Of the products: ``float32`` or ``int8``.
        batch_size: Texts in a batch at most.
    """

    session: Any
    backend: Any
    frame: Frame
    class_names: tuple[str, ...]
    max_length: int
    precision: Precision = "float32"
    batch_size: int = 32

    family: ClassVar[str] = FAMILY

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer texts; scores are logits, probabilities their softmax."""
        scores = self.logits(encode_plain(texts, self.backend)).astype(np.float64)
        return Predictions(scores.argmax(axis=1).astype(np.int64), scores, softmax(scores))

    def logits(self, table: TokenTable) -> NDArray[np.float32]:
        """Return shape (n, K) for tokenised texts."""
        answers = np.zeros((len(table), len(self.class_names)), dtype=np.float32)
        lengths = framed_lengths(table, self.frame, self.max_length)
        for rows in evaluation_batches(lengths, self.batch_size, None):
            ids, mask = padded_ids(table, rows, self.frame, self.max_length)
            answers[rows] = self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return answers


def save_onnx(
    folder: Path, source: Path, tokenizer: Any, class_names: Sequence[str], *, max_length: int, precision: Precision
) -> None:
    """Complete a model folder in which the graph lies already.

    Args:
        folder: Holds ``model.onnx``.
        source: The model folder that was exported; its tokenizer and what else was added to it come along.
        tokenizer: The source's, loaded.
        class_names: K names.
        max_length: Tokens of a text at most.
        precision: Of the products.
    """
    shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
    manifest = read_manifest(source)
    own = {"config.json", "model.safetensors", TOKENIZER, "tokenizer_config.json", "special_tokens_map.json"}
    for name in sorted(set(manifest["sha256"]) - own):  # calibrators, the reference of the drift monitor
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    more = {"max_length": max_length, "precision": precision, "frame": asdict(frame_of(tokenizer))}
    write_manifest(folder, FAMILY, class_names, **more, recipe=manifest.get("recipe"))


def load_onnx(folder: Path) -> OnnxModel:
    """Load what :func:`save_onnx` completed.

    As many threads answer as OMP_NUM_THREADS says, which torch obeys as well; without it, one for each core.

    Raises:
        StorageError: A file is missing or was changed, or onnxruntime cannot read the graph.
        MissingDependencyError: onnxruntime is not installed.
    """
    manifest = read_manifest(folder, FAMILY, needs=[GRAPH, TOKENIZER])
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"{folder} is an ONNX model, and onnxruntime is not installed.", fix="pip install 'agnews-exp[onnx]'"
        ) from error
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    again = "agnews export <run> once more"
    try:
        session = onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=["CPUExecutionProvider"])
        backend = Tokenizer.from_file(str(folder / TOKENIZER))
        stored = manifest["frame"]
        frame = Frame(tuple(stored["prefix"]), tuple(stored["suffix"]), int(stored["pad_id"]))
        max_length, precision = int(manifest["max_length"]), manifest["precision"]
    except Exception as error:  # onnxruntime's and tokenizers' errors have no common base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(f"{folder} cannot be loaded: {reason}", fix=again) from error
    backend.no_truncation()
    backend.no_padding()
    return OnnxModel(session, backend, frame, tuple(manifest["class_names"]), max_length, precision)
