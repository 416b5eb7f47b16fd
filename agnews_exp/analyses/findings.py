"""Findings of an analysis, a comparison or a report: written once as blocks, and put out in four forms.

A block is a table, a chart, a paragraph, a number, a text with weighted words, or a gap. The writers below turn blocks
into Markdown, HTML, a terminal's text and CSV; each has one place where text of users is made harmless.
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnews_exp.core.errors import StorageError
from agnews_exp.core.files import atomic_path
from agnews_exp.core.numbers import DASH, format_interval, format_number
from agnews_exp.core.text import markdown_table, spreadsheet_cell, visible
from agnews_exp.drawing import Chart, read_chart, without_defaults

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Number:
    """A number with its interval: a cell of a table, or with a label a block of its own."""

    value: float | None  # None where there is none
    form: str = "metric"  # how it is written: a name of :data:`agnews_exp.core.numbers.FORMS` or a format specification
    low: float | None = None  # lower end of its interval
    high: float | None = None  # upper end
    unit: str = ""  # written behind it
    label: str = ""  # its name, where it is a block

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return format_number(self.value, self.form, self.unit)
        written = format_interval(self.value, self.low, self.high, self.form)
        return f"{written} {self.unit}" if self.unit and written != DASH else written


Cell = str | int | float | bool | Number | None


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str  # its heading, in the CSV file too; a column of scores names its split
    form: str = ""  # how its plain numbers are written; empty: whole ones with separators, others with four digits
    unit: str = ""  # in the heading, in brackets
    # Texts are cut to so many characters wherever they are shown; the CSV file has all of them. 0: never.
    width: int = 0

    @property
    def heading(self) -> str:
        """The column's name with its unit."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


