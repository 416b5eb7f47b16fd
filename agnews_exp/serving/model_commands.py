"""`agnews register | promote | drift`: what becomes of a model after its run."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_parsers(commands: Any) -> None:
    """Add the sub-commands.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    register = commands.add_parser("register", help="register a run's model in MLflow's model registry")
    register.add_argument("run", help="run folder or name, or MLflow run id")
    register.add_argument("--name", required=True, help="of the registered model")
    register.add_argument("--alias", help="points to the new version from now on: champion, challenger, ...")
    register.set_defaults(handler=_register)

    promote = commands.add_parser("promote", help="register a run's model; champion only if it is better")
    promote.add_argument("run", help="run folder or name, or MLflow run id")
    promote.add_argument("--name", required=True, help="of the registered model")
    promote.add_argument("--split", choices=("val", "test"), default="val", help="rows to compare on (default: val)")
    promote.add_argument("--metric", default="macro_f1")
    promote.set_defaults(handler=_promote)

    drift = commands.add_parser("drift", help="do new texts look like those that a model was judged on?")
    drift.add_argument("model", help="run (folder, name, MLflow id)")
    drift.add_argument("file", nargs="?", default="-", help="CSV, TSV, JSON lines, Parquet or text; - is stdin")
    drift.add_argument("--format", choices=("csv", "tsv", "jsonl", "text", "parquet"), help="of the input")
    drift.add_argument("--columns", default="text", help="columns or keys joined into the text: title,body")
    drift.add_argument("--no-header", action="store_true", help="the CSV file has none: --columns 1,2 (from 0)")
    drift.add_argument("--fail", action="store_true", help="exit with 1 when something has moved")
    drift.set_defaults(handler=_drift)


def _plain() -> dict[str, Any]:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain

    return to_plain(compose_config([]))


def _register(options: argparse.Namespace) -> None:
    from agnews_exp.serving.registry import register_run

    version = register_run(_plain(), options.run, options.name, options.alias)
    alias = f", {options.alias} from now on" if options.alias else ""
    print(f"{options.name} version {version}{alias}\nnext   agnews serve models:/{options.name}/{version}")


def _promote(options: argparse.Namespace) -> None:
    from agnews_exp.serving.registry import promote

    found = promote(_plain(), options.run, options.name, split=options.split, metric=options.metric)
    print(f"{options.name} version {found.version}: {'champion' if found.promoted else 'challenger'} ({found.reason})")
    if not found.promoted:
        sys.exit(1)
    print(f"next   agnews serve models:/{options.name}@champion")


def _drift(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from agnews_exp.evaluation.drift import REFERENCE
    from agnews_exp.reporting.analyses.finished import FinishedRun
    from agnews_exp.serving.drifting import find_drift, write_reference
    from agnews_exp.serving.inputs import describe_source
    from agnews_exp.serving.models import find_model
    from agnews_exp.tracking.lookup import find_runs

    columns = [column.strip() for column in options.columns.split(",") if column.strip()]
    source = describe_source(options.file, format=options.format, columns=columns, header=not options.no_header)
    plain = _plain()
    found = find_model(plain, options.model)
    if not (found.folder / REFERENCE).is_file():
        (run,) = find_runs(plain, [options.model])
        write_reference(FinishedRun(run), found.folder)
    shifts, n, rejected = find_drift(found.load(), found.folder, source)
    table = Table(title=f"{found.name}: {n:,} texts ({rejected:,} rejected)", box=None, title_justify="left")
    for column in ("", "PSI", "p", "reference", "now", ""):
        table.add_column(column, justify="left" if not column else "right")
    for shift in shifts:
        numbers = f"{shift.psi:.3f}", f"{shift.p_value:.2g}", f"{shift.before:.3f}", f"{shift.now:.3f}"
        table.add_row(shift.name, *numbers, shift.verdict)
    Console(highlight=False).print(table)
    print("PSI: below .1 stable, from .25 on moved. p: Kolmogorov-Smirnov, for classes chi-squared.")
    if options.fail and any(shift.verdict == "moved" for shift in shifts):
        sys.exit(1)
