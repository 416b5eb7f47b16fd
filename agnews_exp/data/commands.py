"""`agnews inspect`: what a file holds, and the command that trains on it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agnews_exp.data.inspection import Inspection


def add_parsers(commands: Any) -> None:
    """Add the sub-commands."""
    inspect = commands.add_parser(
        "inspect", help="columns, classes and faults of a file, and the command to train on it"
    )
    inspect.add_argument("file", type=Path, help="any file that data=csv reads, or a folder of texts")
    inspect.add_argument("--delimiter", default="auto", help="one character, tab or auto (default)")
    inspect.add_argument(
        "--quoting", choices=("auto", "csv", "none"), default="auto", help="whether quotes enclose fields"
    )
    inspect.add_argument("--encoding", default="auto", help="such as cp1252, or auto (default)")
    inspect.add_argument("--no-header", action="store_true", help="the first row names no columns")
    inspect.set_defaults(handler=_inspect)


def _inspect(options: argparse.Namespace) -> None:
    from agnews_exp.core.errors import ConfigError
    from agnews_exp.data.inspection import inspect_file
    from agnews_exp.data.tables import Reading, format_of

    path = options.file.expanduser()
    if len(options.delimiter) != 1 and options.delimiter not in ("auto", "tab"):
        raise ConfigError("--delimiter: it must be one character, tab or auto.")
    how = Reading(
        delimiter=options.delimiter, quoting=options.quoting, encoding=options.encoding,
        has_header=not options.no_header,
    )  # fmt: skip
    if path.is_file() and format_of(path) == "text":
        how = Reading("csv", how.delimiter, how.quoting, how.encoding, how.has_header)
    _show(inspect_file(path, how))


def _show(found: Inspection) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from agnews_exp.core.text import visible
    from agnews_exp.data.files import listed

    console = Console(highlight=False)
    how = found.how
    facts = [str(how.format)]
    if how.format in ("csv", "tsv"):
        facts += [f"delimiter {'tab' if how.delimiter == chr(9) else how.delimiter}", how.encoding]
    console.print(f"{found.path}: {found.rows:,} rows ({', '.join(facts)})", markup=False)
    table = Table(box=None)
    for name in ("column", "holds", "filled", "distinct", "characters", "first value"):
        table.add_column(name, justify="right" if name in ("filled", "distinct", "characters") else "left")
    for column in found.guess.columns:
        role = "text" if str(column.name) in found.guess.texts else column.kind
        role = "the class" if str(column.name) == found.guess.label else role
        numbers = f"{column.filled:,}", f"{column.distinct:,}", f"{column.characters:.0f}"
        name, example = (visible(" ".join(str(cell).split()))[:24] for cell in (column.name, column.example))
        table.add_row(*map(escape, (name, role, *numbers, example)))
    console.print(table)
    if found.classes:
        shown = [f"{visible(name)} {count:,}" for name, count in found.classes]
        console.print(f"{len(shown):,} classes: {listed(shown, 12)}", markup=False)
    low, middle, high = found.lengths
    console.print(
        f"words in a text: {middle} (5 % have {low} or fewer, 5 % {high} or more); "
        f"{found.empty:,} texts are empty, {found.duplicates:,} repeat an earlier one"
    )
    console.print(f"languages: {found.languages}", markup=False)
    for line in found.bad.shown:
        console.print(f"  {visible(line)}", markup=False)
    for note in found.notes:
        console.print(f"warning: {visible(note)}", markup=False)
    if found.command is None:
        console.print(
            "no pair of a text column and a class column was recognised: name them with data.text_columns=[...]"
        )
    else:
        console.print(f"next   {found.command}", markup=False, soft_wrap=True)
