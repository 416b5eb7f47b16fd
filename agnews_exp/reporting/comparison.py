"""`agnews compare`: are these models different, by how much, and could this test set tell?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import ConfigError
from agnews_exp.config.storage import atomic_path
from agnews_exp.evaluation.statistics import ComparisonResult, compare_all
from agnews_exp.tracking.record import PREDICTIONS, RunFolder, write_json


@dataclass(frozen=True, eq=False)
class ComparedRuns:
    """Predictions of several runs for the same rows.

    Attributes:
        labels: Shape (n,), true class indices.
        predictions: Each run's class indices by a name that tells the runs apart.
        class_names: Name of class i at index i.
        split: ``test``, ``val``, or ``cv``.
        folders: The runs' folders by the same names.
    """

    labels: NDArray[np.int64]
    predictions: dict[str, NDArray[np.int64]]
    class_names: tuple[str, ...]
    split: str
    folders: dict[str, Path]


def load_comparable(runs: Sequence[RunFolder], split: str) -> ComparedRuns:
    """Read the stored predictions of runs and check that they can be compared.

    Raises:
        ConfigError: Fewer than two runs, other data, another split, or no predictions for this split.
    """
    if len(runs) < 2:
        raise ConfigError(f"A comparison needs at least two different finished runs, got {len(runs)}.")
    results = [_result(run) for run in runs]
    first = results[0]
    for run, result in zip(runs[1:], results[1:], strict=True):
        _check_comparable(first, result, runs[0].path.name, run.path.name)
    names = _distinct_names(runs, results)
    labels: NDArray[np.int64] | None = None
    ids: NDArray[np.int64] | None = None
    predictions: dict[str, NDArray[np.int64]] = {}
    for name, run in zip(names, runs, strict=True):
        row_ids, truth, answer = _read(run, split)
        if ids is None:
            ids, labels = row_ids, truth
        elif not np.array_equal(ids, row_ids):
            raise ConfigError(
                f"{run.path.name} and {runs[0].path.name} answer different {split} rows.",
                fix="compare runs with the same data_fraction, or --split test",
            )
        predictions[name] = answer
    assert labels is not None
    folders = {name: run.path for name, run in zip(names, runs, strict=True)}
    return ComparedRuns(labels, predictions, tuple(first["class_names"]), split, folders)


def _result(run: RunFolder) -> dict[str, Any]:
    result = run.result()
    if result is None:
        raise ConfigError(f"{run.path} holds no finished run (its status is {run.status}).")
    return result


def _check_comparable(one: dict[str, Any], other: dict[str, Any], name: str, other_name: str) -> None:
    mine, theirs = one["data"], other["data"]
    if mine["checksum"] != theirs["checksum"]:
        reason = f"on other data ({mine['source']} and {theirs['source']}, checksums differ)"
    elif mine["evaluation_checksum"] != theirs["evaluation_checksum"]:
        reason = f"on another split (split_seed {one['split_seed']} and {other['split_seed']})"
    else:
        return
    raise ConfigError(
        f"{name} and {other_name} were judged {reason}: their numbers do not compare.",
        fix="run both with the same data, split_seed and validation_size",
    )


def _distinct_names(runs: Sequence[RunFolder], results: Sequence[dict[str, Any]]) -> list[str]:
    names = [str(result["name"]) for result in results]
    if len(set(names)) < len(names):
        names = [
            f"{name} (seed {result['seed']}, {result['data_fraction']:g})"
            for name, result in zip(names, results, strict=True)
        ]
    if len(set(names)) < len(names):
        names = [f"{name} {run.path.name[-6:]}" for name, run in zip(names, runs, strict=True)]
    return names


def _read(run: RunFolder, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    import pyarrow.parquet as pq

    table = pq.read_table(run.path / PREDICTIONS, columns=["split", "row_id", "label", "prediction"])
    at = np.asarray(table["split"].combine_chunks().to_numpy(zero_copy_only=False) == split)
    if not at.any():
        raise ConfigError(f"{run.path.name} has no stored answers for split '{split}'.\n  allowed: test, val, cv")
    columns = [table[c].to_numpy()[at].astype(np.int64) for c in ("row_id", "label", "prediction")]
    order = np.argsort(columns[0], kind="stable")
    return columns[0][order], columns[1][order], columns[2][order]


def compare_runs(compared: ComparedRuns, **options: Any) -> list[ComparisonResult]:
    """Compare every pair (or all with a baseline) of loaded runs; options as for ``compare_all``."""
    return compare_all(compared.labels, compared.predictions, class_names=compared.class_names, **options)


def to_markdown(results: Sequence[ComparisonResult], compared: ComparedRuns) -> str:
    """Return the comparison as Markdown: one row a pair and metric, tests, classes, verdicts, notes."""
    n = len(compared.labels)
    lines = [f"## Comparison on {n:,} {compared.split} rows", ""]
    lines += ["| A minus B | metric | A | B | difference | 95 % interval (BCa) | randomisation p |", "|" + " --- |" * 7]
    for r in results:
        for metric, m in r.metrics.items():
            b = m.bootstrap
            low, high = b.difference.bca
            lines.append(
                f"| {r.name_a} − {r.name_b} | {metric} | {b.a.estimate:.4f} | {b.b.estimate:.4f} | "
                f"{b.difference.estimate:+.4f} | [{low:+.4f}, {high:+.4f}] | {m.randomisation.p_value:.2g} |"
            )
    header = ("pair", "both right", "only A", "only B", "both wrong", "McNemar mid-p", "exact", "Holm", "BH", "odds")
    lines += ["", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for r in results:
        c = r.counts
        lines.append(
            f"| {r.name_a} − {r.name_b} | {c.both_right} | {c.only_a} | {c.only_b} | {c.both_wrong} | "
            f"{r.p_value:.2g} | {r.mcnemar['exact'].p_value:.2g} | {r.p_holm:.2g} | {r.p_benjamini_hochberg:.2g} | "
            f"{r.effect.discordant_odds_ratio.estimate:.2f} |"
        )
    if len(results) == 1:
        lines += ["", "| class | recall A | recall B | only A | only B | p | Holm |", "|" + " --- |" * 7]
        lines += [
            f"| {t.class_name} | {t.recall_a:.4f} | {t.recall_b:.4f} | {t.counts.only_a} | {t.counts.only_b} | "
            f"{t.p_value:.2g} | {t.p_holm:.2g} |"
            for t in results[0].by_class
        ]
    lines += ["", *(f"- {r.verdict}" for r in results), ""]
    lines += [f"- {note}" for note in dict.fromkeys(note for r in results for note in r.notes)]
    return "\n".join(lines) + "\n"


def write_comparison(folder: Path, results: Sequence[ComparisonResult], compared: ComparedRuns) -> None:
    """Write comparison.md, comparison.json and comparison.png into a folder."""
    content = {
        "split": compared.split,
        "n_items": len(compared.labels),
        "runs": {name: str(path) for name, path in compared.folders.items()},
        "pairs": [json.loads(json.dumps(r.to_dict(), default=float)) for r in results],
    }
    write_json(folder / "comparison.json", content)
    with atomic_path(folder / "comparison.md") as temporary:
        temporary.write_text(to_markdown(results, compared), encoding="utf-8")
    draw_differences(folder / "comparison.png", results, compared)


def draw_differences(path: Path, results: Sequence[ComparisonResult], compared: ComparedRuns) -> None:
    """Draw each pair's difference of the first metric with its interval; zero is no difference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metric = next(iter(results[0].metrics))
    figure = Figure(figsize=(8, 1.4 + 0.45 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for at, r in enumerate(reversed(results)):
        difference = r.metrics[metric].bootstrap.difference
        low, high = difference.bca
        clear = r.p_holm <= r.alpha
        colour, marker = ("#0072B2", "o") if clear else ("#767676", "s")
        error = [[difference.estimate - low], [high - difference.estimate]]
        axes.errorbar(difference.estimate, at, xerr=error, color=colour, fmt=marker, capsize=4)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(results)), [f"{r.name_a} − {r.name_b}" for r in reversed(results)])
    axes.set_ylim(-0.6, len(results) - 0.4)
    axes.set_xlabel(f"difference of {metric}, 95 % BCa interval, {len(compared.labels):,} {compared.split} rows")
    axes.set_title("filled circle: McNemar p (Holm) ≤ .05; square: not told apart", fontsize=9, loc="left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
