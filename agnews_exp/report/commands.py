"""The command ``agnews report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


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

    from agnews_exp.analyses.findings import Missing, Table
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain
    from agnews_exp.core.errors import ConfigError
    from agnews_exp.core.numbers import plural
    from agnews_exp.drawing import Chart
    from agnews_exp.reference.reading import find_reference
    from agnews_exp.report.build import build_report

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