Columns = tuple[Column | str, ...]
Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table of findings: shown in part, and whole as CSV."""

    name: str  # file name without ending, unique in its folder or report
    title: str
    columns: Columns  # a plain name is a :class:`Column` without form, unit and width
    rows: tuple[Row, ...]  # cells, as many as there are columns
    provenance: str = ""  # runs, split, rows, seeds, device, command
    note: str = ""  # a remark below the table
    shown: int | None = None  # rows to show, None for all; the CSV file has all of them
    total: int | None = None  # rows of the CSV file, where ``rows`` has been read back and holds the shown ones only
    folded: bool = False  # it tells when and where, not what: folded in a page, left out of the Markdown

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """The columns, plain names among them too, as :class:`Column`."""
        return tuple(Column(column) if isinstance(column, str) else column for column in self.columns)

    def is_numeric(self, column: int) -> bool:
        """Return whether all cells of a column are numbers or empty, and one is a number at least."""
        cells = [row[column] for row in self.rows]
        return any(sort_value(cell) is not None for cell in cells) and not any(
            isinstance(cell, str | bool) and cell not in ("", DASH) for cell in cells
        )

    def texts(self, most: int | None = None) -> list[list[str]]:
        """Return the rows to show as text, at most so many."""
        limits = [limit for limit in (self.shown, most) if limit is not None]
        rows = self.rows[: min(limits)] if limits else self.rows
        return [[cell_text(cell, column) for cell, column in zip(row, self.all_columns, strict=True)] for row in rows]

    def cut_note(self, n_shown: int) -> str:
        """Return which rows are shown where some are not."""
        total = self.total or len(self.rows)
        if total and not n_shown:
            return f"{total:,} rows in {self.name}.csv."
        return f"The first {n_shown:,} of {total:,} rows; {self.name}.csv has all." if n_shown < total else ""


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text, with a title where something new begins."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Missing:
    """A gap in the findings, and the command that would fill it."""

    text: str
    command: str


@dataclass(frozen=True)
class Highlight:
    """A text whose words are shaded by a weight each: blue speaks for something, orange against it."""

    label: str  # whose weights they are, such as a method's name
    text: str
    spans: tuple[tuple[int, int], ...]  # begin and end (exclusive) of each word in characters, in ascending order
    weights: tuple[float, ...]  # one a word; the largest gets the full shade
    note: str = ""  # about the label
    signed: bool = True  # False where weights say how much, not which way: shown in green

    def pieces(self, n_strongest: int = 3) -> list[tuple[str, float | None, bool]]:
        """Return the text in pieces: words with their weight, and what stands between them without one.

        The third of a piece says whether it is among the strongest supporters: these are bold, so that they can be
        told without colours.
        """
        order = sorted(range(len(self.weights)), key=lambda i: -self.weights[i])
        strongest = {i for i in order[:n_strongest] if self.weights[i] > 0}
        found: list[tuple[str, float | None, bool]] = []
        end_before = 0
        for i, ((begin, end), weight) in enumerate(zip(self.spans, self.weights, strict=True)):
            found += [(self.text[end_before:begin], None, False), (self.text[begin:end], weight, i in strongest)]
            end_before = end
        return [*found, (self.text[end_before:], None, False)]

    @property
    def strongest(self) -> str:
        """The three words that support most, strongest first."""
        words = [(word, weight) for word, weight, top in self.pieces() if top and weight is not None]
        return ", ".join(word for word, _ in sorted(words, key=lambda pair: -pair[1]))


Block = Table | Chart | Text | Number | Missing | Highlight


@dataclass(frozen=True)
class Findings:
    """The result of an analysis: its answer, the evidence, and numbers for other programs."""

    headline: str = ""  # the answer in one sentence
    blocks: tuple[Block, ...] = ()  # the evidence, in the order of reading
    # Numbers for result.json and MLflow, such as ``test/ece_temperature``.
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)  # everything else, JSON-able

    def __bool__(self) -> bool:
        return bool(self.blocks or self.metrics or self.details)


def cell_text(cell: Cell, column: Column | None = None) -> str:
    """Return a cell as text; a dash for an empty one."""
    if cell is None or cell == "":
        return DASH
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, Number):
        return str(cell)
    if isinstance(cell, str):
        width = column.width if column else 0
        words = " ".join(cell.split()) if width else cell
        return words if not width or len(words) <= width else words[: width - 1].rstrip() + "…"
    form = (column.form if column else "") or ("count" if isinstance(cell, int) else "number")
    return format_number(float(cell), form)


def sort_value(cell: Cell) -> float | None:
    """Return the number that sorts a cell, None for texts and empty cells."""
    value = cell.value if isinstance(cell, Number) else cell
    if isinstance(value, bool | str) or value is None or not math.isfinite(value):
        return None
    return float(value)


# CSV


def chart_table(chart: Chart) -> Table:
    """Return a chart's data as a table: a row for each point, or for each cell of a heat map."""
    if chart.kind == "heatmap":
        columns, names = chart.labels
        rows: list[Row] = [
            (name, column, chart.texts[i][j] if chart.texts else chart.z[i][j])
            for i, name in enumerate(names) for j, column in enumerate(columns)
        ]  # fmt: skip
        return Table(chart.name, chart.title, (chart.y_title or "row", chart.x_title or "column", "value"), tuple(rows))
    if chart.kind == "box":
        header = ("series", "p5", "q25", "median", "q75", "p95", "mean")
        return Table(
            chart.name, chart.title, header, tuple((s.name, *(s.summary or ())) for s in chart.series if s.summary)
        )
    rows = [
        (s.panel, s.name, x, y, s.low[i] if s.low else None, s.high[i] if s.high else None)
        for s in chart.series for i, (x, y) in enumerate(zip(s.x, s.y, strict=True))
    ]  # fmt: skip
    return Table(chart.name, chart.title, ("panel", "series", "x", "y", "low", "high"), tuple(rows))


def table_csv(table: Table) -> str:
    """Return a table as CSV: numbers with six digits, intervals in columns of their own, no text a formula.

    A number's ends stand in ``<name>_low`` and ``<name>_high``.
    """
    spread = [
        any(isinstance(row[i], Number) and row[i].low is not None for row in table.rows)  # type: ignore[union-attr]
        for i in range(len(table.columns))
    ]
    header: list[str] = []
    for column, ends in zip(table.all_columns, spread, strict=True):
        header += [column.heading, *([f"{column.name}_low", f"{column.name}_high"] if ends else [])]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([spreadsheet_cell(name) for name in header])
    for row in table.rows:
        cells: list[Any] = []
        for cell, ends in zip(row, spread, strict=True):
            number = cell if isinstance(cell, Number) else None
            cells.append(_csv_cell(number.value if number else cell))
            cells += [_csv_cell(number.low), _csv_cell(number.high)] if ends and number else ["", ""] if ends else []
        writer.writerow(cells)
    # Before Python 3.13 a lone carriage return is not quoted, and would begin a new row.
    return file.getvalue().replace("\r", " ")


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else spreadsheet_cell(value)


