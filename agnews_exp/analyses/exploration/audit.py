"""Audits of the data: duplicates within and across splits, artefacts that give the class away, doubtful labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors import attributes
from agnews_exp.analyses.errors import near_duplicates as near
from agnews_exp.analyses.errors.confusions import find_label_noise
from agnews_exp.analyses.errors.tables import cached_near_duplicates, excerpt, markdown_table
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.corpus import TFIDF, EdaContext, reasons
from agnews_exp.core.errors import DataError, MissingDependencyError
from agnews_exp.evaluation.inputs import Result, plain

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_MORE: Final[dict[str, re.Pattern[str]]] = {
    "escaped bracket lt; gt;": re.compile(r"&?[lg]t;"),
    "e-mail address": re.compile(r"\b[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b"),
    "phone number": re.compile(r"(?<![\w.])(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[.-]\d{4}(?!\w)"),
    "stock symbol": re.compile(r"&?lt;[A-Z.]{1,7}&?gt;|&lt;[A-Z]{1,5}(?:\.[A-Z]{1,2})?&gt;|<[A-Z]{1,5}\.[A-Z]{1,2}>"),
    "ends with ellipsis": re.compile(r"\.\.\.\s*$"),
    "doubled hyphen": re.compile(r"--"),
    "non-ASCII character": re.compile(r"[^\x00-\x7f]"),
}


def find_artefacts(texts: Sequence[str]) -> dict[str, BoolArray]:
    """Return which texts, shape (n,), hold each artefact; ``HTML residue`` is any rest of markup or of an entity."""
    found = attributes.artefacts(texts)
    del found["any"]
    more = {
        name: np.fromiter((bool(pattern.search(text)) for text in texts), dtype=bool, count=len(texts))
        for name, pattern in _MORE.items()
    }
    html = (
        "apostrophe #39;", "quotation mark quot;", "ampersand amp;", "other numeric entity", "escaped tag",
        "plain tag", "escaped bracket lt; gt;",
    )  # fmt: skip
    found |= more
    return found | {"HTML residue": np.logical_or.reduce([found[name] for name in html])}


def find_sources(texts: Sequence[str], min_rows: int) -> dict[str, BoolArray]:
    """Return which texts, shape (n,), name each source, as in ``(Reuters)`` or ``AP -``; rare ones count together."""
    codes, names = attributes.agencies(texts, min_rows)
    used = {name: codes == i for i, name in enumerate(names) if name != attributes.NO_AGENCY and (codes == i).any()}
    return {
        f"source: {name.removesuffix(' named') if name == attributes.OTHER_AGENCY else name}": v
        for name, v in used.items()
    }


@dataclass(frozen=True)
class Probe(Result):
    """How well artefacts alone predict the class.

    Attributes:
        accuracy: Cross-validated accuracy of a logistic regression on the artefacts.
        macro_f1: Its macro-F1.
        majority: Accuracy of naming the most frequent class.
        accuracy_with_any: Accuracy on the texts that hold at least one artefact; NaN where there are none.
        share_with_any: Share of the texts that hold at least one.
        folds: Folds of the cross-validation.
        rows: Texts.
        pull: For each artefact, the log-odds that its presence adds to each class, shape (A, K), as nested lists.
    """

    accuracy: float
    macro_f1: float
    majority: float
    accuracy_with_any: float
    share_with_any: float
    folds: int
    rows: int
    pull: dict[str, list[float]]


def probe(found: Mapping[str, BoolArray], labels: IntArray, n_classes: int, *, folds: int, seed: int) -> Probe:
    """Predict the class from artefacts alone.

    Texts with the same artefacts are one weighted row, so that the time does not grow with the corpus.

    Args:
        found: A artefacts, shape (n,) each.
        labels: Shape (n,).
        n_classes: K.
        folds: Folds, stratified and shuffled.
        seed: Of the shuffling.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold

    matrix = np.column_stack([np.asarray(v, dtype=np.float64) for v in found.values()])

    def fit(rows: IntArray) -> LogisticRegression:
        table, where = np.unique(np.column_stack([matrix[rows], labels[rows]]), axis=0, return_inverse=True)
        weights = np.bincount(where.ravel())
        return LogisticRegression(max_iter=500).fit(table[:, :-1], table[:, -1].astype(np.int64), weights)

    answers = np.zeros(len(labels), dtype=np.int64)
    for train, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(matrix, labels):
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
        folds=folds,
        rows=len(labels),
        pull={name: row.tolist() for name, row in zip(found, pull, strict=True)},
    )


BoolArray = NDArray[np.bool_]


_SAME, _NEAR, _STRICT = "same words", "near-duplicates", "nearly identical"
_KINDS = {_SAME: "exact", _NEAR: "near", _STRICT: "strict"}


