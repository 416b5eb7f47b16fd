"""Time our n-gram features against scikit-learn's, and our fastest linear model against fastText.

    python scripts/bench_features.py --data-dir ~/data/ag_news
    python scripts/bench_features.py --sizes 1000000 --arms ours ours+linear --n-jobs 4

Every arm runs in a process of its own that reads the same rows, so that neither its imports nor its memory nor a warm
cache helps another. More rows than the corpus has are made by repeating it with noise. Without ``--data-dir`` (or
AGNEWS_DATA_DIR) the rows are the shipped sample. fastText needs the extra ``bench``; an arm that cannot run here (not
installed, too little memory) says so and is left out.

``ours`` and ``sklearn`` are ``fit_transform`` of the study's hybrid: word (1,2) and character (3,5) TF-IDF, 50,000
terms each, side by side. ``ours+linear`` trains our linear model on it. ``ngram_linear`` (word (1,2) TF-IDF and our
linear model) and ``fasttext`` (bigrams, 10 dimensions, 5 epochs) are total training times, features included, with
the scores on the official test rows.

Memory of ours: the finished matrix, 12 bytes a stored value (590 a row for the hybrid of AG News), is written in
place; before it, while counting, 48 to 72 bytes for each distinct n-gram and thread, and 4 bytes for each occurrence
as long as there are fewer than 2^28 (beyond, rows are read twice instead). scikit-learn needs about 28 KB a row.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ARM = Path(__file__).with_name("bench_features_arm.py")
ARMS = ("ours", "sklearn", "ours+linear", "ngram_linear", "fasttext")
PAIRS = (("ours", "sklearn"), ("ngram_linear", "fasttext"))
SKLEARN_MB_PER_ROW = 0.028


def reason_to_skip(arm: str, size: int) -> str | None:
    """Return why an arm cannot run here, or None."""
    import psutil

    if arm == "fasttext" and importlib.util.find_spec("fasttext") is None:
        return "skipped: fasttext is not installed (pip install -e '.[bench]')"
    free, needed = psutil.virtual_memory().available / 1e6, 300 + SKLEARN_MB_PER_ROW * size
    if arm == "sklearn" and needed > 0.9 * free:
        return f"skipped: needs about {needed / 1000:.0f} GB of memory, {free / 1000:.0f} GB are free"
    return None


def start_arm(
    arm: str, size: int, arguments: argparse.Namespace, keep: Path | None, env: dict[str, str]
) -> dict[str, Any]:
    """Run one arm in a fresh process."""
    command = [sys.executable, str(ARM), arm, "--size", str(size), "--n-jobs", str(arguments.n_jobs)]
    if arguments.data_dir:
        command += ["--data-dir", arguments.data_dir]
    if keep is not None:
        command += ["--keep", str(keep)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return {"error": reason[0]}
    found: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return found


def compare(keep: Path) -> str:
    """Say whether both arms left the same terms and the same matrix."""
    ours, theirs = (json.loads((keep / f"{arm}-terms.json").read_text()) for arm in ("ours", "sklearn"))
    if ours != theirs:
        other = len(set(ours) - set(theirs))
        said = f"{other:,} of {len(ours):,} terms differ"
        return f"{said}: equally frequent ones at max_features, where scikit-learn's choice is the processor's"
    for name in ("indptr", "indices"):
        pair = [np.load(keep / f"{arm}-{name}.npy", mmap_mode="r") for arm in ("ours", "sklearn")]
        if not np.array_equal(*pair):
            return f"DIFFERENT {name}"
    values = [np.load(keep / f"{arm}-data.npy", mmap_mode="r") for arm in ("ours", "sklearn")]
    worst = max(
        (float(np.abs(a - b).max()) for a, b in zip(*(np.array_split(v, 64) for v in values), strict=True)), default=0.0
    )
    return f"same vocabulary, same places, values differ by {worst:.1e} at most"


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run of median time."""
    return sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]


def report(size: int, arm: str, runs: list[dict[str, Any]]) -> None:
    """Print one line: the median run."""
    failed = [run["error"] for run in runs if "error" in run]
    if failed:
        print(f"{size:>9,}  {arm:<12} {failed[0]}", flush=True)
        return
    middle = median(runs)
    rest = f"  of it features {middle['seconds_features']:.2f} s" if "seconds_features" in middle else ""
    if "stored" in middle:
        rest += f"  {middle['shape'][1]:,} columns, {middle['stored'] / middle['shape'][0]:.0f} values a row"
    if "test_macro_f1" in middle:
        rest += f"  test accuracy {middle['test_accuracy']:.4f} macro-F1 {middle['test_macro_f1']:.4f}"
    print(
        f"{size:>9,}  {arm:<12} {middle['seconds']:9.2f} s {middle['cpu_seconds']:9.2f} s cpu "
        f"{middle['peak_mb']:9.0f} MB peak{rest}",
        flush=True,
    )


def run_size(size: int, arguments: argparse.Namespace, env: dict[str, str]) -> None:
    """Run all arms on so many rows; print a line each, and the ratios."""
    medians: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        skipped = {arm: reason for arm in arguments.arms if (reason := reason_to_skip(arm, size))}
        both = {"ours", "sklearn"} <= set(arguments.arms) - set(skipped)
        for arm in arguments.arms:
            if arm in skipped:
                print(f"{size:>9,}  {arm:<12} {skipped[arm]}", flush=True)
                continue
            keep = Path(folder) if both and arm in ("ours", "sklearn") else None
            runs = [start_arm(arm, size, arguments, keep, env) for _ in range(arguments.repeat)]
            report(size, arm, runs)
            if not any("error" in run for run in runs):
                medians[arm] = median(runs)
        for ours, theirs in PAIRS:
            if ours in medians and theirs in medians:
                a, b = medians[ours], medians[theirs]
                print(
                    f"{'':>9}  {theirs} / {ours}: time {b['seconds'] / a['seconds']:.1f}, "
                    f"processor {b['cpu_seconds'] / a['cpu_seconds']:.1f}, memory {b['peak_mb'] / a['peak_mb']:.2f}"
                )
        if "ours" in medians and "sklearn" in medians:
            print(f"{'':>9}  {compare(Path(folder))}", flush=True)


def main() -> None:
    """Run the arms asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 62_525, 1_000_000])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--data-dir", default=os.environ.get("AGNEWS_DATA_DIR"), help="folder of train.csv, test.csv")
    parser.add_argument("--n-jobs", type=int, default=os.cpu_count() or 1, help="threads of ours and of fastText")
    parser.add_argument("--repeat", type=int, default=1, help="processes per arm; the median is printed")
    parser.add_argument("--cold", action="store_true", help="also time ours without numba's cache of machine code")
    arguments = parser.parse_args()
    env = dict(os.environ)
    for arm in ("ours", "ngram_linear"):
        start_arm(arm, 500, arguments, None, env)  # fills numba's cache of machine code
    print(f"{'rows':>9}  {'arm':<12} {'wall':>11} {'processor':>13} {'memory':>12}")
    if arguments.cold:
        with tempfile.TemporaryDirectory() as empty:
            report(500, "compiling", [start_arm("ours", 500, arguments, None, {**env, "NUMBA_CACHE_DIR": empty})])
    for size in arguments.sizes:
        run_size(size, arguments, env)


if __name__ == "__main__":
    main()
