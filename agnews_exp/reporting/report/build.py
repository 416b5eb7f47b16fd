"""From stored runs to a report's sections."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from agnews_exp.reporting.report.content import Missing, Section, plural
from agnews_exp.reporting.report.inputs import Inputs, collect
from agnews_exp.reporting.report.page.writing import Report, check_names, write_report
from agnews_exp.reporting.report.sections.analyses import cascade, external, robustness
from agnews_exp.reporting.report.sections.calibration import calibration
from agnews_exp.reporting.report.sections.claims import claims
from agnews_exp.reporting.report.sections.coverage import coverage
from agnews_exp.reporting.report.sections.data import data
from agnews_exp.reporting.report.sections.efficiency import efficiency
from agnews_exp.reporting.report.sections.ensembles import ensembles
from agnews_exp.reporting.report.sections.errors import errors
from agnews_exp.reporting.report.sections.explanation import explanation
from agnews_exp.reporting.report.sections.headline import headline
from agnews_exp.reporting.report.sections.models import classical
from agnews_exp.reporting.report.sections.searches import searches
from agnews_exp.reporting.report.sections.sources import sources
from agnews_exp.reporting.report.sections.statistics import statistics
from agnews_exp.reporting.report.sections.transformer import transformer

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
