"""Explaining networks from the inside: gradients at the word vectors, and attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agnews_exp.analyses.explanation.words import Explanation, from_characters
from agnews_exp.core.errors import ConfigError, needs
from agnews_exp.data.batching import padded_ids
from agnews_exp.data.tokens import Frame, TokenTable, encodable, frame_of, plain_backend
from agnews_exp.models.inference import TextPredictor

_BATCH = 16

ATTENTION_CAVEAT = (
    "Attention shows where the network looked, not why it decided: quite different attention can give the same answer "
    "(Jain and Wallace 2019), and it has no sign, so a word that speaks against the class may light up as well. "
    "Compare its faithfulness with the other methods before relying on it."
)


@dataclass(frozen=True, eq=False)
class _Encoded:
    """Texts as token ids with the characters that each token stands for.

    ``offsets[i]`` has one (begin, end) for each token of text i that is not cut off, special tokens left out.
    """

    table: TokenTable
    frame: Frame
    offsets: list[list[tuple[int, int]]]

    def batch(
        self, rows: Sequence[int], max_length: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids, mask, and ids whose words are padding: the baseline of integrated gradients."""
        ids, mask = padded_ids(self.table, np.asarray(rows), self.frame, max_length)
        baseline = ids.copy()
        begin = len(self.frame.prefix)
        for i, row in enumerate(rows):
            baseline[i, begin : begin + len(self.offsets[row])] = self.frame.pad_id
        ids_, mask_, baseline_ = (torch.from_numpy(x).to(device) for x in (ids, mask, baseline))
        return ids_, mask_, baseline_


def _encode(predictor: TextPredictor, texts: Sequence[str]) -> _Encoded:
    frame = frame_of(predictor.tokenizer)
    room = predictor.max_length - len(frame.prefix) - len(frame.suffix)
    found = plain_backend(predictor.tokenizer).encode_batch([encodable(t) for t in texts], add_special_tokens=False)
    ids = [np.asarray(one.ids, dtype=np.int64) for one in found]
    ends = np.concatenate([[0], np.cumsum([len(i) for i in ids])]).astype(np.int64)
    table = TokenTable(np.concatenate(ids) if ids else np.zeros(0, dtype=np.int64), ends)
    return _Encoded(table, frame, [one.offsets[:room] for one in found])


