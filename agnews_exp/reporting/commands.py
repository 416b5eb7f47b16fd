"""`agnews compare`: the command around :mod:`agnews_exp.reporting.comparison`."""

from __future__ import annotations

import argparse
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agnews_exp.evaluation.statistics import BlockPair, ComparisonResult
    from agnews_exp.reporting.comparison import ComparedRuns, Comparison


def add_parsers(commands: Any) -> None:
    """Add the sub-commands.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    compare = commands.add_parser(
        "compare", help="paired statistics of two or more finished runs, over items, folds and seeds"
    )
    compare.add_argument("runs", nargs="+", help="run folders or names, MLflow run ids, or MLflow filter strings")
    compare.add_argument(
        "--split", choices=("test", "val", "cv"), default="test", help="cv: out-of-fold answers, and tests over folds"
    )
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
    from agnews_exp.config.errors import ConfigError, unknown_name
    from agnews_exp.config.validation import to_plain
    from agnews_exp.reporting.comparison import compare_runs, load_comparable, write_comparison
    from agnews_exp.reporting.comparison_markdown import to_markdown
    from agnews_exp.tracking.lookup import find_runs

    if options.resamples < 100:
        raise ConfigError(f"--resamples {options.resamples} is too few for an interval.", fix="--resamples 10000")
    plain = to_plain(compose_config([]))
    compared = load_comparable(find_runs(plain, options.runs), options.split)
    if options.against is not None and options.against not in compared.predictions:
        raise unknown_name("run for --against", options.against, list(compared.predictions))
    console = Console(highlight=False)
    with console.status("comparing"):
        found = compare_runs(
            compared,
            metrics=options.metric or ("macro_f1", "accuracy"),
            resamples=options.resamples,
            seed=options.seed,
            against=options.against,
        )
        words = [options.split, *map(str, compared.folders.values())]
        identity = hashlib.sha256("\n".join(words).encode()).hexdigest()[:10]
        folder = options.output or Path(plain["paths"]["output_dir"]) / "comparisons" / identity
        write_comparison(folder, found, compared)
    console.print(Markdown(to_markdown(found, compared)))
    names = ", ".join(sorted(path.name for path in folder.glob("*.*")))
    console.print(f"\nwritten to {folder} ({names})", soft_wrap=True)
    if options.mlflow:
        console.print(f"logged as MLflow run {_log(plain, folder, found, compared)}")
    else:
        console.print("next   the same with --mlflow logs it; agnews ui opens it", soft_wrap=True)


def _log(plain: dict[str, Any], folder: Path, found: Comparison, compared: ComparedRuns) -> str:
    """Log a comparison's files, and its figures as metrics, as a run of its own."""
    from agnews_exp.tracking.store import prepare_store

    settings = plain["tracking"]
    uri, experiment_id = prepare_store(Path(plain["paths"]["mlruns_dir"]), settings["uri"], settings["experiment"])
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    tags = {"kind": "comparison", "mlflow.note.content": (folder / "comparison.md").read_text(encoding="utf-8")}
    run_id = str(client.create_run(experiment_id, run_name="comparison", tags=tags).info.run_id)
    client.log_param(run_id, "split", compared.split)
    client.log_param(run_id, "n_items", len(compared.labels))
    for number, path in enumerate(compared.folders.values()):
        client.log_param(run_id, f"run_{number}", path.name)
    for name, value in _metrics(found).items():
        client.log_metric(run_id, name, value)
    client.log_artifacts(run_id, str(folder))
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _metrics(found: Comparison) -> dict[str, float]:
    """Return a comparison's finite figures, named ``<figure>/<pair>``; a pair alone has no name."""
    from agnews_exp.evaluation.metrics import metric_class_name

    def tail(pair: ComparisonResult | BlockPair) -> str:
        return "/" + metric_class_name(f"{pair.name_a} - {pair.name_b}") if len(found.pairs) > 1 else ""

    values: dict[str, float] = {}
    for pair in found.pairs:
        for metric, compared in pair.metrics.items():
            values[f"difference/{metric}{tail(pair)}"] = compared.bootstrap.difference.estimate
            values[f"p_randomisation/{metric}{tail(pair)}"] = compared.randomisation.p_value
        values |= {f"p_mcnemar{tail(pair)}": pair.p_value, f"p_holm{tail(pair)}": pair.p_holm}
    for block in found.blocks:
        for pair_over in block.pairs:
            end = f"{block.kind}/{block.metric}{tail(pair_over)}"
            values |= {f"difference_{end}": pair_over.test.difference, f"p_{end}": pair_over.test.p_value}
            values[f"p_holm_{end}"] = pair_over.p_holm
        if block.friedman is not None:
            values[f"p_friedman_{block.kind}/{block.metric}"] = block.friedman.p_value
    return {name: value for name, value in values.items() if math.isfinite(value)}
