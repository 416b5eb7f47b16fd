"""How time and memory grow with the number of rows, and what a store of 1,000 runs costs.

    python scripts/scale.py --rows 10000 100000 1000000
    python scripts/scale.py --rows 1000000 --features word_tfidf
    python scripts/scale.py --runs 1000

The corpus is the shipped sample, repeated with noise: words swapped with those of other rows of the class, and
new ones made up, so that the vocabulary goes on growing. Each size is one ordinary run (``data=csv``) whose stages and
peak memory are those in its record. The last lines say how both grow: an exponent of 1 is linear.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import itertools
import json
import math
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
SAMPLE = REPO / "agnews_exp" / "data" / "sample"
TEST_ROWS = 5_000
STAGES = ("load", "features", "fit", "predict", "save", "track")
MB_PER_GB = 1024
TOP_REPEATS = 5


def sample_rows() -> list[tuple[str, list[str]]]:
    """Return (label, words) of the shipped corpus."""
    with gzip.open(SAMPLE / "train.csv.gz", "rb") as file:
        rows = list(csv.reader(io.TextIOWrapper(file, "utf-8")))
    return [(row[0], " ".join(row[1:]).split()) for row in rows if row[0].isdigit()]


def noisy_rows(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield (label, text): a row of the sample with a quarter of its words exchanged and 2 % made up."""
    chance = random.Random(seed)  # noqa: S311
    rows = sample_rows()
    by_label: dict[str, list[list[str]]] = {}
    for label, words in rows:
        by_label.setdefault(label, []).append(words)
    for _ in range(count):
        label, words = rows[int(chance.random() * len(rows))]
        donors = by_label[label]
        noisy = []
        for word in words:
            dice = chance.random()
            if dice < 0.02:
                # Zipf-like: most made-up words come again, some are new for ever.
                noisy.append(f"w{int(1 / max(chance.random(), 1e-7) ** 1.2) % 10_000_019:x}q")
            elif dice < 0.27:
                donor = donors[int(chance.random() * len(donors))]
                noisy.append(donor[int(chance.random() * len(donor))])
            else:
                noisy.append(word)
        yield label, " ".join(noisy)


def write_corpus(folder: Path, rows: int) -> None:
    """Write train.csv of ``rows`` rows and a test.csv, columns label and text."""
    for name, count, seed in (("train", rows, 1), ("test", TEST_ROWS, 2)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("label", "text"))
            writer.writerows(noisy_rows(count, seed))


