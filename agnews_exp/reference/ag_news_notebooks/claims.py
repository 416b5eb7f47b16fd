"""Where the study was wrong: each published claim, what is wrong with it, and what these runs say."""

from __future__ import annotations

from collections import Counter

from agnews_exp.reference.ag_news_notebooks.claims_behaviour import BEHAVIOUR
from agnews_exp.reference.ag_news_notebooks.claims_recomputed import RECOMPUTED
from agnews_exp.reference.ag_news_notebooks.claims_scores import SCORES
from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.reference.ag_news_notebooks.verdicts import FAILS, HOLDS, UNTESTED, Answer
from agnews_exp.report.content import Block, Prose, Section, Table, plural, text
from agnews_exp.report.inputs import Inputs
from agnews_exp.report.origin import origin


def claims(inputs: Inputs) -> Section:
    """Return the table of claims and a count of the verdicts."""
    lines = published("claims")
    answers = [answer(inputs, line) for line in lines]
    counts = Counter(found.verdict for found in answers)
    said = ", ".join(f"{verdict}: {counts[verdict]}" for verdict in (HOLDS, FAILS, UNTESTED))
    rows = tuple(
        (
            text(line["id"]),
            text(line["claim"]),
            text(line["published"]),
            text(line["where"]),
            text(line["problem"]),
            text(found.said),
            text(found.verdict),
            text(found.basis),
        )
        for line, found in zip(lines, answers, strict=True)
    )
    runs = list({run.fingerprint: run for found in answers for run in found.runs}.values())
    header = ("no.", "claim", "published", "where", "what is wrong with it", "our answer", "verdict", "rests on")
    blocks: list[Block] = [
        Prose(
            f"{plural(len(lines), 'claim')} of the study's texts. {said[0].upper()}{said[1:]}. A claim"
            " about a score holds when"
            " our 95 % interval on the same kind of rows contains the published number; it is tested"
            " only by runs on all"
            " training rows of AG News. 'The study's outputs' means numbers that its own notebooks"
            " printed, computed again"
            " with this package's statistics where that is needed."
        ),
        Table("claims", "Claims, one by one", header, rows, origin(runs, ("cv", "val", "test"))),
    ]
    return Section("claims", "Where the study was wrong", tuple(blocks))


def answer(inputs: Inputs, line: dict[str, str]) -> Answer:
    """Return our answer to one published claim.

    Raises:
        KeyError: The claim's ``answer`` names nothing that is known.
    """
    kind = line["answer"]
    if kind == "own":
        return Answer(line["argument"], FAILS, "the study's outputs")
    if kind == "untested":
        return Answer(line["argument"], UNTESTED, "–")
    if kind in RECOMPUTED:
        return RECOMPUTED[kind](line)
    found = {**SCORES, **BEHAVIOUR}[kind](inputs, line)
    if found is not None:
        return found
    return Answer(f"No run here answers it: {line['fill']}", UNTESTED, "–")
