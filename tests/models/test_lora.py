"""LoRA trains a small part of the weights and leaves a plain network behind."""

from __future__ import annotations

import pytest
import torch

from agnews_exp.core.errors import ConfigError
from agnews_exp.models.encoders import build_network, load_tokenizer
from agnews_exp.models.recipes import ScratchEncoder

pytest.importorskip("peft", reason="needs the extra lora")

TEXTS = ["the bank raised its rates", "the team won the final"] * 20
SIZES = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocabulary": 300, "max_length": 16}


def network(**options):
    recipe = ScratchEncoder(**SIZES, lora_rank=2, **options)
    tokenizer = load_tokenizer(recipe, TEXTS)
    torch.manual_seed(0)
    return build_network(recipe, tokenizer, ("a", "b")), tokenizer


def test_only_adapters_and_classifier_are_trained():
    built, _ = network()
    trained = {n for n, p in built.named_parameters() if p.requires_grad}
    assert all("lora_" in n or built.is_head(n) for n in trained)
    assert any(built.is_head(n) for n in trained)
    assert (
        sum(p.numel() for p in built.parameters() if p.requires_grad) < sum(p.numel() for p in built.parameters()) / 3
    )


def test_alpha_scales_what_adapters_add_and_dropout_is_theirs_alone():
    def answers(training, **options):
        built, tokenizer = network(dropout=0.0, attention_dropout=0.0, **options)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, parameter in built.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()
        batch = tokenizer(TEXTS[:2], return_tensors="pt", padding=True)
        built.train(training)
        return [built(batch["input_ids"], batch["attention_mask"]) for _ in range(2)]

    small, _ = answers(False, lora_alpha=1)
    large, again = answers(False, lora_alpha=8)
    assert not torch.allclose(small, large)
    assert torch.equal(large, again)
    first, second = answers(True, lora_dropout=0.5)
    assert not torch.equal(first, second)
    first, second = answers(True, lora_dropout=0.0)
    assert torch.equal(first, second)


def test_merged_network_answers_the_same_without_adapters():
    from agnews_exp.models.encoders import merge_adapters

    built, tokenizer = network()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    batch = tokenizer(TEXTS[:2], return_tensors="pt", padding=True)
    before = built.eval()(batch["input_ids"], batch["attention_mask"])
    merge_adapters(built)
    assert not [n for n, _ in built.named_parameters() if "lora_" in n]
    torch.testing.assert_close(built(batch["input_ids"], batch["attention_mask"]), before, rtol=1e-4, atol=1e-5)


def test_unknown_target_names_the_layers_that_exist():
    with pytest.raises(ConfigError, match=r"(?s)querry.*q_lin"):
        network(lora_targets=["querry"])
