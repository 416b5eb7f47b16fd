"""Names in texts and the build of their sentences, by spaCy where it is installed."""

from __future__ import annotations

import calendar
import re
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from agnews_exp.analyses.exploration.corpus import ExploredCorpus, boxes, class_pairs, extremes
from agnews_exp.analyses.exploration.vocabulary import jaccard_matrix
from agnews_exp.analyses.findings import Column, Findings, Table, Text
from agnews_exp.analyses.performing import analysis
from agnews_exp.analyses.perturbations import make_variant, perturb
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.drawing import ranked_bars

_CAPITALISED: Final = r"[A-Z][\w&'’-]*\w|[A-Z]"
_SEQUENCE: Final = re.compile(rf"(?:{_CAPITALISED})(?:[ ](?:(?:of|the|for|de|al)[ ])?(?:{_CAPITALISED}))*")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?;:](?:\\)?[\"'”’)]*\s+|\s-{1,2}\s+)[\"'“‘(]*$")


def capitalised_sequences(text: str) -> list[str]:
    """Return the runs of capitalised words of a text: a cheap stand-in for named entities.

    A run of one word that opens a sentence says nothing and is left out. Headlines in title case are taken for one long
    name, so runs of more than four capitalised words are left out too. There are no types (person, place), and names
    that open a sentence alone are missed.
    """
    found = []
    for match in _SEQUENCE.finditer(text):
        words = match.group().split(" ")
        if sum(word[0].isupper() for word in words) > 4 or len(match.group()) < 2:
            continue
        if len(words) == 1 and _SENTENCE_START.search(text[max(0, match.start() - 6) : match.start()]):
            continue
        found.append(match.group())
    return found


def load_spacy(model: str, what: str, exclude: Sequence[str] = ()) -> Any:
    """Load an installed pipeline by its name or folder, for a purpose such as "typed entities".

    Raises:
        MissingDependencyError: spaCy or the pipeline is not installed, or cannot be read.
    """
    try:
        return import_module("spacy").load(model, exclude=list(exclude))
    except (ImportError, OSError, ValueError) as error:
        what_is_missing = "the package 'spacy'" if isinstance(error, ImportError) else f"spaCy's pipeline '{model}'"
        raise MissingDependencyError(
            f"{what.capitalize()} need {what_is_missing}, which is not installed.",
            fix=f"pip install spacy && python -m spacy download {model}",
        ) from error


def tree_depth(heads: Sequence[int]) -> int:
    """Return the most ancestors that a word of a parsed text has, from each word's head; a root is its own head.

    Raises:
        ValueError: The heads make a circle.
    """
    above, at = np.asarray(heads, dtype=np.int64), np.arange(len(heads))
    for depth in range(len(heads) + 1):
        if (above[at] == at).all():
            return depth
        at = above[at]
    raise ValueError("the heads make a circle")


_NO_NAMES = frozenset([*calendar.day_name, *calendar.month_name])
"""Capitalised words that name a day or a month."""

Find = Callable[[list[str]], list[list[tuple[str, str]]]]


@analysis("entities", title="Names")
def entities(
    corpus: ExploredCorpus,
    *,
    n_documents: Annotated[int, Field(ge=1)] = 10000,
    spacy_model: str | None = "en_core_web_sm",
    spacy_documents: Annotated[int, Field(ge=1)] = 1000,
    n_top: Annotated[int, Field(ge=1, le=100)] = 12,
) -> Findings:
    """Count names by class: with spaCy where it and its model are installed, else runs of capitalised words.

    Returns:
        ``names_per_text/<class>``, ``names_jaccard/<class>-<class>``; with spaCy ``entities/<type>``.
    """
    left_out = {}
    find: Find = _proxy
    method, n = "runs of capitalised words (no types; days and months left out)", n_documents
    if spacy_model is not None:
        try:
            find, method, n = _spacy(spacy_model), f"spaCy {spacy_model}", spacy_documents
        except MissingDependencyError as error:
            left_out["spaCy entities"] = str(error)
    drawn = corpus.draw(n, "entities")
    found, labels = find(drawn.texts), drawn.labels
    per_class: list[Counter[str]] = [Counter() for _ in corpus.names]
    types: Counter[str] = Counter()
    for label, names in zip(labels.tolist(), found, strict=True):
        per_class[label].update(name for name, _ in names)
        types.update(kind for _, kind in names if kind)
    frequent = sorted({name for counts in per_class for name, c in counts.items() if c >= 2})
    used = np.array([[counts[name] >= 2 for name in frequent] for counts in per_class], dtype=bool)
    shared = jaccard_matrix(used.reshape(corpus.n_classes, len(frequent)))
    n_texts = np.maximum(np.bincount(labels, minlength=corpus.n_classes), 1).tolist()
    totals = zip(corpus.names, per_class, n_texts, strict=True)
    rates = {name: counts.total() / texts for name, counts, texts in totals}
    metrics = {"documents": float(len(drawn))} | {f"entities/{kind}": float(v) for kind, v in types.items()}
    metrics |= corpus.class_metrics("names_per_text", rates)
    metrics |= corpus.pair_metrics("names_jaccard", class_pairs(corpus.names, shared))
    lists = _most_frequent(corpus.names, per_class, n_top)
    title = "Most frequent names by class"
    note = f"Found by {method} in {len(drawn):,} training texts."
    columns = ("class", Column("names a text", ".2f"), Column("most frequent", width=120))
    blocks = (
        Table("names", "Names by class", columns,
              tuple((name, rates[name], ", ".join(n for n, _ in lists[name])) for name in corpus.names), note=note),
        ranked_bars("entities", title, "occurrences", lists),
    )  # fmt: skip
    details = {"left_out": left_out}
    return Findings(
        f"Names in a text, by class: {extremes(rates)}.",
        blocks if any(lists.values()) else blocks[:1],
        metrics,
        details,
    )


