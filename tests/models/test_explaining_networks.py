import numpy as np
import pytest
import torch

from agnews_exp.analyses.explanation.networks import attention, gradient_x_input, integrated_gradients
from agnews_exp.core.errors import ConfigError, MissingDependencyError
from agnews_exp.models.encoders import build_network, load_tokenizer
from agnews_exp.models.inference import TextPredictor
from agnews_exp.models.recipes import BiLSTM, ScratchEncoder, TextCNN

TEXTS = ["The bank raised its rates again today", "Goal", "A new chip doubles the speed of phones", "Talks end", ""]
TARGETS = np.array([0, 1, 2, 0, 1])
SIZES = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "vocabulary": 300, "max_length": 32}
RECIPES = [
    ScratchEncoder(**SIZES),
    ScratchEncoder(**SIZES, pooling="mean"),
    TextCNN(vocabulary=300, embedding_dim=8, n_filters=4, max_length=32),
    BiLSTM(vocabulary=300, embedding_dim=8, hidden_dim=4, max_length=32),
]
every_network = pytest.mark.parametrize(
    "recipe", RECIPES, ids=lambda r: f"{type(r).__name__}-{getattr(r, 'pooling', '')}"
)


def predictor(recipe, network=None):
    tokenizer = load_tokenizer(recipe, TEXTS * 5)
    torch.manual_seed(0)
    if network is None:
        network = build_network(recipe, tokenizer, ("a", "b", "c"))
        with torch.no_grad():  # fresh weights are so small that every word would weigh next to nothing
            for parameter in network.parameters():
                if parameter.dim() > 1:
                    parameter *= 4
    return TextPredictor(network, tokenizer, ("a", "b", "c"), recipe.max_length, torch.device("cpu"))


