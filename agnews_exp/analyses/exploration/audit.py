"""Audits of the data: duplicates within and across splits, artefacts that give the class away, doubtful labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from pydantic import Field

from agnews_exp.analyses.errors import attributes
from agnews_exp.analyses.errors import near_duplicates as near
from agnews_exp.analyses.errors.confusions import find_label_noise
from agnews_exp.analyses.exploration.corpus import TFIDF, ExploredCorpus
from agnews_exp.analyses.findings import Block, Column, Columns, Findings, Number, Row, Table
from agnews_exp.analyses.performing import analysis
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.core.numbers import plural
from agnews_exp.drawing import Chart, Series, heat_map
from agnews_exp.evaluation.inputs import BoolArray, IntArray
from agnews_exp.evaluation.metrics import confusion_matrix
from agnews_exp.features.documents import EMAIL, PHONE

_MORE: Final[dict[str, re.Pattern[str]]] = {
    "escaped bracket lt; gt;": re.compile(r"&?[lg]t;"),
    "e-mail address": EMAIL,
    "phone number": PHONE,
    "stock symbol": re.compile(r"&?lt;[A-Z.]{1,7}&?gt;|&lt;[A-Z]{1,5}(?:\.[A-Z]{1,2})?&gt;|<[A-Z]{1,5}\.[A-Z]{1,2}>"),
    "ends with ellipsis": re.compile(r"\.\.\.\s*$"),
    "doubled hyphen": re.compile(r"--"),
    "non-ASCII character": re.compile(r"[^\x00-\x7f]"),
}


def find_artefacts(texts: Sequence[str]) -> dict[str, BoolArray]:
    """Return which texts, shape (n,), hold each artefact; ``HTML residue`` is any rest of markup or of an entity."""
    found = attributes.holding(texts, attributes.ARTEFACTS | _MORE)
    html = (
        "apostrophe #39;", "quotation mark quot;", "ampersand amp;", "other numeric entity", "escaped tag",
        "plain tag", "escaped bracket lt; gt;",
    )  # fmt: skip
    return found | {"HTML residue": np.logical_or.reduce([found[name] for name in html])}


@dataclass(frozen=True)
class Probe:
    """How well artefacts alone predict the class."""

    accuracy: float  # cross-validated accuracy of a logistic regression on the artefacts
    macro_f1: float  # its macro-F1
    majority: float  # accuracy of naming the most frequent class
    accuracy_with_any: float  # accuracy on the texts that hold at least one artefact; NaN where there are none
    share_with_any: float  # share of the texts that hold at least one
    folds: int  # folds of the cross-validation
    rows: int  # texts
    # For each artefact, the log-odds that its presence adds to each class, shape (A, K), as nested lists.
    pull: dict[str, list[float]]


def probe(
    found: Mapping[str, BoolArray], labels: IntArray, n_classes: int, folds: Sequence[tuple[IntArray, IntArray]]
) -> Probe:
    """Predict the class from artefacts, shape (n,) each, alone, in folds.

    Texts with the same artefacts are one weighted row, so that the time does not grow with the corpus.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    matrix = np.column_stack([np.asarray(v, dtype=np.float64) for v in found.values()])

    def fit(rows: IntArray) -> LogisticRegression:
        table, where = np.unique(np.column_stack([matrix[rows], labels[rows]]), axis=0, return_inverse=True)
        weights = np.bincount(where.ravel())
        return LogisticRegression(max_iter=500).fit(table[:, :-1], table[:, -1].astype(np.int64), weights)

    answers = np.zeros(len(labels), dtype=np.int64)
    for train, held_out in folds:
        answers[held_out] = fit(train).predict(matrix[held_out])
    whole = fit(np.arange(len(labels)))
    pull = np.zeros((matrix.shape[1], n_classes))
    coefficients = whole.coef_ if len(whole.classes_) > 2 else np.vstack([-whole.coef_, whole.coef_]) / 2
    pull[:, whole.classes_] = coefficients.T
    right, some = answers == labels, matrix.any(axis=1)
    return Probe(
        accuracy=float(right.mean()),
        macro_f1=float(f1_score(labels, answers, average="macro", zero_division=0)),
        majority=float(np.bincount(labels).max() / len(labels)),
        accuracy_with_any=float(right[some].mean()) if some.any() else float("nan"),
        share_with_any=float(some.mean()),
        folds=len(folds),
        rows=len(labels),
        pull={name: row.tolist() for name, row in zip(found, pull, strict=True)},
    )