def _most_frequent(names: Sequence[str], per_class: Sequence[Counter[str]], n: int) -> dict[str, list[tuple[str, int]]]:
    """Return each class's most frequent things with their counts; equals by name."""
    return {
        name: sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]
        for name, counts in zip(names, per_class, strict=True)
    }


def _proxy(texts: list[str]) -> list[list[tuple[str, str]]]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    plain_texts = perturb(texts, range(len(texts)), make_variant("html_removed", 1.0), seed=0)
    runs = map(capitalised_sequences, plain_texts)
    return [[(n, "") for n in names if n not in _NO_NAMES and n.lower() not in ENGLISH_STOP_WORDS] for names in runs]


def _spacy(model: str) -> Find:
    pipeline = load_spacy(model, "typed entities", exclude=["lemmatizer", "parser"])

    def find(texts: list[str]) -> list[list[tuple[str, str]]]:
        return [[(e.text, e.label_) for e in document.ents] for document in pipeline.pipe(texts, batch_size=64)]

    return find


@analysis("dependencies", title="Sentences")
def dependencies(
    corpus: ExploredCorpus,
    *,
    spacy_model: str = "en_core_web_sm",
    n_documents: Annotated[int, Field(ge=1)] = 500,
    n_top: Annotated[int, Field(ge=1, le=100)] = 12,
) -> Findings:
    """Parse sentences: how deep their trees are, and what verbs they turn on.

    Returns:
        ``tree_depth/<class>``, the mean over texts of the most ancestors that a word has; ``sentences``, the mean
        number of sentences that the parser sees.

    Raises:
        MissingDependencyError: spaCy or the pipeline is not installed, or the pipeline has no parser.
    """
    pipeline = load_spacy(spacy_model, "dependency trees", exclude=["ner"])
    if "parser" not in pipeline.pipe_names:
        raise MissingDependencyError(
            f"spaCy's pipeline '{spacy_model}' has no dependency parser.",
            fix="eda.dependencies.spacy_model=en_core_web_sm",
        )
    drawn = corpus.draw(n_documents, "dependencies")
    texts, labels = drawn.texts, drawn.labels
    depths, n_sentences = np.zeros(len(texts)), np.zeros(len(texts))
    verbs: list[Counter[str]] = [Counter() for _ in corpus.names]
    for number, document in enumerate(pipeline.pipe(texts, batch_size=64)):
        depths[number] = tree_depth([token.head.i for token in document])
        roots = [sentence.root for sentence in document.sents]
        n_sentences[number] = len(roots)
        verbs[labels[number]].update(
            str(root.lemma_ or root.lower_).lower() for root in roots if root.pos_ in ("VERB", "AUX", "")
        )
    groups = corpus.by_class(labels, depths)
    means = {name: float(values.mean()) for name, values in groups.items()}
    lists = _most_frequent(corpus.names, verbs, n_top)
    text = (
        f"spaCy {spacy_model} on {len(texts):,} training texts, {n_sentences.mean():.2f} sentences a text. Depth: the "
        "most ancestors that a word of the text has."
    )
    title = "Most frequent root verbs by class"
    blocks = (
        Text(text),
        *boxes("tree_depth", "Depth of dependency trees by class", "most ancestors of a word", groups),
        ranked_bars("root_verbs", title, "sentences", lists),
    )
    metrics = {"documents": float(len(texts)), "sentences": float(n_sentences.mean())}
    metrics |= corpus.class_metrics("tree_depth", means)
    return Findings(
        f"Depth of the sentences' trees, by class: {extremes(means)}.",
        blocks if any(lists.values()) else blocks[:-1],
        metrics,
    )
