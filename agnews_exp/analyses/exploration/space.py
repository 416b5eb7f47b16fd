"""Classes and texts in space: similar classes, a map, sentence embeddings, and how far typos move a text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.exploration.corpus import ExploredCorpus, boxes, class_pairs
from agnews_exp.analyses.findings import Column, Findings, Table, Text
from agnews_exp.analyses.performing import analysis
from agnews_exp.analyses.perturbations import make_variant, perturb
from agnews_exp.core.errors import MissingDependencyError, needs
from agnews_exp.drawing import Chart, Series, heat_map
from agnews_exp.evaluation.inputs import BoolArray, FloatArray, IntArray


def class_centroids(matrix: Any, labels: IntArray, n_classes: int) -> FloatArray:
    """Return the mean row of each class of a matrix (n, m), of length 1, shape (K, m); zeros for an empty class."""
    from sklearn.preprocessing import normalize

    sums = [np.asarray(matrix[np.flatnonzero(labels == k)].sum(axis=0)).ravel() for k in range(n_classes)]
    return np.asarray(normalize(np.array(sums, dtype=np.float64)))


def merge_tree(similarity: FloatArray) -> FloatArray:
    """Return scipy's linkage, shape (K - 1, 4), of average distances 1 - similarity, shape (K, K), K >= 2."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    distance = np.clip(1 - (similarity + similarity.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    tree: FloatArray = linkage(squareform(distance, checks=False), method="average")
    return tree


@dataclass(frozen=True)
class EmbeddingSpace:
    """How embeddings lie in their space."""

    isotropy: float  # mean cosine of random pairs of texts: 0 where directions are used evenly, near 1 in a narrow cone
    within: float  # mean cosine of random pairs of the same class
    between: float  # mean cosine of random pairs of different classes
    spread: dict[str, float]  # mean Euclidean distance of each class's embeddings to their centroid, by class


