"""How many small faults do the tests notice? A random sample of mutants of a package, and the share that is killed.

    python scripts/mutation_score.py                                        # 150 mutants each of evaluation/ and data/
    python scripts/mutation_score.py --packages agnews_exp/data --mutants 300 --seed 1
    python scripts/mutation_score.py --only agnews_exp/evaluation/metrics.py --mutants 1000

A mutant is a module with one change: another comparison (``<`` for ``<=``, ``is`` for ``is not``), another operator,
``and`` for ``or``, a ``not`` or a sign taken away, a number plus one, True for False, ``return None``, a condition
turned round, ``break`` for ``continue``. Texts, f-strings, assertions, decorators and types are left alone. Every
module gives its share of the sample. A mutant meets the fast tests of its package's own folder under tests/ that run
the changed line (found once, with coverage), the quickest first, until one fails; time limits count as noticed.
``no test`` are mutants of lines that those tests never run. The project is copied, never changed.

The score is killed or timed out of all, with a 95 % Wilson interval; mutants that change nothing anyone could notice
are counted as survivors. Expect about 3 seconds of processor a mutant, and a minute or two before the first.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from mutation.mutants import Mutant, mutants_of, sample  # noqa: E402
from mutation.trials import by_module, copy_project, find_tests, try_all  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["agnews_exp/evaluation", "agnews_exp/data"]
NOTICED = ("killed", "timed out")


def draw(package: str, only: list[str], size: int, seed: int) -> tuple[list[Mutant], int]:
    """Return a sample of a package's mutants and how many there are."""
    paths = sorted(str(p.relative_to(ROOT)) for p in (ROOT / package).rglob("*.py"))
    mutants = [m for path in paths if not only or path in only for m in mutants_of(ROOT, path)]
    return sample(mutants, size, random.Random(seed)), len(mutants)  # noqa: S311 - not for secrets


def wilson(killed: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(killed, n).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def show(package: str, results: dict[Mutant, str], total: int, console: Console) -> None:
    """Print survivors, the table by module, and the score."""
    for mutant, outcome in sorted(results.items(), key=lambda item: item[0].told):
        if outcome not in NOTICED:
            console.print(f"{outcome}: {mutant.told}", highlight=False, soft_wrap=True, markup=False)
    table = Table("module", "mutants", "killed", "timed out", "survived", "no test", title=package)
    for module, counts in by_module(results):
        cells = [str(counts.get(name, 0)) for name in ("killed", "timed out", "survived", "no test")]
        table.add_row(module.removeprefix(f"{package}/"), str(sum(counts.values())), *cells)
    console.print(table)
    counts = Counter(results.values())
    killed = sum(counts[name] for name in NOTICED)
    low, high = wilson(killed, len(results))
    said = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
    console.print(
        f"{package}: score {killed / len(results):.1%} (95 %: {low:.1%} to {high:.1%}); {said};"
        f" {len(results)} of {total:,} possible mutants",
        highlight=False,
    )


def main() -> int:
    """Draw, try and report; 1 where the score is below --at-least."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="folders of the package")
    parser.add_argument("--only", nargs="+", default=[], help="modules of those packages to keep to")
    parser.add_argument("--mutants", type=int, default=150, help="of each package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    parser.add_argument("--tests", nargs="+", help="folders of tests; left out, those that mirror the packages")
    parser.add_argument("--work", type=Path, help="folder for the copies of the project; left out, a temporary one")
    parser.add_argument("--json", type=Path, help="write every mutant and what became of it here")
    parser.add_argument("--at-least", type=float, default=0.0, help="share below which the exit code is 1")
    options = parser.parse_args()
    console = Console()
    folders = options.tests or [package.replace("agnews_exp", "tests", 1) for package in options.packages]
    drawn = {package: draw(package, options.only, options.mutants, options.seed) for package in options.packages}
    began = time.monotonic()
    worst = 1.0
    told = []
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        copies = [work / f"copy{n}" for n in range(options.jobs)]
        for copy in copies:
            copy_project(ROOT, copy)
        tests = find_tests(copies[0], options.packages, folders)
        console.print(f"{len(tests.seconds):,} tests, {sum(tests.seconds.values()):.0f} s", highlight=False)
        for package, (mutants, total) in drawn.items():
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task(package, total=len(mutants))
                results = try_all(mutants, tests, copies, lambda p=progress, t=task: p.advance(t))  # type: ignore[misc]
            show(package, results, total, console)
            worst = min(worst, sum(outcome in NOTICED for outcome in results.values()) / len(results))
            told += [
                {"mutant": m.told, "outcome": outcome, "tests": len(tests.of(m))} for m, outcome in results.items()
            ]
    console.print(f"seed {options.seed}, {time.monotonic() - began:.0f} s", highlight=False)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return int(worst < options.at_least)


if __name__ == "__main__":
    sys.exit(main())