class SumOfWords(torch.nn.Module):
    """Logits are a sum over tokens: what each token adds is known exactly."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = torch.nn.Embedding(400, 6)
        self.classifier = torch.nn.Linear(6, 3)

    def forward(self, input_ids, attention_mask):
        return self.classifier((self.embedding(input_ids) * attention_mask.unsqueeze(-1)).sum(1))

    def adds(self, token_id, target):
        """What a token adds to a logit."""
        with torch.no_grad():
            return float(self.embedding.weight[token_id] @ self.classifier.weight[target])


def words_add(network, tokenizer, text, target, baseline=0.0):
    """What each word adds, from the ids of its tokens."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    adds = {}
    for token_id, (begin, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        word = text[:begin].count(" ")
        adds[word] = adds.get(word, 0.0) + network.adds(token_id, target) - baseline
    return [adds[i] for i in sorted(adds)]


def test_gradient_x_input_is_exact_where_words_just_add_up():
    network = SumOfWords()
    model = predictor(RECIPES[2], network)
    for text, target, explanation in zip(TEXTS, TARGETS, gradient_x_input(model, TEXTS, TARGETS), strict=True):
        np.testing.assert_allclose(
            explanation.weights, words_add(network, model.tokenizer, text, target), rtol=1e-4, atol=1e-5
        )
        logit = model.predict([text]).scores[0, target]
        assert explanation.total == pytest.approx(logit - network.classifier.bias[target].item(), abs=1e-4)


def test_integrated_gradients_are_exact_where_words_just_add_up():
    pytest.importorskip("captum")
    network = SumOfWords()
    model = predictor(RECIPES[2], network)
    (explanation,) = integrated_gradients(model, TEXTS[:1], TARGETS[:1], steps=4)
    padding = network.adds(model.tokenizer.pad_token_id, 0)
    expected = words_add(network, model.tokenizer, TEXTS[0], 0, padding)
    np.testing.assert_allclose(explanation.weights, expected, rtol=1e-4, atol=1e-5)


@every_network
def test_explanation_does_not_depend_on_what_else_is_explained(recipe):
    model = predictor(recipe)
    together = gradient_x_input(model, TEXTS, TARGETS)
    for text, target, explanation in zip(TEXTS, TARGETS, together, strict=True):
        (alone,) = gradient_x_input(model, [text], np.array([target]))
        np.testing.assert_allclose(explanation.weights, alone.weights, rtol=1e-3, atol=1e-6)
        assert explanation.text == text
        assert explanation.target == target
    assert np.abs(together[0].weights).sum() > 1e-3
    assert all(parameter.grad is None for parameter in model.network.parameters())


@pytest.mark.slow
@every_network
def test_integrated_gradients_add_up_to_the_logit(recipe):
    pytest.importorskip("captum")
    model = predictor(recipe)
    scores = model.predict(TEXTS).scores
    for i, explanation in enumerate(integrated_gradients(model, TEXTS, TARGETS, steps=128)):
        assert explanation.total == pytest.approx(scores[i, TARGETS[i]], abs=0.02 * max(1.0, np.abs(scores).max()))


@pytest.mark.slow
def test_more_points_bring_the_integral_closer_to_the_logit():
    pytest.importorskip("captum")
    model = predictor(RECIPES[0])
    scores = model.predict(TEXTS).scores[np.arange(len(TEXTS)), TARGETS]
    errors = [
        sum(abs(e.total - s) for e, s in zip(integrated_gradients(model, TEXTS, TARGETS, steps=n), scores, strict=True))
        for n in (2, 64)
    ]
    assert errors[1] < errors[0]


def test_missing_captum_is_named_with_its_extra(hide):
    hide("captum")
    with pytest.raises(MissingDependencyError, match="captum") as caught:
        integrated_gradients(predictor(RECIPES[2]), TEXTS, TARGETS)
    assert "agnews-exp[explain]" in str(caught.value)


@pytest.mark.parametrize("rollout", [False, True])
@pytest.mark.parametrize("recipe", RECIPES[:2], ids=["head", "mean"])
def test_attention_is_shared_out_whole(recipe, rollout):
    model = predictor(recipe)
    encoder = model.network.encoder
    before = encoder.config._attn_implementation
    for explanation in attention(model, TEXTS, TARGETS, rollout=rollout):
        assert explanation.total == pytest.approx(1, abs=1e-5)
        assert (explanation.weights >= 0).all()
        assert not explanation.signed
    assert encoder.config._attn_implementation == before


@pytest.mark.parametrize("rollout", [False, True])
def test_attention_is_what_the_definition_says(rollout):
    model = predictor(RECIPES[0])
    text = "Talks end"
    (explanation,) = attention(model, [text], np.array([0]), rollout=rollout)
    encoder = model.network.encoder
    encoder.set_attn_implementation("eager")
    encoded = model.tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        maps = encoder(
            input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], output_attentions=True
        ).attentions
    layers = [layer[0].numpy().mean(axis=0) for layer in maps]
    mixed = layers[-1]
    if rollout:
        mixed = np.linalg.multi_dot([(layer + np.eye(len(layer))) / 2 for layer in layers[::-1]])
    from_first = mixed[0]
    expected = [
        sum(w for w, (a, b) in zip(from_first, offsets, strict=True) if b > a and begin <= a < end)
        for begin, end in explanation.spans
    ]
    np.testing.assert_allclose(explanation.weights, expected, atol=1e-5)


def test_network_without_attention_says_so():
    with pytest.raises(ConfigError, match="TextCNNNetwork has no attention"):
        attention(predictor(RECIPES[2]), TEXTS, TARGETS)


def test_words_that_the_network_never_saw_weigh_nothing():
    recipe = ScratchEncoder(**{**SIZES, "max_length": 8})
    model = predictor(recipe)
    long = " ".join(["bank"] * 30)
    (explanation,) = gradient_x_input(model, [long], np.array([0]))
    seen = np.flatnonzero(explanation.weights)
    assert 0 < len(seen) <= 6
    assert seen.max() < 6
