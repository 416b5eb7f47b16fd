"""Published numbers about a corpus, set beside those of its exploration.

A line of a reference's ``measures.csv`` has ``id``, ``what``, ``source``, ``published``, ``ours`` (``part:metric``),
``rule``, ``tolerance``, ``needs`` (a package without which the number is another one) and ``reason``. Rules:
``relative`` and ``absolute`` (within the tolerance), ``at_most``, ``order`` (names from high to low), ``list`` (this
share of the terms is on both lists) and ``none`` (shown, not judged).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agnews_exp.evaluation.inputs import Result
from agnews_exp.evaluation.metrics import column_key
from agnews_exp.reference.reading import CONTRADICTED, REPRODUCED, UNJUDGED, Reference


@dataclass(frozen=True)
class Measure(Result):
    """One published number about a corpus beside the own one.

    Attributes:
        id: Its name.
        what: Its meaning in words.
        source: The place in the publication.
        published: The published number, list or order.
        ours: The own one; empty where the part was left out.
        verdict: ``reproduced``, ``contradicted`` or ``cannot be judged with these data``.
        reason: How it was compared, or why it was not.
    """

    id: str
    what: str
    source: str
    published: str
    ours: str
    verdict: str
    reason: str


def judge_measures(reference: Reference, parts: Mapping[str, Mapping[str, Any]]) -> list[Measure]:
    """Judge a reference's numbers about a corpus by the parts of a finished exploration."""
    found = []
    for row in reference.table("measures"):
        ours, verdict, how = _judge(row, parts)
        reason = "; ".join(" ".join(part.split()) for part in (how, row["reason"]) if part)
        found.append(Measure(row["id"], row["what"], row["source"], row["published"], ours, verdict, reason))
    return found


def _judge(row: Mapping[str, str], parts: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, str]:
    """Return the own number in words, the verdict, and how it was reached."""
    name, _, key = row["ours"].partition(":")
    part = parts.get(name)
    if part is None or part.get("status") != "finished":
        return "", UNJUDGED, f"{name}: {(part or {}).get('reason') or 'the part is switched off'}"
    metrics: Mapping[str, Any] = part["metrics"]
    left_out: Mapping[str, str] = part["details"].get("left_out", {})
    missing = left_out.get(row["needs"], "") if row["needs"] else ""
    if row["rule"] == "order":
        ours, verdict, how = _order(row["published"].split(" > "), metrics, key)
    elif row["rule"] == "list":
        ours, verdict, how = _list(row, part["details"]["lists"][key])
    elif metrics.get(key) is None:
        return "", UNJUDGED, "; ".join(left_out.values()) or "it was not computed"
    else:
        ours, verdict, how = _number(row, float(metrics[key]))
    return (ours, UNJUDGED, missing) if missing else (ours, verdict, how)


def _number(row: Mapping[str, str], ours: float) -> tuple[str, str, str]:
    shown = f"{ours:.4g}" if abs(ours) < 100 else f"{ours:.1f}"
    if row["rule"] == "none":
        return shown, UNJUDGED, ""
    theirs = float(row["published"])
    if row["rule"] == "at_most":
        return shown, REPRODUCED if ours <= theirs else CONTRADICTED, "at most"
    tolerance, relative = float(row["tolerance"]), row["rule"] == "relative"
    reach = f"within {tolerance:.0%}" if relative else f"within {tolerance:g}" if tolerance else "exactly"
    holds = abs(ours - theirs) <= (tolerance * abs(theirs) if relative else tolerance) + 1e-12
    return shown, REPRODUCED if holds else CONTRADICTED, reach


def _order(names: list[str], metrics: Mapping[str, Any], prefix: str) -> tuple[str, str, str]:
    keys = {name: prefix + column_key(name, names) for name in names}
    if any(metrics.get(key) is None for key in keys.values()):
        return "", UNJUDGED, "the classes are others"
    ours = sorted(names, key=lambda name: -float(metrics[keys[name]]))
    return " > ".join(ours), REPRODUCED if ours == names else CONTRADICTED, "the same order"


def _list(row: Mapping[str, str], ours: list[str]) -> tuple[str, str, str]:
    theirs = [term.strip() for term in row["published"].split(";")]
    common, wanted = sum(term in ours for term in theirs), float(row["tolerance"])
    verdict = REPRODUCED if common / len(theirs) >= wanted else CONTRADICTED
    return "; ".join(ours), verdict, f"{common} of {len(theirs)} are on both lists; {wanted:.0%} wanted"
