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
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ARMS = ("ours", "sklearn", "ours+linear", "ngram_linear", "fasttext")
PAIRS = (("ours", "sklearn"), ("ngram_linear", "fasttext"))
SKLEARN_MB_PER_ROW = 0.028
HYBRID = {
    "word": {"analyzer": "word", "ngram_range": (1, 2)},
    "char": {"analyzer": "char", "ngram_range": (3, 5)},
}
COMMON = {"max_features": 50_000, "min_df": 3, "max_df": 0.95, "sublinear_tf": True}


def load_rows(data_dir: str | None, size: int) -> tuple[list[str], list[int], list[str], list[int]]:
    """Return (texts, labels) to train on and to test on; ``size`` training rows, repeated with noise if need be."""
    from agnews_exp.data.ag_news import load_official_csv
    from agnews_exp.data.bundled import load_sample

    corpus = load_official_csv(Path(data_dir)) if data_dir else load_sample()
    assert corpus.test is not None
    rng = np.random.default_rng(0)
    order = rng.permutation(len(corpus.train))[:size].tolist()
    texts = [corpus.train.texts[i] for i in order]
    labels = corpus.train.labels[order].tolist()
    letters = list("abcdefghijklmnopqrstuvwxyz")
    for i in range(len(texts), size):
        words = texts[i % len(order)].split(" ")
        # One word of twelve is replaced by one from elsewhere, and one letter per row is changed: new n-grams keep
        # coming at about the rate of real text.
        for place in rng.integers(0, len(words), max(1, len(words) // 12)).tolist():
            other = texts[int(rng.integers(len(order)))].split(" ")
            words[place] = other[int(rng.integers(len(other)))]
        place = int(rng.integers(len(words)))
        words[place] = words[place][:2] + letters[int(rng.integers(26))] + words[place][3:]
        texts.append(" ".join(words))
        labels.append(labels[i % len(order)])
    return texts, labels, corpus.test.texts, corpus.test.labels.tolist()


def peak_mb() -> float:
    """Return the most memory that this process has held, in MB."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def cpu_seconds() -> float:
    """Return the processor time of all threads so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def hybrid(arm: str, n_jobs: int) -> Any:
    """Return the two vectorisers side by side."""
    if arm == "sklearn":
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import FeatureUnion

        return FeatureUnion([(name, TfidfVectorizer(**kind, **COMMON)) for name, kind in HYBRID.items()])
    from agnews_exp.features import fast

    return fast.FeatureUnion(
        [(name, fast.TfidfVectorizer(**kind, **COMMON, n_jobs=n_jobs)) for name, kind in HYBRID.items()]
    )


def run_features(arm: str, texts: list[str], n_jobs: int, keep: Path | None) -> dict[str, Any]:
    """Time ``fit_transform``; leave matrix and terms in ``keep`` for comparison."""
    union = hybrid(arm, n_jobs)
    before, start, cpu = peak_mb(), time.perf_counter(), cpu_seconds()
    matrix = union.fit_transform(texts)
    found = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": cpu_seconds() - cpu,
        "peak_mb": peak_mb(),
        "peak_added_mb": peak_mb() - before,
        "shape": list(matrix.shape),
        "stored": int(matrix.nnz),
    }
    if keep is not None:
        matrix.has_sorted_indices = False
        matrix.sort_indices()
        for name in ("data", "indices", "indptr"):
            np.save(keep / f"{arm}-{name}.npy", getattr(matrix, name))
        (keep / f"{arm}-terms.json").write_text(json.dumps(union.get_feature_names_out().tolist()))
    return found


def scores(truth: list[int], guess: list[int]) -> dict[str, float]:
    """Return accuracy and the unweighted mean of the classes' F1 on the test rows."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "test_accuracy": float(accuracy_score(truth, guess)),
        "test_macro_f1": float(f1_score(truth, guess, average="macro")),
    }


def run_linear(arm: str, rows: tuple[list[str], list[int], list[str], list[int]], n_jobs: int) -> dict[str, Any]:
    """Time features and a linear model trained on them."""
    from agnews_exp.features.fast import TfidfVectorizer
    from agnews_exp.models.ngram_linear import NgramLinear

    texts, labels, test_texts, test_labels = rows
    if arm == "ours+linear":
        features = hybrid("ours", n_jobs)
    else:
        features = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, n_jobs=n_jobs)
    model = NgramLinear(random_state=42)
    start, cpu = time.perf_counter(), cpu_seconds()
    matrix = features.fit_transform(texts)
    seconds_features = time.perf_counter() - start
    model.fit(matrix, labels)
    found = {
        "seconds": time.perf_counter() - start,
        "seconds_features": seconds_features,
        "cpu_seconds": cpu_seconds() - cpu,
        "peak_mb": peak_mb(),
        "shape": list(matrix.shape),
        "stored": int(matrix.nnz),
    }
    return found | scores(test_labels, model.predict(features.transform(test_texts)).tolist())


def run_fasttext(rows: tuple[list[str], list[int], list[str], list[int]], n_jobs: int) -> dict[str, Any]:
    """Time fastText's training (10 dimensions, bigrams, 5 epochs, its own settings otherwise)."""
    import re

    import fasttext

    texts, labels, test_texts, test_labels = rows

    def tokens(text: str) -> str:
        return " ".join(re.findall(r"[^\W_]+|[^\w\s]", text.lower()))

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.txt"
        file.write_text("".join(f"__label__{y} {tokens(x)}\n" for x, y in zip(texts, labels, strict=True)), "utf-8")
        start, cpu = time.perf_counter(), cpu_seconds()
        model = fasttext.train_supervised(str(file), dim=10, wordNgrams=2, epoch=5, thread=n_jobs, verbose=0)
        seconds, used = time.perf_counter() - start, cpu_seconds() - cpu
    # The wheel's own predict() breaks on NumPy 2; the binding below it does not.
    guess = [
        int(model.f.predict(tokens(x) + "\n", 1, 0.0, "strict")[0][1].removeprefix("__label__")) for x in test_texts
    ]
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "peak_mb": peak_mb(),
        **scores(test_labels, guess),
    }


