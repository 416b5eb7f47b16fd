"""The study's figures and tables, and where each has its counterpart here."""

from __future__ import annotations

from collections.abc import Sequence

from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.report.content import Cell, Chart, Picture, Section, Table, listed, text
from agnews_exp.report.origin import origin

_KINDS = (("figures", "figure", "F"), ("tables", "table", "T"))


def coverage(sections: Sequence[Section]) -> Section:
    """Return one table of figures and one of tables: counterpart, or why there is none.

    Args:
        sections: All others of the report.
    """
    found: dict[str, list[str]] = {}
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Chart | Picture | Table):
                for identifier in block.covers:
                    found.setdefault(identifier, []).append(f"{section.title}: {block.title}")
    return Section(
        "coverage", "The study's figures and tables", tuple(_table(kind, one, found) for kind, one, _ in _KINDS)
    )


def _table(kind: str, one: str, found: dict[str, list[str]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for line in published(kind):
        here = found.get(line["id"], [])
        if here:
            state, said = "yes", listed(here, 4)
        elif line["why_not"]:
            state, said = "no", line["why_not"]
        else:
            state, said = "not yet", f"no run here fills it: {line['fill']}"
        rows.append((text(line["id"]), text(line[one]), text(state), text(said)))
    header = ("no.", f"the study's {one}", "here", "counterpart, or why not")
    return Table(f"coverage_{kind}", f"The study's {kind}", header, tuple(rows), origin([]))
