"""What languages texts are in, and how their sentences are built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors.tables import excerpt, markdown_table
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.boxes import box_part, by_class, extremes
from agnews_exp.analyses.exploration.context import EdaContext
from agnews_exp.analyses.exploration.measures.syntax import tree_depth
from agnews_exp.analyses.exploration.spacy_pipelines import load_spacy
from agnews_exp.analyses.robustness.perturbations import make_variant, perturb
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.metrics import column_key

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


def dependencies(
    context: EdaContext,
    *,
    spacy_model: str = "en_core_web_sm",
    n_documents: Annotated[int, Field(ge=1)] = 500,
    n_top: Annotated[int, Field(ge=1, le=100)] = 12,
) -> Findings:
    """Parse sentences: how deep their trees are, and what verbs they turn on.

    Args:
        context: The corpus.
        spacy_model: Name or folder of a spaCy pipeline with a dependency parser.
        n_documents: Training texts to parse.
        n_top: Root verbs of each class to list.

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
    positions = context.sample(n_documents, "dependencies")
    labels = context.train.labels[positions]
    depths, n_sentences = np.zeros(len(positions)), np.zeros(len(positions))
    verbs: list[Counter[str]] = [Counter() for _ in context.names]
    texts = [context.train.texts[i] for i in positions.tolist()]
    for number, document in enumerate(pipeline.pipe(texts, batch_size=64)):
        depths[number] = tree_depth([token.head.i for token in document])
        roots = [sentence.root for sentence in document.sents]
        n_sentences[number] = len(roots)
        verbs[labels[number]].update(_verb(root) for root in roots if root.pos_ in ("VERB", "AUX", ""))
    groups = by_class(context, positions, depths)
    means = box_part(context, "tree_depth", "Depth of dependency trees by class", groups, "most ancestors of a word")
    rows: list[dict[str, Any]] = [
        {"class": name, "verb": verb, "count": count}
        for name, counts in zip(context.names, verbs, strict=True)
        for verb, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n_top]
    ]
    lists = {name: [(str(r["verb"]), float(r["count"])) for r in rows if r["class"] == name] for name in context.names}
    if any(lists.values()):
        figure = drawing.bar_panels({k: v for k, v in lists.items() if v}, "sentences")
        context.draw("root_verbs", "Most frequent root verbs by class", figure, rows)
    cells = [[name, ", ".join(verb for verb, _ in lists[name]), f"{mean:.2f}"] for name, mean in means.items()]
    summary = (
        f"## Sentences\n\nspaCy {spacy_model} on {len(texts):,} training texts, {n_sentences.mean():.2f} sentences a "
        "text. Depth: the most ancestors that a word of the text has.\n\n"
        + markdown_table(["class", "most frequent root verbs", "mean depth"], cells, 1)
    )
    metrics = {"documents": float(len(texts)), "sentences": float(n_sentences.mean())}
    metrics |= {f"tree_depth/{column_key(name, context.names)}": mean for name, mean in means.items()}
    return Findings(metrics, summary, plain({"headline": f"depth: {extremes(means)}", "verbs": lists}))


def _verb(root: Any) -> str:
    return str(root.lemma_ or root.lower_).lower()