def _places(context: EdaContext) -> tuple[list[str], dict[str, slice]]:
    """Return the texts of all splits and where each split's lie."""
    every = [text for rows in context.parts.values() for text in rows.texts]
    ends = np.cumsum([len(rows) for rows in context.parts.values()]).tolist()
    return every, {
        name: slice(end - len(rows), end) for (name, rows), end in zip(context.parts.items(), ends, strict=True)
    }


def duplicates(
    context: EdaContext,
    *,
    similarity: Annotated[float, Field(ge=0.1, le=1)] = 0.5,
    shingle_words: Annotated[int, Field(ge=1, le=10)] = 3,
    permutations: Annotated[int, Field(ge=16, le=1024)] = 128,
    strict: Annotated[float, Field(gt=0, le=1)] = 0.9,
) -> Findings:
    """Count texts that are the same or nearly so, within each split and across splits.

    Args:
        context: The corpus.
        similarity: Jaccard similarity of word shingles from which on two texts are near-duplicates.
        shingle_words: Words of a shingle.
        permutations: Length of the MinHash signatures.
        strict: A second, higher similarity: rows from there on are counted apart.

    Returns:
        ``identical/train``: training rows of which another is the same character for character;
        ``exact/<split>-<other>``, ``near/<split>-<other>``, ``strict/<split>-<other>``: rows of the one with a
        duplicate in the other, and ``exact_share/...`` and their like; ``near_conflicts/<split>-train``: those whose
        nearest one bears another label.
    """
    every, places = _places(context)
    exact = near.exact_duplicates(every)
    counts = {_SAME: near.count_across(exact, places)}
    left_out: dict[str, str] = {}
    found = exact
    settings = {"threshold": similarity, "shingle_words": shingle_words, "permutations": permutations}
    try:
        found = cached_near_duplicates(context.cache_dir, every, settings)
        counts[_NEAR] = near.count_across(found, places)
        alike = found.similarity >= strict
        kept = near.NearDuplicates(found.keys, found.first[alike], found.second[alike], found.similarity[alike])
        counts[_STRICT] = near.count_across(kept, places)
    except MissingDependencyError as error:
        left_out["near-duplicates"] = str(error)
    copies = Counter(context.train.texts)
    metrics = {"identical/train": float(sum(n for n in copies.values() if n > 1))}
    rows = []
    for kind, by in counts.items():
        for split, where in by.items():
            total = len(context.parts[split])
            for other, count in where.items():
                key = _KINDS[kind]
                metrics |= {f"{key}/{split}-{other}": float(count), f"{key}_share/{split}-{other}": count / total}
                rows.append({"kind": kind, "rows_of": split, "also_in": other, "rows": count, "share": count / total})
    listed = _listed(context, found, places, metrics)
    context.table("near_duplicates", listed)
    figure, grid = drawing.panels(len(counts), columns=3, height=2.3, width=9.5)
    for axes, (kind, by) in zip(grid, counts.items(), strict=True):
        matrix = np.array([[100 * c / len(context.parts[s]) for c in w.values()] for s, w in by.items()])
        drawing.heat_map(matrix, [f"{s} rows" for s in by], [f"in {s}" for s in by], "% of the rows", axes=axes)
        axes.set_title(kind, fontsize=9, loc="left")
    context.draw("duplicates", "Rows with a duplicate, by split", figure, rows)
    cells = [
        [k, s, *(f"{c:,} ({c / len(context.parts[s]):.2%})" for c in w.values())]
        for k, by in counts.items() for s, w in by.items()
    ]  # fmt: skip
    conflicts = ", ".join(
        f"{int(metrics[f'near_conflicts/{s}-train'])} of {int(metrics[f'matched/{s}-train'])} {s} rows"
        for s in ("val", "test") if f"matched/{s}-train" in metrics
    )  # fmt: skip
    head = ["kind", "rows of", *(f"also in {s}" for s in places)]
    summary = (
        "## Duplicates\n\nRows that have one, in their own split another row. Same words: letter case and punctuation "
        f"aside; near-duplicates: Jaccard similarity of {shingle_words}-word sequences of {similarity:g} or more "
        f"(nearly identical: {strict:g}), the same words included.\n\n{markdown_table(head, cells, 3)}\n\n"
        f"Another label than its nearest duplicate in train has: {conflicts}." + reasons(left_out)
    )
    return Findings(metrics, summary, plain({"counts": counts, "left_out": left_out}))


