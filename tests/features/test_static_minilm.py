"""Static vectors of an encoder's word pieces: distilled once, saved whole, explained by word; and SetFit."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from agnews_exp.analyses.explanation.linear import additive, linear_view
from agnews_exp.config.compose import compose_config
from agnews_exp.config.validation import to_plain
from agnews_exp.core.cache import cache_info
from agnews_exp.core.errors import DataError
from agnews_exp.features.build import build_features
from agnews_exp.features.sentence_embeddings import shared_vectors
from agnews_exp.features.static_minilm import StaticVectors, principal_components
from agnews_exp.models.encoders import load_tokenizer
from agnews_exp.models.persistence import load_pipeline, save_pipeline
from agnews_exp.models.recipes import ScratchEncoder
from agnews_exp.models.setfit import SetFit

WORDS = {0: "oil price bank market shares profit trade", 1: "goal coach match league striker season cup"}
TEXTS = [" ".join(np.random.default_rng(i).permutation(WORDS[i % 2].split())[:4]) for i in range(40)]
LABELS = np.arange(40) % 2


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder with a BERT of random weights that knows these words."""
    from transformers import AutoModel, BertConfig

    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = load_tokenizer(ScratchEncoder(vocabulary=300, max_length=16), TEXTS)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    AutoModel.from_config(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def features(folder, *words):
    chosen = ["features=static_minilm", f"features.embeddings_path={folder}", "features.reduce.dimension=8", *words]
    return build_features(to_plain(compose_config(chosen))["features"])


def test_vectors_are_principal_components_whose_signs_do_not_hang_on_the_solver():
    raw = np.random.default_rng(0).normal(2, 1, (60, 6)).astype(np.float32) * np.arange(1, 7)
    raw[3] = 0  # a special token
    known = np.delete(raw, 3, axis=0).astype(float)
    found = principal_components(raw, 4)
    assert not found[3].any()
    theirs = PCA(4).fit(known)
    mine = np.delete(found, 3, axis=0)
    np.testing.assert_allclose(np.abs(mine), np.abs(theirs.transform(known)), atol=1e-6)
    axes = np.linalg.lstsq(known - known.mean(axis=0), mine, rcond=None)[0]
    assert (axes[np.abs(axes).argmax(axis=0), np.arange(4)] > 0).all()


@pytest.mark.slow
def test_with_all_dimensions_vectors_lie_as_far_apart_as_the_encoders_own(encoder):
    from transformers import AutoModel, AutoTokenizer

    step = StaticVectors(str(encoder), dimension=16, sif=None).fit(None)
    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    ids = tokenizer.convert_tokens_to_ids(["oil", "goal", "cup"])
    with torch.inference_mode():
        texts = [tokenizer(word, return_tensors="pt") for word in ("oil", "goal", "cup")]
        alone = [model(**text).last_hidden_state[0].mean(0) for text in texts]
    own = step.vectors_[ids].astype(float)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(own[i] - own[j]) == pytest.approx(float((alone[i] - alone[j]).norm()), abs=5e-3)
    assert not step.vectors_[tokenizer.all_special_ids].any()
    less = StaticVectors(str(encoder), dimension=16, sif=1e-4).fit(None).vectors_
    ratio = np.linalg.norm(less, axis=1)[ids] / np.linalg.norm(own, axis=1)
    assert (np.diff(ratio[np.argsort(ids)]) > 0).all()  # the rarer a word, the more it weighs


@pytest.mark.slow
def test_a_saved_model_answers_alike_without_its_encoder_and_is_explained_by_word(encoder, tmp_path):
    copy = tmp_path / "encoder"
    shutil.copytree(encoder, copy)
    with shared_vectors(tmp_path / "cache"):
        pipeline = features(copy)
        matrix = pipeline.fit_transform(TEXTS, LABELS)
        np.testing.assert_array_equal(features(copy).fit_transform(TEXTS, LABELS), matrix)
    assert cache_info(tmp_path / "cache").by_kind["static"][0] == 1
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1)
    whole = Pipeline([("features", pipeline), ("model", LogisticRegression(C=10).fit(matrix, LABELS))])
    save_pipeline(whole, tmp_path / "model", ("money", "sport"))
    shutil.rmtree(copy)
    loaded = load_pipeline(tmp_path / "model")
    asked = [*TEXTS[:4], "", "\ud800 OIL!", "caf\u00e9 goal"]
    np.testing.assert_array_equal(loaded.predict_proba(asked), whole.predict_proba(asked))
    view = linear_view(loaded)
    margins = loaded.decision_function(asked)
    for text, explained, margin in zip(asked, additive(view, asked, np.ones(len(asked), int)), margins, strict=True):
        total = explained.base + explained.elsewhere + explained.weights.sum()
        assert total == pytest.approx(margin, abs=1e-8)
        assert explained.elsewhere == pytest.approx(0, abs=1e-8)  # every word piece has its place in the text
        assert len(explained.weights) == len(text.split()) or text == asked[5]


@pytest.mark.slow
def test_a_folder_without_an_encoder_is_named_with_what_it_lacks(encoder, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"features\.embeddings_path=.*lacks model\.safetensors and tokenizer\.json"):
        features(tmp_path).fit(TEXTS)


@pytest.mark.slow
def test_setfit_draws_texts_of_a_class_together_and_saves_what_it_has_learned(encoder, tmp_path):
    chosen = {"pretrained_path": str(encoder), "learning_rate": 1e-3, "batch_size": 8, "random_state": 1}

    def gap(model):
        vectors = model._embed(TEXTS)
        alike = LABELS[:, None] == LABELS[None, :]
        return (vectors @ vectors.T)[alike].mean() - (vectors @ vectors.T)[~alike].mean()

    before, after, again = (SetFit(epochs=n, **chosen).fit(TEXTS, LABELS) for n in (0, 6, 6))
    assert gap(after) > gap(before) + 0.2
    np.testing.assert_array_equal(after.predict_proba(TEXTS), again.predict_proba(TEXTS))
    assert (after.predict(TEXTS) == LABELS).all()
    save_pipeline(Pipeline([("model", after)]), tmp_path / "model")
    np.testing.assert_allclose(
        load_pipeline(tmp_path / "model").predict_proba(TEXTS[:5]), after.predict_proba(TEXTS[:5]), atol=1e-6
    )
    with pytest.raises(ValueError, match="one class only"):
        SetFit(**chosen).fit(TEXTS, np.zeros(40, int))
