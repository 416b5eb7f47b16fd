"""What a model looks at in general: named weights of linear models, and what each family of features is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.explanation.faithfulness import FamilyImportance, family_importance
from agnews_exp.analyses.explanation.linear import LinearView, block_matrix, blocks_of, from_blocks
from agnews_exp.evaluation.metrics import macro_f1, margins_of
from agnews_exp.models.answers import predict_matrix

FAMILY_METRIC = "macro_f1"


@dataclass(frozen=True)
class WeightedTerm:
    """A named feature with its weight for one class.

    Attributes:
        block: Feature block.
        class_name: The class.
        term: The feature's name; n-grams as they are, with their spaces.
        weight: Its weight in the class's score.
        effect: What it adds to that score in validation texts of the class more than in the others, on average: the
            weight times the difference of the feature's mean values.
        share: Share of the validation texts that have the feature.
    """

    block: str
    class_name: str
    term: str
    weight: float
    effect: float
    share: float


def named_weights(
    view: LinearView,
    class_names: Sequence[str],
    texts: Sequence[str],
    labels: NDArray[np.int64],
    n_terms: int,
) -> list[WeightedTerm]:
    """Return for each block and class the features of the highest and lowest weights and of the largest effects.

    Args:
        view: The linear model.
        class_names: K names.
        texts: n validation texts.
        labels: Shape (n,).
        n_terms: Features from each end of the weights, and from the top of the effects.

    Returns:
        By block, class and weight, highest first.
    """
    matrix = view.matrix(texts)
    shares = np.bincount(matrix.indices[matrix.data != 0], minlength=matrix.shape[1]) / max(1, matrix.shape[0])
    found = []
    for k, class_name in enumerate(class_names):
        effects = view.weights[k] * (_mean_row(matrix, labels == k) - _mean_row(matrix, labels != k))
        for block in view.blocks:
            columns = np.arange(block.begin, block.end)
            names, weights = block.names(), view.weights[k, columns]
            order = np.argsort(-weights, kind="stable")
            strongest = np.argsort(-effects[columns] * (weights > 0), kind="stable")[:n_terms]
            chosen = {*order[:n_terms].tolist(), *order[-n_terms:].tolist(), *strongest.tolist()}
            found += [
                WeightedTerm(
                    block.name, class_name, str(names[i]), float(weights[i]), float(effects[j]), float(shares[j])
                )
                for i, j in ((int(i), block.begin + int(i)) for i in order if int(i) in chosen and weights[i] != 0)
            ]
    return found


def _mean_row(matrix: Any, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(rows.astype(np.float64) @ matrix).ravel() / max(1, int(rows.sum()))


def families_of(pipeline: Any) -> dict[str, NDArray[np.int64]]:
    """Return the feature families of a pipeline: its blocks and, within n-gram blocks, the n-grams of each length."""
    families: dict[str, NDArray[np.int64]] = {}
    blocks = blocks_of(pipeline)
    for block in blocks:
        parts = block.families()
        if len(blocks) > 1:
            families[block.name] = np.arange(block.begin, block.end)
        if len(parts) > 1 or len(blocks) == 1:
            families |= parts
    return families


def measure_families(
    pipeline: Any, texts: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str], *, repeats: int,
    seed: int,
) -> tuple[float, list[FamilyImportance]]:  # fmt: skip
    """Return the validation macro-F1 and what each family's permutation and removal take from it.

    Args:
        pipeline: Fitted, with the step ``features``.
        texts: n validation texts.
        labels: Shape (n,).
        class_names: K names.
        repeats: Permutations of each family.
        seed: Of the permutations.
    """
    names = tuple(class_names)

    def score(matrix: Any) -> float:
        answers = predict_matrix(pipeline.named_steps["model"], from_blocks(pipeline, matrix), len(names))
        return float(macro_f1(margins_of(labels, answers.labels, len(names))))

    return family_importance(block_matrix(pipeline, texts), families_of(pipeline), score, repeats=repeats, seed=seed)


def visible(term: str) -> str:
    """Return a term with its spaces made visible."""
    return term.replace(" ", "␣") if term != term.strip() or "  " in term else term


def weights_markdown(
    terms: Sequence[WeightedTerm], class_names: Sequence[str], by: Literal["weight", "effect"], n: int = 8
) -> str:
    """Return a table of the strongest terms of each class, a column a block.

    Args:
        terms: From :func:`named_weights`.
        class_names: K names.
        by: What makes a term strong.
        n: Terms in a cell.
    """
    blocks = list(dict.fromkeys(term.block for term in terms))
    lines = ["| class | " + " | ".join(blocks) + " |", "|---" * (len(blocks) + 1) + "|"]
    for name in class_names:
        cells = []
        for block in blocks:
            # A feature against the class that is rarer in it has a positive effect too, by being absent: not shown.
            own = [t for t in terms if t.block == block and t.class_name == name and t.weight > 0]
            own = sorted((t for t in own if getattr(t, by) > 0), key=lambda t: -getattr(t, by))[:n]
            cells.append(", ".join(f"`{_cell(t.term)}` {getattr(t, by):#.2g}" for t in own))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(term: str) -> str:
    """Return a term that can stand between backticks in a table's cell."""
    return visible(term).replace("|", "¦").replace("`", "'")


def families_markdown(untouched: float, families: Sequence[FamilyImportance]) -> str:
    """Return a table of what each family is worth."""
    lines = [
        f"Points that validation macro-F1 ({100 * untouched:.2f}) loses. Permuted: the family's part of each text "
        "comes from another text and may argue for the wrong class. Blanked: it is zero and says nothing, so the loss "
        "is small where other families say the same. The model is not fitted again.",
        "",
        "| family | columns | permuted | sd | blanked |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {f.family} | {f.n_columns:,} | {100 * f.permuted:.2f} | {100 * f.permuted_sd:.2f} | {100 * f.dropped:.2f} |"
        for f in families
    ]
    return "\n".join(lines)


def as_details(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Return dataclasses as plain dicts."""
    return [asdict(item) for item in items]
