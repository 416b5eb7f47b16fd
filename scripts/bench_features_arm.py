"""One arm of scripts/bench_features.py, in a process of its own; prints what it measured as one line of JSON."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HYBRID = {
    "word": {"analyzer": "word", "ngram_range": (1, 2)},
    "char": {"analyzer": "char", "ngram_range": (3, 5)},
}
COMMON = {"max_features": 50_000, "min_df": 3, "max_df": 0.95, "sublinear_tf": True}


def load_rows(data_dir: str | None, size: int) -> tuple[list[str], list[int], list[str], list[int]]:
    """Return (texts, labels) to train on and to test on; ``size`` training rows, repeated with noise if need be."""
    from agnews_exp.data.bundled import load_official_csv, load_sample

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
    from agnews_exp import ngrams as fast

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
    from agnews_exp.models.ngram_linear import NgramLinear
    from agnews_exp.ngrams import TfidfVectorizer

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


def run_arm(arguments: argparse.Namespace) -> None:
    """Run one arm and print what was measured."""
    rows = load_rows(arguments.data_dir, arguments.size)
    keep = Path(arguments.keep) if arguments.keep else None
    if arguments.arm == "fasttext":
        found = run_fasttext(rows, arguments.n_jobs)
    elif arguments.arm in ("ours+linear", "ngram_linear"):
        found = run_linear(arguments.arm, rows, arguments.n_jobs)
    else:
        found = run_features(arguments.arm, rows[0], arguments.n_jobs, keep)
    print("RESULT " + json.dumps(found))


def main() -> None:
    """Run the arm asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm")
    parser.add_argument("--size", type=int, required=True, help="training rows")
    parser.add_argument("--n-jobs", type=int, required=True)
    parser.add_argument("--data-dir")
    parser.add_argument("--keep", help="folder for matrix and terms")
    run_arm(parser.parse_args())


if __name__ == "__main__":
    main()
