"""Unpadded forward passes: a batch's tokens as one row, attention within each text alone.

The network's inputs and outputs stay padded. Hooks around the encoder take the padding out before its embeddings and
put it back behind its last layer, so heads, pooling, checkpoints and saved models know nothing of it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from agnews_exp.config.errors import ConfigError

_KERNEL = "agnews_packed"
_HALF = ("bf16-mixed", "bf16-true", "16-mixed")


def first_position(config: Any) -> int:
    """Return the position id of a text's first token: RoBERTa's start behind the padding id."""
    return int(config.pad_token_id) + 1 if config.model_type in ("roberta", "xlm-roberta") else 0


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where the tokens of a batch of n texts lie in one row of them.

    Attributes:
        lengths: Tokens of each text.
        ends: Shape (n + 1,), int32, the row's cuts between texts, on the tokens' device.
        places: Shape (total,), each token's place in the flattened padded batch.
        shape: (n, T) of the padded batch.
    """

    lengths: list[int]
    ends: Tensor
    places: Tensor
    shape: tuple[int, int]


def pack_encoder(encoder: Any, *, accelerator: str, precision: str, attention_dropout: float) -> None:
    """Let a Hugging Face encoder compute without padding from now on.

    Args:
        encoder: A model whose attention goes through transformers' attention interface.
        accelerator: ``cpu``, ``cuda`` or ``mps``.
        precision: Lightning's name, such as ``bf16-mixed``.
        attention_dropout: Dropout of attention weights.

    Raises:
        ConfigError: This encoder or device has no kernel for it.
    """
    base = encoder.base_model
    accepted = inspect.signature(base.forward).parameters
    if not getattr(base, "_supports_attention_backend", False) or "position_ids" not in accepted:
        raise ConfigError(
            f"model.packing=true: {type(base).__name__} brings its own attention, which needs padded texts.",
            fix="model.packing=false",
        )
    _check_device(accelerator, precision, attention_dropout)
    from transformers import AttentionInterface

    AttentionInterface.register(_KERNEL, _attend)
    encoder.set_attn_implementation(_KERNEL)
    packing = _Packing(base, has_token_types="token_type_ids" in accepted)
    for module in base.modules():
        module.__dict__["_packing"] = packing  # where attention finds the layout
    base.register_forward_pre_hook(packing.pack, with_kwargs=True)
    base.register_forward_hook(packing.unpack)


def _check_device(accelerator: str, precision: str, attention_dropout: float) -> None:
    if accelerator == "cpu":
        return
    if accelerator != "cuda" or _variable_length_kernel() is None:
        raise ConfigError(
            f"model.packing=true: torch {torch.__version__} has no attention for texts of different lengths on "
            f"{accelerator}.",
            fix="model.packing=false, or a CUDA device with torch 2.10 or newer",
        )
    if precision not in _HALF:
        raise ConfigError(
            f"model.packing=true: the CUDA kernel computes in 16-bit floats only, and precision is {precision}.",
            fix="trainer.precision=bf16",
        )
    if attention_dropout:
        raise ConfigError(
            f"model.packing=true: the CUDA kernel has no dropout, and model.attention_dropout={attention_dropout}.",
            fix="model.attention_dropout=0.0",
        )


def _variable_length_kernel() -> Any:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


class _Packing:
    """The hooks of one encoder, and the layout of the batch at hand.

    Args:
        base: The encoder without its head.
        has_token_types: Whether its embeddings know token types (a single text has type 0).
    """

    def __init__(self, base: Any, *, has_token_types: bool) -> None:
        self._first = first_position(base.config)
        self._has_token_types = has_token_types
        self.layout: _Layout | None = None

    def pack(self, base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Turn (n, T) ids and mask into (1, total) ids and positions."""
        ids = args[0] if args else kwargs["input_ids"]
        mask = kwargs["attention_mask"]
        kept = mask.bool()
        counts = mask.sum(1)
        ends = nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
        places = kept.flatten().nonzero().squeeze(1)
        self.layout = _Layout(counts.tolist(), ends, places, (ids.shape[0], ids.shape[1]))
        packed = {
            "input_ids": ids[kept].unsqueeze(0),
            "attention_mask": None,
            "position_ids": (mask.cumsum(1)[kept] - 1 + self._first).unsqueeze(0),
        }
        if self._has_token_types:
            packed["token_type_ids"] = torch.zeros_like(packed["input_ids"])
        return (), kwargs | packed

    def unpack(self, base: Any, args: Any, output: Any) -> Any:
        """Put the token vectors back between the padding, which gets zeros."""
        assert self.layout is not None
        hidden = output.last_hidden_state[0]
        n, width = self.layout.shape
        padded = hidden.new_zeros((n * width, hidden.shape[-1])).index_copy(0, self.layout.places, hidden)
        output.last_hidden_state = padded.view(n, width, -1)
        if output.get("pooler_output") is not None:
            output.pooler_output = base.pooler(output.last_hidden_state)
        return output


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each text; shapes (1, heads, total, width), the result (1, total, heads, width)."""
    layout = module.__dict__["_packing"].layout
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cuda":
        rows = [x[0].transpose(0, 1).contiguous() for x in (query, key, value)]
        longest = max(layout.lengths)
        attended = _variable_length_kernel()(*rows, layout.ends, layout.ends, longest, longest, scale=scale)
        return attended.unsqueeze(0), None
    parts = []
    start = 0
    # Batches are sorted by length, so texts of one length lie together and are one product.
    for length, texts in groupby(layout.lengths):
        n = len(list(texts))
        end = start + n * length
        q, k, v = (x[0, :, start:end].reshape(x.shape[1], n, length, -1) for x in (query, key, value))
        weights = nn.functional.softmax((q * scale) @ k.transpose(-1, -2), dim=-1)
        weights = nn.functional.dropout(weights, p=dropout, training=dropout > 0)
        parts.append((weights @ v).flatten(1, 2))
        start = end
    return torch.cat(parts, dim=1).transpose(0, 1).unsqueeze(0), None