_KINDS: Final = {"exact": "same words", "near": "near-duplicates", "strict": "nearly identical"}


@analysis("duplicates", title="Duplicates")
def duplicates(
    corpus: ExploredCorpus,
    *,
    similarity: Annotated[float, Field(ge=0.1, le=1)] = 0.5,
    shingle_words: Annotated[int, Field(ge=1, le=10)] = 3,
    permutations: Annotated[int, Field(ge=16, le=1024)] = 128,
    strict: Annotated[float, Field(gt=0, le=1)] = 0.9,
) -> Findings:
    """Count texts that are the same or nearly so, within each split and across splits.

    Returns:
        ``identical/train``: training rows of which another is the same character for character;
        ``exact/<split>-<other>``, ``near/<split>-<other>``, ``strict/<split>-<other>``: rows of the one with a
        duplicate in the other, and ``exact_share/...`` and their like; ``near_conflicts/<split>-train``: those whose
        nearest one bears another label.
    """
    every, places = near.joined(corpus.parts)
    found = near.exact_duplicates(every)
    counts = {"exact": near.count_across(found, places)}
    left_out: dict[str, str] = {}
    settings = {"threshold": similarity, "shingle_words": shingle_words, "permutations": permutations}
    try:
        found = near.cached_near_duplicates(corpus.cache_dir, every, settings)
        counts["near"] = near.count_across(found, places)
        alike = found.similarity >= strict
        kept = near.NearDuplicates(found.keys, found.first[alike], found.second[alike], found.similarity[alike])
        counts["strict"] = near.count_across(kept, places)
    except MissingDependencyError as error:
        left_out["near-duplicates"] = str(error)
    metrics = {"identical/train": float(sum(n for n in Counter(corpus.train.texts).values() if n > 1))}
    rows, shares, labels = [], [], []
    for kind, by in counts.items():
        for split, where in by.items():
            total = len(corpus.parts[split])
            metrics |= {f"{kind}/{split}-{other}": float(count) for other, count in where.items()}
            metrics |= {f"{kind}_share/{split}-{other}": count / total for other, count in where.items()}
            rows += [(_KINDS[kind], split, other, count, count / total) for other, count in where.items()]
            shares.append([count / total for count in where.values()])
            labels.append(f"{_KINDS[kind]}: {split} rows")
    listed = _conflicts(corpus, found, places, metrics)
    conflicts = ", ".join(
        f"{metrics[f'near_conflicts/{split}-train']:.0f} of {metrics[f'matched/{split}-train']:.0f} {split} rows"
        for split in ("val", "test")
    )
    title = "Rows with a duplicate, by split"
    note = (
        "Rows that have one, in their own split another row. Same words: letter case and punctuation aside; "
        f"near-duplicates: Jaccard similarity of {shingle_words}-word sequences of {similarity:g} or more (nearly "
        f"identical: {strict:g}), the same words included. Another label than its nearest duplicate in train has: "
        f"{conflicts}."
    )
    texts = (*corpus.text_column, *(Column("train_text", width=column.width) for column in corpus.text_column))
    ids = (Column("row_id", "id"), Column("train_row_id", "id"))
    columns: Columns = ("split", *ids, Column("similarity", ".3f"), "label", "train_label", *texts)
    totals = ("kind", "rows of", "also in", "rows", Column("share", ".2%"))
    double = metrics.get("near_share/train-train", metrics["exact_share/train-train"])
    leaked = metrics.get("near/test-train", metrics["exact/test-train"])
    headline = f"{double:.2%} of the training rows have a double there; {leaked:.0f} test rows have one in train."
    blocks = (
        Table("duplicates", title, totals, tuple(rows), note=note),
        heat_map("duplicates", title, np.array(shares), labels, [f"in {split}" for split in places], form=".2%",
                 caption="Share of the rows."),
        Table("near_duplicates", "Validation and test rows with a duplicate in train, those with another label first",
              columns, listed, shown=10),
    )  # fmt: skip
    return Findings(headline, blocks, metrics, {"left_out": left_out})