def describe_space(
    embeddings: NDArray[np.floating[Any]], labels: IntArray, class_names: tuple[str, ...], n_pairs: int, seed: int
) -> tuple[EmbeddingSpace, FloatArray, BoolArray]:
    """Describe embeddings, shape (n, d), n >= 2, by random pairs of two different texts.

    Returns:
        The description; the cosine of each pair, shape (n_pairs,); whether the two are of the same class.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(seed)
    first = rng.integers(len(unit), size=n_pairs)
    second = (first + rng.integers(1, len(unit), size=n_pairs)) % len(unit)
    cosines: FloatArray = (unit[first] * unit[second]).sum(axis=1)
    same = labels[first] == labels[second]
    spread = {}
    for k, name in enumerate(class_names):
        if len(own := vectors[labels == k]):
            spread[name] = float(np.linalg.norm(own - own.mean(axis=0), axis=1).mean())
    within = float(cosines[same].mean()) if same.any() else float("nan")
    between = float(cosines[~same].mean()) if (~same).any() else float("nan")
    return EmbeddingSpace(float(cosines.mean()), within, between, spread), cosines, same


def row_cosines(one: Any, other: Any) -> FloatArray:
    """Return the cosine of row i of one matrix and row i of the other, shape (n,); 0 where a row is all zeros."""
    from scipy.sparse import issparse
    from sklearn.preprocessing import normalize

    a, b = normalize(one), normalize(other)
    products = a.multiply(b) if issparse(a) else a * b
    return np.asarray(products.sum(axis=1), dtype=np.float64).ravel()


@analysis("similarity", title="Similar classes")
def similarity(corpus: ExploredCorpus) -> Findings:
    """Compare classes by the cosine of their mean TF-IDF rows, and join the most similar ones step by step.

    Returns:
        ``centroid_cosine/<class>-<class>``.
    """
    names = corpus.names
    centroids = class_centroids(corpus.tfidf.matrix, corpus.train.labels, corpus.n_classes)
    cosines = centroids @ centroids.T
    pairs = class_pairs(names, cosines)
    ranked = sorted(pairs.items(), key=lambda pair: -pair[1])
    order, joined = _join(names, cosines)
    ordered = [names[i] for i in order]
    title = "Similarity of classes"
    blocks = (
        Table("class_similarity", title, ("class", "other", Column("cosine", ".3f")),
              tuple((*pair, value) for pair, value in ranked), shown=10),
        heat_map("class_similarity", title, cosines[np.ix_(order, order)], ordered, ordered, blank_diagonal=True,
                 caption="Cosine of the classes' mean TF-IDF rows; similar classes stand together."),
        Table("class_tree", "Classes joined step by step, the most similar groups first",
              ("group", "joins", Column("mean of 1 - cosine", ".3f")), joined),
    )  # fmt: skip
    (one, other), value = ranked[0] if ranked else (("", ""), 0.0)
    headline = f"The most similar classes are {one} and {other}, with a cosine of {value:.3f}." if ranked else ""
    return Findings(headline, blocks, corpus.pair_metrics("centroid_cosine", pairs))


def _join(names: tuple[str, ...], cosines: FloatArray) -> tuple[list[int], tuple[tuple[str, str, float], ...]]:
    """Return the classes in the order of their tree, and its steps."""
    if len(names) < 2:
        return list(range(len(names))), ()
    from scipy.cluster.hierarchy import leaves_list

    tree = merge_tree(cosines)
    groups = list(names)
    steps = []
    for first, second, distance, _ in tree.tolist():
        one, other = groups[int(first)], groups[int(second)]
        steps.append((one, other, float(distance)))
        groups.append(f"{one} + {other}")
    return leaves_list(tree)[::-1].tolist(), tuple(steps)


@analysis("map", title="Texts in the plane")
def document_map(
    corpus: ExploredCorpus,
    *,
    n_documents: Annotated[int, Field(ge=10)] = 5000,
    components: Annotated[int, Field(ge=2)] = 50,
    method: Literal["auto", "tsne", "umap"] = "auto",
    perplexity: Annotated[float, Field(gt=1)] = 30.0,
    max_iter: Annotated[int, Field(ge=250)] = 500,
    neighbours: Annotated[int, Field(ge=1)] = 10,
) -> Findings:
    """Lay documents out in the plane: truncated SVD of their TF-IDF, then UMAP where installed, else t-SNE.

    Returns:
        ``neighbour_purity_2d``, ``neighbour_purity_svd``: mean share of the nearest neighbours of the same class;
        ``svd_variance``: share of the variance that the dimensions hold.

    Raises:
        MissingDependencyError: ``method=umap`` without umap-learn.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    positions = corpus.sample(n_documents, "map")
    labels, matrix = corpus.train.labels[positions], corpus.tfidf.matrix[positions]
    components = min(components, min(matrix.shape) - 1)
    svd = TruncatedSVD(components, random_state=corpus.seed)
    reduced = normalize(svd.fit_transform(matrix))
    left_out: dict[str, str] = {}
    umap = None
    if method != "tsne":
        try:
            with needs("umap-learn", "UMAP", "umap-learn"):
                umap = import_module("umap")
        except MissingDependencyError as error:
            if method == "umap":
                raise
            left_out["UMAP"] = str(error)
    if umap is not None:
        plane, used = umap.UMAP(n_components=2, n_jobs=1, random_state=corpus.seed).fit_transform(reduced), "UMAP"
    else:
        from sklearn.manifold import TSNE

        perplexity = min(perplexity, (len(positions) - 1) / 3)
        layout = TSNE(2, perplexity=perplexity, max_iter=max_iter, init="pca", random_state=corpus.seed)
        plane, used = layout.fit_transform(reduced.astype(np.float32)), "t-SNE"
    metrics = {
        "documents": float(len(positions)),
        "svd_variance": float(svd.explained_variance_ratio_.sum()),
        "neighbour_purity_2d": _purity(plane, labels, neighbours),
        "neighbour_purity_svd": _purity(reduced, labels, neighbours),
    }
    chance = float((np.bincount(labels) / len(labels)) @ (np.bincount(labels) / len(labels)))
    text = (
        f"{len(positions):,} training texts: TF-IDF, {components} dimensions by SVD "
        f"({metrics['svd_variance']:.1%} of the variance), then {used}. Of a text's {neighbours} nearest neighbours "
        f"{metrics['neighbour_purity_svd']:.1%} share its class before and {metrics['neighbour_purity_2d']:.1%} after "
        f"the last step (by chance {chance:.1%}). Distances between groups mean nothing."
    )
    series, middles, rows = [], [], []
    for k, name in enumerate(corpus.names):
        own = np.flatnonzero(labels == k)
        if len(own):
            x, y = (tuple(column) for column in plane[own].T.astype(float).round(4).tolist())
            row_ids = corpus.train.row_ids[positions[own]].tolist()
            series.append(Series(name, x, y, text=tuple(f"{name}, row {row}" for row in row_ids)))
            middles.append((*np.median(plane[own], axis=0).astype(float).tolist(), name))
            rows += [(row, name, *place) for row, *place in zip(row_ids, x, y, strict=True)]
    title = f"Texts in the plane ({used})"
    chart = Chart(
        "map", title, "points", f"{used} 1", f"{used} 2", tuple(series), caption=text,
        annotations=tuple(middles) if len(middles) <= 20 else (),
    )  # fmt: skip
    headline = f"Of a text's nearest neighbours {metrics['neighbour_purity_svd']:.0%} share its class."
    table = Table("map", title, (Column("row_id", "id"), "class", "x", "y"), tuple(rows), folded=True, shown=20)
    return Findings(headline, (chart, table), metrics, {"left_out": left_out})


def _purity(points: NDArray[Any], labels: IntArray, neighbours: int) -> float:
    from sklearn.neighbors import NearestNeighbors

    k = min(neighbours, len(points) - 1)
    near = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)
    return float((labels[near] == labels[:, None]).mean())