def reason_to_skip(arm: str, size: int) -> str | None:
    """Return why an arm cannot run here, or None."""
    import psutil

    if arm == "fasttext" and importlib.util.find_spec("fasttext") is None:
        return "skipped: fasttext is not installed (pip install -e '.[bench]')"
    free, needed = psutil.virtual_memory().available / 1e6, 300 + SKLEARN_MB_PER_ROW * size
    if arm == "sklearn" and needed > 0.9 * free:
        return f"skipped: needs about {needed / 1000:.0f} GB of memory, {free / 1000:.0f} GB are free"
    return None


def run_arm(arguments: argparse.Namespace) -> None:
    """Run one arm in this process and print what was measured as one line of JSON."""
    rows = load_rows(arguments.data_dir, arguments.sizes[0])
    keep = Path(arguments.keep) if arguments.keep else None
    if arguments.run == "fasttext":
        found = run_fasttext(rows, arguments.n_jobs)
    elif arguments.run in ("ours+linear", "ngram_linear"):
        found = run_linear(arguments.run, rows, arguments.n_jobs)
    else:
        found = run_features(arguments.run, rows[0], arguments.n_jobs, keep)
    print("RESULT " + json.dumps(found))


def start_arm(
    arm: str, size: int, arguments: argparse.Namespace, keep: Path | None, env: dict[str, str]
) -> dict[str, Any]:
    """Run one arm in a fresh process."""
    command = [sys.executable, __file__, "--run", arm, "--sizes", str(size), "--n-jobs", str(arguments.n_jobs)]
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
        return "DIFFERENT vocabulary"
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
    parser.add_argument("--run", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_arm(arguments)
        return
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
