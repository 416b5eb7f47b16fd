"""Check the statistics library by simulation: do 95 % intervals cover 95 %, do 5 % tests reject 5 % under the null?

Data sets are drawn from populations whose true values are known. For each method the table gives the share of data
sets in which the interval held the true value, or in which the test rejected a true null hypothesis, with the
simulation's own standard error. "allowed" is the range that the method must keep to; methods that are known to be
conservative have a wider one, and rows without a range are there for comparison.

    python scripts/check_statistics.py            # half an hour and more: 1,000 to 20,000 data sets a row
    python scripts/check_statistics.py --scale 0.2

Exit code 1 when a row is out of its range; with a scale below 1, out by more than three standard errors.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from statistics_checks.many_scores import (  # noqa: E402
    check_folds,
    check_learning_curves,
    check_multiplicity,
    check_ranks,
    check_seeds,
)
from statistics_checks.one_test_set import (  # noqa: E402
    check_bootstrap,
    check_clusters,
    check_effect_sizes,
    check_families,
    check_few_errors,
    check_mcnemar,
    check_randomisation,
    check_slices,
    check_verdicts,
)
from statistics_checks.probabilities import check_calibration, check_conformal, check_ece  # noqa: E402
from statistics_checks.rows import Row  # noqa: E402

CHECKS: tuple[Callable[[float], Iterator[Row]], ...] = (
    check_bootstrap,
    check_effect_sizes,
    check_mcnemar,
    check_randomisation,
    check_verdicts,
    check_families,
    check_few_errors,
    check_folds,
    check_seeds,
    check_ranks,
    check_multiplicity,
    check_calibration,
    check_ece,
    check_conformal,
    check_clusters,
    check_slices,
    check_learning_curves,
)


def main() -> int:
    """Run all checks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of data sets of every row")
    parser.add_argument("--only", nargs="+", default=[], help="names of checks, such as mcnemar ranks")
    arguments = parser.parse_args()
    print("| method | rate | s.e. | data sets | allowed | |")
    print("|---|---:|---:|---:|---|---|")
    kept = True
    started = time.perf_counter()
    for check in CHECKS:
        if arguments.only and check.__name__.removeprefix("check_") not in arguments.only:
            continue
        for row in check(arguments.scale):
            allowed = f"{row.allowed[0]:.3f} to {row.allowed[1]:.3f}" if row.allowed else ""
            inside = row.kept(slack=0.0 if arguments.scale >= 1 else 3.0)
            mark = row.note if inside else f"OUT OF RANGE {row.note}"
            print(f"| {row.what} | {row.rate:.4f} | {row.error:.4f} | {row.sets} | {allowed} | {mark} |", flush=True)
            kept = kept and inside
    print(f"\n{time.perf_counter() - started:.0f} s; {'all within range' if kept else 'SOME OUT OF RANGE'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