# Markdown

_MOST_MARKDOWN_ROWS = 60


def to_markdown(blocks: Sequence[Block], *, level: int = 2, figures: str | None = None, tables: str = "") -> str:
    """Return blocks as Markdown.

    ``figures`` and ``tables`` are addresses before the files' names; without figures charts are only named.
    """
    parts = [part for block in blocks for part in _markdown_block(block, "#" * level, figures, tables) if part]
    return "\n\n".join(parts)


_MARKDOWN = re.compile(r"[\\`*|]|(?<=\])(?=\()|^\[")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?\w+;)")


def markdown_text(text: str) -> str:
    """Return text that Markdown shows as it is: no tag, link, image, emphasis, code, bar or control character."""
    plain = _ENTITY.sub("&amp;", visible(" ".join(text.splitlines())))
    return _TAG.sub("&lt;", _MARKDOWN.sub(r"\\\g<0>", plain))


def _inline(piece: str) -> str:
    """Return a piece of a text: no tag begins in it even where the next piece continues it."""
    return markdown_text(piece).replace("<", "&lt;") if piece.strip() else " " * bool(piece)


def _markdown_block(block: Block, mark: str, figures: str | None, tables: str) -> list[str]:
    match block:
        case Text():
            return [f"{mark} {markdown_text(block.title)}" if block.title else "", markdown_text(block.text)]
        case Number():
            return [f"{markdown_text(block.label)}: **{block}**"]
        case Missing():
            return [f"*{markdown_text(block.text)}* Fill it with `{block.command.replace('`', '')}`."]
        case Highlight():
            text = "".join(f"**{_inline(words)}**" if top else _inline(words) for words, _, top in block.pieces())
            return [f"*{markdown_text(block.label)}*: {text}"]
        case Chart():
            title = markdown_text(block.title)
            picture = "" if figures is None else f"![{title}]({figures}{block.name}.png)"
            said = " ".join(part for part in (block.caption, block.intervals, block.provenance) if part)
            return [f"{mark} {title}", picture, f"<sub>{markdown_text(said)}</sub>" if said else ""]
        case Table(folded=True):
            return [f"{markdown_text(block.title)}: [CSV]({block.name}.csv)"]  # beside the page, not in its tables/
        case Table():
            return _markdown_table(block, mark, tables)


def _markdown_table(table: Table, mark: str, tables: str) -> list[str]:
    rows = table.texts(_MOST_MARKDOWN_ROWS)
    head = [f"{mark} {markdown_text(table.title)}" if table.title else ""]
    if not rows:
        return [*head, table.cut_note(0) or "None.", markdown_text(table.note)]
    heads = [markdown_text(column.heading) for column in table.all_columns]
    numeric = [table.is_numeric(i) for i in range(len(heads))]
    drawn = markdown_table(heads, ([markdown_text(cell) for cell in row] for row in rows), numeric)
    said = f"<sub>{markdown_text(table.provenance)}</sub> [CSV]({tables}{table.name}.csv)" if table.provenance else ""
    return [*head, drawn, markdown_text(table.cut_note(len(rows))), markdown_text(table.note), said]


# HTML


def to_html(blocks: Sequence[Block]) -> str:
    """Return blocks as the inside of a page, all text escaped.

    A script draws each chart into the element whose ``data-chart`` names it.
    """
    return "\n".join(_html_block(block) for block in blocks)


def _html(text: object) -> str:
    return html.escape(str(text), quote=True)