def gradient_x_input(predictor: TextPredictor, texts: Sequence[str], targets: NDArray[np.int64]) -> list[Explanation]:
    """Explain by the gradient of the class's logit at each word vector times that vector (Shrikumar et al. 2016).

    The first-order estimate of what the vector adds to the logit.
    """

    def attribute(ids: torch.Tensor, mask: torch.Tensor, _: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        vectors: list[torch.Tensor] = []

        def catch(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            vectors.append(output.detach().requires_grad_(True))
            return vectors[0]

        handle = _embedding(predictor.network).register_forward_hook(catch)
        try:
            logits = predictor.network(ids, mask)
        finally:
            handle.remove()
        (gradient,) = torch.autograd.grad(logits.gather(1, wanted[:, None]).sum(), vectors)
        return (gradient * vectors[0]).sum(-1)

    return _by_tokens("gradient_x_input", predictor, texts, targets, attribute)


def integrated_gradients(
    predictor: TextPredictor, texts: Sequence[str], targets: NDArray[np.int64], *, steps: int = 32
) -> list[Explanation]:
    """Explain by gradients integrated from a text of padding to the text (Sundararajan et al. 2017), with captum.

    The weights and what falls on special tokens add up to the logit less the baseline's logit, which is ``base``, up
    to the error of the numerical integral.

    Raises:
        MissingDependencyError: captum is not installed.
    """
    with needs("captum", "The explanation method 'integrated_gradients'", "'agnews-exp[explain]'"):
        from captum.attr import LayerIntegratedGradients
    explainer = LayerIntegratedGradients(predictor.network, _embedding(predictor.network))

    def attribute(ids: torch.Tensor, mask: torch.Tensor, baseline: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        found = explainer.attribute(
            ids,
            baselines=baseline,
            target=wanted,
            additional_forward_args=(mask,),
            n_steps=steps,
            internal_batch_size=_BATCH,
        )
        assert isinstance(found, torch.Tensor)
        return found.sum(-1)

    return _by_tokens("integrated_gradients", predictor, texts, targets, attribute, with_base=True)


def attention(
    predictor: TextPredictor, texts: Sequence[str], targets: NDArray[np.int64], *, rollout: bool = False
) -> list[Explanation]:
    """Show where a network attends: a picture of its mechanics, see :data:`ATTENTION_CAVEAT`.

    Without rollout: the last layer's weights, mean over heads, from the token that the classifier reads ([CLS], or the
    mean over all tokens where it reads the mean vector). With rollout (Abnar and Zuidema 2020): the product over all
    layers of half attention, half identity, which follows information back to the input.

    Raises:
        ConfigError: The network has no attention.
    """
    check_attention(predictor)
    encoder: Any = predictor.network.encoder
    head = type(predictor.network).__name__ == "HeadClassifier"

    def attribute(ids: torch.Tensor, mask: torch.Tensor, _: torch.Tensor, __: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            output = encoder(input_ids=ids, attention_mask=mask, output_attentions=True)
        layers = [layer.float().mean(1) for layer in output.attentions]  # mean over heads: (n, T, T)
        mixed = _rolled(layers) if rollout else layers[-1]
        if head:
            return mixed[:, 0]
        share = mask / mask.sum(1, keepdim=True)
        return (mixed * share.unsqueeze(-1)).sum(1)

    with _eager(encoder):
        name = "attention_rollout" if rollout else "attention"
        return _by_tokens(name, predictor, texts, targets, attribute, signed=False)


def check_attention(predictor: TextPredictor) -> None:
    """Raise a ConfigError when a network has no attention to show."""
    if not hasattr(getattr(predictor.network, "encoder", None), "set_attn_implementation"):
        raise ConfigError(f"{type(predictor.network).__name__} has no attention.", fix="leave attention out of methods")


def _rolled(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    identity = torch.eye(layers[0].shape[-1], device=layers[0].device)
    product = identity.expand_as(layers[0])
    for layer in layers:
        mixed = 0.5 * layer + 0.5 * identity
        product = (mixed / mixed.sum(-1, keepdim=True)) @ product
    return product


Attribute = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(ids, mask, baseline ids, targets) -> one number a token, shape (n, T)."""


def _by_tokens(
    method: str,
    predictor: TextPredictor,
    texts: Sequence[str],
    targets: NDArray[np.int64],
    attribute: Attribute,
    *,
    signed: bool = True,
    with_base: bool = False,
) -> list[Explanation]:
    """Attribute tokens in batches, then spread each token's weight over its characters and sum over words."""
    if predictor.long_texts != "truncate":
        raise ConfigError(
            f"A network that reads long texts by {predictor.long_texts} cannot be explained by its word vectors yet.",
            fix="the explanation method occlusion, which asks the whole model",
        )
    network = predictor.network.to(predictor.device).eval()
    encoded = _encode(predictor, texts)
    begin = len(encoded.frame.prefix)
    order = np.argsort(encoded.table.lengths, kind="stable")
    found: dict[int, Explanation] = {}
    for start in range(0, len(order), _BATCH):
        rows = [int(i) for i in order[start : start + _BATCH]]
        ids, mask, baseline = encoded.batch(rows, predictor.max_length, predictor.device)
        wanted = torch.as_tensor(np.asarray(targets)[rows], device=predictor.device)
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's LSTM has no gradient outside of training
            values = (attribute(ids, mask, baseline, wanted) * mask).detach().double().cpu().numpy()
            with torch.no_grad():
                bases = network(baseline, mask).gather(1, wanted[:, None])[:, 0].tolist() if with_base else None
        for i, row in enumerate(rows):
            offsets = encoded.offsets[row]
            characters = np.zeros(len(texts[row]))
            for (first, last), value in zip(offsets, values[i, begin:], strict=False):
                if last > first:
                    characters[first:last] += value / (last - first)
            found[row] = from_characters(
                method,
                texts[row],
                int(targets[row]),
                characters,
                elsewhere=float(values[i].sum() - characters.sum()),
                base=bases[i] if bases else None,
                signed=signed,
            )
    return [found[i] for i in range(len(texts))]


def _embedding(network: Any) -> torch.nn.Module:
    encoder = getattr(network, "encoder", None)
    if hasattr(encoder, "get_input_embeddings"):
        return encoder.get_input_embeddings()  # type: ignore[union-attr, no-any-return]
    return network.embedding  # type: ignore[no-any-return]


@contextmanager
def _eager(encoder: Any) -> Iterator[None]:
    """Let an encoder return its attention weights, which fused kernels do not have."""
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        encoder.set_attn_implementation(before)
