"""What a report is made of: sections of tables, charts, pictures and text, independent of how they are written.

A chart's data are defined here once; the interactive plot, the PNG and the SVG are drawn from the same object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["dots", "columns", "lines", "points", "heatmap", "box"]
Value = float | str | None


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, and the number that sorts it (None: the text does)."""

    text: str
    sort: float | None = None


@dataclass(frozen=True)
class Table:
    """A table with its origin.

    Attributes:
        name: File name without ending, unique in the report.
        title: What it shows.
        header: Column names; a column of scores names its split.
        rows: Cells, as many as the header has names.
        provenance: Runs, split, rows, seeds, device, command.
        note: What a reader must know beside it.
        covers: Identifiers of the published tables that it stands beside.
        folded: It tells when and where, not what: folded in the page, left out of the Markdown, and its CSV lies beside
            the page instead of among the tables. All else is the same whenever and wherever the runs ran, but for
            measured times and memory.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    provenance: str
    note: str = ""
    covers: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Series:
    """One series of a chart.

    Attributes:
        name: In the legend.
        x: Positions, or values for ``dots`` and ``box``.
        y: Values; categories for ``dots``.
        low: Lower ends of the values' intervals, None where there is none.
        high: Upper ends.
        text: Said of each point when pointed at.
        dashed: Draw the line dashed.
        published: The study's own number: drawn as an open grey mark.
    """

    name: str
    x: tuple[Value, ...]
    y: tuple[Value, ...]
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None
    text: tuple[str, ...] | None = None
    dashed: bool = False
    published: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure's data.

    Attributes:
        name: File name without ending, unique in the report.
        title: What it shows.
        kind: ``dots``: values with intervals, one row a category; ``columns``: heights from zero; ``lines``;
            ``points``; ``heatmap``; ``box``: one box a series.
        x_title: With unit.
        y_title: With unit.
        series: The data; none for a heat map.
        provenance: Runs, split, rows, seeds, device, command.
        intervals: What the intervals are, or why there are none.
        z: Heat map: rows of shades (0 to 1), the first row on top.
        labels: Heat map: column names, row names.
        texts: Heat map: what each cell says.
        references: Lines across the chart: axis, position, what it is.
        diagonal: Draw the line y = x.
        log_x: Logarithmic x axis.
        log_y: Logarithmic y axis.
        covers: Identifiers of the published figures that it stands beside.
    """

    name: str
    title: str
    kind: Kind
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    provenance: str
    intervals: str = ""
    z: tuple[tuple[float, ...], ...] = ()
    labels: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    texts: tuple[tuple[str, ...], ...] = ()
    references: tuple[tuple[Literal["x", "y"], float, str], ...] = ()
    diagonal: bool = False
    log_x: bool = False
    log_y: bool = False
    covers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure that a run or another command has drawn already, copied as it is."""

    name: str
    title: str
    path: Path
    provenance: str
    covers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Stored:
    """A summary that an analysis has written in Markdown; HTML in it is shown, not run."""

    title: str
    markdown: str
    provenance: str


@dataclass(frozen=True)
class Missing:
    """What is not there, and the command that would fill it."""

    text: str
    command: str


Block = Table | Chart | Picture | Prose | Stored | Missing


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    name: str
    title: str
    blocks: tuple[Block, ...]


def text(value: object) -> Cell:
    """Return a cell that sorts by its text."""
    return Cell("–" if value is None or value == "" else str(value))


def number(value: float | None, form: str = ".4f", unit: str = "") -> Cell:
    """Return a cell that sorts by its number; a dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return Cell("–", None)
    return Cell(format(value, form) + unit, float(value))


def interval(value: float | None, low: float | None, high: float | None, form: str = ".4f") -> Cell:
    """Return a cell of a value with its interval, sorted by the value."""
    if value is None or not math.isfinite(value):
        return Cell("–", None)
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return number(value, form)
    return Cell(f"{value:{form}} [{low:{form}}, {high:{form}}]", float(value))


def slug(words: str) -> str:
    """Return a file name: lower case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:60] or "unnamed"


def plural(n: int, word: str) -> str:
    """Return ``1 run``, ``2 runs``."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def listed(words: Iterable[str], most: int = 6) -> str:
    """Join words, the first few by name and the others by number."""
    known: Sequence[str] = list(dict.fromkeys(words))
    rest = len(known) - most
    return ", ".join(known[:most]) + (f" and {rest:,} more" if rest > 0 else "")
