"""`agnews top`, `diff`, `tail` and `compare`: the commands about several finished runs."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnews_exp.core.paths import run_command

if TYPE_CHECKING:
    from rich.console import Console

    from agnews_exp.analyses.findings import Table
    from agnews_exp.compare.comparison import ComparedRuns, Comparison
    from agnews_exp.evaluation.statistics.comparison import ComparisonResult
    from agnews_exp.evaluation.statistics.resampled import BlockPair


def add_parsers(commands: Any) -> None:
    """Add the sub-commands."""
    _add_run_parsers(commands)
    _add_compare_parser(commands)
    checking = commands.add_parser("check", help="what often goes wrong in data, training and comparisons, by code")
    checking.add_argument(
        "words", nargs="*", help="runs (default: all finished ones), or overrides of data alone: data=csv data.dir=..."
    )
    checking.add_argument("--strict", action="store_true", help="exit with 2 where anything above a tip is found")
    checking.add_argument("--all", action="store_true", help="also what is fine and what does not apply")
    checking.set_defaults(handler=_check)


def _add_run_parsers(commands: Any) -> None:
    top = commands.add_parser("top", help="leaderboard of the finished runs")
    top.add_argument("--metric", default="val/macro_f1", help="what ranks them (default: val/macro_f1)")
    top.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE", help="may be repeated: model=logreg")
    top.add_argument("--limit", type=int, default=20)
    top.add_argument("--test", action="store_true", help="also test scores: whoever chooses by them has no test left")
    top.add_argument("--json", action="store_true", help="for programs")
    top.set_defaults(handler=_top)

    diff = commands.add_parser("diff", help="configuration, metrics and answers of two runs, where they differ")
    diff.add_argument("one", help="run folder or name, or MLflow run id")
    diff.add_argument("other")
    diff.add_argument("--all", action="store_true", help="every metric, also where equal, and package versions")
    diff.set_defaults(handler=_diff)

    tail = commands.add_parser("tail", help="follow the log of a run while it works")
    tail.add_argument("run", nargs="?", help="its folder, name, or SWEEP/JOB, as of any command (default: the newest)")
    tail.add_argument("--lines", type=int, default=20, help="of what is there already")
    tail.set_defaults(handler=_tail)


def _plain() -> dict[str, Any]:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain

    return to_plain(compose_config([]))


def _top(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from agnews_exp.compare.leaderboard import FIELDS, rank_runs
    from agnews_exp.core.numbers import format_interval
    from agnews_exp.core.text import without_middle
    from agnews_exp.tracking.record import finished_runs
    from agnews_exp.tracking.runs import short_name

    output_dir = Path(_plain()["paths"]["output_dir"])
    groups = rank_runs(finished_runs(output_dir), options.metric, options.filter)
    if options.json:
        entries = [e for group in groups for e in group[: options.limit]]
        keys = [*FIELDS, "metrics"]
        print(json.dumps([{"run": str(e.folder.path)} | {k: e.result.get(k) for k in keys} for e in entries], indent=1))
        return
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 400
    if not groups:
        asked = f" that answers {' '.join(options.filter)}" if options.filter else ""
        console.print(
            f"There is no finished run{asked} in {output_dir} yet.\nfirst  {run_command()} experiment=quickstart"
        )
        return
    more = [name for name in ("val/macro_f1", *(["test/macro_f1"] if options.test else [])) if name != options.metric]
    for group in groups:
        data = group[0].result["data"]
        rows = ", ".join(f"{name} {n:,}" for name, n in data["rows"].items() if name != "train")
        shown = group[: options.limit]
        facts = {
            "fraction": [f"{entry.result['data_fraction']:g}" for entry in shown],
            "seed": [str(entry.result["seed"]) for entry in shown],
        }
        same = "".join(f", {name} {values[0]}" for name, values in facts.items() if len(set(values)) == 1)
        facts = {name: values for name, values in facts.items() if len(set(values)) > 1}
        title = f"{data['name']}, rows: {rows}{same}, by {options.metric}"
        table = Table(title=title, box=None, pad_edge=False, title_justify="left", title_style="bold")
        table.add_column("#", justify="right")
        table.add_column("run", no_wrap=True)
        table.add_column(f"{options.metric} [95 %]", justify="right", no_wrap=True)
        for name in more:
            table.add_column(name, justify="right", no_wrap=True)
        for name in facts:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("id", no_wrap=True)
        lines = []
        for rank, entry in enumerate(shown, start=1):
            low, high = entry.interval(options.metric) or (None, None)
            value = _number(entry.value) if low is None else format_interval(entry.value, low, high, "metric")
            values = [value, *(_number(entry.result["metrics"].get(name)) for name in more)]
            values += [several[rank - 1] for several in facts.values()]
            name = f"{entry.result['name']}{' *' if entry.fits_on_validation else ''}"
            lines.append([str(rank), name, *values, short_name(entry.folder, output_dir)])
        taken = [[column.header, *cells] for column, cells in zip(table.columns, zip(*lines, strict=True), strict=True)]
        room = console.width - sum(max(map(len, map(str, cells))) + 2 for cells in (taken[0], *taken[2:])) - 1
        for number, name, *cells in lines:
            table.add_row(number, without_middle(name, max(12, room)), *cells)
        console.print(table)
        if any(entry.fits_on_validation for entry in shown):
            console.print("* fitted on validation rows, which flatters its validation score", style="dim")
        if len(group) > options.limit:
            console.print(f"... and {len(group) - options.limit:,} more (--limit)", style="dim")
        console.print()
    if options.test:
        n = sum("test/macro_f1" in entry.result["metrics"] for group in groups for entry in group)
        console.print(f"[yellow]note   {n} test scores: whoever chooses by them has no test left[/yellow]")
    best = groups[0]
    if len(best) > 1:
        words = " ".join(short_name(entry.folder, output_dir) for entry in best[:2])
        console.print(f"next   agnews compare {words}", soft_wrap=True)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.0f}"


def _diff(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from agnews_exp.compare.difference import difference
    from agnews_exp.core.errors import ConfigError
    from agnews_exp.evaluation.metrics import headline
    from agnews_exp.evaluation.tasks import task_of_record
    from agnews_exp.tracking.runs import find_runs, short_name

    plain = _plain()
    runs = find_runs(plain, [options.one, options.other])
    if len(runs) != 2:
        raise ConfigError(f"'{options.one}' and '{options.other}' are {len(runs)} run(s); a difference needs two.")
    found = difference(*runs)
    console = Console(highlight=False)
    names = [short_name(run, Path(plain["paths"]["output_dir"])) for run in runs]

    def table(title: str, content: Any, form: Callable[[Any], str] = str) -> None:
        view = Table(title=title, box=None, pad_edge=False, title_justify="left", title_style="bold")
        for column in ("", *names):
            view.add_column(column, overflow="fold", justify="left" if not column else "right")
        for key, (one, other) in content.items():
            view.add_row(key, form(one), form(other))
        console.print(view, "")

    if found.config:
        table("configuration", found.config)
    else:
        console.print("The configurations are equal.\n")
    if options.all and found.packages:
        table("packages", found.packages)
    results = [run.result() or {} for run in runs]
    named = [name for one in results for name in headline(one.get("own_metrics", ()), task_of_record(one))]
    usual = [f"{split}/{name}" for split in ("cv", "val", "test") for name in dict.fromkeys(named)]
    kept = found.metrics if options.all else [m for m in dict.fromkeys(usual) if m in found.metrics]
    metrics = {m: found.metrics[m] for m in kept if options.all or len(set(found.metrics[m])) > 1}
    if metrics:
        table("metrics", metrics, _number)
    if found.answers is None:
        console.print("The runs were judged on different rows: their numbers and answers do not compare.")
        return
    for split, counts in found.answers.items():
        console.print(f"[bold]{split} answers[/bold]  " + ", ".join(f"{k} {n:,}" for k, n in counts.items()))
    console.print(f"\nnext   agnews compare {' '.join(names)}", soft_wrap=True)


def _tail(options: argparse.Namespace) -> None:
    from agnews_exp.tracking.runs import find_any

    run = find_any(_plain(), options.run)
    print(f"{run.path}  ({run.status})", flush=True)
    _follow(run, options.lines)


_PREFIX = re.compile(r"^\[[\d-]+ ([\d:]+),\d+\]\[[\w.]+\]\[[A-Z]+\] - ", re.MULTILINE)
"""What a line of run.log begins with; a terminal gets its time alone."""


def _follow(run: Any, lines: int) -> None:
    """Print the log's last lines and then every new one, until the run has ended."""
    log = run.path / "run.log"
    position = 0
    first = True
    while True:
        running = run.status == "running"  # asked before the log is read, so that its last lines are not missed
        if log.is_file():
            with log.open("rb") as file:
                file.seek(position)
                text = file.read().decode("utf-8", "replace")
                position = file.tell()
            if first:
                text = "".join(text.splitlines(keepends=True)[-lines:])
                first = False
            print(_PREFIX.sub(r"\1 ", text), end="", flush=True)
        if not running:
            print(f"ended  {run.status}")
            return
        time.sleep(0.5)


