"""`agnews eda`: explore and audit a corpus before anything is trained on it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agnews_exp.analyses.exploration.performing import EdaConfig
    from agnews_exp.data.corpus import Splits

_MARKS = {"finished": "done", "kept": "kept from before", "left_out": "left out", "failed": "failed"}


def add_parsers(commands: Any) -> None:
    """Add the sub-command.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    command = commands.add_parser(
        "eda", help="explore and audit a corpus: lengths, words, classes, topics, duplicates, artefacts, labels"
    )
    command.add_argument(
        "overrides",
        nargs="*",
        help="such as data=sample data_fraction=0.25 eda=fast eda.topics.n_topics=30 eda.map=null",
    )
    command.set_defaults(handler=_eda)


def _eda(options: argparse.Namespace) -> None:
    from rich.console import Console

    from agnews_exp.analyses.exploration.performing import compose_eda
    from agnews_exp.runners.protocol import Stages
    from agnews_exp.runners.rows import load_splits

    config = compose_eda(options.overrides)
    splits = load_splits(config.checked, Stages())
    statuses: dict[str, str] = {}
    content = _perform(config, splits, statuses)
    console = Console(highlight=False)
    console.print(_table(content, statuses))
    _print_verdicts(console, content)
    console.print(f"\nwritten to {config.folder}", soft_wrap=True)
    if all(status == "kept" for status in statuses.values()):
        console.print("nothing was to do: the same rows and settings; force=true repeats", soft_wrap=True)
    elif config.checked.run.tracking.enabled and (run_id := _log(config, content)):
        console.print(f"logged as MLflow run {run_id}", soft_wrap=True)
    words = " ".join(["python run.py", *(w for w in options.overrides if not w.startswith(("eda", "force=")))])
    console.print(f"next   less {config.folder / 'summary.md'}    then: {words}", soft_wrap=True)


def _perform(config: EdaConfig, splits: Splits, statuses: dict[str, str]) -> dict[str, Any]:
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from agnews_exp.analyses.exploration.performing import perform_eda

    columns = (TextColumn("exploring: {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=len(config.parts))

        def report(name: str, status: str) -> None:
            if status == "running":
                bar.update(task, description=name)
                return
            statuses[name] = status
            bar.update(task, advance=1, description=name)

        return perform_eda(config, splits, force=bool(config.checked.run.force), report=report)


def _table(content: Mapping[str, Any], statuses: Mapping[str, str]) -> Any:
    from rich.table import Table

    rows = ", ".join(f"{n:,} {split}" for split, n in content["data"]["rows"].items())
    table = Table(title=f"{content['name']}: {rows}", title_justify="left", box=None, pad_edge=False)
    for column, options in (("part", {"style": "bold", "no_wrap": True}), ("", {"no_wrap": True}),
                            ("s", {"justify": "right"}), ("found", {})):  # fmt: skip
        table.add_column(column, **options)
    for name, part in content["parts"].items():
        found = _headline(name, part) if part["status"] == "finished" else str(part["reason"]).splitlines()[0]
        table.add_row(name, _MARKS[statuses.get(name, "kept")], f"{part['seconds']:.1f}", found)
    return table


_HEADLINES: dict[str, tuple[tuple[str, str], ...]] = {
    "classes": (("imbalance/train", "largest to smallest class {:.2f}"), ("empty/train", "{:.0f} empty")),
    "lengths": (("words/mean", "{:.1f} words"), ("words/p99", "99 % below {:.0f}")),
    "vocabulary": (
        ("vocabulary/size", "{:,.0f} words"), ("vocabulary/hapax_share", "{:.0%} once only"),
        ("heaps/exponent", "Heaps {:.2f}"), ("zipf/exponent", "Zipf {:.2f}"),
    ),
    "overlap": (("oov_tokens/test", "{:.2%} of test words unknown"),),
    "map": (("neighbour_purity_svd", "{:.0%} of neighbours of the same class"),),
    "embeddings": (("isotropy", "isotropy {:.3f}"),),
    "perturbation": (("similarity/swap", "swapped letters leave {:.3f}"),),
    "topics": (
        ("coherence_npmi", "NPMI {:.3f}"), ("coherence_c_v", "c_v {:.3f}"),
        ("class_given_topic", "H(class|topic) {:.2f} bits"),
    ),
    "duplicates": (
        ("near_share/train-train", "{:.2%} of train nearly twice"), ("near/test-train", "{:.0f} test rows in train"),
    ),
    "artefacts": (
        ("probe/accuracy", "alone they tell the class at {:.1%}"), ("probe/majority", "chance {:.1%}"),
    ),
    "label_noise": (("share", "{:.2%} of the labels doubted"),),
}  # fmt: skip


def _headline(name: str, part: Mapping[str, Any]) -> str:
    metrics = part["metrics"]
    found = [form.format(metrics[key]) for key, form in _HEADLINES.get(name, ()) if metrics.get(key) is not None]
    found += [part["details"]["headline"]] if "headline" in part["details"] else []
    left_out = [f"without {what}" for what in part["details"].get("left_out", {})]
    return ", ".join(found + left_out)


def _print_verdicts(console: Any, content: Mapping[str, Any]) -> None:
    found = content["published"]
    if not found:
        return
    words = {"holds": "hold", "does not hold": "do not hold", "not comparable": "are not comparable"}
    counts = [f"{sum(f['verdict'] == v for f in found)} {word}" for v, word in words.items()]
    console.print(f"\nthe study's numbers: {', '.join(counts)}")
    for row in found:
        if row["verdict"] == "does not hold":
            console.print(f"  {row['what']}: published {row['published']}, here {row['ours']}", soft_wrap=True)


def _log(config: EdaConfig, content: Mapping[str, Any]) -> str | None:
    """Log an exploration as a run of its own; a tracker that fails costs a warning."""
    import logging

    try:
        return _log_run(config, content)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        logging.getLogger(__name__).warning("MLflow could not log the exploration: %s. Its folder is complete.", reason)
        return None


def _log_run(config: EdaConfig, content: Mapping[str, Any]) -> str:
    from agnews_exp.analyses.performing import SUMMARY
    from agnews_exp.tracking.store import prepare_store

    plain, tracking = config.checked.plain, config.checked.plain["tracking"]
    uri, experiment_id = prepare_store(Path(plain["paths"]["mlruns_dir"]), tracking["uri"], tracking["experiment"])
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    note = (config.folder / SUMMARY).read_text(encoding="utf-8")
    tags = {str(k): str(v) for k, v in plain["tags"].items()} | {
        "kind": "eda", "purpose": "eda", "data": str(content["data"]["name"]), "run_folder": str(config.folder),
        "mlflow.note.content": note[:60_000],
    }  # fmt: skip
    run_id = str(client.create_run(experiment_id, run_name=f"eda-{content['name']}", tags=tags).info.run_id)
    params = {"data": content["data"]["name"], "source": content["data"]["source"], "eda": content["choice"],
              "data_fraction": content["data"]["data_fraction"], "seed": content["settings"]["seed"]}  # fmt: skip
    values = _metrics(content)
    client.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])
    for start in range(0, len(values), 500):
        client.log_batch(run_id, metrics=[Metric(k, v, 0, 0) for k, v in values[start : start + 500]])
    client.log_artifacts(run_id, str(config.folder))
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _metrics(content: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return all numbers of the finished parts as ``eda/<part>/<name>``, fit for MLflow."""
    import re

    return [
        (re.sub(r"[^\w./ -]", "_", f"eda/{part}/{name}")[:250], float(value))
        for part, found in content["parts"].items()
        for name, value in found["metrics"].items()
        if value is not None
    ]
