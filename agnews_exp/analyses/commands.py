"""`agnews calibrate | errors | explain | robustness | external | bench`: analyses of finished runs."""

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


def add_parsers(commands: Any) -> None:
    """Add the sub-commands.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    for verb, (analysis, text) in _VERBS.items():
        command = commands.add_parser(verb, help=text)
        command.add_argument("run", help="run folder or name, MLflow run id, or an MLflow filter string")
        command.add_argument(
            "options", nargs="*", help=f"options as in conf/evaluation/analyses/{analysis}.yaml, such as seed=1"
        )
        command.add_argument("--mlflow", action="store_true", help="log the findings to the run in MLflow")
        command.set_defaults(handler=_analyse, analysis=analysis)


def _analyse(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from agnews_exp.analyses.performing import FinishedRun, perform
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
    plain = to_plain(compose_config(["evaluation=full", *(prefix + word for word in options.options)]))
    component = plain["evaluation"]["analyses"][name]
    check_analysis(name, component)
    console = Console(highlight=False)
    for folder in find_runs(plain, [options.run]):
        run = FinishedRun(folder)
        context = run.context(name)
        findings = perform(component, name, context)
        console.print(Markdown(f"# {name}: {run.result['name']}\n\n{findings.summary}"))
        console.print(f"\nwritten to {context.folder}", soft_wrap=True)
        if options.mlflow:
            console.print(f"logged to MLflow run {_log(plain, folder.path, context.folder, findings.metrics)}")


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
