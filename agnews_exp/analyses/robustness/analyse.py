"""What typing errors, letter case, feed residue, other words and missing words cost a run's model on test rows."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import AnalysisContext, Findings
from agnews_exp.analyses.figures import new_figure, open_frame, save_png
from agnews_exp.analyses.performing import steps
from agnews_exp.analyses.robustness.drops import Drop, measure_drop
from agnews_exp.analyses.robustness.perturbations import (
    DESCRIPTIONS,
    WITHOUT_STRENGTH,
    WORDS,
    Kind,
    Variant,
    make_variant,
    perturb,
)
from agnews_exp.config.targets import safe_instantiate
from agnews_exp.core.errors import DataError
from agnews_exp.data.batching import derive_seed
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.csv_files import read_table
from agnews_exp.data.files import Columns, Labels
from agnews_exp.evaluation.inputs import plain

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#767676")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"


def draw_drops(path: Path, drops: Sequence[Drop]) -> None:
    """Draw the change of macro-F1 and accuracy under every variant, with paired intervals."""
    if not drops:
        return
    figure = new_figure(7.0, 0.27 * len(drops) + 1.5)
    axes = figure.add_subplot()
    y = np.arange(len(drops))
    for metric, label, colour, marker, offset in (
        ("macro_f1", "macro-F1", BLUE, "o", -0.13),
        ("accuracy", "accuracy", ORANGE, "s", 0.13),
    ):
        intervals = [drop.metrics[metric].difference for drop in drops]
        middle = np.array([100 * i.estimate for i in intervals])
        ends = 100 * np.array([i.percentile for i in intervals]).T
        axes.errorbar(
            middle, y + offset, xerr=np.clip(np.abs(ends - middle), 0, None), fmt=marker, color=colour, markersize=3.5,
            capsize=2, linewidth=1, label=label,
        )  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=1, linestyle="--")
    axes.set_yticks(y, [drop.variant.label for drop in drops], fontsize=8)
    axes.set_ylim(len(drops) - 0.4, -0.6)
    axes.set_xlabel("change [percentage points], 95 % paired bootstrap interval")
    open_frame(axes)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    save_png(figure, path)


def draw_strengths(path: Path, drops: Sequence[Drop], metric: str = "macro_f1") -> None:
    """Draw the metric against the share of words changed, one line a kind.

    Kinds of one strength only are left out, and synonyms, whose strength is a share of the words that the list knows.
    Nothing is drawn when no kind is left.
    """
    lines: dict[str, list[Drop]] = {}
    for drop in drops:
        if drop.variant.kind not in WITHOUT_STRENGTH | WORDS | {"synonyms"}:
            lines.setdefault(drop.variant.kind, []).append(drop)
    lines = {kind: sorted(found, key=lambda d: d.variant.strength) for kind, found in lines.items() if len(found) > 1}
    if not lines:
        return
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    clean = drops[0].metrics[metric].b.estimate
    for i, (kind, found) in enumerate(lines.items()):
        x = 100 * np.array([0.0, *(d.variant.strength for d in found)])
        differences = [d.metrics[metric].difference for d in found]
        values = np.array([clean, *(clean + d.estimate for d in differences)])
        low = np.array([clean, *(clean + d.percentile[0] for d in differences)])
        high = np.array([clean, *(clean + d.percentile[1] for d in differences)])
        colour = _COLOURS[i % len(_COLOURS)]
        axes.fill_between(x, low, high, color=colour, alpha=0.10, linewidth=0)
        axes.plot(
            x, values, color=colour, marker=_MARKERS[i % len(_MARKERS)], markersize=4, linewidth=1.2,
            label=DESCRIPTIONS[kind],
        )  # fmt: skip
    axes.axhline(clean, color=GREY, linewidth=1, linestyle="--")
    axes.set_xlabel("words changed [%]")
    axes.set_ylabel("macro-F1" if metric == "macro_f1" else metric)
    axes.set_xlim(left=0)
    open_frame(axes)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("bands: unchanged score + 95 % interval of the paired change", fontsize=8, loc="left")
    save_png(figure, path)


_TITLES = Columns(texts=(1,), label=0, n_fields=3)


def test_titles(context: AnalysisContext) -> list[str] | None:
    """Return each test row's title, or None where the source does not tell title and description apart."""
    test = context.splits.test
    try:
        rows = _read_titles(context)
    except DataError:
        return None
    if rows is None or int(test.row_ids.max()) >= len(rows):
        return None
    titles = [rows.texts[row] for row in test.row_ids.tolist()]
    # What does not open its text comes from other rows, such as a file that changed since.
    return titles if all(text.startswith(title) for text, title in zip(test.texts, titles, strict=True)) else None


def _read_titles(context: AnalysisContext) -> TextRows | None:
    data, source = context.checked.component("data"), context.splits.source
    if source == "csv":
        columns = data["text_columns"]
        if not isinstance(columns, list) or len(columns) < 2:
            return None
        corpus = safe_instantiate(data | {"text_columns": columns[:1]}, "data")
        rows: TextRows = corpus.train if corpus.test is None else corpus.test
        return rows
    with ExitStack() as stack:
        if source == "ag_news:csv":
            path = Path(data["dir"]).expanduser() / "test.csv"
        elif source == "sample":
            shipped = importlib.resources.files("agnews_exp.data") / "sample" / "test.csv.gz"
            path = stack.enter_context(importlib.resources.as_file(shipped))
        else:
            return None
        return read_table(path, _TITLES, Labels())


Strengths = dict[Kind, tuple[float, ...] | None]

