"""Networks around a Hugging Face encoder: token ids and mask in, logits out."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification

_Encoder: Any = AutoModel
_WithHead: Any = AutoModelForSequenceClassification


class HeadClassifier(nn.Module):
    """An encoder with its architecture's own classification head.

    Args:
        model: A Hugging Face sequence classification model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model

    @classmethod
    def from_config(cls, config: Any, _dropout: float) -> Self:
        """Build with random weights."""
        return cls(_WithHead.from_config(config))

    @classmethod
    def from_pretrained(cls, where: str, config: Any, _dropout: float, options: dict[str, Any]) -> Self:
        """Load the encoder; the head is new."""
        return cls(
            _WithHead.from_pretrained(where, config=config, use_safetensors=True, dtype=torch.float32, **options)
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, K) of ids and mask (n, T)."""
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).logits  # type: ignore[no-any-return]

    def is_head(self, name: str) -> bool:
        """Return whether a parameter belongs to the classifier on top."""
        return not name.startswith(f"encoder.{self.encoder.base_model_prefix}.")


class MeanPoolClassifier(nn.Module):
    """A linear layer on the mean of the encoder's token vectors.

    Args:
        encoder: A Hugging Face encoder without head.
        dropout: Before the linear layer.
    """

    def __init__(self, encoder: Any, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.hidden_size, encoder.config.num_labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def from_config(cls, config: Any, dropout: float) -> Self:
        """Build with random weights."""
        return cls(_Encoder.from_config(config, **_without_pooler(config)), dropout)

    @classmethod
    def from_pretrained(cls, where: str, config: Any, dropout: float, options: dict[str, Any]) -> Self:
        """Load the encoder; the linear layer is new."""
        encoder = _Encoder.from_pretrained(
            where, config=config, use_safetensors=True, dtype=torch.float32, **_without_pooler(config), **options
        )
        return cls(encoder, dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, K) of ids and mask (n, T)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return self.classifier(self.dropout(mean))  # type: ignore[no-any-return]

    def is_head(self, name: str) -> bool:
        """Return whether a parameter belongs to the classifier on top."""
        return name.startswith("classifier.")


def _without_pooler(config: Any) -> dict[str, Any]:
    # A pooler that no loss reaches would never get a gradient, which DDP takes for an error.
    return {"add_pooling_layer": False} if config.model_type in ("bert", "roberta") else {}