def _listed(
    context: EdaContext, found: near.NearDuplicates, places: dict[str, slice], metrics: dict[str, float]
) -> list[dict[str, Any]]:
    """Return the validation and test rows with a (near-)duplicate in train; count those with another label."""
    listed = []
    train = context.train
    for split in ("val", "test"):
        rows = context.parts[split]
        matches = near.best_matches(found, places[split], places["train"])
        conflicts = 0
        for i in np.flatnonzero(matches.found).tolist():
            at = int(matches.position[i])
            differs = bool(rows.labels[i] != train.labels[at])
            conflicts += differs
            row = {"split": split, "row_id": int(rows.row_ids[i]), "train_row_id": int(train.row_ids[at]),
                   "similarity": float(matches.similarity[i]), "label": context.names[rows.labels[i]],
                   "train_label": context.names[train.labels[at]]}  # fmt: skip
            listed.append(row | ({"text": rows.texts[i], "train_text": train.texts[at]} if context.show_texts else {}))
        metrics |= {
            f"near_conflicts/{split}-train": float(conflicts),
            f"matched/{split}-train": float(matches.found.sum()),
        }
    listed.sort(key=lambda r: (r["label"] == r["train_label"], -r["similarity"]))
    return listed


def artefacts(
    context: EdaContext,
    *,
    folds: Annotated[int, Field(ge=2, le=20)] = 5,
    min_source_rows: Annotated[int, Field(ge=1)] = 100,
) -> Findings:
    """Count what feeds left in the texts, and predict the class from that alone.

    Args:
        context: The corpus.
        folds: Folds of the probe's cross-validation on training rows.
        min_source_rows: Sources that fewer texts of all splits name are counted together.

    Returns:
        ``share/<artefact>``, the share of training texts; ``probe/accuracy``, ``probe/macro_f1``, ``probe/majority``,
        ``probe/sources_accuracy`` (named sources alone), ``probe/residue_accuracy`` (the rest alone).
    """
    every, places = _places(context)
    marks = find_artefacts(every)
    sources = find_sources(every, min_source_rows)
    found = {name: v for name, v in (marks | sources).items() if v.any()}
    in_train = {name: v[places["train"]] for name, v in found.items()}
    labels = context.train.labels
    metrics = {f"share/{name}": float(v[places["train"]].mean()) for name, v in (marks | sources).items()}
    rows = []
    for split, part in context.parts.items():
        for name, v in found.items():
            here = v[places[split]]
            rows.append(
                {"artefact": name, "split": split, "class": "all", "rows": int(here.sum()), "share": float(here.mean())}
            )
            for k, label in enumerate(context.names):
                own = here[part.labels == k]
                rows.append({"artefact": name, "split": split, "class": label, "rows": int(own.sum()),
                             "share": float(own.mean()) if len(own) else 0.0})  # fmt: skip
    by_class = {name: [float(v[labels == k].mean()) if (labels == k).any() else 0.0 for k in range(context.n_classes)]
                for name, v in in_train.items()}  # fmt: skip
    shown = sorted(by_class, key=lambda name: (name.startswith("source: "), -metrics[f"share/{name}"]))[:32]
    series = {label: [100 * by_class[name][k] for name in shown] for k, label in enumerate(context.names)}
    if shown:
        figure = drawing.dot_rows(shown, series, "share of the class's training texts [%]", logarithmic=True)
        context.draw("artefacts", "What feeds left in the texts, by class", figure, rows)
    probes = _probes(context, in_train, folds)
    for name, result in probes.items():
        metrics |= {f"probe/{name}accuracy": result.accuracy, f"probe/{name}macro_f1": result.macro_f1}
    cells = [[n, *(_share(rows, n, s, "all") for s in places), *(f"{x:.1%}" for x in by_class[n])] for n in shown]
    head = ["artefact", *(f"of {s}" for s in places), *context.names]
    summary = f"## Artefacts\n\n{markdown_table(head, cells, len(head) - 1)}\n\n{_probe_text(probes, metrics)}"
    return Findings(metrics, summary, plain({"by_class": by_class, "probes": probes}))


def _share(rows: list[dict[str, Any]], name: str, split: str, label: str) -> str:
    (row,) = (r for r in rows if (r["artefact"], r["split"], r["class"]) == (name, split, label))
    return f"{row['share']:.2%}"


def _probes(context: EdaContext, found: dict[str, BoolArray], folds: int) -> dict[str, Probe]:
    labels = context.train.labels
    counts = np.bincount(labels, minlength=context.n_classes)
    folds = min(folds, int(counts[counts > 0].min()))
    if folds < 2 or (counts > 0).sum() < 2:
        return {}
    groups = {
        "": found,
        "sources_": {n: v for n, v in found.items() if n.startswith("source: ")},
        "residue_": {n: v for n, v in found.items() if not n.startswith("source: ")},
    }
    return {
        name: probe(group, labels, context.n_classes, folds=folds, seed=context.seed)
        for name, group in groups.items() if group
    }  # fmt: skip


