"""Tables of the error analysis: Markdown for the summary, CSV for the rest."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agnews_exp.analyses.errors.confusions import Confusion, Contrast, LabelNoise, Rate
from agnews_exp.analyses.errors.near_duplicates import DuplicateEffect, NearDuplicates, find_near_duplicates
from agnews_exp.analyses.errors.slices import SliceSearch
from agnews_exp.analyses.figures import new_figure, open_frame, save_png
from agnews_exp.core.files import atomic_path
from agnews_exp.core.text import markdown_cell, spreadsheet_cell
from agnews_exp.data.cache import ArrayCache, cache_key, digest_texts
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.statistics.bootstrap import BootstrapInterval

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
"""Of Okabe and Ito's palette, told apart with any colour vision and in grey print."""

_MAX_SLICES = 20


def draw_rates(path: Path, panels: Mapping[str, Sequence[Rate]], overall: Rate) -> None:
    """Draw error rates with Wilson intervals, one panel a kind of group, all on one axis.

    Args:
        path: PNG.
        panels: Groups by kind; empty ones are left out.
        overall: The rate of all rows, drawn as a line.
    """
    used = {title: rates for title, rates in panels.items() if rates}
    heights = [len(rates) + 1 for rates in used.values()]
    figure = new_figure(7.0, 0.24 * sum(heights) + 1.2)
    grid = figure.subplots(len(used), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, (title, rates) in zip(grid[:, 0], used.items(), strict=True):
        y = np.arange(len(rates))
        middle = np.array([100 * r.rate for r in rates])
        reach = np.abs(np.array([[100 * r.low, 100 * r.high] for r in rates]).T - middle)
        axes.axvline(100 * overall.rate, color=GREY, linewidth=1, linestyle="--", label="all rows")
        axes.errorbar(middle, y, xerr=reach, fmt="o", color=BLUE, markersize=4, capsize=2, linewidth=1, clip_on=False)
        axes.set_yticks(y, [f"{r.name}  (n = {r.total:,})" for r in rates], fontsize=8)
        axes.set_ylim(len(rates) - 0.4, -0.6)
        axes.set_title(title, fontsize=9, loc="left")
        open_frame(axes)
    grid[-1, 0].set_xlabel("error rate on test [%], 95 % Wilson interval; dashed: all test rows")
    grid[-1, 0].set_xlim(left=0)
    save_png(figure, path)


def draw_slices(path: Path, found: SliceSearch) -> None:
    """Draw each slice's error rate where it was found and where it was to be confirmed."""
    shown = found.slices[:_MAX_SLICES]
    figure = new_figure(7.0, 0.3 * len(shown) + 1.6)
    axes = figure.add_subplot()
    y = np.arange(len(shown))
    found_rates: list[Rate | None] = [s.found for s in shown]
    for label, colour, marker, offset, rates in (
        ("found: validation", ORANGE, "s", -0.14, found_rates),
        ("confirming: test", BLUE, "o", 0.14, [s.confirmed for s in shown]),
    ):
        drawn = [(i, r) for i, r in enumerate(rates) if r is not None]
        middle = np.array([100 * r.rate for _, r in drawn])
        ends = np.array([[100 * r.low, 100 * r.high] for _, r in drawn]).reshape(-1, 2).T
        where = np.array([i for i, _ in drawn]) + offset
        axes.errorbar(
            middle, where, xerr=np.abs(ends - middle), fmt=marker, color=colour, markersize=4, capsize=2,
            linewidth=1, label=label,
        )  # fmt: skip
    axes.axvline(100 * found.overall_confirming.rate, color=GREY, linewidth=1, linestyle="--", label="all test rows")
    axes.set_yticks(y, [s.found.name for s in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("error rate [%], 95 % Wilson interval")
    open_frame(axes)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    save_png(figure, path)


_CACHE_KIND = "near_duplicates"


def cached_near_duplicates(cache_dir: Path, texts: Sequence[str], settings: Mapping[str, Any]) -> NearDuplicates:
    """Return the near-duplicates among texts.

    Args:
        cache_dir: The project's cache.
        texts: The texts of all splits together.
        settings: ``threshold``, ``shingle_words``, ``permutations`` of :func:`find_near_duplicates`.

    Raises:
        MissingDependencyError: datasketch is not installed.
    """

    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        return dict(vars(find_near_duplicates(texts, **settings))), {}

    key = cache_key(1, digest_texts(texts), *(settings[name] for name in sorted(settings)))
    return NearDuplicates(**ArrayCache(cache_dir / "analyses").get_or_build(_CACHE_KIND, key, build).arrays)


SHOWN = 10
_EXCERPT = 90


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that have the same keys, numbers with six digits; no text is a formula to a spreadsheet."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else spreadsheet_cell(v) for k, v in row.items()})


def renamed(value: Rate, name: str) -> Rate:
    """Return a rate under another name."""
    return replace(value, name=name)


def _share(value: Rate) -> str:
    return f"{100 * value.rate:.1f} % [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """Return a Markdown table whose last ``numbers`` columns are aligned right."""
    rule = ["---"] * (len(header) - numbers) + ["---:"] * numbers
    return "\n".join("| " + " | ".join(map(markdown_cell, cells)) + " |" for cells in (header, rule, *rows))


def _p(value: float) -> str:
    return "< 1e-4" if value < 1e-4 else f"{value:.2g}"


def excerpt(text: str, length: int = _EXCERPT) -> str:
    """Return the beginning of a text, fit for a cell of a Markdown table."""
    words = " ".join(text.split())
    cut = words if len(words) <= length else words[: length - 1].rstrip() + "…"
    return cut.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def confusions_markdown(overall: Rate, directed: Sequence[Confusion], undirected: Sequence[Confusion]) -> str:
    """Return the section of confusions."""
    parts = [
        "## Confusions",
        f"{overall.count:,} of {overall.total:,} test rows are wrong: {_share(overall)}. Brackets hold 95 % Wilson "
        "intervals throughout.",
    ]
    for title, pairs, of in (
        ("true class -> class given", directed, "of the true class"),
        ("classes taken for each other", undirected, "of both classes"),
    ):
        rows = [
            [c.of_rows.name, f"{c.of_rows.count:,}", f"{100 * c.share_of_errors:.1f} %", _share(c.of_rows)]
            for c in pairs[:SHOWN]
        ]
        parts.append(markdown_table([title, "errors", "of all errors", of], rows, 3))
    return "\n\n".join(parts)


def groups_markdown(groups: Mapping[str, Sequence[Rate]], artefacts: Sequence[Contrast]) -> str:
    """Return the section of error rates by kind of text."""
    parts = ["## Error rate by kind of text"]
    for title, rates in groups.items():
        parts.append(
            markdown_table([title, "rows", "errors", "error rate"],
                   [[r.name, f"{r.total:,}", f"{r.count:,}", _share(r)] for r in rates], 3)
        )  # fmt: skip
    if artefacts:
        rows = [[c.name, f"{c.inside.total:,}", _share(c.inside), _share(c.outside), _p(c.p_value)] for c in artefacts]
        parts.append(markdown_table(["artefact", "rows with it", "error rate", "of the others", "p (Fisher)"], rows, 4))
        parts.append("p-values are not adjusted for the number of rows of the table.")
    return "\n\n".join(parts)


def hardest_markdown(listed: Sequence[Mapping[str, Any]]) -> str:
    """Return the section of the hardest rows."""
    rows = [
        [str(r["row_id"]), r["label"], r["prediction"], "" if r["margin"] is None else f"{r['margin']:.2f}",
         excerpt(r.get("text", ""))]
        for r in listed[:SHOWN]
    ]  # fmt: skip
    table = markdown_table(["test row", "label", "prediction", "margin", "text"], rows)
    what = "Margin: score of the labelled class minus the best other one."
    return f"## Hardest rows\n\nThe first of {len(listed)} in `hardest.csv`. {what}\n\n{table}"


def noise_markdown(
    found: Mapping[str, LabelNoise], rows: Mapping[str, TextRows], listed: Sequence[Mapping[str, Any]]
) -> str:
    """Return the section of label-noise candidates."""
    counts = "; ".join(f"{s}: {len(n.rows):,} of {len(rows[s]):,} rows ({n.share:.1%})" for s, n in found.items())
    test = [r for r in listed if r["split"] == "test"][:SHOWN]
    cells = [
        [str(r["row_id"]), r["label"], r["prediction"], f"{r['label_probability']:.3f}", excerpt(r.get("text", ""))]
        for r in test
    ]
    text = (
        f"## Labels that are probably wrong\n\nConfident learning (cleanlab) on probabilities of rows that the model "
        f"was not fitted on: {counts}. All in `label_noise.csv`. They are candidates to read, not errors proven: a "
        "model that is wrong with confidence makes them too."
    )
    head = ["test row", "label", "prediction", "probability of the label", "text"]
    return text + ("\n\n" + markdown_table(head, cells) if cells else "")


def _metric(value: BootstrapInterval | None) -> str:
    return "" if value is None else f"{value.estimate:.4f} [{value.percentile[0]:.4f}, {value.percentile[1]:.4f}]"


def duplicates_markdown(
    counts: Mapping[str, Mapping[str, Mapping[str, int]]],
    effects: Mapping[str, DuplicateEffect],
    settings: Mapping[str, Any],
) -> str:
    """Return the section of duplicates."""
    parts = [
        "## Duplicates",
        f"Same words: letter case and punctuation aside. Near-duplicates: Jaccard similarity of sequences of "
        f"{settings['shingle_words']} words of {settings['threshold']:g} or more (MinHash, then checked exactly); they "
        "include the texts with the same words.",
    ]
    rows = [
        [kind, split, *(f"{n:,}" for n in where.values())] for kind, by in counts.items() for split, where in by.items()
    ]
    head = ["kind", "rows of", *(f"with one in {split}" for split in next(iter(counts.values())))]
    parts.append(markdown_table(head, rows, len(head) - 2))
    cells = []
    for split, e in effects.items():
        for metric, value in e.all_rows.items():
            other = None if e.without is None else e.without[metric]
            moved = "" if other is None else f"{other.estimate - value.estimate:+.4f}"
            cells.append([split, metric, _metric(value), _metric(other), moved])
    parts.append(
        markdown_table(["split", "metric", "all rows", "without near-duplicates of train", "change"], cells, 3)
    )
    for split, e in effects.items():
        if e.errors is not None:
            parts.append(
                f"Error rate of {split} rows with a near-duplicate in train: {_share(e.errors.inside)}, without one: "
                f"{_share(e.errors.outside)} (Fisher p {_p(e.errors.p_value)})."
            )
        if e.conflicts is not None and e.conflicts.count:
            follows = f" To {e.follows_train.count} of these the model gives train's label." if e.follows_train else ""
            parts.append(
                f"{e.conflicts.count} of {e.conflicts.total} ({_share(e.conflicts)}) bear another label than "
                "their near-duplicate in train: one of the two is wrong, both fit, or only boilerplate is alike."
                f"{follows}"
            )
    return "\n\n".join(parts)


def slice_rows(found: SliceSearch) -> list[dict[str, Any]]:
    """Return one row a slice, for CSV."""
    rows = []
    for s in found.slices:
        row: dict[str, Any] = {"slice": s.found.name}
        for split, value, p, q in (
            ("val", s.found, s.p_found, s.q_found),
            ("test", s.confirmed, s.p_confirmed, s.q_confirmed),
        ):
            row |= {f"{split}_rows": value.total if value else 0, f"{split}_errors": value.count if value else 0}
            row |= {f"{split}_rate": value.rate if value else None, f"{split}_low": value.low if value else None}
            row |= {f"{split}_high": value.high if value else None, f"{split}_p": p, f"{split}_q": q}
        rows.append(row)
    return rows


def slices_markdown(found: SliceSearch, max_q: float) -> str:
    """Return the section of slices."""
    n_confirmed = sum(s.q_confirmed <= max_q for s in found.slices)
    text = (
        f"## Slices with too many errors\n\n{found.n_tested:,} slices of validation rows tested (words, length, "
        f"source, artefact, predicted class, and pairs of them); {found.n_significant:,} have too many errors at a "
        f"false discovery rate of {max_q:g}, {len(found.slices):,} after leaving out those that mostly repeat a "
        f"stronger one. On test, {n_confirmed:,} of these are confirmed (q <= {max_q:g} over these). Believe the test "
        f"column: slices were chosen for their validation errors. All rows: {_share(found.overall)} validation, "
        f"{_share(found.overall_confirming)} test."
    )
    rows = [
        [
            s.found.name, f"{s.found.total:,}", _share(s.found), _p(s.q_found),
            f"{s.confirmed.total:,}" if s.confirmed else "0", _share(s.confirmed) if s.confirmed else "",
            _p(s.q_confirmed) + (" *" if s.q_confirmed <= max_q else ""),
        ]
        for s in found.slices[: 2 * SHOWN]
    ]  # fmt: skip
    head = ["slice", "val rows", "val error rate", "q", "test rows", "test error rate", "q on test"]
    if not rows:
        return text
    more = f"\n\nThe first {len(rows)} of {len(found.slices)}; all in `slices.csv`." if len(found.slices) > 20 else ""
    return text + "\n\n" + markdown_table(head, rows, 6) + more