DEFAULT: Final[Strengths] = {
    "swap": (0.05, 0.1, 0.2),
    "keyboard": (0.05, 0.1, 0.2),
    "insert": (0.05, 0.1, 0.2),
    "delete": (0.05, 0.1, 0.2),
    "upper": (1.0,),
    "lower": (1.0,),
    "synonyms": (0.5, 1.0),
    "html_added": (0.05, 0.1, 0.2),
    "html_removed": (1.0,),
    "truncate": (20, 10, 5),
}


def analyse(
    context: AnalysisContext,
    *,
    n_rows: Annotated[int, Field(ge=20)] = 2000,
    perturbations: Strengths = DEFAULT,
    parts: bool = True,
    resamples: Annotated[int, Field(ge=100)] = 2000,
    n_examples: Annotated[int, Field(ge=0, le=20)] = 1,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Findings:
    """Measure a run's robustness.

    Args:
        context: The run.
        n_rows: Test rows drawn at random; all where there are fewer.
        perturbations: Strengths by kind; None switches a kind off.
        parts: Try title and description alone, where the data tell them apart.
        resamples: Bootstrap resamples of each interval.
        n_examples: Rows whose perturbed texts are written to ``examples.csv``.
        seed: Of the sample and of the perturbations.

    Returns:
        ``test/macro_f1_change_<variant>`` and ``test/accuracy_change_<variant>``: perturbed minus unchanged.
    """
    variants = [make_variant(kind, s) for kind, strengths in perturbations.items() for s in strengths or ()]
    rows, positions = _sample(context, n_rows, seed)
    texts = {variant: perturb(rows.texts, rows.row_ids.tolist(), variant, seed) for variant in variants}
    notes = []
    if parts:
        alone = _parts(context, rows, positions)
        texts |= alone
        if not alone:
            notes.append("Title and description cannot be told apart in these data, so neither was tried alone.")
    drops: list[Drop] = []
    with steps(len(texts) + 1, "perturbing") as advance:
        clean = context.model.predict(rows.texts).labels
        advance("unchanged")
        if differ := int((clean != context.answers["test"].labels[positions]).sum()):
            notes.append(f"To {differ} rows the model gives another class today than in the run (rounding, batches).")
        for variant, changed in texts.items():
            predicted = context.model.predict(changed).labels
            share = float(np.mean([a != b for a, b in zip(changed, rows.texts, strict=True)]))
            drops.append(
                measure_drop(
                    variant, rows.labels, clean, predicted, share,
                    class_names=context.splits.class_names, resamples=resamples, seed=seed,
                )
            )  # fmt: skip
            advance(variant.name)
    draw_drops(context.folder / "drops.png", drops)
    draw_strengths(context.folder / "strengths.png", drops)
    if n_examples:
        _write_examples(context, rows, texts, n_examples)
    metrics = {
        f"test/{metric}_change_{drop.variant.name}": pair.difference.estimate
        for drop in drops
        for metric, pair in drop.metrics.items()
    }
    details = {"rows": len(rows), "row_ids": rows.row_ids, "variants": {d.variant.name: d for d in drops}}
    return Findings(metrics, _summary(drops, len(rows), seed, notes), plain(details))


def _sample(context: AnalysisContext, n_rows: int, seed: int) -> tuple[TextRows, NDArray[np.int64]]:
    test = context.splits.test
    generator = np.random.default_rng(derive_seed("robustness", seed))
    positions = np.sort(generator.permutation(len(test))[:n_rows])
    return test.take(positions), positions


def _parts(context: AnalysisContext, rows: TextRows, positions: NDArray[np.int64]) -> dict[Variant, list[str]]:
    titles = test_titles(context)
    if titles is None:
        return {}
    title = [titles[i] for i in positions.tolist()]
    description = [text[len(t) :].strip() for text, t in zip(rows.texts, title, strict=True)]
    return {Variant("title_only", 1.0): title, Variant("description_only", 1.0): description}


@dataclass(frozen=True)
class _Example:
    row_id: int
    variant: str
    text: str


def _write_examples(context: AnalysisContext, rows: TextRows, texts: Mapping[Variant, list[str]], n: int) -> None:
    from agnews_exp.analyses.errors.tables import write_csv

    listed = []
    for i in range(min(n, len(rows))):
        row_id = int(rows.row_ids[i])
        listed.append(_Example(row_id, "unchanged", rows.texts[i]))
        listed += [_Example(row_id, variant.name, changed[i]) for variant, changed in texts.items()]
    write_csv(context.folder / "examples.csv", [vars(example) for example in listed])


def _summary(drops: Sequence[Drop], n_rows: int, seed: int, notes: Sequence[str]) -> str:
    clean = drops[0].metrics if drops else {}
    before = ", ".join(f"{name} {pair.b.estimate:.4f}" for name, pair in clean.items())
    lines = [
        f"## Robustness on {n_rows:,} test rows",
        "",
        f"Unchanged texts: {before}. Change: perturbed minus unchanged on the same rows, with 95 % paired bootstrap "
        "intervals (percentile); below 0 the model gets worse. Answers changed: rows that get another class, right or "
        f"wrong. Seed {seed}.",
        "",
        "| texts | macro_f1 | change of macro_f1 | change of accuracy | texts changed | answers changed |",
        "| --- |" + " ---: |" * 5,
    ]
    for drop in drops:
        f1, accuracy = drop.metrics["macro_f1"], drop.metrics["accuracy"]
        cells = [drop.variant.label, f"{f1.a.estimate:.4f}"]
        for pair in (f1, accuracy):
            low, high = pair.difference.percentile
            cells.append(f"{pair.difference.estimate:+.4f} [{low:+.4f}, {high:+.4f}]")
        cells += [f"{100 * drop.changed_texts:.1f} %", f"{100 * drop.changed_answers:.1f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])
