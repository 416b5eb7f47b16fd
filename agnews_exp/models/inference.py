"""Answering texts with a trained network: batches of like length, answers in the order of the texts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agnews_exp.data.batching import evaluation_batches, framed_lengths, padded_ids
from agnews_exp.data.tokens import TokenTable, encode_plain, frame_of, plain_backend, tokenize
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.transformer import predictions_of

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "bf16-true": torch.bfloat16}


@dataclass(eq=False)
class TextPredictor:
    """A network with its tokenizer.

    Attributes:
        network: (input_ids, attention_mask) -> logits (n, K).
        tokenizer: A fast tokenizer.
        class_names: K names.
        max_length: Tokens of a text at most.
        device: Where the network computes.
        precision: Lightning's name, such as ``bf16-mixed`` or ``32-true``.
        batch_size: Texts in a batch at most.
        token_budget: Texts times the longest text's tokens at most, or None.
    """

    network: nn.Module
    tokenizer: Any
    class_names: tuple[str, ...]
    max_length: int
    device: torch.device
    precision: str = "32-true"
    batch_size: int = 128
    token_budget: int | None = None

    family: ClassVar[str] = "transformer"

    def predict(self, texts: Sequence[str], cache_dir: Path | None = None) -> Predictions:
        """Answer texts; scores are logits, probabilities their softmax.

        Args:
            texts: n texts.
            cache_dir: Folder of the token cache, or None.
        """
        if cache_dir is None:
            return predictions_of(self.logits(encode_plain(texts, self._backend)))
        return predictions_of(self.logits(tokenize(texts, self.tokenizer, cache_dir)))

    @cached_property
    def _backend(self) -> Any:
        return plain_backend(self.tokenizer)

    def logits(self, table: TokenTable) -> NDArray[np.float32]:
        """Return shape (n, K) for tokenised texts."""
        frame = frame_of(self.tokenizer)
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
        return answers
