"""Runs several configurations one after the other in one process and leaves their records: a child of the tests here.

python tests/portable/ten_runs.py FOLDER THREADS NAME=OVERRIDES...     (OVERRIDES are separated by blanks)
"""

from __future__ import annotations

import locale
import sys
from contextlib import suppress
from pathlib import Path

from agnews_exp.config.compose import compose_config, register
from agnews_exp.experiment import execute


def main() -> None:
    """Run all; a record is FOLDER/NAME."""
    with suppress(locale.Error):  # as a library that shows windows may do
        locale.setlocale(locale.LC_ALL, "")
    folder, threads = Path(sys.argv[1]), sys.argv[2]
    register()
    for entry in sys.argv[3:]:
        name, _, overrides = entry.partition("=")
        common = ["tracking=none", "evaluation.latency_repeats=0", f"trainer.n_jobs={threads}", "force=true"]
        common.append(f"paths.output_dir={folder}")
        execute(compose_config([*common, *overrides.split()]), folder / name)


if __name__ == "__main__":
    main()