def _add_compare_parser(commands: Any) -> None:
    compare = commands.add_parser(
        "compare", help="paired statistics of two or more finished runs, over items, folds and seeds"
    )
    compare.add_argument("runs", nargs="+", help="run folders or names, MLflow run ids, or MLflow filter strings")
    compare.add_argument(
        "--split", choices=("test", "val", "cv"), default="test", help="cv: out-of-fold answers, and tests over folds"
    )
    compare.add_argument(
        "--metric",
        action="append",
        help="may be repeated; the verdict is about the first (default: the runs' primary metric)",
    )
    compare.add_argument("--against", help="compare all with this run only (its name)")
    compare.add_argument(
        "--margin", type=float, default=0.005, help="a smaller difference counts as none (default: .005)"
    )
    compare.add_argument(
        "--price-per-hour", type=float, help="of your machine: the cost of 1,000 texts at the speed of each run"
    )
    compare.add_argument("--resamples", type=int, default=10_000)
    compare.add_argument("--seed", type=int, default=0)
    compare.add_argument("--mlflow", action="store_true", help="log the comparison as an MLflow run")
    compare.add_argument("--output", type=Path, help="folder (default: outputs/comparisons/<name>)")
    compare.set_defaults(handler=_compare)


def _check(options: argparse.Namespace) -> None:
    from rich.console import Console

    from agnews_exp.analyses.performing import FinishedRun
    from agnews_exp.compare.checks import CheckedData, CheckedRun, Result, check_runs, perform_checks, results_table
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import check_config
    from agnews_exp.core.errors import AgnewsError, ConfigError, DataError, first_line
    from agnews_exp.runners.protocol import Stages
    from agnews_exp.runners.rows import load_splits
    from agnews_exp.tracking.record import finished_runs
    from agnews_exp.tracking.runs import find_runs

    console = Console(highlight=False)
    overrides = [word for word in options.words if _OVERRIDE.fullmatch(word)]
    words = [word for word in options.words if word not in (*overrides, "data")]
    results: list[Result] = []
    with console.status("checking"):
        if len(words) < len(options.words):  # data were named
            checked = check_config(compose_config(overrides))
            data = CheckedData.of(load_splits(checked, Stages()), checked.plain)
            results += perform_checks("D", data, checked.run.data.name)
        if words or not options.words:
            plain = _plain()
            folders = find_runs(plain, words) if words else finished_runs(Path(plain["paths"]["output_dir"]))
            runs = [CheckedRun(folder.path) for folder in folders]
            results += check_runs(runs)
            for run in {run.rows: run for run in runs}.values():
                name = str(run.result["data"]["name"])
                try:
                    finished = FinishedRun(run.record)
                    data = CheckedData.of(finished.splits, finished.checked.plain)
                    results += perform_checks("D", data, name)
                except AgnewsError as error:
                    console.print(
                        f"[yellow]note   the data of {run.name} are not checked: {first_line(error)}[/yellow]"
                    )
    if not results:
        raise ConfigError("There is nothing to check.", fix=f"{run_command()} experiment=quickstart")
    _print_checks(console, results_table(results, everything=options.all))
    grave = [result for result in results if result.fired and result.check.severity != "tip"]
    if options.strict and grave:
        codes = ", ".join(dict.fromkeys(result.check.code for result in grave))
        raise DataError(f"--strict: checks above a tip found something: {codes}.", fix="see the fixes above")


