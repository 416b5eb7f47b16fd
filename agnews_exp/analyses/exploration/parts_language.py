"""Names, readability and polarity by class; language models are used where they are installed."""

from __future__ import annotations

import calendar
import contextlib
import io
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors.attributes import AGENCIES
from agnews_exp.analyses.errors.tables import markdown_table
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.boxes import box_part, by_class, extremes
from agnews_exp.analyses.exploration.context import EdaContext
from agnews_exp.analyses.exploration.measures.language import capitalised_sequences
from agnews_exp.analyses.exploration.measures.language import readability as flesch
from agnews_exp.analyses.exploration.measures.vocabulary import jaccard_matrix
from agnews_exp.analyses.exploration.spacy_pipelines import load_spacy
from agnews_exp.analyses.exploration.wording import reasons
from agnews_exp.analyses.robustness.perturbations import make_variant, perturb
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.metrics import column_key

_NO_NAMES = frozenset([*calendar.day_name, *calendar.month_name]).union(*AGENCIES.values())
"""Capitalised words that name a day, a month, or the text's source."""

Find = Callable[[list[str]], list[list[tuple[str, str]]]]


def entities(
    context: EdaContext,
    *,
    n_documents: Annotated[int, Field(ge=1)] = 10000,
    spacy_model: str | None = "en_core_web_sm",
    spacy_documents: Annotated[int, Field(ge=1)] = 1000,
    n_top: Annotated[int, Field(ge=1, le=100)] = 12,
) -> Findings:
    """Count names by class: with spaCy where it and its model are installed, else runs of capitalised words.

    Args:
        context: The corpus.
        n_documents: Training texts that runs of capitalised words are looked for in.
        spacy_model: Name of an installed spaCy pipeline; null does not look for one.
        spacy_documents: Training texts that spaCy reads: it is some hundred times as slow.
        n_top: Names of each class to list.

    Returns:
        ``names_per_text/<class>``, ``names_jaccard/<class>-<class>``; with spaCy ``entities/<type>``.
    """
    left_out = {}
    find: Find = _proxy
    method, n = "runs of capitalised words (no types; days, months and agencies left out)", n_documents
    if spacy_model is not None:
        try:
            find, method, n = _spacy(spacy_model), f"spaCy {spacy_model}", spacy_documents
        except MissingDependencyError as error:
            left_out["spaCy entities"] = str(error)
    positions = context.sample(n, "entities")
    found = find([context.train.texts[i] for i in positions.tolist()])
    labels = context.train.labels[positions]
    per_class: list[Counter[str]] = [Counter() for _ in context.names]
    types: Counter[str] = Counter()
    for label, names in zip(labels.tolist(), found, strict=True):
        per_class[label].update(name for name, _ in names)
        types.update(kind for _, kind in names if kind)
    frequent = sorted({name for counts in per_class for name, c in counts.items() if c >= 2})
    used = np.array([[counts[name] >= 2 for name in frequent] for counts in per_class], dtype=bool)
    shared = jaccard_matrix(used.reshape(context.n_classes, len(frequent)))
    metrics = {"documents": float(len(positions))} | {f"entities/{k}": float(v) for k, v in types.items()}
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(context.names):
        n_texts = int((labels == k).sum())
        metrics[f"names_per_text/{column_key(name, context.names)}"] = per_class[k].total() / max(1, n_texts)
        top = sorted(per_class[k].items(), key=lambda item: (-item[1], item[0]))[:n_top]
        rows += [{"class": name, "name": entity, "count": count} for entity, count in top]
        for j in range(k + 1, context.n_classes):
            pair = f"{column_key(name, context.names)}-{column_key(context.names[j], context.names)}"
            metrics[f"names_jaccard/{pair}"] = float(shared[k, j])
    lists = {name: [(str(r["name"]), float(r["count"])) for r in rows if r["class"] == name] for name in context.names}
    if any(lists.values()):
        figure = drawing.bar_panels({k: v for k, v in lists.items() if v}, "occurrences")
        context.draw("entities", "Most frequent names by class", figure, rows)
    cells = [
        [
            name,
            f"{metrics[f'names_per_text/{column_key(name, context.names)}']:.2f}",
            ", ".join(n for n, _ in lists[name]),
        ]
        for name in context.names
    ]
    summary = (
        f"## Names\n\nFound by {method} in {len(positions):,} training texts.\n\n"
        + markdown_table(
            ["class", "names a text", "most frequent"], [[c.replace("|", "\\|") for c in r] for r in cells]
        )
        + reasons(left_out)
    )
    rates = {name: metrics[f"names_per_text/{column_key(name, context.names)}"] for name in context.names}
    details = {
        "method": method,
        "headline": f"names a text: {extremes(rates)}",
        "types": dict(types),
        "jaccard": shared,
        "left_out": left_out,
    }
    return Findings(metrics, summary, plain(details))


def _proxy(texts: list[str]) -> list[list[tuple[str, str]]]:
    plain_texts = perturb(texts, range(len(texts)), make_variant("html_removed", 1.0), seed=0)
    return [[(name, "") for name in capitalised_sequences(text) if _may_be_name(name)] for text in plain_texts]


