"""From conf/features to a fitted pipeline: what it holds, what it learns from, that it survives saving."""

import numpy as np
import pytest
import skops.io
from scipy import sparse
from sklearn.base import clone

from agnews_exp.config.compose import compose_config, list_groups
from agnews_exp.config.validation import to_plain
from agnews_exp.core.errors import ConfigError
from agnews_exp.features.build import build_features

NEED_MORE = {"text", "static_embeddings", "minilm_embeddings", "static_minilm", "word2vec_trained"}
FITTABLE = sorted(set(list_groups()["features"]) - NEED_MORE)

TOPICS = (
    "minister talks border treaty election army protest leader",
    "match goal coach season striker league score win",
    "shares profit market bank oil price quarter deal",
    "software web computer space chip network phone users",
)


def corpus(n=160, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    shared = ["the", "a", "of", "to", "on", "said", "new", "for", "in", "with"]
    texts = [
        " ".join(rng.permutation([*rng.choice(TOPICS[k].split(), 6), *rng.choice(shared, 6)])) + "." for k in labels
    ]
    return texts, labels


def features_config(*overrides):
    return to_plain(compose_config(overrides))["features"]


def built(*overrides):
    return build_features(features_config(*overrides))


SMALL = {"svd": ["features.reduce.n_components=5"], "nmf": ["features.reduce.n_components=4"]}


@pytest.mark.parametrize("choice", FITTABLE)
def test_what_a_choice_builds_fits_transforms_and_survives_saving(choice):
    texts, labels = corpus()
    config = features_config(f"features={choice}", *SMALL.get(choice, []))
    pipeline = build_features(config)
    matrix = pipeline.fit_transform(texts, labels)
    assert matrix.shape[0] == len(texts)
    assert matrix.shape[1] > 3
    assert sparse.issparse(matrix) == (config["kind"] == "sparse")
    data = skops.io.dumps(pipeline)
    loaded = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    before, after = pipeline.transform(texts[:9]), loaded.transform(texts[:9])
    assert abs(before - after).max() == 0


@pytest.mark.parametrize("choice", [c for c in FITTABLE if c not in ("hashing", "doc_features", "svd", "nmf")])
def test_a_token_of_held_out_rows_never_becomes_a_feature(choice):
    texts, labels = corpus()
    held_out = ["zyzzyva " + text for text in texts[:40]]
    pipeline = built(f"features={choice}").fit(texts[40:], labels[40:])
    names = list(pipeline.get_feature_names_out())
    assert not any("zyz" in name for name in names)
    control = clone(pipeline).fit([*held_out, *texts[40:]], labels)
    if "select" not in dict(pipeline.steps):  # a selector may rightly drop a token that tells nothing
        assert any("zyz" in name for name in control.get_feature_names_out()), (
            "the token must be one that can be learned"
        )
    before = pipeline.transform(texts[40:60])
    pipeline.transform(held_out)
    assert abs(before - pipeline.transform(texts[40:60])).max() == 0


def test_selection_depends_on_training_labels_only_through_fit():
    texts, labels = corpus()
    kept = built("features=chi2_5k", "features.select.k=20").fit(texts, labels).get_feature_names_out()
    shuffled = built("features=chi2_5k", "features.select.k=20").fit(texts, np.roll(labels, 1)).get_feature_names_out()
    random = np.random.default_rng(0).permutation(labels)
    other = built("features=chi2_5k", "features.select.k=20").fit(texts, random).get_feature_names_out()
    assert set(kept) == set(shuffled), "renaming the classes changes nothing"
    assert set(kept) != set(other)


def test_blocks_stand_side_by_side_and_weights_scale_them():
    texts, labels = corpus()
    plain = built("features=hybrid_tfidf").fit_transform(texts, labels)
    word = built("features=word_tfidf").fit_transform(texts, labels)
    weighted = built("features=hybrid_tfidf", "features.block_weights.char=0.5").fit_transform(texts, labels)
    width = word.shape[1]
    assert abs(plain[:, :width] - word).max() == 0
    assert abs(weighted[:, :width] - word).max() == 0
    assert abs(weighted[:, width:] - 0.5 * plain[:, width:]).max() < 1e-15


def test_a_block_set_to_null_is_left_out():
    texts, labels = corpus()
    without = built("features=hybrid_tfidf", "features.blocks.char=null").fit_transform(texts, labels)
    assert abs(without - built("features=word_tfidf").fit_transform(texts, labels)).max() == 0


def test_augmented_features_are_the_words_and_twelve_more_columns():
    texts, labels = corpus()
    augmented = built("features=augmented_tfidf").fit(texts, labels)
    names = list(augmented.get_feature_names_out())
    assert len(names) == len(built("features=word_tfidf").fit(texts, labels).get_feature_names_out()) + 12
    assert names[-1] == "document__has_phone"


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["features=word_tfidf"], ["blocks"]),
        (["features=word_tfidf", "features.clean=moderate"], ["clean", "blocks"]),
        (["features=word_tfidf", "features/select=chi2", "features/reduce=svd"], ["blocks", "select", "reduce"]),
        (["features=svd", "features/scale=standard"], ["blocks", "reduce", "scale"]),
        (["features=chi2_5k", "features/select=mutual_info"], ["blocks", "select"]),
    ],
)
def test_steps_come_in_order_and_only_when_asked_for(overrides, steps):
    assert [name for name, _ in built(*overrides).steps] == steps


def test_a_reducer_makes_the_features_dense():
    assert features_config("features=word_tfidf", "features/reduce=svd")["kind"] == "dense"
    assert features_config("features=svd")["kind"] == "dense"
    assert features_config("features=svd", "features/reduce=none")["kind"] == "sparse"


def test_a_tokenizer_hands_its_tokens_to_word_blocks_as_they_are():
    texts = ["don't stop", "don't go", "do go"] * 3
    pipeline = built("features=bow", "features.tokenizer=whitespace").fit(texts)
    assert "don't" in pipeline.get_feature_names_out()
    assert "don't" not in built("features=bow").fit(texts).get_feature_names_out()


def test_a_stemmer_joins_word_forms():
    pytest.importorskip("nltk")
    texts = ["prices rise", "price rises", "price rising"] * 2
    names = list(built("features=bow", "features.stemmer=snowball").fit(texts).get_feature_names_out())
    assert names == ["price", "rise"]


def test_text_features_need_no_pipeline():
    assert built("features=text") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"blocks": {}}, "has no blocks"),
        ({"blocks": {"word": None}}, "has no blocks"),
        ({"select": {"k": 5}}, "features.select has arguments"),
        ({"block_weights": {"wrd": 2.0}}, "Did you mean 'word'"),
    ],
)
def test_a_configuration_without_sense_is_refused(change, says):
    with pytest.raises(ConfigError, match=says):
        build_features({**features_config("features=word_tfidf"), **change})