def _print_checks(console: Console, table: Table) -> None:
    """Print findings one below the other, each with its fix, so that they read well in 80 columns."""
    from rich.table import Table as View
    from rich.text import Text

    view = View.grid(padding=(0, 2))
    for _ in range(3):
        view.add_column()
    for code, severity, what, where, fix in (map(str, row) for row in table.rows):
        style = {"error": "bold red", "warning": "yellow"}.get(severity, "")
        state, _, reason = severity.partition(": ")
        said = Text.assemble((where, "bold"), f": {what}", f" ({reason})" if reason else "")
        if fix:
            said.append(f"\nfix: {fix}", "green")
        view.add_row(code, Text(state, style), said)
    if table.rows:
        console.print(view)
    console.print(f"\n{table.note}" if table.rows else table.note)


_OVERRIDE = re.compile(r"(?!(params|metrics|tags|attributes)\.)[+~]*[\w./@]+=(?! ).*", re.DOTALL)
"""A word that overrides the configuration, and is no filter of MLflow."""


def _compare(options: argparse.Namespace) -> None:
    from rich.console import Console

    from agnews_exp.analyses.findings import to_terminal
    from agnews_exp.compare.comparison import compare_runs, load_comparable, with_costs
    from agnews_exp.compare.findings import write_comparison
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain
    from agnews_exp.core.errors import ConfigError, unknown_name
    from agnews_exp.tracking.runs import find_runs

    if options.resamples < 100:
        raise ConfigError(f"--resamples {options.resamples} is too few for an interval.", fix="--resamples 10000")
    if options.margin <= 0:
        raise ConfigError(f"--margin {options.margin}: it must be above 0.", fix="--margin 0.005")
    plain = to_plain(compose_config([]))
    compared = load_comparable(find_runs(plain, options.runs), options.split)
    if options.against is not None and options.against not in compared.predictions:
        raise unknown_name("run for --against", options.against, list(compared.predictions))
    if options.price_per_hour is not None:
        compared = with_costs(compared, options.price_per_hour)
    console = Console(highlight=False)
    with console.status("comparing"):
        found = compare_runs(
            compared,
            metrics=options.metric or (),
            margin=options.margin,
            resamples=options.resamples,
            seed=options.seed,
            against=options.against,
        )
        words = [options.split, *map(str, compared.folders.values())]
        identity = hashlib.sha256("\n".join(words).encode()).hexdigest()[:10]
        folder = options.output or Path(plain["paths"]["output_dir"]) / "comparisons" / identity
        findings = write_comparison(folder, found, compared)
    console.print(to_terminal(findings.blocks))
    names = ", ".join(sorted(path.name for path in folder.glob("*.*")))
    console.print(f"\nwritten to {folder} ({names})", soft_wrap=True)
    if options.mlflow:
        console.print(f"logged as MLflow run {_log(plain, folder, found, compared)}")
    else:
        console.print("next   the same with --mlflow logs it; agnews ui opens it", soft_wrap=True)


