"""`agnews compare`: the command around :mod:`agnews_exp.reporting.comparison`."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any


def add_parsers(commands: Any) -> None:
    """Add the sub-commands.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    compare = commands.add_parser("compare", help="paired statistics of two or more finished runs")
    compare.add_argument("runs", nargs="+", help="run folders or names, MLflow run ids, or MLflow filter strings")
    compare.add_argument("--split", choices=("test", "val", "cv"), default="test")
    compare.add_argument("--metric", action="append", help="may be repeated (default: macro_f1 and accuracy)")
    compare.add_argument("--against", help="compare all with this run only (its name)")
    compare.add_argument("--resamples", type=int, default=10_000)
    compare.add_argument("--seed", type=int, default=0)
    compare.add_argument("--mlflow", action="store_true", help="log the comparison as an MLflow run")
    compare.add_argument("--output", type=Path, help="folder (default: outputs/comparisons/<name>)")
    compare.set_defaults(handler=_compare)


def _compare(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.errors import ConfigError
    from agnews_exp.config.validation import to_plain
    from agnews_exp.reporting.comparison import compare_runs, load_comparable, to_markdown, write_comparison
    from agnews_exp.tracking.lookup import find_runs

    if options.resamples < 100:
        raise ConfigError(f"--resamples {options.resamples} is too few for an interval.", fix="--resamples 10000")
    plain = to_plain(compose_config([]))
    compared = load_comparable(find_runs(plain, options.runs), options.split)
    results = compare_runs(
        compared,
        metrics=options.metric or ("macro_f1", "accuracy"),
        resamples=options.resamples,
        seed=options.seed,
        against=options.against,
    )
    identity = hashlib.sha256("\n".join([options.split, *map(str, compared.folders.values())]).encode()).hexdigest()[
        :10
    ]
    folder = options.output or Path(plain["paths"]["output_dir"]) / "comparisons" / identity
    write_comparison(folder, results, compared)
    console = Console(highlight=False)
    console.print(Markdown(to_markdown(results, compared)))
    console.print(f"\nwritten to {folder} (comparison.md, .json, .png)", soft_wrap=True)
    if options.mlflow:
        console.print(f"logged as MLflow run {_log(plain, folder, results)}")


def _log(plain: dict[str, Any], folder: Path, results: Any) -> str:
    """Log a comparison's files and differences as a run of its own."""
    from agnews_exp.tracking.store import prepare_store

    settings = plain["tracking"]
    uri, experiment_id = prepare_store(Path(plain["paths"]["mlruns_dir"]), settings["uri"], settings["experiment"])
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    tags = {"kind": "comparison", "mlflow.note.content": (folder / "comparison.md").read_text(encoding="utf-8")}
    run_id = str(client.create_run(experiment_id, run_name="comparison", tags=tags).info.run_id)
    for number, result in enumerate(results):
        for metric, compared in result.metrics.items():
            client.log_metric(run_id, f"difference/{metric}", compared.bootstrap.difference.estimate, step=number)
        client.log_metric(run_id, "p_holm", result.p_holm, step=number)
    client.log_artifacts(run_id, str(folder))
    client.set_terminated(run_id, "FINISHED")
    return run_id
