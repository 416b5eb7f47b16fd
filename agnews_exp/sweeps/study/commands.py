"""`agnews study [profile] [overrides]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_PROFILE = "full"
_HELP = """\
overrides: data=..., data_fraction=..., subset, split_seed, trainer..., tracking..., hydra.launcher... reach every run;
           study.leave_out=[searches,ablations] study.jobs=2 study.transformer=tiny study.options.trials=5
           study.name=mine change the study itself (conf/study/<profile>.yaml has them all)

examples:  agnews study fast                       every stage on the shipped sample, in minutes
           agnews study data=ag_news --plan        what the whole study would do, and how long it would take
           agnews study full data_fraction=0.1 study.leave_out=[data_efficiency]
The same command goes on where it was interrupted; what has finished is not repeated."""


def add_parsers(commands: Any) -> None:
    """Add the sub-command.

    Args:
        commands: What ``argparse.ArgumentParser.add_subparsers`` returned.
    """
    study = commands.add_parser(
        "study",
        help="run or resume the whole study, from the data audit to the report",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    study.add_argument("words", nargs="*", help="full (default) or fast, then overrides", metavar="word")
    study.add_argument("--plan", action="store_true", help="print the stages, commands and estimated times, and stop")
    study.set_defaults(handler=_study)


def _study(options: argparse.Namespace) -> None:
    from agnews_exp.config.compose import compose_config
    from agnews_exp.config.validation import check_config
    from agnews_exp.runners.rows import load_splits
    from agnews_exp.runners.stages import Stages
    from agnews_exp.sweeps.study.asking import ask
    from agnews_exp.sweeps.study.machine import Machine
    from agnews_exp.sweeps.study.session import StudySession

    words = list(options.words)
    profile = words.pop(0) if words and "=" not in words[0] else _PROFILE
    asked = ask(profile, words)
    shared = [word for word in asked.words if not word.startswith("hydra")]
    checked = check_config(compose_config([*shared, f"data_fraction={asked.fraction:g}"]))
    rows = len(load_splits(checked, Stages()).train)
    session = StudySession(asked, Path(checked.plain["paths"]["output_dir"]), rows, Machine())
    if options.plan:
        session.show_plan()
    else:
        session.run()
