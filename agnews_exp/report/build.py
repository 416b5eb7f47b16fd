"""From stored runs to a report's sections."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agnews_exp.reference.ag_news_notebooks.claims import claims
from agnews_exp.reference.ag_news_notebooks.coverage import coverage
from agnews_exp.report.content import Block, Missing, Prose, Section, Table, number, plural, text
from agnews_exp.report.inputs import Inputs, collect
from agnews_exp.report.origin import origin
from agnews_exp.report.page.writing import Report, check_names, write_report
from agnews_exp.report.sections.analyses import cascade, external, robustness
from agnews_exp.report.sections.calibration import calibration
from agnews_exp.report.sections.data import data
from agnews_exp.report.sections.efficiency import efficiency
from agnews_exp.report.sections.ensembles import ensembles
from agnews_exp.report.sections.errors import errors
from agnews_exp.report.sections.explanation import explanation
from agnews_exp.report.sections.headline import headline
from agnews_exp.report.sections.models import classical
from agnews_exp.report.sections.searches import searches
from agnews_exp.report.sections.statistics import statistics
from agnews_exp.report.sections.transformer import transformer
from agnews_exp.tracking.record import STATUS, TRACKING, read_json


def add_parsers(commands: Any) -> None:
    """Add the sub-command.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    report = commands.add_parser("report", help="one HTML page, and Markdown, from the stored runs alone")
    report.add_argument(
        "words", nargs="*", metavar="STUDY", help="a study's name, and overrides such as paths.output_dir=D"
    )
    report.add_argument("--output", type=Path, help="folder (default: outputs/reports/<study, or all>)")
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
    from agnews_exp.report.content import Chart, Missing, Picture, Table

    studies = [word for word in options.words if "=" not in word]
    if len(studies) > 1:
        raise ConfigError(
            f"One report is of one study, not of {' and '.join(studies)}.", fix=f"agnews report {studies[0]}"
        )
    study = studies[0] if studies else None
    plain = to_plain(compose_config([word for word in options.words if "=" in word]))
    output_dir = Path(plain["paths"]["output_dir"])
    folder = options.output or output_dir / "reports" / (study or "all")
    console = Console(highlight=False, soft_wrap=True)
    date = options.date or f"Made on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    with console.status("reading the stored runs, drawing the figures"):
        report = build_report(output_dir, study, folder, date, strict=options.strict)
    view = View(box=box.SIMPLE_HEAD, title=report.subtitle, title_justify="left", title_style="bold")
    for name in ("section", "figures", "tables", "missing"):
        view.add_column(name, justify="left" if name == "section" else "right")
    for section in report.sections:
        kinds = [(Chart, Picture), (Table,), (Missing,)]
        counts = [sum(isinstance(block, kind) for block in section.blocks) for kind in kinds]
        view.add_row(section.title, *(str(n) if n else "–" for n in counts))
    console.print(view)
    page = (folder / "report.html").resolve()
    console.print(f"written to {folder} (report.html, report.md, figures/, tables/)")
    console.print(f"next   open {page.as_uri()}" if not options.open else f"opened {page.as_uri()}")
    if options.open:
        webbrowser.open(page.as_uri())


def sources(inputs: Inputs) -> Section:
    """Return the runs' table, the packages and the runs that were left out."""
    header = ("run", "name", "family", "data fraction", "seed", "train rows", "fingerprint", "command")
    rows = tuple(
        (
            text(run.short),
            text(run.name),
            text(run.family),
            number(run.fraction, "g"),
            number(run.seed, "d"),
            number(run.rows.get("train"), ",.0f"),
            text(run.fingerprint),
            text(run.command),
        )
        for run in inputs.runs
    )
    made = origin(inputs.runs, ("train", "val", "test"))
    blocks: list[Block] = [Table("runs", "Runs in this report", header, rows, made)]
    blocks += [_places(inputs), _machines(inputs)]
    if inputs.left_out:
        left = tuple((text(short), text(name), text(reason)) for short, name, reason in inputs.left_out)
        said = "Finished runs of the same output folder whose numbers do not belong here."
        blocks.append(Table("left_out", "Runs left out", ("run", "name", "reason"), left, said))
    blocks += [Prose(note) for note in inputs.notes]
    return Section("sources", "Runs and machines", tuple(blocks))


