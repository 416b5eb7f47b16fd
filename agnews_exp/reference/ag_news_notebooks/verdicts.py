"""What a claim can come to."""

from __future__ import annotations

from dataclasses import dataclass

from agnews_exp.report.inputs import StoredRun

HOLDS, FAILS, UNTESTED = "holds", "does not hold", "not tested here"


@dataclass(frozen=True, eq=False)
class Answer:
    """Our answer to a claim.

    Attributes:
        said: What was measured, with its split.
        verdict: ``holds``, ``does not hold`` or ``not tested here``.
        basis: What it rests on: our runs, or the study's own outputs.
        runs: The runs.
    """

    said: str
    verdict: str
    basis: str
    runs: tuple[StoredRun, ...] = ()


def judged(said: str, holds: bool, runs: tuple[StoredRun, ...], *, comparable: bool | None = None) -> Answer:
    """Return a verdict from our runs, unless these are not on all training rows of AG News.

    Args:
        said: What was measured.
        holds: What it would mean.
        runs: That measured it.
        comparable: Overrides the check of the data, for claims that any data could answer.
    """
    reason = "" if comparable else unlike(runs)
    if reason:
        return Answer(f"{said} ({reason})", UNTESTED, "our runs, for orientation", runs)
    return Answer(said, HOLDS if holds else FAILS, "our runs", runs)


def unlike(runs: tuple[StoredRun, ...]) -> str:
    """Return why runs do not answer a claim about AG News, empty when they do."""
    other = sorted({run.source for run in runs if not run.source.startswith("ag_news")})
    if other:
        return f"measured on the corpus '{other[0]}', not on AG News"
    if any(run.family == "cascade" for run in runs):
        return "its members are not the study's"
    if foreign := sorted({run.model for run in runs if run.family == "transformer" and run.model != "distilbert"}):
        return f"the transformer is {foreign[0]}, not DistilBERT"
    share = min((run.fraction for run in runs), default=1.0)
    return f"measured with {share:.0%} of the training rows" if share < 1 else ""
