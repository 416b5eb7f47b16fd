"""TextCNN (Kim 2014, Convolutional Neural Networks for Sentence Classification)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agnews_exp.models.recipes import TextCNN


class TextCNNNetwork(nn.Module):
    """Word vectors, convolutions of several widths, maximum over time, linear layer.

    Args:
        recipe: Sizes and dropouts.
        vocabulary: Number of token ids.
        n_classes: K.
        pad_id: Token id of padding.
    """

    def __init__(self, recipe: TextCNN, vocabulary: int, n_classes: int, pad_id: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, recipe.embedding_dim, padding_idx=pad_id)
        self.embedding_dropout = nn.Dropout(recipe.embedding_dropout)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(recipe.embedding_dim, recipe.n_filters, width) for width in recipe.widths
        )
        self.dropout = nn.Dropout(recipe.dropout)
        self.classifier = nn.Linear(recipe.n_filters * len(recipe.widths), n_classes)
        self._widest = max(recipe.widths)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, K) of ids and mask (n, T)."""
        vectors = self.embedding_dropout(self.embedding(input_ids)) * attention_mask.unsqueeze(-1)
        # Every text gets the same margin behind it, so that its answer does not depend on the batch's padding.
        vectors = nn.functional.pad(vectors.transpose(1, 2), (0, self._widest - 1))
        ends = attention_mask.sum(1, keepdim=True)
        pooled = []
        for convolution in self.convolutions:
            maps = torch.relu(convolution(vectors))
            outside = torch.arange(maps.shape[-1], device=maps.device)[None, :] >= ends
            pooled.append(maps.masked_fill(outside.unsqueeze(1), 0.0).amax(-1))
        return self.classifier(self.dropout(torch.cat(pooled, 1)))  # type: ignore[no-any-return]

    def is_head(self, name: str) -> bool:
        """Return whether a parameter belongs to the classifier on top."""
        return name.startswith("classifier.")
