"""Languages, reading ease and polarity of texts; other packages are used where they are installed."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from agnews_exp.analyses.exploration.corpus import ExploredCorpus, boxes, extremes
from agnews_exp.analyses.findings import Column, Columns, Findings, Table, Text
from agnews_exp.analyses.performing import analysis
from agnews_exp.analyses.perturbations import make_variant, perturb
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.data.inspection import language_identifier
from agnews_exp.evaluation.inputs import FloatArray

_WORD: Final = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)?")
_VOWELS: Final = re.compile(r"[aeiouy]+")
_SPOKEN: Final = ("shes", "ches", "ges")
_SENTENCE: Final = re.compile(r"[.!?]+(?:\s|$)")


def syllables(word: str) -> int:
    """Return the number of syllables of an English word by its groups of vowels, at least 1.

    A final silent e (but not -le behind a consonant) and a final -es or -ed that is not spoken are not counted.
    """
    lower = word.lower()
    count = len(_VOWELS.findall(lower))
    silent_e = lower.endswith("e") and not re.search(r"[^aeiouy]le$", lower)
    silent_ending = re.search(r"[^aeiouytd]ed$|[^aeiouyszxc]es$", lower) and not lower.endswith(_SPOKEN)
    return max(1, count - 1 if silent_e or silent_ending else count)


def flesch_reading_ease(text: str) -> float:
    """Return 206.835 - 1.015 words / sentences - 84.6 syllables / words (Flesch 1948); NaN without words.

    About 60 to 70 is plain English, below 30 very difficult.
    """
    words = _WORD.findall(text)
    if not words:
        return float("nan")
    sentences = max(1, len(_SENTENCE.findall(text)))
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * sum(map(syllables, words)) / len(words)


@analysis("languages", title="Languages")
def languages(
    corpus: ExploredCorpus,
    *,
    n_documents: Annotated[int, Field(ge=1)] = 5000,
    min_probability: Annotated[float, Field(gt=0, lt=1)] = 0.9,
    n_listed: Annotated[int, Field(ge=0)] = 200,
) -> Findings:
    """Find the texts that are not in the language of most.

    HTML residue is removed first. Short texts full of names are often taken for another language, so only texts whose
    language is found with some certainty count.

    Returns:
        ``share/<language>`` (ISO 639-1) for the languages found with certainty, ``uncertain``, ``other_share``: certain
        texts that are not in the most frequent language, over all.

    Raises:
        MissingDependencyError: py3langid is not installed.
    """
    identify = language_identifier()
    drawn = corpus.draw(n_documents, "languages")
    raw, labels = drawn.texts, drawn.labels
    texts = perturb(raw, range(len(raw)), make_variant("html_removed", 1.0), seed=0)
    found = [identify(text) if text.strip() else ("", 0.0) for text in texts]
    sure = np.array([probability >= min_probability for _, probability in found])
    language_of = np.array([language for language, _ in found])
    counts = Counter(language_of[sure].tolist())
    if not counts:
        said = Text("The language of no text is certain.")
        return Findings(said.text, (said,), {"documents": float(len(raw)), "uncertain": 1.0})
    main = counts.most_common(1)[0][0]
    other = sure & (language_of != main)
    uncertain = float(1 - sure.mean())
    metrics = {"documents": float(len(raw)), "uncertain": uncertain, "other_share": float(other.mean())}
    metrics |= {f"share/{language}": n / len(raw) for language, n in counts.items()}
    rows = []
    for language, n in counts.most_common():
        by_class = np.bincount(labels[sure & (language_of == language)], minlength=corpus.n_classes)
        rows.append((language, n, n / len(raw), *by_class.tolist()))
    listed = tuple(
        (int(drawn.row_ids[i]), corpus.names[labels[i]], *found[i], *corpus.shown(raw[i]))
        for i in np.flatnonzero(other)[:n_listed].tolist()
    )
    note = (
        f"py3langid on {len(raw):,} training texts without HTML residue: {other.sum():,} ({other.mean():.2%}) are in "
        f"another language than {main} with a probability of {min_probability:g} or more; {uncertain:.1%} of the texts "
        "are not certain. Read them before you drop them: lists of names and tables of results are taken for other "
        "languages."
    )
    columns: Columns = (Column("row_id", "id"), "class", "language", Column("probability", ".2f"), *corpus.text_column)
    blocks = (
        Table("languages", "Languages", ("language", "texts", Column("share", ".2%"), *corpus.names), tuple(rows),
              note=note, shown=10),
        Table("other_languages", "Texts in other languages", columns, listed, shown=5),
    )  # fmt: skip
    return Findings(
        f"{other.mean():.2%} of the texts are not in {main}; {uncertain:.1%} are uncertain.", blocks, metrics
    )


@analysis("readability", title="Readability")
def readability(
    corpus: ExploredCorpus,
    *,
    n_documents: Annotated[int, Field(ge=1)] = 5000,
    method: Literal["auto", "rules", "textstat"] = "auto",
) -> Findings:
    """Measure the Flesch reading ease of each class's texts.

    Returns:
        ``flesch/<class>``, the mean.
    """
    drawn = corpus.draw(n_documents, "readability")
    texts = drawn.texts
    left_out, used = {}, "syllables counted as groups of vowels"
    scores: FloatArray | None = None
    if method != "rules":
        try:
            scores, used = _textstat(texts), "textstat"
        except MissingDependencyError as error:
            if method == "textstat":
                raise
            left_out["textstat"] = str(error)
    if scores is None:
        scores = np.array([flesch_reading_ease(text) for text in texts])
    groups = corpus.by_class(drawn.labels, scores)
    means = {name: float(values.mean()) for name, values in groups.items()}
    text = f"By {used}, {len(texts):,} training texts: 60 to 70 is plain English, below 30 very difficult."
    shown = boxes("readability", "Reading ease by class", "Flesch reading ease", groups, (-40, 110))
    metrics = corpus.class_metrics("flesch", means)
    headline = f"Reading ease by class: {extremes(means)}."
    return Findings(headline, (Text(text), *shown), metrics, {"left_out": left_out})


def _textstat(texts: list[str]) -> FloatArray:
    try:
        ease = import_module("textstat").flesch_reading_ease
        with contextlib.redirect_stdout(io.StringIO()):  # NLTK says there that it could not fetch its word list
            return np.array([ease(text) for text in texts], dtype=np.float64)
    except (ImportError, LookupError, OSError) as error:  # it may look for a word list that is not on this machine
        raise MissingDependencyError(
            f"Syllables from a dictionary need the package 'textstat' ({type(error).__name__}).",
            fix="pip install 'agnews-exp[readability]'",
        ) from error


@analysis("polarity", title="Polarity")
def polarity(corpus: ExploredCorpus, *, n_documents: Annotated[int, Field(ge=1)] = 2000) -> Findings:
    """Measure the polarity of each class's texts, from -1 to 1, with TextBlob or else VADER.

    Returns:
        ``polarity/<class>``, the mean.

    Raises:
        MissingDependencyError: Neither is installed with its word list.
    """
    score, method = _polarity()
    drawn = corpus.draw(n_documents, "polarity")
    values = np.array([score(text) for text in drawn.texts], dtype=np.float64)
    groups = corpus.by_class(drawn.labels, values)
    means = {name: float(own.mean()) for name, own in groups.items()}
    zeros = ", ".join(f"{name} {(own == 0).mean():.1%}" for name, own in groups.items())
    text = f"{method} on {len(values):,} training texts, from -1 to 1. Exactly 0: {zeros}."
    shown = boxes("polarity", "Polarity by class", f"polarity ({method})", groups, (-1, 1))
    left_out = {} if method == "TextBlob" else {"TextBlob": f"{method} was used instead."}
    metrics = corpus.class_metrics("polarity", means)
    return Findings(f"Polarity by class: {extremes(means)}.", (Text(text), *shown), metrics, {"left_out": left_out})


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