def _conflicts(
    corpus: ExploredCorpus, found: near.NearDuplicates, places: dict[str, slice], metrics: dict[str, float]
) -> tuple[tuple[str | int | float, ...], ...]:
    """Return the validation and test rows with a duplicate in train, and count them and those with another label."""
    listed = []
    train, names = corpus.train, corpus.names
    for split in ("val", "test"):
        rows = corpus.parts[split]
        matches = near.best_matches(found, places[split], places["train"])
        where = np.flatnonzero(matches.found)
        at = matches.position[where]
        metrics[f"near_conflicts/{split}-train"] = float((rows.labels[where] != train.labels[at]).sum())
        metrics[f"matched/{split}-train"] = float(len(where))
        listed += [
            (split, int(rows.row_ids[i]), int(train.row_ids[j]), float(matches.similarity[i]), names[rows.labels[i]],
             names[train.labels[j]], *corpus.shown(rows.texts[i]), *corpus.shown(train.texts[j]))
            for i, j in zip(where.tolist(), at.tolist(), strict=True)
        ]  # fmt: skip
    return tuple(sorted(listed, key=lambda row: (row[4] == row[5], -row[3])))


@analysis("artefacts", title="Artefacts")
def artefacts(
    corpus: ExploredCorpus,
    *,
    folds: Annotated[int, Field(ge=2, le=20)] = 5,
) -> Findings:
    """Count what feeds left in the texts, and predict the class from that alone.

    Returns:
        ``share/<artefact>``, the share of training texts; ``probe/accuracy``, ``probe/macro_f1``, ``probe/majority``.
    """
    every, places = near.joined(corpus.parts)
    every_mark = find_artefacts(every)
    metrics = {f"share/{name}": float(v[places["train"]].mean()) for name, v in every_mark.items()}
    found = {name: v for name, v in every_mark.items() if v.any()}
    order = sorted(found, key=lambda name: -metrics[f"share/{name}"])
    rows: list[Row] = []
    by_class: dict[str, list[float]] = {}
    for split, part in corpus.parts.items():
        for name in order:
            here = found[name][places[split]]
            shares = [float(own.mean()) if len(own := here[part.labels == k]) else 0.0 for k in range(corpus.n_classes)]
            rows.append((name, split, int(here.sum()), float(here.mean()), *shares))
            if split == "train":
                by_class[name] = shares
    in_train = {name: v[places["train"]] for name, v in found.items()}
    whole = _probe(corpus, in_train, folds)
    if not rows:
        return Findings("No artefact was found.", metrics=metrics)
    shown = order[:32]
    series = tuple(
        Series(label, tuple(100 * by_class[name][k] for name in shown), tuple(shown))
        for k, label in enumerate(corpus.names)
    )
    title, x_title = "What feeds left in the texts, by class", "share of the class's training texts [%]"
    by_name = (Column(name, "share") for name in corpus.names)
    columns: Columns = ("artefact", "split", "rows", Column("share", ".2%"), *by_name)
    blocks: list[Block] = [
        Table("artefacts", title, columns, tuple(rows), shown=len(shown)),
        Chart("artefacts", title, "dots", x_title, "", series, log_x=True),
    ]
    headline = f"{plural(len(found), 'kind')} of artefacts."
    if whole is not None:
        metrics |= {"probe/accuracy": whole.accuracy, "probe/macro_f1": whole.macro_f1}
        metrics |= {"probe/majority": whole.majority, "probe/texts_with_any": whole.share_with_any}
        right, largest = whole.accuracy, whole.majority
        headline = f"Artefacts alone name {right:.1%} of the classes right; the largest class is {largest:.1%}."
        blocks += _probe_tables(corpus, whole)
    return Findings(headline, tuple(blocks), metrics)