def _probe_text(probes: dict[str, Probe], metrics: dict[str, float]) -> str:
    if "" not in probes:
        return "No artefact was found."
    whole = probes[""]
    metrics |= {"probe/majority": whole.majority, "probe/texts_with_any": whole.share_with_any}
    parts = [
        f"{what}: accuracy {probes[key].accuracy:.1%}, macro-F1 {probes[key].macro_f1:.3f}"
        for key, what in (("", "all of it"), ("sources_", "named sources alone"), ("residue_", "the rest alone"))
        if key in probes
    ]
    return (
        f"Leakage probe: a logistic regression that sees only which artefacts a text holds, no word of it "
        f"({whole.folds}-fold cross-validation on {whole.rows:,} training rows). {'; '.join(parts)}; always the "
        f"largest class: {whole.majority:.1%}. {whole.share_with_any:.1%} of the texts hold at least one artefact, and "
        f"of these it names {whole.accuracy_with_any:.1%} right."
    )


def label_noise(
    context: EdaContext,
    *,
    folds: Annotated[int, Field(ge=2, le=20)] = 5,
    alpha: Annotated[float, Field(gt=0)] = 1e-5,
    n_listed: Annotated[int, Field(ge=0)] = 500,
) -> Findings:
    """List training rows whose label is probably wrong: confident learning on out-of-fold probabilities.

    Args:
        context: The corpus.
        folds: Folds; TF-IDF and model are fitted inside each.
        alpha: Regularisation of the model, a logistic regression by stochastic gradient descent.
        n_listed: Rows of the list, most doubtful first.

    Returns:
        ``share``, ``rows``, ``out_of_fold_accuracy``.

    Raises:
        MissingDependencyError: cleanlab is not installed.
    """
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    from agnews_exp.ngrams import TfidfVectorizer, shared_counts

    labels, texts = context.train.labels, context.train.texts
    counts = np.bincount(labels, minlength=context.n_classes)
    if counts.min() < folds:
        raise DataError(
            f"A class has {counts.min()} training rows, fewer than {folds} folds.", fix="a larger data_fraction"
        )
    classifier = SGDClassifier(loss="log_loss", alpha=alpha, random_state=context.seed, max_iter=30)
    model = make_pipeline(TfidfVectorizer(**TFIDF), classifier)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=context.seed)
    with shared_counts(texts):  # one count of the corpus serves all folds
        probabilities = cross_val_predict(model, texts, labels, cv=splitter, method="predict_proba")
    noise = find_label_noise(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    matrix = np.zeros((context.n_classes, context.n_classes), dtype=np.int64)
    np.add.at(matrix, (labels[noise.rows], predicted[noise.rows]), 1)
    figure = drawing.heat_map(
        matrix.astype(np.float64), [f"labelled {n}" for n in context.names], [f"looks like {n}" for n in context.names],
        "rows", form=",.0f", hide_diagonal=True,
    )  # fmt: skip
    pairs = [
        {"label": a, "suggested": b, "rows": int(matrix[i, j])}
        for i, a in enumerate(context.names) for j, b in enumerate(context.names) if i != j
    ]  # fmt: skip
    context.draw("label_noise", "Labels that are probably wrong", figure, pairs)
    listed = [
        {"row_id": int(context.train.row_ids[i]), "label": context.names[labels[i]],
         "suggested": context.names[predicted[i]], "label_probability": float(p)}
        | ({"text": texts[i]} if context.show_texts else {})
        for i, p in zip(noise.rows[:n_listed].tolist(), noise.self_confidence.tolist(), strict=False)
    ]  # fmt: skip
    context.table("label_noise_rows", listed)
    accuracy = float((predicted == labels).mean())
    metrics = {"share": noise.share, "rows": float(len(noise.rows)), "out_of_fold_accuracy": accuracy}
    cells = [
        [str(r["row_id"]), r["label"], r["suggested"], f"{r['label_probability']:.4f}", excerpt(r.get("text", ""))]
        for r in listed[:10]
    ]
    summary = (
        f"## Doubtful labels\n\nConfident learning (cleanlab) on out-of-fold probabilities of a linear model "
        f"({folds} folds, accuracy {accuracy:.1%}) doubts {len(noise.rows):,} of {len(labels):,} training labels "
        f"({noise.share:.2%}). They are candidates to read: where the model is wrong with confidence, it doubts a "
        "right label.\n\n" + markdown_table(["row", "label", "looks like", "probability of the label", "text"], cells)
    )
    return Findings(metrics, summary, plain({"matrix": matrix}))
