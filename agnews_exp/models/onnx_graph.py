"""From a trained network to an ONNX graph: traced by torch, fused by onnxruntime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agnews_exp.config.errors import ConfigError
from agnews_exp.models.inference import TextPredictor

OPSET = 17
INPUTS = ("input_ids", "attention_mask")
_FUSED_AS_BERT = frozenset({"bert", "distilbert", "roberta", "xlm-roberta", "electra"})


def write_graph(predictor: TextPredictor, path: Path) -> None:
    """Write a network as an ONNX file with free batch size and length.

    Attention, LayerNorm and GELU become one operator each where onnxruntime knows the architecture.

    Args:
        predictor: The network; it is left on the CPU, in evaluation mode, with plain attention.
        path: The file.

    Raises:
        ConfigError: The network has something that ONNX cannot say.
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
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{type(network).__name__} cannot be exported to ONNX: {reason}",
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
    """Hide warnings of the tracer (branches that our networks do not take) and the optimiser's chatter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
