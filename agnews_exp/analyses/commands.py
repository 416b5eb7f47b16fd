"""`agnews calibrate | errors | … | analyse | figures`: analyses of finished runs, and their charts drawn."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_VERBS = {
    "calibrate": ("calibration", "how far the probabilities can be trusted, before and after calibration"),
    "errors": ("errors", "where the model errs: classes, lengths, sources, artefacts, slices, near-duplicates"),
    "explain": ("explanation", "what the model looks at, for all texts and for single ones"),
    "robustness": ("robustness", "what typing errors, case, HTML residue and truncation cost"),
    "external": ("external", "the model on another labelled file, and whether it notices"),
    "bench": ("efficiency", "latency, throughput, memory, size and cost, measured here"),
}
"""Sub-command -> name of the analysis under ``evaluation.analyses``."""

_RUN = "run folder or name, MLflow run id, or an MLflow filter string"


def add_parsers(commands: Any) -> None:
    """Add the sub-commands.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    for verb, (analysis, text) in _VERBS.items():
        command = commands.add_parser(verb, help=text)
        _add_analysis(command, f"conf/evaluation/analyses/{analysis}.yaml")
        command.set_defaults(analysis=analysis)
    own = commands.add_parser("analyse", help="any analysis by name, one of your own too")
    own.add_argument("analysis", help="name of a file under evaluation/analyses")
    _add_analysis(own, "its YAML file")
    figures = commands.add_parser("figures", help="draw the charts of a run and of its analyses")
    figures.add_argument("run", help=_RUN)
    figures.add_argument("--svg", action="store_true", help="SVG instead of PNG")
    figures.add_argument("--dark", action="store_true", help="for a dark background")
    figures.set_defaults(handler=_draw)


def _add_analysis(command: argparse.ArgumentParser, file: str) -> None:
    command.add_argument("run", help=_RUN)
    command.add_argument("options", nargs="*", help=f"options as in {file}, such as seed=1")
    command.add_argument("--mlflow", action="store_true", help="log the findings to the run in MLflow")
    command.set_defaults(handler=_analyse)


def _analyse(options: argparse.Namespace) -> None:
    from rich.console import Console

    from agnews_exp.analyses.findings import to_terminal
    from agnews_exp.analyses.performing import FinishedRun, perform, title_of
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import check_analysis, to_plain
    from agnews_exp.core.errors import ConfigError
    from agnews_exp.tracking.runs import find_runs

    name = options.analysis
    prefix = f"evaluation.analyses.{name}."
    if wrong := [word for word in options.options if "=" not in word or word.startswith("-")]:
        raise ConfigError(
            f"'{wrong[0]}' is no option of this analysis.", fix=f"agnews show evaluation=full  ({prefix}*)"
        )
    chosen = f"+evaluation/analyses@evaluation.analyses.{name}={name}"
    plain = to_plain(compose_config([chosen, *(f"++{prefix}{word}" for word in options.options)]))
    component = plain["evaluation"]["analyses"][name]
    check_analysis(name, component)
    console = Console(highlight=False)
    for folder in find_runs(plain, [options.run]):
        run = FinishedRun(folder)
        context = run.context(name)
        findings = perform(component, name, context, draw=True)
        console.print(f"{title_of(name)}: {run.result['name']}", style="bold", markup=False)
        console.print(f"{findings.headline}\n", markup=False)
        console.print(to_terminal(findings.blocks))
        console.print(f"written to {context.folder}", soft_wrap=True, markup=False)
        if options.mlflow:
            console.print(f"logged to MLflow run {_log(plain, folder.path, context.folder, findings.metrics)}")


def _draw(options: argparse.Namespace) -> None:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain
    from agnews_exp.drawing import draw_folder
    from agnews_exp.tracking.runs import find_runs

    for folder in find_runs(to_plain(compose_config([])), [options.run]):
        for path in draw_folder(folder.path, ending=".svg" if options.svg else ".png", dark=options.dark):
            print(path)


def _log(plain: dict[str, Any], run: Path, folder: Path, metrics: Any) -> str:
    """Log findings to the MLflow run that the record belongs to."""
    from agnews_exp.core.errors import AgnewsError
    from agnews_exp.tracking.record import ANALYSES, TRACKING, read_json
    from agnews_exp.tracking.store import prepare_store

    note = read_json(run / TRACKING) or {}
    if not note.get("run_id"):
        raise AgnewsError(f"{run.name} is not in MLflow.", fix="agnews sync")
    settings = plain["tracking"]
    uri, _ = prepare_store(Path(plain["paths"]["mlruns_dir"]), settings["uri"], settings["experiment"])
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    for metric, value in metrics.items():
        client.log_metric(note["run_id"], metric, value)
    client.log_artifacts(note["run_id"], str(folder), f"{ANALYSES}/{folder.name}")
    return str(note["run_id"])