def _places(inputs: Inputs) -> Table:
    rows = []
    for run in inputs.runs:
        path, tracked = run.folder.path, read_json(run.folder.path / TRACKING) or {}
        place = path.relative_to(inputs.output_dir) if path.is_relative_to(inputs.output_dir) else path
        started = (read_json(path / STATUS) or {}).get("started")
        rows.append((text(run.short), text(place.as_posix()), text(started), text(tracked.get("run_id"))))
    said = "What tells two studies of the same configuration apart; every command takes the name in the first column."
    header = ("run", "folder in outputs/", "began", "MLflow run")
    return Table("provenance", "Where each run lies, and when it began", header, tuple(rows), said, folded=True)


def _machines(inputs: Inputs) -> Table:
    seen: dict[tuple[str, ...], int] = {}
    for run in inputs.runs:
        e = run.environment
        packages = ", ".join(f"{k} {v}" for k, v in sorted((e.get("packages") or {}).items()))
        key = (
            run.device,
            str(e.get("platform", "–")),
            str(e.get("python", "–")),
            str(e.get("agnews_exp", "–")),
            packages,
        )
        seen[key] = seen.get(key, 0) + 1
    rows = tuple((*(text(v) for v in key), number(n, "d")) for key, n in sorted(seen.items()))
    header = ("device", "platform", "Python", "agnews-exp", "packages", "runs")
    return Table("machines", "Machines", header, rows, origin(inputs.runs, ()))


log = logging.getLogger(__name__)

Maker = Callable[[Inputs], Section]
SECTIONS: tuple[tuple[str, Maker], ...] = (
    ("Headline", headline),
    ("Data", data),
    ("Classical models and pipelines", classical),
    ("Searches", searches),
    ("Ensembles", ensembles),
    ("Transformer, ablations, data efficiency", transformer),
    ("Statistics", statistics),
    ("Calibration", calibration),
    ("Explanation", explanation),
    ("Errors and confusions", errors),
    ("Robustness", robustness),
    ("Cross-dataset", external),
    ("Cascade and routing", cascade),
    ("Efficiency", efficiency),
    ("Where the study was wrong", claims),
)


def build_report(output_dir: Path, study: str | None, folder: Path, date: str, *, strict: bool = False) -> Report:
    """Build a report and write it.

    Args:
        output_dir: The project's output root.
        study: A study's name, or None for all runs of one data set.
        folder: Where to write.
        date: The line that says when.
        strict: Raise where a stored file is not as expected; else its section says so.

    Raises:
        ConfigError: There is nothing to report on.
    """
    inputs = collect(output_dir, study)
    sections = [_section(title, make, inputs, strict) for title, make in SECTIONS]
    sections += [coverage(sections), sources(inputs)]
    check_names(sections)
    report = Report(_title(inputs), _subtitle(inputs), date, tuple(sections))
    write_report(folder, report)
    return report


def _section(title: str, make: Maker, inputs: Inputs, strict: bool) -> Section:
    try:
        return make(inputs)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError) as error:
        if strict:
            raise
        # Written by another version, or damaged: the other sections are worth having.
        log.warning("the section '%s' could not be made: %s: %s", title, type(error).__name__, error)
        said = f"This section could not be made from the stored files ({type(error).__name__}: {error})."
        return Section(make.__name__, title, (Missing(said, "agnews report --strict"),))


def _title(inputs: Inputs) -> str:
    return "Text classification report" + (f": {inputs.name}" if inputs.study else "")


def _subtitle(inputs: Inputs) -> str:
    run = inputs.runs[0]
    sizes = ", ".join(f"{split} {n:,}" for split, n in run.rows.items() if split != "train")
    train = sorted({r.rows["train"] for r in inputs.runs if "train" in r.rows})
    span = f"{train[0]:,}" if len(train) == 1 else f"{train[0]:,} to {train[-1]:,}"
    return f"{plural(len(inputs.runs), 'finished run')} on {run.source}; rows: train {span}, {sizes}."
