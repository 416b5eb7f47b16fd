"""The `agnews` command: list, show and validate configurations, open the MLflow UI, mend what tracking missed."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agnews_exp import __version__
from agnews_exp.core.errors import AgnewsError
from agnews_exp.core.process import guarded


def main() -> None:
    """Entry point of the console script."""
    guarded(lambda: run_command(sys.argv[1:]), _explain)


def _explain(error: Exception) -> AgnewsError | None:
    from agnews_exp.config.compose import explain_command

    return explain_command(error)


def run_command(arguments: Sequence[str]) -> None:
    """Parse and run one sub-command.

    Raises:
        AgnewsError: The command cannot do what was asked.
    """
    if arguments and arguments[0] == "run":
        # Hydra owns everything after `run`: argparse must not swallow its options.
        _run(list(arguments[1:]))
        return
    options = build_parser().parse_args(list(arguments))
    options.handler(options)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the `agnews` command with all its sub-commands."""
    parser = argparse.ArgumentParser(
        prog="agnews",
        description="Compose, check, compare and serve text-classification experiments.",
        epilog="Start with: agnews run experiment=quickstart    then: agnews ui",
    )
    parser.add_argument("--version", action="version", version=f"agnews-exp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)

    commands.add_parser("run", help="compose and run, as `python run.py` does", add_help=False)

    listing = commands.add_parser("list", help="the config groups, or the choices of one group")
    listing.add_argument("group", nargs="?", help="such as model or features")
    _add_config_dir(listing)
    listing.set_defaults(handler=_list)

    for name, handler, text in (
        ("show", _show, "print the composed configuration"),
        ("validate", _validate, "check a configuration, its data and its files without running it"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("overrides", nargs="*", help="such as model=logreg model.C=10")
        _add_config_dir(command)
        command.set_defaults(handler=handler)

    ui = commands.add_parser("ui", help="open the MLflow UI on this project's store")
    ui.add_argument("--host", default="127.0.0.1", help="address to bind (default: this machine only)")
    ui.add_argument("--port", type=int, default=5000)
    ui.add_argument("overrides", nargs="*", help="such as paths.mlruns_dir=/scratch/mlruns")
    ui.set_defaults(handler=_ui)

    sync = commands.add_parser("sync", help="log finished runs that MLflow missed")
    sync.add_argument("overrides", nargs="*", help="such as tracking.uri=http://127.0.0.1:5000")
    sync.set_defaults(handler=_sync)

    cache = commands.add_parser("cache", help="size of the feature and token caches, or delete them")
    cache.add_argument("action", choices=("info", "clear"))
    cache.add_argument("overrides", nargs="*", help="such as paths.cache_dir=/scratch/cache")
    cache.set_defaults(handler=_cache)

    from agnews_exp import rivals
    from agnews_exp.analyses import commands as analyses
    from agnews_exp.compare import commands as runs
    from agnews_exp.data import commands as data
    from agnews_exp.report import commands as report
    from agnews_exp.serving import commands as serving
    from agnews_exp.study import session as study
    from agnews_exp.sweeps import commands as sweeps

    data.add_parsers(commands)
    analyses.add_parsers(commands)
    report.add_parsers(commands)
    runs.add_parsers(commands)
    rivals.add_parsers(commands)
    serving.add_parsers(commands)
    sweeps.add_parsers(commands)
    study.add_parsers(commands)
    return parser


def _add_config_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config-dir", "-cd", metavar="FOLDER", help="a configuration folder of your own, as `agnews run` takes it"
    )


def _own_folders(options: argparse.Namespace) -> list[Path]:
    from agnews_exp.config.compose import extra_folders

    folder = getattr(options, "config_dir", None)
    return extra_folders([f"--config-dir={folder}"]) if folder else []


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import to_plain

    return to_plain(compose_config(options.overrides, extra=_own_folders(options)))


def _run(words: list[str]) -> None:
    from agnews_exp.tracking.worker import start_early

    start_early(words)
    import hydra
    from omegaconf import DictConfig

    from agnews_exp.config.compose import register
    from agnews_exp.core.paths import config_folder
    from agnews_exp.sweeps import register_plugins

    register()
    register_plugins()
    sys.argv = ["agnews run", *words]

    @hydra.main(config_path=str(config_folder()), config_name="config")
    def task(cfg: DictConfig) -> float:
        from agnews_exp.experiment import run

        return run(cfg)

    task()


def _list(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from agnews_exp.config.compose import header_of, list_groups
    from agnews_exp.core.errors import unknown_name

    own = _own_folders(options)
    groups = list_groups(extra=own)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    if options.group is None:
        for group, choices in groups.items():
            table.add_row(group, ", ".join(choices))
    elif options.group not in groups:
        raise unknown_name("group", options.group, list(groups))
    else:
        for choice in groups[options.group]:
            table.add_row(choice, header_of(options.group, choice, extra=own))
    Console(highlight=False).print(table)


def _show(options: argparse.Namespace) -> None:
    from agnews_exp.tracking.record import config_text

    print(config_text(_plain(options)), end="")


def _validate(options: argparse.Namespace) -> None:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import check_config
    from agnews_exp.core.paths import run_command
    from agnews_exp.runners.preflight import check_ready, check_rows
    from agnews_exp.runners.protocol import Stages
    from agnews_exp.runners.rows import load_splits, needs_network
    from agnews_exp.tracking.runs import source_runs

    own = _own_folders(options)
    checked = check_config(compose_config(options.overrides, extra=own))
    check_ready(checked)
    source_runs(checked.plain)
    if needs_network(checked):
        print(f"{checked.run.data.name} would be downloaded: its rows were not looked at")
    else:
        check_rows(checked, load_splits(checked, Stages(quiet=True)))
    words = shlex.join([*(f"--config-dir={folder}" for folder in own), *options.overrides])
    print(f"valid: {checked.run.name} on {checked.run.data.name}\nnext   {run_command()} {words}")


def _ui(options: argparse.Namespace) -> None:
    from agnews_exp.tracking.store import open_ui

    plain = _plain(options)
    named = any(word.startswith(("data", "tracking.experiment=")) for word in options.overrides)
    open_ui(plain, options.host, options.port, plain["tracking"]["experiment"] if named else None)


def _sync(options: argparse.Namespace) -> None:
    from agnews_exp.tracking.mlflow_mirror import sync_runs

    done, failed = sync_runs(_plain(options))
    print(f"synced {done} run{'' if done == 1 else 's'}" + (f", {failed} failed" if failed else ""))
    if failed:
        sys.exit(1)


def _cache(options: argparse.Namespace) -> None:
    from agnews_exp.core.cache import cache_clear, cache_info

    root = Path(_plain(options)["paths"]["cache_dir"])
    for folder in sorted(p for p in root.glob("*") if p.is_dir()):
        info = cache_info(folder) if options.action == "info" else cache_clear(folder)
        verb = "holds" if options.action == "info" else "freed"
        print(f"{folder}: {verb} {info.entries} entries, {info.size / 1024**2:,.1f} MB")
    if not any(root.glob("*")):
        print(f"{root}: empty")


if __name__ == "__main__":
    main()