def _html_block(block: Block) -> str:
    match block:
        case Text():
            return (f"<h3>{_html(block.title)}</h3>\n" if block.title else "") + f"<p>{_html(block.text)}</p>"
        case Number():
            return f'<p class="number"><span>{_html(block.label)}</span> <b>{_html(block)}</b></p>'
        case Highlight():
            return _html_highlight(block)
        case Missing():
            return f'<p class="missing">{_html(block.text)} <code>{_html(block.command)}</code></p>'
        case Chart():
            name, title = _html(block.name), _html(block.title)
            said = _html(" ".join(part for part in (block.caption, block.intervals) if part))
            return (
                f'<figure id="{name}">\n<h3>{title}</h3>\n'
                f'<div class="plot" data-chart="{name}" role="img" aria-label="{title}"></div>\n'
                f'<figcaption>{said} <span class="origin">{_html(block.provenance)}</span></figcaption>\n</figure>'
            )
        case Table():
            return _html_table(block)


_FOR, _AGAINST, _UNSIGNED = "0,114,178", "213,94,0", "0,158,115"
"""Blue, vermilion and green of Okabe and Ito's palette, as red, green, blue."""


def _html_highlight(block: Highlight) -> str:
    largest = max((abs(weight) for weight in block.weights), default=0.0) or 1.0
    parts = []
    for words, weight, top in block.pieces():
        if weight is None:
            parts.append(_html(words))
            continue
        colour = (_FOR if weight >= 0 else _AGAINST) if block.signed else _UNSIGNED
        css = f' style="background:rgba({colour},{0.75 * abs(weight) / largest:.3f})" title="{weight:+.4f}"'
        bold = ' class="top"' if top else ""
        parts.append(f"<b{bold}{css}>{_html(words)}</b>")
    name = f'<div class="name">{_html(block.label)}<small>{_html(block.note)}</small></div>'
    return f'<div class="highlight">{name}<div class="text">{"".join(parts)}</div></div>'


