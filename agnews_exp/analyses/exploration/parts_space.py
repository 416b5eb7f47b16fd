"""Documents in space: a map of their TF-IDF, sentence embeddings, and how far typos move them."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors.tables import markdown_table
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.context import EdaContext
from agnews_exp.analyses.exploration.measures.similarity import describe_space, row_cosines
from agnews_exp.analyses.exploration.wording import reasons
from agnews_exp.analyses.robustness.perturbations import make_variant, perturb
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.metrics import column_key


def document_map(
    context: EdaContext,
    *,
    n_documents: Annotated[int, Field(ge=10)] = 5000,
    components: Annotated[int, Field(ge=2)] = 50,
    method: Literal["auto", "tsne", "umap"] = "auto",
    perplexity: Annotated[float, Field(gt=1)] = 30.0,
    max_iter: Annotated[int, Field(ge=250)] = 500,
    neighbours: Annotated[int, Field(ge=1)] = 10,
) -> Findings:
    """Lay documents out in the plane: truncated SVD of their TF-IDF, then UMAP where installed, else t-SNE.

    Args:
        context: The corpus.
        n_documents: Training texts to lay out.
        components: Dimensions that the SVD keeps.
        method: ``umap`` needs the package umap-learn; ``auto`` takes it where it is installed.
        perplexity: Of t-SNE: about how many neighbours count.
        max_iter: Of t-SNE.
        neighbours: The nearest neighbours whose class is compared with the document's own.

    Returns:
        ``neighbour_purity_2d``, ``neighbour_purity_svd``: mean share of the nearest neighbours of the same class;
        ``svd_variance``: share of the variance that the dimensions hold.

    Raises:
        MissingDependencyError: ``method=umap`` without umap-learn.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    positions = context.sample(n_documents, "map")
    labels, matrix = context.train.labels[positions], context.tfidf.matrix[positions]
    components = min(components, min(matrix.shape) - 1)
    svd = TruncatedSVD(components, random_state=context.seed)
    reduced = normalize(svd.fit_transform(matrix))
    umap, left_out = _umap(method)
    if umap is not None:
        plane, used = umap.UMAP(n_components=2, n_jobs=1, random_state=context.seed).fit_transform(reduced), "UMAP"
    else:
        from sklearn.manifold import TSNE

        perplexity = min(perplexity, (len(positions) - 1) / 3)
        layout = TSNE(2, perplexity=perplexity, max_iter=max_iter, init="pca", random_state=context.seed)
        plane, used = layout.fit_transform(reduced.astype(np.float32)), "t-SNE"
    _draw_map(context, plane, labels, positions, used)
    metrics = {
        "documents": float(len(positions)),
        "svd_variance": float(svd.explained_variance_ratio_.sum()),
        "neighbour_purity_2d": _purity(plane, labels, neighbours),
        "neighbour_purity_svd": _purity(reduced, labels, neighbours),
    }
    chance = float((np.bincount(labels) / len(labels)) @ (np.bincount(labels) / len(labels)))
    summary = (
        f"## Map\n\n{len(positions):,} training texts: TF-IDF, {components} dimensions by SVD "
        f"({metrics['svd_variance']:.1%} of the variance), then {used}. Of a text's {neighbours} nearest neighbours "
        f"{metrics['neighbour_purity_svd']:.1%} share its class before and {metrics['neighbour_purity_2d']:.1%} after "
        f"the last step (by chance {chance:.1%}). Distances between groups mean nothing."
    )
    summary += reasons(left_out)
    return Findings(metrics, summary, {"method": used, "left_out": left_out})


def _umap(method: str) -> tuple[Any, dict[str, str]]:
    if method == "tsne":
        return None, {}
    try:
        umap = import_module("umap")
    except ImportError as error:
        missing = MissingDependencyError(
            "UMAP needs the package 'umap-learn', which is not installed.", fix="pip install umap-learn"
        )
        if method == "umap":
            raise missing from error
        return None, {"UMAP": str(missing)}
    return umap, {}


def _purity(points: NDArray[Any], labels: NDArray[np.int64], neighbours: int) -> float:
    from sklearn.neighbors import NearestNeighbors

    k = min(neighbours, len(points) - 1)
    near = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)
    return float((labels[near] == labels[:, None]).mean())


def _draw_map(
    context: EdaContext, plane: NDArray[Any], labels: NDArray[np.int64], positions: NDArray[np.int64], used: str
) -> None:
    figure, axes = drawing.new_axes(6.5, 5.6)
    order = context.rng("map order").permutation(len(labels))  # no class lies on top of all others
    colours = np.array([drawing.style(k)[0] for k in range(context.n_classes)])
    # Vector marks of thousands of texts would make a file of megabytes.
    axes.scatter(
        plane[order, 0], plane[order, 1], s=4, c=colours[labels[order]], linewidths=0, alpha=0.7, rasterized=True
    )
    for k, name in enumerate(context.names[:20]):
        own = plane[labels == k]
        if len(own):
            axes.plot([], [], "o", color=colours[k], label=drawing.shown(name))
            axes.annotate(
                drawing.shown(name), np.median(own, axis=0), ha="center", fontsize=9, weight="bold",
                bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": colours[k], "alpha": 0.85},
            )  # fmt: skip
    axes.set(xticks=[], yticks=[], xlabel=f"{used} 1", ylabel=f"{used} 2")
    rows = [
        {"row_id": int(context.train.row_ids[p]), "class": context.names[k], "x": float(x), "y": float(y)}
        for p, k, (x, y) in zip(positions.tolist(), labels.tolist(), plane, strict=True)
    ]
    context.draw("map", f"Texts in the plane ({used})", figure, rows)


