"""Disturb real commands in every way that machines know, and count what comes of it.

    python scripts/faults.py                                  # everything, each five times
    python scripts/faults.py --only kill-run kill-sweep kill-search kill-study --kills 50
    python scripts/faults.py --list

Each fault runs the lightest command that meets it on the shipped sample, in a project of its own, and compares what is
left with an undisturbed run: fingerprint, scores and the bytes of the predictions. A fault ends with the right result,
or with a clear error and nothing lost. Wrong numbers, hangs, bare tracebacks and lost work make the exit code 1.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from fault_kinds.lab import FAULTS, Lab  # noqa: E402
from fault_kinds.verdicts import Outcome, Verdict  # noqa: E402

for kind in ("kills", "memory", "storage", "surroundings"):  # they register their faults
    importlib.import_module(f"fault_kinds.{kind}")


def try_fault(name: str, lab: Lab) -> tuple[list[Verdict], float]:
    """Try one fault; return its verdicts and the seconds it took."""
    began = time.monotonic()
    try:
        verdicts = FAULTS[name](lab)
    except Exception:
        verdicts = [Verdict(Outcome.TRACEBACK, f"the campaign itself: {traceback.format_exc()}")]
    return verdicts, time.monotonic() - began


def campaign(names: list[str], lab: Lab, jobs: int, console: Console) -> dict[str, tuple[list[Verdict], float]]:
    """Try faults, some at once, and report each one as it ends."""
    found: dict[str, tuple[list[Verdict], float]] = {}
    with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task("faults", total=len(names))
        futures = {pool.submit(try_fault, name, lab): name for name in names}
        for future in as_completed(futures):
            name = futures[future]
            found[name] = future.result()
            progress.advance(task)
            verdicts, seconds = found[name]
            counts = Counter(verdict.outcome.value for verdict in verdicts)
            said = ", ".join(f"{n} {word}" for word, n in counts.items())
            progress.console.print(f"{name}: {said} ({seconds:.0f} s)", highlight=False)
            for verdict in verdicts:
                if verdict.outcome.bad or verdict.outcome is Outcome.SKIPPED:
                    progress.console.print(f"  {verdict.outcome.value}: {verdict.note}", highlight=False, markup=False)
    return {name: found[name] for name in names}


def show(found: dict[str, tuple[list[Verdict], float]], console: Console) -> None:
    """Print the table of counts."""
    table = Table(title="faults")
    table.add_column("fault")
    for outcome in Outcome:
        table.add_column(outcome.value, justify="right")
    table.add_column("seconds", justify="right")
    total: Counter[Outcome] = Counter()
    for name, (verdicts, seconds) in found.items():
        counts = Counter(verdict.outcome for verdict in verdicts)
        total += counts
        table.add_row(name, *(str(counts[o] or "") for o in Outcome), f"{seconds:.0f}")
    table.add_section()
    table.add_row("all", *(str(total[outcome]) for outcome in Outcome), "")
    console.print(table)


def main() -> int:
    """Run the campaign; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), metavar="NAME", help="these faults (see --list)")
    parser.add_argument("--times", type=int, default=5, help="how often each one is tried (default 5)")
    parser.add_argument(
        "--kills", type=int, default=0, help="kills of a run, a sweep, a search, a study (default: times)"
    )
    parser.add_argument("--seed", type=int, default=0, help="makes the random choices (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="faults at once (default 2)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds until a command counts as hanging")
    parser.add_argument("--keep", type=Path, help="folder for the projects, kept afterwards")
    parser.add_argument("--list", action="store_true", help="name the faults and stop")
    parser.add_argument("--notes", action="store_true", help="print what each try came to")
    options = parser.parse_args()
    console = Console(width=150 if not sys.stdout.isatty() else None)
    if options.list:
        for name, function in FAULTS.items():
            console.print(f"{name:26}{(function.__doc__ or '').strip()}", highlight=False)
        return 0
    root = options.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    root.mkdir(parents=True, exist_ok=True)
    try:
        lab = Lab(root.resolve(), times=options.times, kills=options.kills, seed=options.seed, timeout=options.timeout)
        found = campaign(options.only or list(FAULTS), lab, options.jobs, console)
    finally:
        if options.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    if options.notes:
        for name, (verdicts, _) in found.items():
            for verdict in verdicts:
                console.print(f"{name}: {verdict.outcome.value}: {verdict.note}", highlight=False, markup=False)
    show(found, console)
    bad = sum(verdict.outcome.bad for verdicts, _ in found.values() for verdict in verdicts)
    console.print(f"{bad} bad ends" if bad else "no wrong number, no hang, no bare traceback, nothing lost")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
