"""Answering texts with a trained network: batches of like length, answers in the order of the texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agnews_exp.core.errors import AgnewsError, StorageError, first_line
from agnews_exp.data.batching import (
    LongTexts,
    Pooling,
    cut_texts,
    evaluation_batches,
    framed_lengths,
    padded_ids,
    pool_pieces,
)
from agnews_exp.data.tokens import TokenTable, encode_plain, frame_of, plain_backend, tokenize
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import MULTICLASS, MULTILABEL, Task
from agnews_exp.models.answers import predictions_of
from agnews_exp.models.persistence import MANIFEST, read_manifest, write_manifest
from agnews_exp.models.recipes import EncoderRecipe, Recipe, read_recipe

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "bf16-true": torch.bfloat16}


@dataclass(eq=False)
class TextPredictor:
    """A network with its tokenizer."""

    network: nn.Module  # (input_ids, attention_mask) -> logits (n, K)
    tokenizer: Any  # a fast tokenizer
    class_names: tuple[str, ...]  # K names
    max_length: int  # tokens of a text at most
    device: torch.device  # where the network computes
    precision: str = "32-true"  # Lightning's name, such as ``bf16-mixed`` or ``32-true``
    batch_size: int = 128  # texts in a batch at most
    token_budget: int | None = None  # texts times the longest text's tokens at most, or None
    long_texts: LongTexts = "truncate"  # what becomes of longer texts
    window_pooling: Pooling = "mean"  # the way from windows to their text
    thresholds: NDArray[np.float64] | None = None  # shape (K,), of models of sets of classes; None: one class a text

    family: ClassVar[str] = "transformer"

    def predict(self, texts: Sequence[str], cache_dir: Path | None = None) -> Predictions:
        """Answer texts; scores are logits, probabilities their softmax."""
        if cache_dir is None:
            return predictions_of(self.logits(encode_plain(texts, self._backend)), self.thresholds)
        return predictions_of(self.logits(tokenize(texts, self.tokenizer, cache_dir)), self.thresholds)

    @property
    def task(self) -> Task:
        """The task that it was trained for."""
        return MULTICLASS if self.thresholds is None else MULTILABEL

    @cached_property
    def _backend(self) -> Any:
        return plain_backend(self.tokenizer)

    def logits(self, table: TokenTable) -> NDArray[np.float32]:
        """Return the logits of tokenised texts; shape (n, K), float32."""
        frame = frame_of(self.tokenizer)
        table, starts = cut_texts(table, frame, self.max_length, self.long_texts)
        answers = np.zeros((len(table), len(self.class_names)), dtype=np.float32)
        self.network.to(self.device).eval()
        autocast: Any = nullcontext()
        if self.precision in AUTOCAST:
            autocast = torch.autocast(self.device.type, dtype=AUTOCAST[self.precision])
        lengths = framed_lengths(table, frame, self.max_length)
        pending: list[tuple[NDArray[np.int64], torch.Tensor]] = []
        with torch.inference_mode(), autocast:
            for rows in evaluation_batches(lengths, self.batch_size, self.token_budget):
                ids, mask = padded_ids(table, rows, frame, self.max_length)
                inputs = (torch.from_numpy(ids), torch.from_numpy(mask))
                logits = self.network(*(x.to(self.device, non_blocking=True) for x in inputs))
                pending.append((rows, logits.float()))  # copied back at the end: a GPU need not wait for us
        for rows, logits in pending:
            answers[rows] = logits.cpu().numpy()
        return pool_pieces(answers, starts, self.window_pooling)


_WEIGHTS = "model.safetensors"


def save_predictor(predictor: TextPredictor, recipe: Recipe, folder: Path) -> None:
    """Write config.json, model.safetensors, the tokenizer's files and manifest.json.

    A network with its architecture's own head can be loaded by ``AutoModelForSequenceClassification.from_pretrained``
    too.

    LoRA adapters must be merged.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    network: Any = predictor.network
    encoder = getattr(network, "encoder", None)
    standard = isinstance(recipe, EncoderRecipe) and recipe.pooling == "head"
    if encoder is not None:
        encoder.config.save_pretrained(folder)
    else:
        (folder / "config.json").write_text(json.dumps({"model_type": type(recipe).__name__}) + "\n", encoding="utf-8")
    weights = (encoder if standard and encoder is not None else network).state_dict()
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, folder / _WEIGHTS, {"format": "pt"})
    predictor.tokenizer.save_pretrained(folder)
    write_manifest(
        folder,
        "transformer",
        predictor.class_names,
        max_length=predictor.max_length,
        vocabulary=len(predictor.tokenizer),
        recipe=recipe.as_dict(),
        **({} if predictor.thresholds is None else {"thresholds": predictor.thresholds.tolist()}),
    )


def load_predictor(folder: Path, device: str = "auto") -> TextPredictor:
    """Load what :func:`save_predictor` wrote; needs no network and no hub."""
    from safetensors.torch import load_file
    from transformers import PreTrainedTokenizerFast

    manifest = read_manifest(folder, "transformer", needs=[_WEIGHTS, "config.json", "tokenizer.json"])
    _refuse_strangers(folder, manifest["sha256"])
    class_names = tuple(manifest["class_names"])
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        recipe = read_recipe(manifest["recipe"])
        max_length = int(manifest["max_length"])
        thresholds = np.asarray(manifest["thresholds"], dtype=np.float64) if "thresholds" in manifest else None
        if thresholds is not None and thresholds.shape != (len(class_names),):
            raise ValueError("it has not one threshold for each class")
        network = _empty_network(recipe, folder, tokenizer, class_names)
        standard = isinstance(recipe, EncoderRecipe) and recipe.pooling == "head"
        (network.encoder if standard else network).load_state_dict(load_file(folder / _WEIGHTS))
    except AgnewsError:
        raise
    except Exception as error:  # what made-up files raise in three libraries is in no list
        raise StorageError(
            f"{folder} holds no network that agnews-exp wrote: {first_line(error)}", fix="train it again (force=true)"
        ) from error
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return TextPredictor(
        network,
        tokenizer,
        class_names,
        max_length,
        torch.device(chosen),
        long_texts=recipe.long_texts,
        window_pooling=recipe.window_pooling,
        thresholds=thresholds,
    )


def _refuse_strangers(folder: Path, listed: Mapping[str, str]) -> None:
    """Refuse files that transformers would read though the manifest does not name them."""
    for path in folder.iterdir():
        if path.suffix in (".json", ".jinja", ".txt", ".model", ".py") and path.name not in {*listed, MANIFEST}:
            raise StorageError(
                f"{path} is not in the folder's manifest, but would be read with the model.", fix=f"rm {path}"
            )


def _empty_network(recipe: Recipe, folder: Path, tokenizer: Any, class_names: tuple[str, ...]) -> Any:
    from transformers import AutoConfig

    from agnews_exp.models.encoders import HeadClassifier, MeanPoolClassifier, build_network

    if not isinstance(recipe, EncoderRecipe):
        return build_network(recipe, tokenizer, class_names)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config._attn_implementation not in (None, "eager", "sdpa"):  # it may name code on the hub
        raise StorageError(f"{folder / 'config.json'}: attn_implementation={config._attn_implementation} is not ours.")
    return (HeadClassifier if recipe.pooling == "head" else MeanPoolClassifier).from_config(config, recipe.dropout)