def embeddings(
    context: EdaContext,
    *,
    n_documents: Annotated[int, Field(ge=2)] = 500,
    n_pairs: Annotated[int, Field(ge=1)] = 10000,
) -> Findings:
    """Describe the space of all-MiniLM-L6-v2 sentence embeddings: isotropy, and the spread of each class.

    Args:
        context: The corpus.
        n_documents: Training texts to embed.
        n_pairs: Random pairs of them.

    Returns:
        ``isotropy``, ``cosine_within``, ``cosine_between``, ``spread/<class>``.

    Raises:
        MissingDependencyError: The extra ``minilm`` is not installed.
    """
    positions = context.sample(n_documents, "embeddings")
    labels = context.train.labels[positions]
    vectors = context.sentence_embeddings.transform([context.train.texts[i] for i in positions.tolist()])
    space, cosines, same = describe_space(vectors, labels, context.names, n_pairs, context.seed)
    edges = np.linspace(-0.3, 1.0, 53)
    figure, axes = drawing.new_axes()
    rows = []
    for k, (name, mask) in enumerate((("same class", same), ("different classes", ~same))):
        if not mask.any():
            continue
        shares = np.histogram(cosines[mask], edges)[0] / mask.sum()
        rows += [
            {"pairs": name, "cosine_from": float(e), "share": float(s)} for e, s in zip(edges, shares, strict=False)
        ]
        colour, _, dash = drawing.style(k)
        axes.stairs(100 * shares, edges, color=colour, linestyle=dash, linewidth=1.5, label=name)
        axes.axvline(float(cosines[mask].mean()), color=colour, linestyle=":", linewidth=1)
    axes.set(xlabel="cosine of two sentence embeddings; dotted: means", ylabel="share of pairs [%]")
    axes.legend(frameon=False, fontsize=8)
    context.draw("embeddings", "Cosines of sentence embeddings", figure, rows)
    metrics = {"isotropy": space.isotropy, "cosine_within": space.within, "cosine_between": space.between}
    metrics |= {f"spread/{column_key(name, context.names)}": value for name, value in space.spread.items()}
    cells = [[name, f"{value:.3f}"] for name, value in space.spread.items()]
    summary = (
        f"## Sentence embeddings\n\nall-MiniLM-L6-v2, {len(positions):,} training texts, {n_pairs:,} random pairs: "
        f"mean cosine {space.isotropy:.4f} (0: all directions are used), {space.within:.4f} within a class, "
        f"{space.between:.4f} between classes.\n\n{markdown_table(['class', 'mean distance to centroid'], cells, 1)}"
    )
    return Findings(metrics, summary, plain({"space": space, "documents": len(positions)}))


def perturbation(
    context: EdaContext,
    *,
    n_documents: Annotated[int, Field(ge=1)] = 50,
    swap_words: Annotated[float, Field(gt=0, le=1)] = 0.3,
    synonym_words: Annotated[float, Field(gt=0, le=1)] = 1.0,
    space: Literal["auto", "minilm", "tfidf"] = "auto",
) -> Findings:
    """Measure how far small changes of a text move it: cosine of a text and its changed self.

    Args:
        context: The corpus.
        n_documents: Training texts.
        swap_words: Share of words in which two letters change places.
        synonym_words: Share of the words with a known synonym that give way to it.
        space: ``minilm`` needs the extra ``minilm``; ``tfidf`` is the word TF-IDF; ``auto`` takes the former where it
            is installed.

    Returns:
        ``similarity/swap``, ``similarity/synonyms`` and their standard deviations.
    """
    positions = context.sample(n_documents, "perturbation")
    texts = [context.train.texts[i] for i in positions.tolist()]
    rows_of = context.train.row_ids[positions].tolist()
    embed, used, left_out = _embedding(context, space)
    original = embed(texts)
    metrics, rows, groups = {"documents": float(len(texts))}, [], {}
    for kind, share in (("swap", swap_words), ("synonyms", synonym_words)):
        variant = make_variant(kind, share)
        changed = perturb(texts, rows_of, variant, context.seed)
        cosines = row_cosines(original, embed(changed))
        groups[variant.label] = cosines
        metrics |= {f"similarity/{kind}": float(cosines.mean()), f"similarity_sd/{kind}": float(cosines.std())}
        rows += [
            {"row_id": row, "change": variant.label, "cosine": float(c), "changed": a != b}
            for row, c, a, b in zip(rows_of, cosines, texts, changed, strict=True)
        ]
    figure = drawing.box_rows(groups, f"cosine with the unchanged text in {used}")
    context.draw("perturbation", "How far small changes move a text", figure, rows)
    cells = [[label, f"{v.mean():.4f}", f"{v.std():.4f}", f"{v.min():.4f}"] for label, v in groups.items()]
    summary = (
        f"## Perturbed texts\n\n{used}, {len(texts):,} training texts, seeded. It measures the representation only; "
        f"what a classifier loses is measured by `agnews robustness <run>`.\n\n"
        + markdown_table(["change", "mean cosine", "sd", "least"], cells, 3)
        + reasons(left_out)
    )
    return Findings(metrics, summary, {"space": used, "left_out": left_out})


def _embedding(context: EdaContext, space: str) -> tuple[Any, str, dict[str, str]]:
    left_out = {}
    if space != "tfidf":
        try:
            return context.sentence_embeddings.transform, "all-MiniLM-L6-v2", {}
        except MissingDependencyError as error:
            if space == "minilm":
                raise
            left_out["all-MiniLM-L6-v2"] = str(error)
    from agnews_exp.ngrams import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True).fit(context.train.texts).transform, "word TF-IDF", left_out
