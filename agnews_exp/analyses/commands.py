"""Commands `agnews calibrate | errors | … | analyse | figures` of finished runs, and `agnews eda` of a corpus."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agnews_exp.analyses.exploration.performing import EdaConfig

VERBS = {
    "calibrate": ("calibration", "how far the probabilities can be trusted, before and after calibration"),
    "errors": ("errors", "where the model errs: classes, lengths, artefacts, slices, near-duplicates"),
    "explain": ("explanation", "what the model looks at, for all texts and for single ones"),
    "robustness": ("robustness", "what typing errors, case, HTML residue and truncation cost"),
    "external": ("external", "the model on another labelled file, and whether it notices"),
    "bench": ("efficiency", "latency, throughput, memory, size and cost, measured here"),
}
"""Sub-command -> name of the analysis under ``evaluation.analyses``."""

_RUN = "run folder or name, MLflow run id, or an MLflow filter string"


def add_parsers(commands: Any) -> None:
    """Add the sub-commands to the sub-parsers of ``agnews``."""
    for verb, (analysis, text) in VERBS.items():
        command = commands.add_parser(verb, help=text)
        _add_analysis(command, f"conf/evaluation/analyses/{analysis}.yaml")
        command.set_defaults(analysis=analysis)
    own = commands.add_parser("analyse", help="any analysis by name, one of your own too")
    own.add_argument("analysis", help="name of a file under evaluation/analyses")
    _add_analysis(own, "its YAML file")
    own.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a configuration folder of your own, with the file")
    figures = commands.add_parser("figures", help="draw the charts of a run and of its analyses")
    figures.add_argument("run", help=_RUN)
    figures.add_argument("--svg", action="store_true", help="SVG instead of PNG")
    figures.add_argument("--dark", action="store_true", help="for a dark background")
    figures.set_defaults(handler=_draw)
    eda = commands.add_parser(
        "eda", help="explore and audit a corpus: lengths, words, classes, topics, duplicates, artefacts, labels"
    )
    eda.add_argument(
        "overrides",
        nargs="*",
        help="such as data=sample data_fraction=0.25 eda=fast eda.topics.n_topics=30 eda.map=null",
    )
    eda.set_defaults(handler=_explore)


def _add_analysis(command: argparse.ArgumentParser, file: str) -> None:
    command.add_argument("run", help=_RUN)
    command.add_argument("options", nargs="*", help=f"options as in {file}, such as seed=1")
    command.add_argument("--mlflow", action="store_true", help="log the findings to the run in MLflow")
    command.set_defaults(handler=_analyse)


def _analyse(options: argparse.Namespace) -> None:
    from rich.console import Console

    from agnews_exp.analyses.findings import to_terminal
    from agnews_exp.analyses.performing import FinishedRun, perform, title_of
    from agnews_exp.config.compose import compose_config, extra_folders
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
    folder = getattr(options, "config_dir", None)
    own = extra_folders([f"--config-dir={folder}"]) if folder else []
    plain = to_plain(compose_config([chosen, *(f"++{prefix}{word}" for word in options.options)], extra=own))
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


def _log(plain: dict[str, Any], run: Path, folder: Path, metrics: Mapping[str, float]) -> str:
    """Log findings to the MLflow run that the record belongs to; return its id."""
    from agnews_exp.tracking.mlflow_mirror import mlflow_run_of
    from agnews_exp.tracking.record import ANALYSES

    client, run_id = mlflow_run_of(plain, run)
    for metric, value in metrics.items():
        client.log_metric(run_id, metric, value)
    client.log_artifacts(run_id, str(folder), f"{ANALYSES}/{folder.name}")
    return str(run_id)


_MARKS = {"finished": "done", "kept": "kept from before", "left_out": "left out", "failed": "failed"}


def _explore(options: argparse.Namespace) -> None:
    from rich.console import Console

    from agnews_exp.analyses.exploration.performing import compose_eda, perform_eda
    from agnews_exp.analyses.performing import SUMMARY, steps
    from agnews_exp.runners.protocol import Stages
    from agnews_exp.runners.rows import load_splits

    config = compose_eda(options.overrides)
    splits = load_splits(config.checked, Stages())
    statuses: dict[str, str] = {}
    with steps(len(config.parts), "exploring") as advance:

        def report(name: str, status: str) -> None:
            statuses[name] = status
            advance(name)

        content = perform_eda(config, splits, force=bool(config.checked.run.force), report=report)
    console = Console(highlight=False)
    console.print(_parts_table(content, statuses))
    console.print(f"\nwritten to {config.folder}", soft_wrap=True)
    if all(status == "kept" for status in statuses.values()):
        console.print("nothing was to do: the same rows and settings; force=true repeats", soft_wrap=True)
    elif config.checked.run.tracking.enabled and (run_id := _log_exploration(config, content)):
        console.print(f"logged as MLflow run {run_id}", soft_wrap=True)
    words = " ".join(["python run.py", *(w for w in options.overrides if not w.startswith(("eda", "force=")))])
    console.print(f"next   less {config.folder / SUMMARY}    then: {words}", soft_wrap=True)


def _parts_table(content: Mapping[str, Any], statuses: Mapping[str, str]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    rows = ", ".join(f"{n:,} {split}" for split, n in content["data"]["rows"].items())
    table = Table(title=f"{content['name']}: {rows}", title_justify="left", box=None, pad_edge=False)
    for column, options in (("part", {"style": "bold", "no_wrap": True}), ("", {"no_wrap": True}),
                            ("s", {"justify": "right"}), ("found", {})):  # fmt: skip
        table.add_column(column, **options)
    for name, part in content["parts"].items():
        found = [part["headline"]] if part["status"] == "finished" else str(part["reason"]).splitlines()[:1]
        found += [f"Without {what}." for what in part["details"].get("left_out", {})]
        table.add_row(name, _MARKS[statuses[name]], f"{part['seconds']:.1f}", escape(" ".join(found)))
    return table


def _log_exploration(config: EdaConfig, content: Mapping[str, Any]) -> str | None:
    """Log an exploration as a run of its own; a tracker that fails costs a warning."""
    import logging

    from agnews_exp.analyses.performing import SUMMARY
    from agnews_exp.core.errors import first_line
    from agnews_exp.tracking.mlflow_mirror import Store

    data, plain = content["data"], config.checked.plain
    tags = {str(k): str(v) for k, v in plain["tags"].items()} | {
        "kind": "eda", "purpose": "eda", "data": str(data["name"]), "run_folder": str(config.folder),
        "mlflow.note.content": (config.folder / SUMMARY).read_text(encoding="utf-8")[:60_000],
    }  # fmt: skip
    params = {"data": data["name"], "source": data["source"], "eda": content["choice"],
              "data_fraction": data["data_fraction"], "seed": content["settings"]["seed"]}  # fmt: skip
    words = {k: str(v) for k, v in params.items()}
    try:
        return Store(plain).log_folder(
            f"eda-{content['name']}", config.folder, tags=tags, params=words, metrics=_metrics(content)
        )
    except Exception as error:
        said = "MLflow could not log the exploration: %s. Its folder is complete."
        logging.getLogger(__name__).warning(said, first_line(error))
        return None


def _metrics(content: Mapping[str, Any]) -> dict[str, float]:
    """Return all numbers of the finished parts as ``eda/<part>/<name>``, fit for MLflow."""
    import re

    return {
        re.sub(r"[^\w./ -]", "_", f"eda/{part}/{name}")[:250]: float(value)
        for part, found in content["parts"].items()
        for name, value in found["metrics"].items()
        if value is not None
    }