def _probe(corpus: ExploredCorpus, found: dict[str, BoolArray], folds: int) -> Probe | None:
    """Return what the artefacts tell of the classes; None where there are too few rows or none."""
    labels = corpus.train.labels
    counts = np.bincount(labels, minlength=corpus.n_classes)
    folds = min(folds, int(counts[counts > 0].min()))
    if not found or folds < 2 or (counts > 0).sum() < 2:
        return None
    return probe(found, labels, corpus.n_classes, corpus.folds(folds))


def _probe_tables(corpus: ExploredCorpus, whole: Probe) -> list[Table]:
    rows: list[Row] = [
        ("all artefacts", Number(whole.accuracy, "share"), Number(whole.macro_f1, ".3f")),
        ("always the largest class", Number(whole.majority, "share"), Number(None)),
    ]
    note = (
        f"A logistic regression that sees only which artefacts a text holds, no word of it ({whole.folds}-fold "
        f"cross-validation on {whole.rows:,} training rows). {whole.share_with_any:.1%} of the texts hold at least one "
        f"artefact, and of these it names {whole.accuracy_with_any:.1%} right."
    )
    pull: tuple[Row, ...] = tuple((name, *values) for name, values in whole.pull.items())
    return [
        Table("artefact_probe", "Leakage probe", ("it sees", "accuracy", "macro-F1"), tuple(rows), note=note),
        Table("artefact_pull", "Log-odds that an artefact adds to each class",
              ("artefact", *(Column(name, ".2f") for name in corpus.names)), pull, folded=True),
    ]  # fmt: skip


@analysis("label_noise", title="Doubtful labels")
def label_noise(
    corpus: ExploredCorpus,
    *,
    folds: Annotated[int, Field(ge=2, le=20)] = 5,
    alpha: Annotated[float, Field(gt=0)] = 1e-5,
    n_listed: Annotated[int, Field(ge=0)] = 500,
) -> Findings:
    """List training rows whose label is probably wrong: confident learning on out-of-fold probabilities.

    Returns:
        ``share``, ``rows``, ``out_of_fold_accuracy``.

    Raises:
        MissingDependencyError: cleanlab is not installed.
    """
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline

    from agnews_exp.ngrams import TfidfVectorizer, shared_counts

    labels, texts, names = corpus.train.labels, corpus.train.texts, corpus.names
    dealt = corpus.folds(folds)
    classifier = SGDClassifier(loss="log_loss", alpha=alpha, random_state=corpus.seed, max_iter=30)
    model = make_pipeline(TfidfVectorizer(**TFIDF), classifier)
    with shared_counts(texts):  # one count of the corpus serves all folds
        probabilities = cross_val_predict(model, texts, labels, cv=dealt, method="predict_proba")
    noise = find_label_noise(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels[noise.rows], predicted[noise.rows], corpus.n_classes)
    listed = tuple(
        (int(corpus.train.row_ids[i]), names[labels[i]], names[predicted[i]], float(p), *corpus.shown(texts[i]))
        for i, p in zip(noise.rows[:n_listed].tolist(), noise.self_confidence.tolist(), strict=False)
    )
    accuracy = float((predicted == labels).mean())
    note = (
        f"Confident learning (cleanlab) on out-of-fold probabilities of a linear model ({folds} folds, accuracy "
        f"{accuracy:.1%}) doubts {len(noise.rows):,} of {len(labels):,} training labels ({noise.share:.2%}). They are "
        "candidates to read: where the model is wrong with confidence, it doubts a right label."
    )
    title = "Labels that are probably wrong"
    probability = Column("label_probability", "metric")
    columns: Columns = (Column("row_id", "id"), "label", "suggested", probability, *corpus.text_column)
    blocks = (
        Table("label_noise_rows", title, columns, listed, note=note, shown=10),
        heat_map("label_noise", title, matrix, [f"labelled {n}" for n in names], [f"looks like {n}" for n in names],
                 form=",.0f", blank_diagonal=True, caption="Training rows."),
    )  # fmt: skip
    metrics = {"share": noise.share, "rows": float(len(noise.rows)), "out_of_fold_accuracy": accuracy}
    return Findings(f"{noise.share:.2%} of the training labels are doubtful.", blocks, metrics)
