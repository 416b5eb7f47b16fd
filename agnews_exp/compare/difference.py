"""`agnews diff`: the settings, metrics and packages that two runs differ in, and the texts on which they disagree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnews_exp.config.validation import flat
from agnews_exp.evaluation.statistics.mcnemar import paired_counts
from agnews_exp.evaluation.stored_answers import stored_answers
from agnews_exp.tracking.record import ENVIRONMENT, PREDICTIONS, RunFolder, read_json

_SILENT = ("paths.", "sweep.", "name", "tracking.", "force", "resume", "tags.")
"""Settings that say where a run is kept and under which name, and change nothing in it."""


@dataclass(frozen=True)
class Difference:
    """The differences between two finished runs."""

    config: Mapping[str, tuple[str, str]]  # setting -> (first, second); a missing one is ``-``
    packages: Mapping[str, tuple[str, str]]  # package -> (version, version)
    metrics: Mapping[str, tuple[float, float]]  # metric -> (first, second)
    # Split -> counts of the texts that both answer right, only the first, only the second, neither, and how many
    # answers differ; None when the runs were judged on different rows.
    answers: Mapping[str, Mapping[str, int]] | None


def difference(one: RunFolder, other: RunFolder) -> Difference:
    """Compare two finished runs.

    Raises:
        ConfigError: One of them has not finished.
        StorageError: A record is damaged.
    """
    first, second = (run.needed_result("metrics", "class_names", "data.evaluation_checksum") for run in (one, other))
    shared = [m for m in first["metrics"] if m in second["metrics"]]
    same_rows = first["data"]["evaluation_checksum"] == second["data"]["evaluation_checksum"]
    environments = [(read_json(run.path / ENVIRONMENT) or {}).get("packages", {}) for run in (one, other)]
    return Difference(
        config=_unequal(*(_flat_config(run) for run in (one, other))),
        packages=_unequal(*environments),
        metrics={m: (float(first["metrics"][m]), float(second["metrics"][m])) for m in shared},
        answers=_answers(one, other) if same_rows else None,
    )


def _flat_config(run: RunFolder) -> dict[str, str]:
    return {k: str(v) for k, v in flat(run.config()).items() if not k.startswith(_SILENT)}


def _unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    keys = [*one, *(k for k in other if k not in one)]
    pairs = {k: (str(one.get(k, "-")), str(other.get(k, "-"))) for k in keys}
    return {k: pair for k, pair in pairs.items() if pair[0] != pair[1]}


def _answers(one: RunFolder, other: RunFolder) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for split in ("val", "test"):
        a, b = (
            stored_answers(run.path / PREDICTIONS, split, tuple(run.needed_result()["class_names"]), ordered=False)
            for run in (one, other)
        )
        if not len(a.row_ids) or not np.array_equal(a.row_ids, b.row_ids):
            continue
        first, second = a.given.labels, b.given.labels
        n = paired_counts(a.labels, first, second)
        found[split] = {
            "both right": n.both_right, "only the first": n.only_a, "only the second": n.only_b,
            "neither": n.both_wrong, "answers differ": int((~a.given.task.right(first, second)).sum()),
        }  # fmt: skip
    return found