@analysis("embeddings", title="Sentence embeddings")
def embeddings(
    corpus: ExploredCorpus,
    *,
    n_documents: Annotated[int, Field(ge=2)] = 500,
    n_pairs: Annotated[int, Field(ge=1)] = 10000,
) -> Findings:
    """Describe the space of all-MiniLM-L6-v2 sentence embeddings: isotropy, and the spread of each class.

    Returns:
        ``isotropy``, ``cosine_within``, ``cosine_between``, ``spread/<class>``.

    Raises:
        MissingDependencyError: The extra ``minilm`` is not installed.
    """
    drawn = corpus.draw(n_documents, "embeddings")
    vectors = corpus.sentence_embeddings.transform(drawn.texts)
    space, cosines, same = describe_space(vectors, drawn.labels, corpus.names, n_pairs, corpus.seed)
    edges = np.linspace(-0.3, 1.0, 53)
    middles = tuple(((edges[:-1] + edges[1:]) / 2).tolist())
    series = []
    for name, mask in (("same class", same), ("different classes", ~same)):
        if mask.any():
            shares = 100 * np.histogram(cosines[mask], edges)[0] / mask.sum()
            series.append(Series(f"{name}, mean {cosines[mask].mean():.3f}", middles, tuple(shares.tolist())))
    text = (
        f"all-MiniLM-L6-v2, {len(drawn):,} training texts, {n_pairs:,} random pairs: mean cosine "
        f"{space.isotropy:.4f} (0: all directions are used), {space.within:.4f} within a class, {space.between:.4f} "
        "between classes."
    )
    x_title, y_title = "cosine of two sentence embeddings", "share of pairs [%]"
    blocks = (
        Chart("embeddings", "Cosines of sentence embeddings", "lines", x_title, y_title, tuple(series), caption=text),
        Table("embedding_spread", "Sentence embeddings of each class",
              ("class", Column("mean distance to its centroid", ".3f")), tuple(space.spread.items()), note=text),
    )  # fmt: skip
    metrics = {"isotropy": space.isotropy, "cosine_within": space.within, "cosine_between": space.between}
    return Findings(
        f"Two random texts have a cosine of {space.isotropy:.3f} on average.",
        blocks,
        metrics | corpus.class_metrics("spread", space.spread),
    )


@analysis("perturbation", title="How far small changes move a text")
def perturbation(
    corpus: ExploredCorpus,
    *,
    n_documents: Annotated[int, Field(ge=1)] = 50,
    swap_words: Annotated[float, Field(gt=0, le=1)] = 0.3,
    synonym_words: Annotated[float, Field(gt=0, le=1)] = 1.0,
    space: Literal["auto", "minilm", "tfidf"] = "auto",
) -> Findings:
    """Measure how far small changes of a text move it: cosine of a text and its changed self.

    Returns:
        ``similarity/swap``, ``similarity/synonyms`` and their standard deviations.
    """
    drawn = corpus.draw(n_documents, "perturbation")
    texts, row_ids = drawn.texts, drawn.row_ids.tolist()
    embed, used, left_out = _embedding(corpus, space)
    original = embed(texts)
    metrics, groups, rows = {"documents": float(len(texts))}, {}, []
    for kind, share in (("swap", swap_words), ("synonyms", synonym_words)):
        variant = make_variant(kind, share)
        changed = perturb(texts, row_ids, variant, corpus.seed)
        cosines = groups[variant.label] = row_cosines(original, embed(changed))
        rows += [
            (row, variant.label, float(cosine), before != after)
            for row, cosine, before, after in zip(row_ids, cosines, texts, changed, strict=True)
        ]
        metrics |= {f"similarity/{kind}": float(cosines.mean()), f"similarity_sd/{kind}": float(cosines.std())}
    text = (
        f"{used}, {len(texts):,} training texts, seeded. It measures the representation only; what a classifier loses "
        "is measured by `agnews robustness <run>`."
    )
    title = "How far small changes move a text"
    columns = (Column("row_id", "id"), "change", Column("cosine", "metric"), "changed")
    blocks = (
        Text(text),
        *boxes("perturbation", title, f"cosine with the unchanged text in {used}", groups),
        Table("perturbed_texts", "Cosine of each text", columns, tuple(rows), folded=True, shown=20),
    )
    headline = f"Swapped letters leave a cosine of {metrics['similarity/swap']:.3f} with the unchanged text."
    return Findings(headline, blocks, metrics, {"left_out": left_out})


def _embedding(corpus: ExploredCorpus, space: str) -> tuple[Callable[[list[str]], Any], str, dict[str, str]]:
    left_out = {}
    if space != "tfidf":
        try:
            return corpus.sentence_embeddings.transform, "all-MiniLM-L6-v2", {}
        except MissingDependencyError as error:
            if space == "minilm":
                raise
            left_out["all-MiniLM-L6-v2"] = str(error)
    from agnews_exp.ngrams import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True).fit(corpus.train.texts).transform, "word TF-IDF", left_out
