"""Encoders of any architecture from a local folder, and models of the hub that are pinned when they are first used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    ModernBertConfig,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
)

from agnews_exp.config.compose import compose_config
from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import check_config
from agnews_exp.core.errors import ConfigError
from agnews_exp.models.encoders import build_network, load_tokenizer, settled
from agnews_exp.models.recipes import PretrainedEncoder, ScratchEncoder, pinned

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ENCODERS = {
    "bert": (BertConfig, SIZES | {"max_position_embeddings": 40}),
    "distilbert": (DistilBertConfig, {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    "roberta": (RobertaConfig, SIZES | {"max_position_embeddings": 42}),
    "xlm-roberta": (XLMRobertaConfig, SIZES | {"max_position_embeddings": 42}),
    "deberta-v2": (DebertaV2Config, SIZES | {"pooler_hidden_size": 16}),
    "electra": (ElectraConfig, SIZES | {"embedding_size": 16}),
    "modernbert": (ModernBertConfig, SIZES | {"max_position_embeddings": 8192}),
}
TEXTS = ["the bank raised its rates again", "goal", "a new chip doubles the speed of phones"] * 3


@pytest.fixture
def tokenizer():
    return load_tokenizer(ScratchEncoder(vocabulary=300, max_length=16), TEXTS)


@pytest.fixture
def folder(tmp_path, tokenizer):
    """Write a model of random weights as somebody else's training leaves it."""

    def write(config_class, sizes):
        from transformers import AutoModel

        names = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        config = config_class(vocab_size=len(tokenizer), **sizes, **dict.fromkeys(names, tokenizer.pad_token_id))
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return str(tmp_path)

    return write


@pytest.mark.parametrize("pooling", ["head", "mean"])
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_a_local_folder_is_fine_tuned(name, pooling, folder, tokenizer):
    recipe = settled(PretrainedEncoder(pretrained_path=folder(*ENCODERS[name]), max_length=32, pooling=pooling))
    network = build_network(recipe, load_tokenizer(recipe, []), ("a", "b", "c"))
    encoded = tokenizer(TEXTS[:3], padding=True, return_tensors="pt")
    logits = network(encoded["input_ids"], encoded["attention_mask"])
    assert logits.shape == (3, 3)
    logits.square().sum().backward()
    idle = [n for n, parameter in network.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert idle == [], "every weight gets a gradient, or several processes would wait for it"


NAMED = {
    "distilbert": "distilbert", "distilroberta": "roberta", "bert_base": "bert", "roberta_base": "roberta",
    "deberta_v3_base": "deberta-v2", "electra_small": "electra", "modernbert_base": "modernbert",
    "xlm_roberta": "xlm-roberta",
}  # fmt: skip


def test_each_named_model_loads_from_a_local_folder_and_keeps_to_its_limit(folder, tokenizer):
    for name, architecture in NAMED.items():
        words = [f"model={name}", f"model.pretrained_path={folder(*ENCODERS[architecture])}", "model.max_length=auto"]
        checked = check_config(compose_config(words))
        assert checked.run.model.name == name
        recipe = settled(safe_instantiate(checked.component("model"), "model"))
        network = build_network(recipe, load_tokenizer(recipe, []), ("a", "b", "c"))
        ids = torch.full((2, recipe.longest), 5)
        assert network(ids, torch.ones_like(ids)).shape == (2, 3), "a text of the greatest length"


def test_a_length_that_is_auto_is_what_the_encoder_takes_and_at_most_512(folder):
    assert settled(PretrainedEncoder(pretrained_path=folder(*ENCODERS["bert"]), max_length="auto")).longest == 40
    assert settled(PretrainedEncoder(pretrained_path=folder(*ENCODERS["modernbert"]), max_length="auto")).longest == 512
    roberta = PretrainedEncoder(pretrained_path=folder(*ENCODERS["roberta"]), max_length="auto")
    assert settled(roberta).longest == 42 - roberta_padding(roberta) - 1
    with pytest.raises(ConfigError, match="longer than the") as caught:
        settled(PretrainedEncoder(pretrained_path=roberta.pretrained_path, max_length=64))
    assert caught.value.fix == f"model.max_length={settled(roberta).longest}"


def roberta_padding(recipe):
    with open(os.path.join(recipe.pretrained_path, "config.json")) as file:  # noqa: PTH118, PTH123
        return json.load(file)["pad_token_id"]


@pytest.mark.parametrize(
    ("config_class", "sizes"),
    [(T5Config, {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2})],
)
def test_a_model_that_writes_texts_is_refused_by_its_architecture(config_class, sizes, folder):
    with pytest.raises(ConfigError, match=r"t5 model.*classifier"):
        settled(PretrainedEncoder(pretrained_path=folder(config_class, sizes), max_length=16))


def test_a_tokenizer_without_padding_is_refused(folder, tmp_path):
    path = folder(GPT2Config, {"n_embd": 16, "n_layer": 1, "n_head": 2})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(ConfigError, match="no padding token"):
        load_tokenizer(PretrainedEncoder(pretrained_path=path, max_length=16), [])


def test_a_folder_without_a_tokenizer_says_what_it_lacks(folder, tmp_path):
    path = folder(*ENCODERS["bert"])
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="no vocabulary"):
        load_tokenizer(PretrainedEncoder(pretrained_path=path, max_length=16), [])


def test_a_hub_model_without_revision_gets_the_newest_commit_of_the_cache_when_the_hub_is_away(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    asked = {"pretrained": "someone/tiny", "learning_rate": 1e-5}
    with pytest.raises(ConfigError, match=r"model\.pretrained=someone/tiny cannot be loaded"):
        pinned(asked)
    commit = "b" * 40
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "models--someone--tiny" / "blobs"
    blobs.mkdir()
    (blobs / "x").write_text("{}")
    (snapshot / "config.json").symlink_to(blobs / "x")
    assert pinned(asked) == asked | {"pretrained": f"someone/tiny@{commit}"}
    assert pinned({"student": asked})["student"]["pretrained"].endswith(commit)
    for settled_already in ({"pretrained": "someone/tiny@v1"}, asked | {"pretrained_path": "/somewhere"}):
        assert pinned(settled_already) == settled_already
    shutil.rmtree(tmp_path / "models--someone--tiny")


@pytest.mark.slow
def test_a_run_takes_any_encoder_and_its_record_says_which(folder, project):
    path = folder(*ENCODERS["electra"])
    words = ("model=hf", f"model.pretrained_path={path}", "data=sample", "data_fraction=0.05", "trainer=cpu")
    done = project.run(*words, "trainer.max_epochs=1", "model.learning_rate=1e-3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.result()["model"] == Path(path).name
