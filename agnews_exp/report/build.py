"""`agnews report`: from stored runs to a report's sections, and its page."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agnews_exp.analyses.findings import Missing, Table
from agnews_exp.core.errors import AgnewsError
from agnews_exp.core.numbers import plural
from agnews_exp.drawing import Chart
from agnews_exp.reference.reading import Reference, find_reference
from agnews_exp.report.answer import answer
from agnews_exp.report.appendix import analyses, checks, published, sources
from agnews_exp.report.blocks import Section
from agnews_exp.report.data import data
from agnews_exp.report.errors import calibration, errors
from agnews_exp.report.inputs import Inputs, collect
from agnews_exp.report.models import cost, models
from agnews_exp.report.page import Report, write_report
from agnews_exp.report.variations import variations

log = logging.getLogger(__name__)

SECTIONS: tuple[Callable[[Inputs], Section | None], ...] = (
    answer, models, errors, calibration, cost, data, variations, analyses, checks, published, sources,
)  # fmt: skip


def add_parsers(commands: Any) -> None:
    """Add the sub-command to the sub-parsers of ``agnews``."""
    report = commands.add_parser("report", help="one HTML page, and Markdown, from the stored runs alone")
    report.add_argument(
        "words",
        nargs="*",
        metavar="STUDY",
        help="a study's name, and overrides such as paths.output_dir=D or reference=NAME",
    )
    report.add_argument("--output", type=Path, help="folder (default: outputs/reports/<study's name, or all>)")
    report.add_argument("--data", metavar="NAME", help="of several corpora, which (default: that of the most runs)")
    report.add_argument("--open", action="store_true", help="open the page in the browser")
    report.add_argument("--date", help="the report's line of date; fix it to compare two reports")
    report.add_argument("--strict", action="store_true", help="stop at a stored file that is not as expected")
    report.set_defaults(handler=_report)


def _report(options: argparse.Namespace) -> None:
    import webbrowser
    from datetime import UTC, datetime

    from rich import box
    from rich.console import Console
    from rich.table import Table as View

    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain
    from agnews_exp.core.errors import ConfigError

    studies = [word for word in options.words if "=" not in word]
    if len(studies) > 1:
        raise ConfigError(
            f"One report is of one study, not of {' and '.join(studies)}.", fix=f"agnews report {studies[0]}"
        )
    study = studies[0] if studies else None
    plain = to_plain(compose_config([word for word in options.words if "=" in word]))
    reference = find_reference(plain["reference"], Path(plain["paths"]["root_dir"])) if plain.get("reference") else None
    output_dir = Path(plain["paths"]["output_dir"])
    folder = options.output or output_dir / "reports" / (study or options.data or "all")
    console = Console(highlight=False, soft_wrap=True)
    date = options.date or f"Made on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    with console.status("reading the stored runs, drawing the figures"):
        report = build_report(
            output_dir, study, folder, date, reference=reference, strict=options.strict, data_name=options.data
        )
    view = View(box=box.SIMPLE_HEAD, title=report.subtitle, title_justify="left", title_style="bold")
    for name in ("section", "figures", "tables", "missing"):
        view.add_column(name, justify="left" if name == "section" else "right")
    for section in report.sections:
        blocks = (*section.blocks, *section.more)
        counts = [sum(isinstance(block, kind) for block in blocks) for kind in (Chart, Table, Missing)]
        view.add_row(section.title, *(str(n) if n else "–" for n in counts))
    console.print(view)
    for name, n in report.others.items():
        console.print(f"note   {plural(n, 'run')} on {name} not in here: agnews report --data {name}")
    page = (folder / "report.html").resolve()
    console.print(f"written to {folder} (report.html, report.md, figures/, tables/)")
    console.print(f"next   open {page.as_uri()}" if not options.open else f"opened {page.as_uri()}")
    if options.open:
        webbrowser.open(page.as_uri())


def build_report(
    output_dir: Path,
    study: str | None,
    folder: Path,
    date: str,
    *,
    reference: Reference | None = None,
    strict: bool = False,
    data_name: str | None = None,
) -> Report:
    """Build a report of a study, or of all runs of one data set, and write it into a folder.

    ``date`` is the line that says when; ``strict`` raises where a stored file is not as expected, else its section says
    so; ``data_name`` chooses a corpus, None the one of the most runs.

    Raises:
        ConfigError: There is nothing to report on.
    """
    report = make_report(collect(output_dir, study, reference, data_name), date, strict=strict)
    write_report(folder, report)
    return report


def make_report(inputs: Inputs, date: str, *, strict: bool = False) -> Report:
    """Return the report on what was collected; arguments as in :func:`build_report`."""
    sections = (_section(make, inputs, strict) for make in SECTIONS)
    title = "Text classification report" + (f": {inputs.name}" if inputs.study else "")
    shown = tuple(section for section in sections if section is not None)
    return Report(title, _subtitle(inputs), date, shown, inputs.others)


def _section(make: Callable[[Inputs], Section | None], inputs: Inputs, strict: bool) -> Section | None:
    try:
        return make(inputs)
    except (AgnewsError, KeyError, IndexError, TypeError, ValueError, AttributeError, OSError) as error:
        if strict:
            raise
        # Written by another version, or damaged: the other sections are worth having.
        title = make.__name__.capitalize()
        log.warning("the section '%s' could not be made: %s: %s", title, type(error).__name__, error)
        said = f"This section could not be made from the stored files ({type(error).__name__}: {error})."
        return Section(make.__name__, title, (Missing(said, "agnews report --strict"),))


def _subtitle(inputs: Inputs) -> str:
    run = inputs.runs[0]
    sizes = ", ".join(f"{split} {n:,}" for split, n in run.rows.items() if split != "train")
    train = sorted({r.rows["train"] for r in inputs.runs if "train" in r.rows})
    span = f"{train[0]:,}" if len(train) == 1 else f"{train[0]:,} to {train[-1]:,}"
    return f"{plural(len(inputs.runs), 'finished run')} on {run.source}; rows: train {span}, {sizes}."
