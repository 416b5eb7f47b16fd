"""The table at the end of a run, and the command for the next step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.core.paths import shown_path
from agnews_exp.evaluation.metrics import headline
from agnews_exp.evaluation.slices import SliceScore, worst_slice
from agnews_exp.evaluation.tasks import task_of_record
from agnews_exp.tracking.mlflow_mirror import unique_name


def print_summary(result: Mapping[str, Any], folder: Path, *, skipped: bool, warning: str | None) -> None:
    """Print a finished run's metrics, where it lies, and what to do next."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    metrics, data, timings = result["metrics"], result["data"], result["timings"]
    if skipped:
        console.print(
            f"\n[bold]Already finished[/bold] (fingerprint {result['fingerprint']}): this is the stored result; "
            "repeat it with force=true."
        )
    if notes := result.get("notes"):
        console.print(f"\n[bold yellow]{'warning' if len(notes) == 1 else f'{len(notes)} warnings'}[/bold yellow]")
        for note in notes:
            console.print(f"- {note}", style="yellow", markup=False)
    rows = data["rows"]
    table = Table(
        title=unique_name(folder, str(result["name"])), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold"
    )
    table.add_column("metric")
    n_folds = len(next(iter(result["folds"].values()), []))
    if n_folds:
        table.add_column(f"cv, {n_folds} folds", justify="right")
    for split, n in rows.items():
        table.add_column(f"{split} ({n:,})", justify="right")
    for name in headline(result.get("own_metrics", ()), task_of_record(result)):
        if f"val/{name}" in metrics:
            over_folds = (
                f"{metrics[f'cv/{name}']:.4f} ±{metrics[f'cv/{name}_std']:.4f}" if f"cv/{name}" in metrics else ""
            )
            values = [f"{metrics[f'{split}/{name}']:.4f}" if f"{split}/{name}" in metrics else "-" for split in rows]
            table.add_row(name, *([over_folds] if n_folds else []), *values)
    console.print()
    console.print(table)
    speed = f"{metrics['throughput_batch']:,.0f} texts/s" if "throughput_batch" in metrics else "not measured"
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in timings.items() if value >= 0.05)
    console.print(f"data   {data['name']} ({data['location']})")
    size = f"; model {metrics['model_size_mb']:.1f} MB" if "model_size_mb" in metrics else ""
    console.print(f"cost   {seconds}\n       prediction {speed}{size}")
    if "thresholds" in result:
        console.print(f"sets   {_thresholds(result['thresholds'])}")
    if "tokens_input" in metrics:
        console.print(f"asked  {_asked(metrics, rows)}")
    if "slices" in result:
        console.print(f"slices {_slices(result['slices'])}")
    if "clusters" in result:
        console.print(f"groups {_clusters(result['clusters'])}")
    if "decision" in result:
        console.print(f"errors {_costs(result['decision'])}")
    if "distil/val_agreement" in metrics:
        console.print(f"taught {_teacher(metrics)}")
    console.print(f"run    {shown_path(folder)}")
    if "test" not in rows:
        console.print("test   not scored (evaluation.score_test=false, as in the trials of a search)")
    if warning:
        console.print(f"[yellow]note   {warning}; log it later: agnews sync[/yellow]")
    console.print("next   agnews top      all runs, best first; agnews ui shows them in MLflow\n")


def _thresholds(chosen: Mapping[str, Any]) -> str:
    split = "test" if "test" in chosen["splits"] else "val"
    found = chosen["splits"][split]
    change = f"{found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
    return (
        f"{split} macro-F1 {found['chosen']:.4f} by thresholds chosen on validation rows ({chosen['rule']}), "
        f"{found['half']:.4f} at .5: {change}"
    )


def _costs(decision: Mapping[str, Any]) -> str:
    split = "test" if "test" in decision["splits"] else "val"
    found = decision["splits"][split]
    default, chosen = (
        f"{v['estimate']:.4f} [{v['low']:.4f}, {v['high']:.4f}]" for v in (found["default"], found["chosen"])
    )
    if decision["rule"] == "argmax":
        return f"cost {default} a {split} row; no other rule costs less on validation rows"
    at = f" {decision['threshold']:.4f}" if decision["threshold"] is not None else ""
    return f"cost {default} a {split} row, {chosen} by the rule that validation rows choose ({decision['rule']}{at})"


def _asked(metrics: Mapping[str, float], rows: Mapping[str, int]) -> str:
    tokens = f"{metrics['tokens_input']:,.0f} tokens in, {metrics['tokens_output']:,.0f} out"
    money = "price unknown"
    if "cost_answers" in metrics:
        money = f"cost {metrics['cost_answers']:.4g}, {metrics['cost_per_1000']:.4g} for 1,000 texts"
    latency = f"{metrics['latency_p50_ms']:,.0f} ms a text (p95 {metrics['latency_p95_ms']:,.0f})"
    wrong = ", ".join(
        f"{metrics[f'{k}/unparsed'] * n:,.0f} of {n:,} {k}" for k, n in rows.items() if f"{k}/unparsed" in metrics
    )
    return f"{tokens}; {money}; {latency}\n       answers that are no class: {wrong} (they count as wrong)"


def _clusters(clusters: Mapping[str, Any]) -> str:
    split = "test" if "test" in clusters else "val"
    found = clusters[split]
    shared = f"; {found['shared']:.1%} of the rows have theirs in training too" if found["shared"] else ""
    if "macro_f1" not in found:
        return f"all {split} rows are of one{shared}"
    f1 = found["macro_f1"]
    return (
        f"{split} macro-F1 {f1['estimate']:.4f} [{f1['low']:.4f}, {f1['high']:.4f}] over {found['clusters']:,} of "
        f"them{shared}"
    )


def _slices(slices: Mapping[str, Any]) -> str:
    split = "test" if "test" in slices else "val"
    scores = [SliceScore(**one) for one in slices[split]]
    if not scores:
        return "none: no column has two values with enough rows"
    worst = worst_slice(scores)
    if worst is None:
        return f"none of {len(scores)} is surely below the other {split} rows (p adjusted); lowest: {_slice(scores[0])}"
    return f"worst of {len(scores)} on {split}: {_slice(worst)}, {worst.difference:+.4f} to the other rows"


def _slice(one: SliceScore) -> str:
    interval = f"[{one.accuracy_low:.4f}, {one.accuracy_high:.4f}]"
    return f"{one.column}={one.value} ({one.rows:,} rows), accuracy {one.accuracy:.4f} {interval}"


def _teacher(metrics: Mapping[str, float]) -> str:
    found = {split: metrics.get(f"distil/teacher_{split}_macro_f1") for split in ("val", "test")}
    scores = ", ".join(f"{split} {value:.4f}" for split, value in found.items() if value is not None)
    return f"by a teacher of macro-F1 {scores}; they agree on {metrics['distil/val_agreement']:.1%} of the val rows"
