"""How alike classes and splits are: shared words, similar centroids."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors.tables import markdown_table
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.context import EdaContext
from agnews_exp.analyses.exploration.measures import vocabulary as laws
from agnews_exp.analyses.exploration.measures.similarity import class_centroids, merge_tree
from agnews_exp.analyses.exploration.measures.words import index_words
from agnews_exp.analyses.figures import new_figure
from agnews_exp.evaluation.metrics import column_key


def overlap(context: EdaContext, *, min_count: Annotated[int, Field(ge=1)] = 5) -> Findings:
    """Measure which words classes share, and which words of validation and test rows the training rows lack.

    Args:
        context: The corpus.
        min_count: A class has a word when it uses it this often: single occurrences are mostly chance.

    Returns:
        ``jaccard/<class>|<class>``, ``oov_tokens/<split>``, ``oov_types/<split>``.
    """
    counts = context.words.class_counts(context.train.labels, context.n_classes)
    similarity = laws.jaccard_matrix(counts >= min_count)
    figure = drawing.heat_map(
        similarity, context.names, context.names, f"Jaccard of words used {min_count}+ times", hide_diagonal=True
    )
    rows = _pairs(context.names, similarity, "jaccard")
    context.draw("vocabulary_overlap", "Words that classes share", figure, rows)
    unknown = [_out_of_vocabulary(context, split) for split in ("val", "test")]
    context.table("out_of_vocabulary", [u.to_dict() for u in unknown])
    metrics = {f"oov_tokens/{u.split}": u.unknown_tokens for u in unknown}
    metrics |= {f"oov_types/{u.split}": u.unknown_types for u in unknown}
    metrics |= {f"oov_rows/{u.split}": u.rows for u in unknown}
    metrics |= {f"jaccard/{_pair_name(row, context.names)}": float(row["jaccard"]) for row in rows[:200]}
    cells = [
        [u.split, f"{u.tokens:,}", f"{u.unknown_tokens:.2%}", f"{u.types:,}", f"{u.unknown_types:.1%}", f"{u.rows:.1%}"]
        for u in unknown
    ]
    head = ["split", "words", "not in train", "distinct words", "not in train", "texts with such a word"]
    closest = sorted(rows, key=lambda row: -float(row["jaccard"]))[:3]
    listed = ", ".join(f"{r['class']} and {r['other']} {float(r['jaccard']):.2f}" for r in closest)
    summary = f"## Shared vocabulary\n\nMost shared words (Jaccard): {listed}.\n\n{markdown_table(head, cells, 5)}"
    return Findings(metrics, summary, {"jaccard": similarity.tolist(), "oov": [u.to_dict() for u in unknown]})


def _out_of_vocabulary(context: EdaContext, split: str) -> laws.OutOfVocabulary:
    known = frozenset(context.words.terms)
    words = index_words(context.parts[split].texts)
    strange = np.array([term not in known for term in words.terms], dtype=bool)
    hits = strange[words.ids] if len(words.ids) else np.zeros(0, dtype=bool)
    rows = len(np.unique(words.documents[hits])) / max(1, len(words.table))
    return laws.OutOfVocabulary(
        split, len(words.terms), len(words.ids), float(strange.mean()) if len(strange) else 0.0,
        float(hits.mean()) if len(hits) else 0.0, rows,
    )  # fmt: skip


def _pairs(names: tuple[str, ...], matrix: NDArray[np.float64], key: str) -> list[dict[str, Any]]:
    i, j = np.triu_indices(len(names), 1)
    return [{"class": names[a], "other": names[b], key: float(matrix[a, b])} for a, b in zip(i, j, strict=True)]


def _pair_name(row: dict[str, Any], names: tuple[str, ...]) -> str:
    return "-".join(column_key(str(row[side]), names) for side in ("class", "other"))


def similarity(context: EdaContext) -> Findings:
    """Compare classes by the cosine of their mean TF-IDF rows, and join the most similar ones step by step.

    Args:
        context: The corpus.

    Returns:
        ``centroid_cosine/<class>-<class>``.
    """
    centroids = class_centroids(context.tfidf.matrix, context.train.labels, context.n_classes)
    cosines = centroids @ centroids.T
    rows = _pairs(context.names, cosines, "cosine")
    metrics = {f"centroid_cosine/{_pair_name(row, context.names)}": float(row["cosine"]) for row in rows[:200]}
    _draw_similarity(context, cosines, rows)
    ranked = sorted(rows, key=lambda row: -float(row["cosine"]))
    listed = [[f"{r['class']} – {r['other']}", f"{float(r['cosine']):.3f}"] for r in ranked[:10]]
    summary = "## Similar classes\n\nCosine of the classes' mean TF-IDF rows, most similar first.\n\n"
    summary += markdown_table(["classes", "cosine"], listed, 1)
    return Findings(metrics, summary, {"cosine": cosines.tolist(), "headline": ", ".join(listed[0]) if listed else ""})


def _draw_similarity(context: EdaContext, cosines: NDArray[np.float64], rows: list[dict[str, Any]]) -> None:
    from scipy.cluster.hierarchy import dendrogram

    k = context.n_classes
    figure = new_figure(4.6 + 0.75 * k, max(2.9, 1.2 + 0.42 * k))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
    order = list(range(k))
    if k > 1:
        tree = dendrogram(
            merge_tree(cosines), orientation="left", no_labels=True, ax=left, color_threshold=0,
            above_threshold_color="black",
        )  # fmt: skip
        order = tree["leaves"][::-1]
    left.spines[["top", "left", "right"]].set_visible(False)
    left.set_yticks([])
    left.set_xlabel("1 - cosine at which groups join", fontsize=8)
    left.tick_params(labelsize=8)
    names = [context.names[i] for i in order]
    low = float(cosines.min())
    drawing.heat_map(
        cosines[np.ix_(order, order)], names, names, "cosine of centroids", low=max(0.0, low - 0.1), axes=right,
        hide_diagonal=True,
    )  # fmt: skip
    context.draw("class_similarity", "Similarity of classes", figure, rows)