def measure(rows: int, features: str, model: str, extra: list[str], where: str | None) -> dict[str, float]:
    """Run the real entry point on a corpus of ``rows`` rows; seconds by stage, total seconds, peak GB, macro-F1."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir=where) as root:
        corpus = Path(root, "corpus")
        corpus.mkdir()
        write_corpus(corpus, rows)
        words = [
            "data=csv",
            f"data.train_file={corpus / 'train.csv'}",
            f"data.test_file={corpus / 'test.csv'}",
            "data.text_columns=[text]",
            "data.label_column=label",
            f"features={features}",
            f"model={model}",
            *extra,
        ]
        start = time.perf_counter()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, str(REPO / "run.py"), *words],
            env=os.environ | {"AGNEWS_ROOT": root},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"{rows:,} rows: exit code {done.returncode}\n{done.stderr[-2000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = json.loads(next(Path(root, "outputs", "runs").glob("*/result.json")).read_text())
        log = next(Path(root, "outputs", "runs").glob("*/run.log")).read_text()
        tracked = re.search(r"logging to MLflow: ([\d.]+) s", log)  # after the record was written
        timings = result["timings"] | {"track": float(tracked.group(1)) if tracked else 0.0}
        return {
            **{name: timings.get(name, 0.0) for name in STAGES},
            "total": seconds,
            "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "peak_gb": result["metrics"]["peak_memory_mb"] / MB_PER_GB,
            "test_macro_f1": result["metrics"]["test/macro_f1"],
            "rows": rows,
        }


def grow(options: argparse.Namespace) -> list[dict[str, float]]:
    """Measure each size and print the table and the growth."""
    print(f"features={options.features} model={options.model}, {TEST_ROWS:,} test rows, seconds by stage")
    names = ("rows", *STAGES, "total", "cpu", "peak_gb", "test_macro_f1")
    print("".join(f"{name:>14}" for name in names))
    found = []
    for rows in options.rows:
        found.append(row := measure(rows, options.features, options.model, options.extra, options.where))
        print(f"{rows:>14,}" + "".join(f"{row[name]:>14.2f}" for name in names[1:]), flush=True)
    for small, large in itertools.pairwise(found):
        steps = math.log(large["rows"] / small["rows"])
        time_exponent = math.log(large["cpu"] / small["cpu"]) / steps
        slope = (large["peak_gb"] - small["peak_gb"]) / (large["rows"] - small["rows"]) * 1e6
        print(
            f"{small['rows']:,} to {large['rows']:,} rows: CPU time grows as rows^{time_exponent:.2f}; "
            f"memory by {slope:.2f} GB a million rows"
        )
    return found


def crowd(runs: int) -> dict[str, float]:
    """Fill a store with copies of a finished run, then time ``agnews top`` and one more run."""
    with tempfile.TemporaryDirectory(prefix="crowd-") as root:
        environment = os.environ | {"AGNEWS_ROOT": root}
        light = ["data=sample", "features=word_tfidf", "model=multinomial_nb", "evaluation.latency_repeats=0"]

        def one(seed: int) -> float:
            start = time.perf_counter()
            command = [sys.executable, str(REPO / "run.py"), *light, f"seed={seed}"]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            return time.perf_counter() - start

        one(0)
        alone = statistics.median(one(seed) for seed in range(1, 4))
        jobs = Path(root, "outputs", "runs")
        first = sorted(p for p in jobs.iterdir() if p.is_dir())[0]
        for number in range(runs):
            name = f"20200101-{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}-000000-{number:06x}"
            copy = jobs / name
            shutil.copytree(first, copy, ignore=shutil.ignore_patterns("tracking.json"))
            record = copy / "result.json"
            changed = json.loads(record.read_text())
            changed |= {"fingerprint": f"{number:064x}", "seed": number + 100}
            record.write_text(json.dumps(changed))
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "agnews_exp.cli", "sync"], env=environment, check=True, capture_output=True, cwd=REPO
        )
        synced = time.perf_counter() - start
        times = []
        for _ in range(TOP_REPEATS):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "agnews_exp.cli", "top"],
                env=environment,
                check=True,
                capture_output=True,
                cwd=REPO,
            )
            times.append(time.perf_counter() - start)
        crowded = statistics.median(one(seed) for seed in range(4, 7))
    numbers = {"top": statistics.median(times), "alone": alone, "crowded": crowded, "sync_a_run": synced / runs}
    print(f"{runs:,} runs in one store: agnews top {numbers['top']:.2f} s; a run {alone:.2f} s in an empty store and")
    print(f"{crowded:.2f} s in this one; agnews sync logged {runs:,} runs in {synced:.1f} s")
    return numbers


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[])
    parser.add_argument("--features", default="hybrid_tfidf")
    parser.add_argument("--model", default="ngram_linear")
    parser.add_argument("--runs", type=int, help="fill a store with so many runs")
    parser.add_argument("--where", help="folder for the corpora and runs (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("extra", nargs="*", help="further overrides, such as tracking=none")
    options = parser.parse_args()
    if not options.rows and not options.runs:
        options.rows = [10_000, 100_000]
    numbers: dict[str, object] = {}
    if options.rows:
        numbers["rows"] = grow(options)
    if options.runs:
        numbers["runs"] = crowd(options.runs)
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
