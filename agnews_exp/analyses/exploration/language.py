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
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors.tables import excerpt, markdown_table
from agnews_exp.analyses.exploration.corpus import EdaContext, box_part, by_class, extremes, reasons
from agnews_exp.analyses.perturbations import make_variant, perturb
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.metrics import metric_class_name

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


Identify = Callable[[str], tuple[str, float]]


def languages(
    context: EdaContext,
    *,
    n_documents: Annotated[int, Field(ge=1)] = 5000,
    min_probability: Annotated[float, Field(gt=0, lt=1)] = 0.9,
    n_listed: Annotated[int, Field(ge=0)] = 200,
) -> Findings:
    """Find the texts that are not in the language of most.

    HTML residue is removed first. Short texts full of names are often taken for another language, so only texts whose
    language is found with some certainty count.

    Args:
        context: The corpus.
        n_documents: Training texts to look at.
        min_probability: How certain the language must be for a text to count as one of another language.
        n_listed: Texts in other languages to list.

    Returns:
        ``share/<language>`` (ISO 639-1) for the languages found with certainty, ``uncertain``, ``other_share``: certain
        texts that are not in the most frequent language, over all.

    Raises:
        MissingDependencyError: py3langid is not installed.
    """
    identify = _identifier()
    positions = context.sample(n_documents, "languages")
    raw = [context.train.texts[i] for i in positions.tolist()]
    texts = perturb(raw, range(len(raw)), make_variant("html_removed", 1.0), seed=0)
    found = [identify(text) if text.strip() else ("", 0.0) for text in texts]
    certain = np.array([probability >= min_probability for _, probability in found])
    counts = Counter(language for (language, _), sure in zip(found, certain.tolist(), strict=True) if sure)
    if not counts:
        return Findings({"documents": float(len(raw)), "uncertain": 1.0}, "## Languages\n\nNo text's is certain.", {})
    main = counts.most_common(1)[0][0]
    other = np.array([sure and language != main for (language, _), sure in zip(found, certain.tolist(), strict=True)])
    labels = context.train.labels[positions]
    context.table("other_languages", [
        {"row_id": int(context.train.row_ids[positions[i]]), "class": context.names[labels[i]],
         "language": found[i][0], "probability": found[i][1]}
        | ({"text": raw[i]} if context.show_texts else {})
        for i in np.flatnonzero(other)[:n_listed].tolist()
    ])  # fmt: skip
    metrics = {
        "documents": float(len(raw)),
        "uncertain": float(1 - certain.mean()),
        "other_share": float(other.mean()),
    } | {f"share/{language}": n / len(raw) for language, n in counts.items()}
    cells = [
        [language, f"{n:,}", f"{n / len(raw):.2%}", *(
            f"{sum(f[0] == language and bool(s) for f, s, y in zip(found, certain, labels, strict=True) if y == k):,}"
            for k in range(context.n_classes)
        )]
        for language, n in counts.most_common(10)
    ]  # fmt: skip
    examples = [
        f"- {found[i][0]} ({found[i][1]:.2f}), row {context.train.row_ids[positions[i]]}: {excerpt(raw[i])}"
        for i in np.flatnonzero(other)[: 5 if context.show_texts else 0].tolist()
    ]
    summary = (
        f"## Languages\n\npy3langid on {len(raw):,} training texts without HTML residue: {other.sum():,} "
        f"({other.mean():.2%}) are in another language than {main} with a probability of {min_probability:g} or more; "
        f"{1 - certain.mean():.1%} of the texts are not certain. Read them before you drop them: lists of names and "
        "tables of results are taken for other languages.\n\n"
        + markdown_table(["language", "texts", "share", *context.names], cells, 2 + context.n_classes)
        + ("\n\n" + "\n".join(examples) if examples else "")
    )
    headline = f"{other.mean():.2%} not in {main}, {1 - certain.mean():.1%} uncertain"
    return Findings(metrics, summary, plain({"headline": headline, "main": main, "languages": dict(counts)}))


def _identifier() -> Identify:
    try:
        langid = import_module("py3langid.langid")
        model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            "Languages need the package 'py3langid' 0.4 or later, which is not installed.",
            fix="pip install 'py3langid>=0.4'",
        ) from error

    def identify(text: str) -> tuple[str, float]:
        language, probability = model.classify(text)
        return str(language), float(probability)

    return identify


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
    groups = by_class(context, positions, np.array(list(map(flesch_reading_ease, texts))) if scores is None else scores)
    means = box_part(context, "readability", "Reading ease by class", groups, "Flesch reading ease", (-40, 110))
    cells = [[name, f"{mean:.2f}", f"{np.median(groups[name]):.2f}"] for name, mean in means.items()]
    summary = (
        f"## Readability\n\nFlesch reading ease ({used}) of {len(texts):,} training texts: 60 to 70 is plain English, "
        f"below 30 very difficult.\n\n{markdown_table(['class', 'mean', 'median'], cells, 2)}{reasons(left_out)}"
    )
    metrics = {f"flesch/{metric_class_name(name)}": mean for name, mean in means.items()}
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
    metrics = {f"polarity/{metric_class_name(name)}": mean for name, mean in means.items()}
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
