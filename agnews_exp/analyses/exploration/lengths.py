"""Rows of each class, and lengths of texts."""

from __future__ import annotations

from typing import Annotated, Final

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from agnews_exp.analyses.exploration.corpus import ExploredCorpus
from agnews_exp.analyses.findings import Column, Columns, Findings, Row, Table
from agnews_exp.analyses.performing import analysis
from agnews_exp.drawing import Chart, Series
from agnews_exp.evaluation.inputs import IntArray
from agnews_exp.features.documents import DOCUMENT_FEATURES, document_features

_LONG: Final = 70  # words; the share of longer texts is a number of its own, whatever the percentiles are


@analysis("classes", title="Classes")
def classes(corpus: ExploredCorpus) -> Findings:
    """Count the rows of each class in each split.

    Returns:
        ``rows/<split>``, ``empty/<split>``, ``imbalance/train``: rows of the largest class over those of the smallest.
    """
    metrics: dict[str, float] = {}
    rows, series = [], []
    for split, part in corpus.parts.items():
        counts = np.bincount(part.labels, minlength=corpus.n_classes).tolist()
        metrics[f"rows/{split}"] = float(len(part))
        metrics[f"empty/{split}"] = float(sum(not text.strip() for text in part.texts))
        rows += [(split, name, count, count / len(part)) for name, count in zip(corpus.names, counts, strict=True)]
        series.append(Series(split, tuple(100 * count / len(part) for count in counts), corpus.names))
    train = np.bincount(corpus.train.labels, minlength=corpus.n_classes)
    metrics["imbalance/train"] = float(train.max() / max(1, train.min()))
    title = "Classes of each split"
    chart = Chart("class_shares", title, "bars", "share of the split's rows [%]", "", tuple(series))
    table = Table("classes", title, ("split", "class", "rows", Column("share", "share")), tuple(rows))
    headline = (
        f"The largest class has {metrics['imbalance/train']:.2f} times the rows of the smallest; "
        f"{metrics['empty/train']:.0f} training texts are empty."
    )
    return Findings(headline, (table, chart), metrics)


def text_lengths(texts: list[str]) -> tuple[IntArray, IntArray]:
    """Return characters (blanks included) and words (between blanks) of n texts, shape (n,) each."""
    characters = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return characters, np.fromiter((len(text.split()) for text in texts), dtype=np.int64, count=len(texts))


def describe_lengths(values: ArrayLike) -> dict[str, float]:
    """Return mean, standard deviation (n - 1), ends and percentiles of a sample, shape (n,), n at least 1."""
    sample = np.asarray(values, dtype=np.float64)
    q25, median, q75, p95, p99 = np.percentile(sample, [25, 50, 75, 95, 99]).tolist()
    std = float(sample.std(ddof=1)) if len(sample) > 1 else 0.0
    return {
        "mean": float(sample.mean()), "std": std, "minimum": float(sample.min()), "q25": q25, "median": median,
        "q75": q75, "p95": p95, "p99": p99, "maximum": float(sample.max()),
    }  # fmt: skip


@analysis("lengths", title="How long texts are")
def lengths(
    corpus: ExploredCorpus,
    *,
    outlier_percentile: Annotated[float, Field(gt=50, lt=100)] = 99.0,
    document_sample: Annotated[int, Field(ge=0)] = 20000,
) -> Findings:
    """Describe how long texts are.

    Returns:
        ``words/mean``, ``characters/p99``, ``words_mean/<class>``, ``outliers``, ``document/<feature>`` and their like.
    """
    labels = corpus.train.labels
    characters, words = text_lengths(corpus.train.texts)
    # One word more, so that a text without words has a length of words too.
    units = {"words": words, "characters": characters, "word_length": characters / (words + 1)}
    groups = {"all": np.ones(len(labels), dtype=bool)}
    groups |= {name: labels == k for k, name in enumerate(corpus.names) if (labels == k).any()}
    described = {
        (unit, group): describe_lengths(values[mask])
        for unit, values in units.items() for group, mask in groups.items()
    }  # fmt: skip
    metrics = {f"{unit}/{name}": value for unit in units for name, value in described[unit, "all"].items()}
    for name in ("mean", "median"):
        by_class = {group: described["words", group][name] for group in groups if group != "all"}
        metrics |= corpus.class_metrics(f"words_{name}", by_class)
    limit = float(np.percentile(words, outlier_percentile))
    metrics |= {"outliers": float((words > limit).sum()), "outlier_words": limit}
    metrics[f"outlier_share_{_LONG}"] = float((words > _LONG).mean())
    document: dict[str, float] = {}
    if document_sample:
        measured = [document_features(text) for text in corpus.draw(document_sample, "documents").texts]
        document = dict(zip(DOCUMENT_FEATURES, np.mean(measured, axis=0).tolist(), strict=True))
    metrics |= {f"document/{name}": value for name, value in document.items()}
    title = "Lengths of the training texts"
    mean, most = metrics["words/mean"], metrics["words/p99"]
    headline = f"A text has {mean:.1f} words on average; 99 % have at most {most:.0f}."
    columns: Columns = ("unit", "class", "rows", *(Column(name, ".4g") for name in described["words", "all"]))
    rows: tuple[Row, ...] = tuple(
        (u.replace("_", " "), g, int(groups[g].sum()), *d.values()) for (u, g), d in described.items()
    )
    note = (
        f"Words are what stands between blanks; word length: characters / (words + 1). {metrics['outliers']:,.0f} "
        f"texts have more than {limit:g} words (percentile {outlier_percentile:g})."
    )
    longest = [
        (int(corpus.train.row_ids[i]), corpus.names[labels[i]], int(words[i]), *corpus.shown(corpus.train.texts[i]))
        for i in np.argsort(-words, kind="stable")[:50].tolist()
    ]
    columns_of_texts: Columns = (Column("row_id", "id"), "class", "words", *corpus.text_column)
    n_documents = min(document_sample, len(labels))
    blocks = (
        Table("length_statistics", title, columns, rows, note=note),
        _length_chart(corpus, words, limit, outlier_percentile),
        Table("longest_texts", "Longest texts", columns_of_texts, tuple(longest), shown=5),
        Table("document_features", f"Means over {n_documents:,} training texts", ("measure", "mean"),
              tuple(document.items())),
    )  # fmt: skip
    return Findings(headline, blocks if document else blocks[:-1], metrics)


def _length_chart(corpus: ExploredCorpus, words: IntArray, limit: float, percentile: float) -> Chart:
    top = int(np.ceil(np.percentile(words, 99.7)))
    edges = np.arange(int(words.min()), max(top, int(words.min()) + 2) + 1)
    series = []
    for name, own in corpus.by_class(corpus.train.labels, words).items():
        shares = 100 * np.histogram(own, edges)[0] / len(own)
        series.append(Series(name, tuple(edges[:-1].tolist()), tuple(shares.tolist())))
    return Chart(
        "lengths", "Words of a text, by class", "lines", "words", "share of the class's texts [%]", tuple(series),
        references=(("x", limit, f"{percentile:g} % are shorter"),), x_range=(0, top),
    )  # fmt: skip
