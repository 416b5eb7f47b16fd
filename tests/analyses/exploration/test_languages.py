"""Parts of `agnews eda` that ask other packages: languages, parsed sentences, typed names."""

from __future__ import annotations

import numpy as np
import pytest

from agnews_exp.analyses.exploration.corpus import ExploredCorpus
from agnews_exp.analyses.exploration.language import languages
from agnews_exp.analyses.exploration.parsing import dependencies, entities
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.data.corpus import Splits, TextRows

ENGLISH = (
    "The government said on Tuesday that the talks with the rebels would go on until the end of the week.",
    "The players were happy with the result of the match, and their coach said that they had deserved to win it.",
)
GERMAN = "Die Regierung sagte am Dienstag, dass die Gespräche mit den Aufständischen bis Ende der Woche dauern würden."


@pytest.fixture
def explore(tmp_path):
    """Return ``corpus(texts, labels) -> ExploredCorpus`` of two classes."""

    def corpus(texts, labels, **settings):
        rows = TextRows(list(texts), np.array(labels), np.arange(len(texts)))
        splits = Splits(rows, rows, rows, ("World", "Sports"), "made up", "nowhere", "0")
        return ExploredCorpus(splits, tmp_path, seed=0, **settings)

    return corpus


@pytest.fixture(scope="module")
def parser(tmp_path_factory):
    """A spaCy pipeline that has learned to parse three sentences by heart and knows one company."""
    spacy = pytest.importorskip("spacy")
    from spacy.training import Example

    pipeline = spacy.blank("en")
    pipeline.add_pipe("tagger")
    pipeline.add_pipe("parser", config={"min_action_freq": 1})
    sentences = [
        (["Dogs", "bark"], [1, 1], ["nsubj", "ROOT"]),
        (["Acme", "said", "that", "dogs", "bark"], [1, 1, 4, 4, 1], ["nsubj", "ROOT", "mark", "nsubj", "ccomp"]),
        (["Cats", "sleep"], [1, 1], ["nsubj", "ROOT"]),
    ]
    examples = [
        Example.from_dict(
            spacy.tokens.Doc(pipeline.vocab, words=words), {"heads": heads, "deps": deps, "tags": ["X"] * len(words)}
        )
        for words, heads, deps in sentences
    ]
    optimizer = pipeline.initialize(lambda: examples)
    for _ in range(40):
        pipeline.update(examples, sgd=optimizer)
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "ORG", "pattern": "Acme"}])
    folder = tmp_path_factory.mktemp("spacy") / "pipeline"
    pipeline.to_disk(folder)
    return str(folder)


def test_texts_in_another_language_are_found_and_listed(explore):
    found = languages(explore([*ENGLISH, GERMAN, *ENGLISH], [0, 1, 0, 0, 1]))
    assert found.metrics["other_share"] == pytest.approx(0.2)
    assert found.metrics["share/de"] == pytest.approx(0.2)
    assert found.metrics["share/en"] == pytest.approx(0.8)
    counts, listed = found.blocks
    ((row_id, label, language, _, text),) = listed.rows
    assert (row_id, label, language, text) == (2, "World", "de", GERMAN)
    assert ("de", 1, 0.2, 1, 0) in counts.rows


def test_uncertain_and_empty_texts_are_in_no_language(explore):
    found = languages(explore([ENGLISH[0], "", "3-2"], [0, 1, 1]))
    assert found.metrics["uncertain"] == pytest.approx(2 / 3)
    assert found.metrics["other_share"] == 0
    assert languages(explore(["", ""], [0, 1])).metrics == {"documents": 2.0, "uncertain": 1.0}


def test_a_list_of_languages_holds_no_text_where_that_is_not_wanted(explore):
    found = languages(explore([*ENGLISH, GERMAN], [0, 1, 0], show_texts=False))
    assert "Regierung" not in str(found)


@pytest.mark.slow
def test_depth_and_root_verbs_come_from_the_parser(explore, parser):
    corpus = explore(["Acme said that dogs bark", "Dogs bark", "Cats sleep"], [0, 1, 1])
    found = dependencies(corpus, spacy_model=parser)
    assert found.metrics["tree_depth/World"] == 2
    assert found.metrics["tree_depth/Sports"] == 1
    assert found.metrics["sentences"] == 1
    *_, verbs = found.blocks
    assert {s.panel: s.y for s in verbs.series} == {"World": ("said",), "Sports": ("bark", "sleep")}


def test_names_get_the_types_that_spacy_gives_them(explore, parser):
    found = entities(explore(["Acme said that dogs bark", "Dogs bark"], [0, 1]), spacy_model=parser)
    assert found.metrics["entities/ORG"] == 1
    assert found.metrics["names_per_text/World"] == 1
    assert found.metrics["names_per_text/Sports"] == 0
    assert found.details["left_out"] == {}


def test_a_pipeline_that_is_missing_or_cannot_parse_is_named(explore, tmp_path):
    spacy = pytest.importorskip("spacy")
    corpus = explore(["Dogs bark"], [0])
    with pytest.raises(MissingDependencyError, match="no_such_pipeline"):
        dependencies(corpus, spacy_model="no_such_pipeline")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(MissingDependencyError, match="no dependency parser"):
        dependencies(corpus, spacy_model=str(tmp_path / "blank"))
