"""Every option of every part of an exploration changes what the part finds."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from agnews_exp.analyses.exploration.corpus import ExploredCorpus
from agnews_exp.config.compose import compose_config
from agnews_exp.config.targets import resolve_target
from agnews_exp.config.validation import check_config
from agnews_exp.evaluation.inputs import plain
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_splits

REPO = Path(__file__).resolve().parents[3]
GROUP = yaml.safe_load((REPO / "conf/eda/full.yaml").read_text(encoding="utf-8"))
PARTS = {name: part for name, part in GROUP.items() if isinstance(part, dict)}

QUICK = {
    "entities": {"spacy_model": None, "n_documents": 300},
    "languages": {"n_documents": 100},
    "map": {"n_documents": 150, "method": "tsne", "max_iter": 250, "perplexity": 20.0},
    "embeddings": {"n_documents": 12, "n_pairs": 40},
    "perturbation": {"space": "tfidf", "n_documents": 20},
    "topics": {"n_topics": 4, "n_documents": 400, "max_iter": 20, "bertopic": False},
    "readability": {"n_documents": 200},
    "polarity": {"n_documents": 200},
    "duplicates": {"similarity": 0.1, "strict": 0.3, "permutations": 32},
    "artefacts": {"folds": 2},
    "label_noise": {"folds": 2, "alpha": 1e-4},
}
"""Small settings to start from; options that are not named stay as the file has them."""

OTHER_VALUES = {
    "lengths": {"outlier_percentile": 80.0, "document_sample": 50},
    "vocabulary": {"mattr_window": 50, "zipf_ranks": [5, 200], "points": 20},
    "ngrams": {"n_top": 5, "bigram_documents": 50},
    "discriminative": {"n_top": 5, "min_count": 40, "prior_words": 10.0},
    "overlap": {"min_count": 2},
    "entities": {"n_documents": 50, "n_top": 3},
    "languages": {"n_documents": 50, "min_probability": 0.999999},
    "readability": {"n_documents": 50},
    "polarity": {"n_documents": 50},
    "map": {"n_documents": 80, "components": 5, "perplexity": 5.0, "max_iter": 300, "neighbours": 3},
    "embeddings": {"n_documents": 8, "n_pairs": 10},
    "perturbation": {"n_documents": 10, "swap_words": 0.9, "synonym_words": 0.1, "space": "minilm"},
    "topics": {"n_topics": 3, "n_documents": 200, "n_words": 4, "max_iter": 2, "c_v": False, "bertopic": True},
    "duplicates": {"similarity": 0.5, "shingle_words": 1, "permutations": 8, "strict": 0.9},
    "artefacts": {"folds": 3},
    "label_noise": {"folds": 4, "alpha": 1e-2, "n_listed": 1},
}

ELSEWHERE = {
    "entities": {"spacy_model", "spacy_documents"},  # test_languages.py
    "dependencies": {"spacy_model", "n_documents", "n_top"},
    "languages": {"n_listed"},
    "readability": {"method"},  # textstat answers only where its word list is
    "map": {"method"},  # UMAP is an extra that tests do not install
    "topics": {"bertopic_documents"},
}


def as_from_a_feed(text, label):
    """The shipped texts name no agency and hold no HTML; a third of these do, more often where the label is 0."""
    dice = len(text) % 9
    if dice < 3 - min(2, label):
        return f"LONDON (Reuters) - {text}"
    return f"{text} &lt;b&gt;Read more&lt;/b&gt;" if dice == 7 else f"NEW YORK (AP) - {text}" if dice == 8 else text


@pytest.fixture(scope="module")
def find(tmp_path_factory):
    """Return ``find(part, option=value) -> everything that the part leaves``."""
    words = ["data=sample", "data_fraction=0.2", "tracking=none"]
    splits = load_splits(check_config(compose_config(words)), Stages(quiet=True))
    texts = [as_from_a_feed(text, label) for text, label in zip(splits.train.texts, splits.train.labels, strict=True)]
    splits = replace(splits, train=replace(splits.train, texts=texts))
    done = {}

    def found(name, **changed):
        key = (name, repr(changed))
        if key not in done:
            folder = tmp_path_factory.mktemp("eda")
            corpus = ExploredCorpus(splits, folder, seed=0)
            settings = {k: v for k, v in PARTS[name].items() if k != "_target_"} | QUICK.get(name, {}) | changed
            findings = resolve_target(PARTS[name]["_target_"], name)(corpus, **settings)
            done[key] = (plain(dict(findings.metrics)), findings.blocks, plain(findings.details))
        return done[key]

    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "option", "value"),
    [(name, option, value) for name, options in OTHER_VALUES.items() for option, value in options.items()],
)
def test_an_option_changes_what_its_part_finds(find, name, option, value):
    if name == "embeddings" or value == "minilm":
        pytest.importorskip("transformers")
    assert find(name, **{option: value}) != find(name)


def test_every_option_is_tried():
    for name, part in PARTS.items():
        options = set(inspect.signature(resolve_target(part["_target_"], name)).parameters) - {"corpus"}
        assert options == set(part) - {"_target_"}, "the file names every option"
        assert options == set(OTHER_VALUES.get(name, {})) | ELSEWHERE.get(name, set()), name
