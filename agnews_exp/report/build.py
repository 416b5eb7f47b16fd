"""Building a report: from stored runs to its sections and its page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from agnews_exp.analyses.findings import Missing
from agnews_exp.core.errors import AgnewsError
from agnews_exp.core.numbers import plural
from agnews_exp.reference.reading import Reference
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
