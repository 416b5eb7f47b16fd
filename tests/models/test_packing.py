"""Without padding every architecture answers and learns exactly as with it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
)

from agnews_exp.core.errors import ConfigError
from agnews_exp.models.encoders import HeadClassifier, MeanPoolClassifier, pack_encoder
from agnews_exp.models.recipes import ScratchEncoder

SIZES = {
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "num_labels": 3,
    "initializer_range": 0.4,
}
CONFIGS = {
    "bert": lambda: BertConfig(**SIZES),
    "roberta": lambda: RobertaConfig(**SIZES),
    "electra": lambda: ElectraConfig(**SIZES, embedding_size=8),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=100, dim=16, n_layers=2, n_heads=2, hidden_dim=32, num_labels=3, initializer_range=0.4
    ),
}
CPU = {"accelerator": "cpu", "precision": "32-true", "attention_dropout": 0.0}


def batch(pad_id):
    """Five texts, two of one length side by side, one as long as the batch, one of a single token."""
    lengths = torch.tensor([12, 7, 7, 3, 1])
    mask = (torch.arange(12)[None, :] < lengths[:, None]).long()
    ids = torch.randint(5, 100, (5, 12), generator=torch.Generator().manual_seed(1))
    return torch.where(mask == 1, ids, pad_id), mask


def answers_and_gradients(network, ids, mask):
    network.eval().zero_grad()
    logits = network(ids, mask)
    (logits * torch.arange(1.0, logits.numel() + 1).view_as(logits)).sum().backward()
    return logits.detach(), {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pooling", ["head", "mean"])
@pytest.mark.parametrize("name", CONFIGS)
def test_answers_and_gradients_equal_those_of_the_padded_batch(name, pooling):
    torch.manual_seed(0)
    config = CONFIGS[name]()
    network = (HeadClassifier if pooling == "head" else MeanPoolClassifier).from_config(config, 0.0)
    ids, mask = batch(config.pad_token_id)
    logits, gradients = answers_and_gradients(network, ids, mask)
    packed = copy.deepcopy(network)
    pack_encoder(packed.encoder, **CPU)
    packed_logits, packed_gradients = answers_and_gradients(packed, ids, mask)
    assert logits.std() > 0.02
    torch.testing.assert_close(packed_logits, logits, rtol=1e-4, atol=1e-5)
    assert packed_gradients.keys() == gradients.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(packed_gradients[parameter], gradient, rtol=1e-3, atol=1e-4, msg=parameter)


def test_the_encoder_computes_no_padding():
    network = HeadClassifier.from_config(CONFIGS["distilbert"](), 0.0)
    ids, mask = batch(0)
    pack_encoder(network.encoder, **CPU)
    seen = []
    network.encoder.distilbert.transformer.layer[0].register_forward_hook(lambda _m, _a, out: seen.append(out.shape))
    assert network(ids, mask).shape == (5, 3)
    assert seen == [(1, int(mask.sum()), 16)]


def test_architecture_with_its_own_attention_is_refused():
    model = AutoModelForSequenceClassification.from_config(DebertaV2Config(**SIZES))
    with pytest.raises(ConfigError, match=r"(?s)DebertaV2Model brings its own attention.*packing=false"):
        pack_encoder(model, **CPU)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accelerator": "mps"}, "no attention for texts of different lengths"),
        ({"accelerator": "cuda", "precision": "32-true"}, "16-bit"),
        ({"accelerator": "cuda", "precision": "bf16-mixed", "attention_dropout": 0.1}, "no dropout"),
    ],
)
def test_device_without_the_kernel_is_refused_with_what_to_set(change, words, monkeypatch):
    from agnews_exp.models import encoders as packing

    monkeypatch.setattr(packing, "_variable_length_kernel", lambda: None if change["accelerator"] == "mps" else max)
    encoder = SimpleNamespace(base_model=HeadClassifier.from_config(CONFIGS["bert"](), 0.0).encoder.bert)
    with pytest.raises(ConfigError, match=words) as caught:
        pack_encoder(encoder, **(CPU | change))
    assert caught.value.fix


@pytest.mark.parametrize("options", [{"compile": True}, {"attention": "sdpa"}])
def test_options_that_packing_excludes_are_refused(options):
    with pytest.raises(ConfigError, match=r"model\.packing=true"):
        ScratchEncoder(packing=True, **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_answers_on_cuda_equal_those_of_the_padded_batch():
    torch.manual_seed(0)
    network = HeadClassifier.from_config(CONFIGS["bert"](), 0.0).cuda().eval()
    packed = copy.deepcopy(network)
    pack_encoder(packed.encoder, accelerator="cuda", precision="bf16-mixed", attention_dropout=0.0)
    ids, mask = (x.cuda() for x in batch(0))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        torch.testing.assert_close(packed(ids, mask), network(ids, mask), rtol=5e-2, atol=5e-2)