def _may_be_name(words: str) -> bool:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return words not in _NO_NAMES and words.lower() not in ENGLISH_STOP_WORDS


def _spacy(model: str) -> Find:
    pipeline = load_spacy(model, "typed entities", exclude=["lemmatizer", "parser"])

    def find(texts: list[str]) -> list[list[tuple[str, str]]]:
        return [[(e.text, e.label_) for e in document.ents] for document in pipeline.pipe(texts, batch_size=64)]

    return find


def readability(
    context: EdaContext,
    *,
    n_documents: Annotated[int, Field(ge=1)] = 5000,
    method: Literal["auto", "rules", "textstat"] = "auto",
) -> Findings:
    """Measure the Flesch reading ease of each class's texts.

    Args:
        context: The corpus.
        n_documents: Training texts to read.
        method: ``textstat`` looks syllables up (package textstat, as the study did), ``rules`` counts groups of vowels;
            ``auto`` takes the former where it is installed.

    Returns:
        ``flesch/<class>``, the mean.
    """
    positions = context.sample(n_documents, "readability")
    texts = [context.train.texts[i] for i in positions.tolist()]
    left_out, used = {}, "syllables by groups of vowels"
    scores: NDArray[np.float64] | None = None
    if method != "rules":
        try:
            scores, used = _textstat(texts), "textstat"
        except MissingDependencyError as error:
            if method == "textstat":
                raise
            left_out["textstat"] = str(error)
    groups = by_class(context, positions, flesch(texts) if scores is None else scores)
    means = box_part(context, "readability", "Reading ease by class", groups, "Flesch reading ease", (-40, 110))
    cells = [[name, f"{mean:.2f}", f"{np.median(groups[name]):.2f}"] for name, mean in means.items()]
    summary = (
        f"## Readability\n\nFlesch reading ease ({used}) of {len(texts):,} training texts: 60 to 70 is plain English, "
        f"below 30 very difficult.\n\n{markdown_table(['class', 'mean', 'median'], cells, 2)}{reasons(left_out)}"
    )
    metrics = {f"flesch/{column_key(name, context.names)}": mean for name, mean in means.items()}
    return Findings(metrics, summary, {"method": used, "headline": extremes(means), "left_out": left_out})


def _textstat(texts: list[str]) -> NDArray[np.float64]:
    try:
        ease = import_module("textstat").flesch_reading_ease
        with contextlib.redirect_stdout(io.StringIO()):  # NLTK says there that it could not fetch its word list
            return np.array([ease(text) for text in texts], dtype=np.float64)
    except (ImportError, LookupError, OSError) as error:  # it may look for a word list that is not on this machine
        raise MissingDependencyError(
            f"Syllables from a dictionary need the package 'textstat' ({type(error).__name__}).",
            fix="pip install 'agnews-exp[readability]'",
        ) from error


def polarity(context: EdaContext, *, n_documents: Annotated[int, Field(ge=1)] = 2000) -> Findings:
    """Measure the polarity of each class's texts, from -1 to 1, with TextBlob or else VADER.

    Args:
        context: The corpus.
        n_documents: Training texts to read.

    Returns:
        ``polarity/<class>``, the mean.

    Raises:
        MissingDependencyError: Neither is installed with its word list.
    """
    score, method = _polarity()
    positions = context.sample(n_documents, "polarity")
    values = np.array([score(context.train.texts[i]) for i in positions.tolist()], dtype=np.float64)
    groups = by_class(context, positions, values)
    means = box_part(context, "polarity", "Polarity by class", groups, f"polarity ({method})", (-1, 1))
    cells = [[name, f"{mean:.4f}", f"{(groups[name] == 0).mean():.1%}"] for name, mean in means.items()]
    summary = f"## Polarity\n\n{method} on {len(values):,} training texts, from -1 to 1.\n\n" + markdown_table(
        ["class", "mean", "texts with exactly 0"], cells, 2
    )
    metrics = {f"polarity/{column_key(name, context.names)}": mean for name, mean in means.items()}
    left_out = {} if method == "TextBlob" else {"TextBlob": f"{method} was used instead."}
    return Findings(metrics, summary, {"method": method, "headline": extremes(means), "left_out": left_out})


def _polarity() -> tuple[Callable[[str], float], str]:
    try:
        blob = import_module("textblob").TextBlob
        blob("a good text").sentiment.polarity  # noqa: B018  # fails here when a word list is missing
        return lambda text: float(blob(text).sentiment.polarity), "TextBlob"
    except (ImportError, LookupError, OSError):
        pass
    analyser: Any = None
    for module in ("vaderSentiment.vaderSentiment", "nltk.sentiment.vader"):
        try:
            analyser = import_module(module).SentimentIntensityAnalyzer()
            break
        except (ImportError, LookupError, OSError):
            continue
    if analyser is None:
        raise MissingDependencyError(
            "Polarity needs TextBlob or VADER with its word list, and neither is installed.", fix="pip install textblob"
        )
    return lambda text: float(analyser.polarity_scores(text)["compound"]), "VADER"
