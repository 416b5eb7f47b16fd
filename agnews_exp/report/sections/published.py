"""Published results beside own ones, where a reference was chosen."""

from __future__ import annotations

from collections import Counter

from agnews_exp.analyses.findings import Block, Table, Text
from agnews_exp.compare.beside import results_table
from agnews_exp.reference.reading import MARGIN, judge_claims
from agnews_exp.report.blocks import Section
from agnews_exp.report.inputs import Inputs


def published(inputs: Inputs) -> Section | None:
    """Return the chosen reference: what it is, its numbers beside own ones, its sentences judged; None without one."""
    reference = inputs.reference
    if reference is None:
        return None
    own = [system.own_result() for system in inputs.systems]
    rule = (
        f"A score is reproduced when the whole 95 % interval of its difference lies within {MARGIN:g}, contradicted when"
        " it lies wholly outside, and cannot be judged otherwise, or where the run had fewer training rows or another"
        " corpus."
    )
    blocks: list[Block] = [Text(reference.introduction), Text(rule), results_table(reference, own)]
    more: list[Block] = []
    if claims := judge_claims(reference, own):
        counts = Counter(judged.verdict for _, judged in claims)
        said = "; ".join(f"{verdict}: {n}" for verdict, n in counts.most_common())
        rows = tuple(
            (line["id"], line["claim"], line["where"], line["problem"], judged.verdict, judged.said, judged.needed)
            for line, judged in claims
        )
        columns = ("no.", "claim", "where", "what is wrong with it", "verdict", "found", "a judgement would need")
        more.append(Table("claims", f"Its sentences, one by one ({said})", columns, rows))
    return Section("published", "Published results", tuple(blocks), tuple(more))
