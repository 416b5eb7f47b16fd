"""A bidirectional LSTM classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from agnews_exp.models.recipes import BiLSTM


class BiLSTMNetwork(nn.Module):
    """Word vectors, bidirectional LSTM over the unpadded tokens, maximum over time, linear layer.

    Args:
        recipe: Sizes and dropouts.
        vocabulary: Number of token ids.
        n_classes: K.
        pad_id: Token id of padding.
    """

    def __init__(self, recipe: BiLSTM, vocabulary: int, n_classes: int, pad_id: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, recipe.embedding_dim, padding_idx=pad_id)
        self.embedding_dropout = nn.Dropout(recipe.embedding_dropout)
        self.lstm = nn.LSTM(
            recipe.embedding_dim,
            recipe.hidden_dim,
            recipe.n_layers,
            batch_first=True,
            bidirectional=True,
            dropout=recipe.dropout if recipe.n_layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = nn.Linear(2 * recipe.hidden_dim, n_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, K) of ids and mask (n, T)."""
        vectors = self.embedding_dropout(self.embedding(input_ids))
        lengths = attention_mask.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=input_ids.shape[1])
        lowest = torch.finfo(states.dtype).min
        pooled = states.masked_fill(attention_mask.unsqueeze(-1) == 0, lowest).amax(1)
        return self.classifier(self.dropout(pooled))  # type: ignore[no-any-return]

    def is_head(self, name: str) -> bool:
        """Return whether a parameter belongs to the classifier on top."""
        return name.startswith("classifier.")