# default-src 'none': whatever a text holds, and whatever escaping missed, no script or image of it is ever loaded.
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 15px/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }}
h3 {{ font-size: 1.1rem; margin: 2.2rem 0 .3rem; border-top: 1px solid #8886; padding-top: 1rem; }}
{highlight}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
HIGHLIGHT_CSS = """.highlight { display: grid; grid-template-columns: 11rem 1fr; gap: .2rem 1rem; margin: .8rem 0; }
.highlight .name { font-weight: 600; font-size: .85rem; }
.highlight .name small { display: block; font-weight: 400; opacity: .7; line-height: 1.3; }
.highlight .text { overflow-wrap: anywhere; white-space: pre-wrap; }
.highlight b { font-weight: 400; border-radius: 3px; padding: 1px 0; }
.highlight b.top { font-weight: 700; }
@media (max-width: 40rem) { .highlight { grid-template-columns: 1fr; } }"""
"""Style of :class:`Highlight` blocks, for a page of one's own."""


def html_page(title: str, blocks: Sequence[Block]) -> str:
    """Return blocks as a page that needs nothing else and runs nothing."""
    return _PAGE.format(title=_html(title), highlight=HIGHLIGHT_CSS, body=to_html(blocks))


def _html_table(table: Table) -> str:
    title = _html(table.title)
    columns, numeric = table.all_columns, [table.is_numeric(i) for i in range(len(table.columns))]
    kind = [' class="n"' if is_number else "" for is_number in numeric]
    heads = "".join(
        f'<th scope="col"{k}><button type="button">{_html(column.heading)}</button></th>'
        for column, k in zip(columns, kind, strict=True)
    )
    rows = []
    texts = table.texts()
    for row, words in zip(table.rows, texts, strict=False):
        cells = []
        for cell, said, k in zip(row, words, kind, strict=True):
            value = sort_value(cell)
            sort = "" if value is None else f' data-v="{value!r}"'
            cells.append(f"<td{sort}{k}>{_html(said)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    notes = [note for note in (table.cut_note(len(texts)), table.note) if note]
    body = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">\n<table class="sortable">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody>\n</table>\n</div>"
        + "".join(f'\n<p class="note">{_html(note)}</p>' for note in notes)
        + (f'\n<p class="origin">{_html(table.provenance)}</p>' if table.provenance else "")
    )
    if table.folded:
        inside = f'<div class="table" id="{_html(table.name)}">{body}</div>'
        return f'<details class="stored">\n<summary>{title}</summary>\n{inside}\n</details>'
    return f'<div class="table" id="{_html(table.name)}">\n<h3>{title}</h3>\n{body}\n</div>'


# Terminal

_MOST_TERMINAL_ROWS = 20


def to_terminal(blocks: Sequence[Block]) -> Group:
    """Return blocks for a terminal; text is neither read as rich's markup nor sent as control characters."""
    from rich.console import Group

    shown = [_terminal_block(block) for block in blocks]
    return Group(*(item for items in shown if items for item in (*items, "")))


def _terminal_block(block: Block) -> list[Any]:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text as RichText

    def said(text: str, style: str = "", *, one_line: bool = False) -> Any:
        return RichText(visible(text), style, no_wrap=one_line or None, overflow="ellipsis" if one_line else None)

    match block:
        case Text():
            return [*([said(block.title, "bold")] if block.title else []), said(block.text)]
        case Number():
            return [said(f"{block.label}: {block}")]
        case Missing():
            return [said(f"{block.text}  {block.command}", "yellow")]
        case Highlight():
            return []  # a page or the Markdown beside it has the colours
        case Chart():
            return [said(f"Chart: {block.title} ({block.name})", "dim")]
        case Table(folded=True):
            return [said(f"{block.title}: {block.name}.csv", "dim")]
        case Table():
            rows = block.texts(_MOST_TERMINAL_ROWS)
            numeric = [block.is_numeric(i) for i in range(len(block.columns))]
            drawn = RichTable(title=said(block.title, "bold"), title_justify="left", box=box.SIMPLE_HEAD)
            for i, column in enumerate(block.all_columns):
                side: Any = "right" if numeric[i] else "left"
                longest = max((len(row[i]) for row in rows), default=1)
                drawn.add_column(said(column.heading), justify=side, overflow="fold", min_width=min(longest, 12))
            for row in rows:
                one_line = [numeric[i] or column.width > 0 for i, column in enumerate(block.all_columns)]
                drawn.add_row(*(said(cell, one_line=one) for cell, one in zip(row, one_line, strict=True)))
            notes = [said(note, "dim") for note in (block.cut_note(len(rows)), block.note) if note]
            return [drawn, *notes]


# Stored

_KINDS: dict[str, Any] = {"table": Table, "text": Text, "number": Number, "missing": Missing, "highlight": Highlight}


def findings_to_json(findings: Findings) -> dict[str, Any]:
    """Return findings as plain data: of tables the shown rows, of charts the names (files of their own have them)."""
    return {
        "headline": findings.headline,
        "metrics": dict(findings.metrics),
        "details": dict(findings.details),
        "blocks": [_block_to_json(block) for block in findings.blocks],
    }


def _block_to_json(block: Block) -> dict[str, Any]:
    if isinstance(block, Chart):
        return {"block": "chart", "name": block.name}
    if isinstance(block, Table):
        total = block.total or len(block.rows)
        block = replace(block, columns=block.all_columns, rows=block.rows[: block.shown], total=total)
    content: dict[str, Any] = without_defaults(block)
    return {"block": type(block).__name__.lower()} | content


def read_findings(folder: Path, content: Mapping[str, Any]) -> Findings:
    """Return the findings of findings.json's content; the charts' files lie in the folder.

    Raises:
        StorageError: It is damaged, or of another version.
    """
    try:
        blocks = tuple(_block_from_json(folder, dict(block)) for block in content["blocks"])
        return Findings(content["headline"], blocks, content["metrics"], content["details"])
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"The findings in {folder} cannot be read: {error!r}", fix="analyse the run again"
        ) from error


def _block_from_json(folder: Path, content: dict[str, Any]) -> Block:
    kind = content.pop("block")
    if kind == "chart":
        return read_chart(folder / f"{content['name']}.json")
    if kind == "table":
        content["columns"] = tuple(Column(**column) for column in content["columns"])
        content["rows"] = tuple(
            tuple(Number(**cell) if isinstance(cell, dict) else cell for cell in row) for row in content["rows"]
        )
    if kind == "highlight":
        content |= {"spans": tuple(map(tuple, content["spans"])), "weights": tuple(content["weights"])}
    block: Block = _KINDS[kind](**content)
    return block


def write_table(table: Table, path: Path) -> None:
    """Write a table as a CSV file."""
    with atomic_path(path) as temporary:
        temporary.write_text(table_csv(table), encoding="utf-8", newline="")