def _log(plain: dict[str, Any], folder: Path, found: Comparison, compared: ComparedRuns) -> str:
    """Log a comparison's files, and its figures as metrics, as a run of its own."""
    from agnews_exp.tracking.mlflow_mirror import Store
    from agnews_exp.tracking.record import RunFolder

    tags = {"kind": "comparison", "mlflow.note.content": (folder / "comparison.md").read_text(encoding="utf-8")}
    params = {"split": compared.split, "n_items": str(len(compared.labels))}
    params |= {f"run_{number}": path.name for number, path in enumerate(compared.folders.values())}
    experiment = RunFolder(next(iter(compared.folders.values()))).config()["tracking"]["experiment"]
    return Store(plain).log_folder(
        "comparison", folder, tags=tags, params=params, metrics=_metrics(found), experiment=experiment
    )


def _metrics(found: Comparison) -> dict[str, float]:
    """Return a comparison's finite figures, named ``<figure>/<pair>``; a pair alone has no name."""
    from agnews_exp.evaluation.metrics import column_key

    def title(pair: ComparisonResult | BlockPair) -> str:
        return f"{pair.name_a} - {pair.name_b}"

    pairs: list[ComparisonResult | BlockPair] = [
        *found.pairs,
        *(pair for block in found.blocks for pair in block.pairs),
    ]
    titles = list(dict.fromkeys(map(title, pairs)))

    def tail(pair: ComparisonResult | BlockPair) -> str:
        return f"/{column_key(title(pair), titles)}" if len(found.pairs) > 1 else ""

    values: dict[str, float] = {}
    for pair in found.pairs:
        for metric, compared in pair.metrics.items():
            values[f"difference/{metric}{tail(pair)}"] = compared.bootstrap.difference.estimate
            values[f"p_randomisation/{metric}{tail(pair)}"] = compared.randomisation.p_value
        values |= {f"p_mcnemar{tail(pair)}": pair.mcnemar["mid_p"].p_value, f"p_holm{tail(pair)}": pair.p_holm}
        values[f"p_equivalent{tail(pair)}"] = pair.p_equivalent
    for block in found.blocks:
        for pair_over in block.pairs:
            end = f"{block.kind}/{block.metric}{tail(pair_over)}"
            values |= {f"difference_{end}": pair_over.test.difference, f"p_{end}": pair_over.test.p_value}
            values[f"p_holm_{end}"] = pair_over.p_holm
        if block.friedman is not None:
            values[f"p_friedman_{block.kind}/{block.metric}"] = block.friedman.p_value
    return {name: value for name, value in values.items() if math.isfinite(value)}
