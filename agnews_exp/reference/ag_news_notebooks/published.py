"""The study's published numbers, read from the tables that ship with the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.errors.tables import markdown_table
from agnews_exp.evaluation.inputs import Result
from agnews_exp.evaluation.metrics import column_key
from agnews_exp.reference.ag_news_notebooks.study_tables import published

HOLDS: Final = "holds"
FAILS: Final = "does not hold"
UNCLEAR: Final = "not comparable"


@dataclass(frozen=True)
class Verdict(Result):
    """One published number beside ours.

    Attributes:
        id: Its name.
        what: What it says.
        source: ``notebook`` for what an output shows, ``report`` for what is only written.
        published: The study's number, list or order.
        ours: Ours; empty where the part was left out.
        verdict: ``holds``, ``does not hold`` or ``not comparable``.
        reason: How it was compared, or why it was not.
    """

    id: str
    what: str
    source: str
    published: str
    ours: str
    verdict: str
    reason: str


def verdicts(parts: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Compare a finished exploration of AG News with the study's.

    Args:
        parts: By name, each part's ``metrics`` and ``details`` (which may hold ``lists``).
    """
    return [_verdict(row, parts) for row in published("eda")]


def _verdict(row: Mapping[str, str], parts: Mapping[str, Mapping[str, Any]]) -> Verdict:
    part, _, key = row["ours"].partition(":")
    found = parts.get(part)
    if found is None or found.get("status") != "finished":
        why = _line(str((found or {}).get("reason") or "the part is switched off"))
        return _make(row, "", UNCLEAR, f"{part}: {why}")
    metrics: Mapping[str, Any] = found["metrics"]
    rule = row["rule"]
    missing = found["details"].get("left_out", {}).get(row["needs"]) if row["needs"] else None
    if rule == "order":
        verdict = _order(row, metrics, key)
        return replace(verdict, verdict=UNCLEAR, reason=_join(row["reason"], _line(missing))) if missing else verdict
    if rule == "list":
        return _list(row, found["details"]["lists"][key])
    if metrics.get(key) is None:
        return _make(row, "", UNCLEAR, _left_out(found["details"]) or "it was not computed")
    ours, theirs = float(metrics[key]), float(row["published"])
    shown = f"{ours:.4g}" if abs(ours) < 100 else f"{ours:.1f}"
    if rule == "none" or missing:
        return _make(row, shown, UNCLEAR, _join(row["reason"], _line(missing or "")))
    tolerance = float(row["tolerance"])
    if rule == "at_most":
        return _make(row, shown, HOLDS if ours <= theirs else FAILS, row["reason"])
    allowed = tolerance * abs(theirs) if rule == "relative" else tolerance
    reach = f"within {tolerance:.0%}" if rule == "relative" else f"within {tolerance:g}" if tolerance else "exactly"
    return _make(row, shown, HOLDS if abs(ours - theirs) <= allowed + 1e-12 else FAILS, _join(reach, row["reason"]))


def _left_out(details: Mapping[str, Any]) -> str:
    return "; ".join(map(_line, details.get("left_out", {}).values()))


def _line(text: str) -> str:
    return " ".join(text.split())


def _order(row: Mapping[str, str], metrics: Mapping[str, Any], prefix: str) -> Verdict:
    names = row["published"].split(" > ")
    keys = {name: prefix + column_key(name, names) for name in names}
    if any(metrics.get(key) is None for key in keys.values()):
        return _make(row, "", UNCLEAR, "the classes are not the study's")
    ours = sorted(names, key=lambda name: -float(metrics[keys[name]]))
    shown = " > ".join(ours)
    return _make(row, shown, HOLDS if ours == names else FAILS, _join("the same order", row["reason"]))


def _list(row: Mapping[str, str], ours: list[str]) -> Verdict:
    theirs = [term.strip() for term in row["published"].split(";")]
    common = [term for term in theirs if term in ours]
    share = len(common) / len(theirs)
    enough = share >= float(row["tolerance"])
    reason = f"{len(common)} of {len(theirs)} are on both lists; {float(row['tolerance']):.0%} wanted"
    return _make(row, "; ".join(ours), HOLDS if enough else FAILS, _join(reason, row["reason"]))


def _make(row: Mapping[str, str], ours: str, verdict: str, reason: str) -> Verdict:
    return Verdict(row["id"], row["what"], row["source"], row["published"], ours, verdict, reason)


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def verdicts_markdown(found: list[Verdict], n_train: int) -> str:
    """Return the section that sets published numbers beside ours."""
    counts = {v: sum(f.verdict == v for f in found) for v in (HOLDS, FAILS, UNCLEAR)}
    cells = [[f.what, f.source, f.published, f.ours, f.verdict, f.reason] for f in found]
    return (
        f"## The study's numbers beside ours\n\nIts training rows were 102,000, ours are {n_train:,}. "
        f"{counts[HOLDS]} hold, {counts[FAILS]} do not hold, {counts[UNCLEAR]} are not comparable. Source `notebook`: "
        "an output of the study shows the number; `report`: its text states it.\n\n"
        + markdown_table(["number", "source", "published", "ours", "verdict", "how, or why not"], cells)
    )


__all__ = ["PUBLISHED_CLASSES", "published", "published_confusion", "published_score"]

PUBLISHED_CLASSES = ("World", "Sports", "Business", "Sci/Tech")


@cache
def _confusions() -> Mapping[tuple[str, str, str], NDArray[np.int64]]:
    found: dict[tuple[str, str, str], list[list[int]]] = {}
    for row in published("confusions"):
        counts = [int(row[name]) for name in PUBLISHED_CLASSES]
        found.setdefault((row["system"], row["split"], row["source"]), []).append(counts)
    return {key: np.array(rows, dtype=np.int64) for key, rows in found.items()}


def published_confusion(system: str, split: str = "test", source: str = "notebook") -> NDArray[np.int64]:
    """Return a published confusion matrix, true classes by given ones, shape (4, 4).

    Args:
        system: ``DistilBERT``, ``LinearSVC`` or ``SGD modified_huber``.
        split: ``test`` or ``cv``.
        source: ``notebook``: what was computed; ``technical report``: what was printed there instead.
    """
    return _confusions()[system, split, source]


def published_score(model: str, split: str) -> float | None:
    """Return a published macro-F1 of a model's configuration on val, test or cv, or None."""
    if split == "cv":
        return next((float(row["cv/macro_f1"]) for row in published("models") if row["model"] == model), None)
    rows = (row for row in published("systems") if row["model"] == model and row["split"] == split)
    return next((float(row["macro_f1"]) for row in rows), None)
