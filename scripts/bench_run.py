"""Time whole runs against the same work in plain scikit-learn, and cross-validation against its fits alone.

    python scripts/bench_run.py --data-dir ~/data/ag_news
    python scripts/bench_run.py --model linear_svc --skip run
    python scripts/bench_run.py --data-dir ~/data/ag_news --repeats 3

``run``: seconds from starting the interpreter to its end, each arm a process of its own. *Plain* reads train.csv and
test.csv with ``csv``, splits off 15 % as the study does, fits two ``TfidfVectorizer`` (word (1,2), character (3,5),
50,000 terms each) and the model, predicts validation and test rows and prints a report of both: no record, no
tracking, nothing saved. *Cold* is ``python run.py ... force=true`` with default settings (MLflow included) in a folder
that has no cache and no MLflow store; *warm* is the same command again, median of ``--repeats``. *Small* is a warm
``data=sample model=multinomial_nb``: what a run costs beside the work.

``cv``: the stage ``cv`` of ``evaluation=cv`` (features in each fold, fit, answers and metrics of held-out and training
rows), once with warm counts, against the sum of the same ten ``fit`` calls alone, on matrices that are ready.

``CPU s`` counts all threads and child processes; on a busy machine it says more than the clock. Without ``--data-dir``
(or AGNEWS_DATA_DIR) the rows are the shipped sample, and the arms say little.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMON = {"max_features": 50_000, "min_df": 3, "max_df": 0.95, "sublinear_tf": True}
SEED = 42


def describe_model(name: str) -> dict[str, Any]:
    """Return ``_target_`` and arguments of conf/model/<name>.yaml."""
    from omegaconf import OmegaConf

    from agnews_exp.config.compose import compose_config

    described = OmegaConf.to_container(compose_config([f"model={name}"]), resolve=True)
    assert isinstance(described, dict)
    return {k: v for k, v in described["model"].items() if k not in ("name", "family", "accepts")}


def make_model(described: dict[str, Any]) -> Any:
    """Return the estimator, without importing anything of ours."""
    module, _, name = described["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**{k: v for k, v in described.items() if k != "_target_"})


def plain_rows(data_dir: str | None) -> tuple[list[str], list[int], list[str], list[int]]:
    """Return texts and labels of the training and the test file."""
    if data_dir is None:
        from agnews_exp.data.bundled import load_sample

        corpus = load_sample()
        assert corpus.test is not None
        return corpus.train.texts, corpus.train.labels.tolist(), corpus.test.texts, corpus.test.labels.tolist()
    found: list[Any] = []
    for name in ("train", "test"):
        with (Path(data_dir) / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        found += [[f"{title} {text}" for _, title, text in rows], [int(label) - 1 for label, _, _ in rows]]
    return found[0], found[1], found[2], found[3]


def run_plain(data_dir: str | None, described: dict[str, Any]) -> None:
    """Do the work of a run with scikit-learn alone."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import classification_report
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import FeatureUnion

    texts, labels, test_texts, test_labels = plain_rows(data_dir)
    train_x, val_x, train_y, val_y = train_test_split(texts, labels, test_size=0.15, stratify=labels, random_state=SEED)
    features = FeatureUnion(
        [
            ("word", TfidfVectorizer(ngram_range=(1, 2), **COMMON)),
            ("char", TfidfVectorizer(analyzer="char", ngram_range=(3, 5), **COMMON)),
        ]
    )
    model = make_model(described).fit(features.fit_transform(train_x), train_y)
    for rows, truth in ((val_x, val_y), (test_texts, test_labels)):
        print(classification_report(truth, model.predict(features.transform(rows)), digits=4))


def run_fits(described: dict[str, Any], folds: int) -> float:
    """Return the seconds of the folds' ``fit`` calls alone, on the matrices that cross-validation makes."""
    from sklearn.model_selection import StratifiedKFold

    from agnews_exp.config.compose import compose_config, register
    from agnews_exp.config.validation import check_config
    from agnews_exp.features.build import build_features
    from agnews_exp.runners.protocol import Stages
    from agnews_exp.runners.rows import load_splits
    from agnews_exp.runners.sklearn_runner import shared_features

    register()
    checked = check_config(compose_config(["features=hybrid_tfidf", *data_words(os.environ.get("AGNEWS_DATA_DIR"))]))
    splits = load_splits(checked, Stages(quiet=True))
    train, seconds = splits.train, 0.0
    splitter = StratifiedKFold(folds, shuffle=True, random_state=SEED)
    with shared_features(checked, splits):
        for inside, _ in splitter.split(train.labels, train.labels):
            part = train.take(inside)
            features = build_features(checked.plain["features"])
            assert features is not None
            matrix = features.fit_transform(part.texts, part.labels)
            model = make_model(described)
            start = time.perf_counter()
            model.fit(matrix, part.labels)
            seconds += time.perf_counter() - start
    return seconds


def data_words(data_dir: str | None) -> list[str]:
    """Return the overrides that name the data."""
    return ["data=ag_news"] if data_dir else ["data=sample"]


class Bench:
    """Runs commands against one temporary project root and times them.

    Args:
        root: AGNEWS_ROOT of all commands.
        data_dir: AGNEWS_DATA_DIR, if there is one.
    """

    def __init__(self, root: Path, data_dir: str | None) -> None:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("AGNEWS_", "MLFLOW_", "HYDRA_"))}
        self._env = keep | {"AGNEWS_ROOT": str(root)} | ({"AGNEWS_DATA_DIR": data_dir} if data_dir else {})
        self._root = root

    def time(self, words: Sequence[str]) -> tuple[float, float, str]:
        """Run a Python command; return seconds, CPU seconds and what it printed."""
        before, start = _cpu_of_children(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, env=self._env, cwd=ROOT, check=False
        )
        seconds, cpu = time.perf_counter() - start, _cpu_of_children() - before
        if done.returncode:
            sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        return seconds, cpu, done.stdout

    def run(self, *overrides: str) -> tuple[float, float]:
        """Time ``python run.py``."""
        seconds, cpu, _ = self.time(["run.py", *overrides, "force=true"])
        return seconds, cpu

    def newest_result(self) -> dict[str, Any]:
        """Return result.json of the last run."""
        newest = max((self._root / "outputs" / "runs").glob("*/result.json"))
        content = json.loads(newest.read_text())
        assert isinstance(content, dict)
        return content


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


IMPORTS = "import sklearn.svm, sklearn.feature_extraction.text, mlflow"
"""What a small run cannot do without."""


def bench_run(bench: Bench, data_dir: str | None, model: str, repeats: int) -> None:
    """Print plain scikit-learn, cold, warm and small runs, and the imports alone."""
    ours = [f"model={model}", "features=hybrid_tfidf", *data_words(data_dir)]
    arm = ["scripts/bench_run.py", "--arm", "plain", "--describe", json.dumps(describe_model(model))]
    plain = bench.time([*arm, *(["--data-dir", data_dir] if data_dir else [])])[:2]
    print(f"{'':24}{'seconds':>9}{'CPU s':>9}{'of plain':>10}")
    show = "{:24}{:9.1f}{:9.1f}{:10.3f}".format
    print(show("plain scikit-learn", *plain, 1.0), flush=True)
    cold = bench.run(*ours)
    print(show("ours, cold", *cold, cold[0] / plain[0]), flush=True)
    warm = _median([bench.run(*ours) for _ in range(repeats)])
    print(show(f"ours, warm (of {repeats})", *warm, warm[0] / plain[0]), flush=True)
    small = _median([bench.run("data=sample", "model=multinomial_nb") for _ in range(repeats)])
    print(show(f"small run (of {repeats})", *small, small[0] / plain[0]), flush=True)
    imports = _median([bench.time(["-c", IMPORTS])[:2] for _ in range(repeats)])
    print(f"{IMPORTS}: {imports[0]:.2f} s; the small run takes {small[0] / imports[0]:.2f} times as long")


def _median(timings: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(t[0] for t in timings), statistics.median(t[1] for t in timings)


def bench_cv(bench: Bench, data_dir: str | None, model: str, folds: int) -> None:
    """Print cross-validation against its fits alone."""
    ours = [f"model={model}", "features=hybrid_tfidf", *data_words(data_dir), "tracking=none"]
    bench.run(*ours)  # the counts are in the cache now
    arm = ["scripts/bench_run.py", "--arm", "fits", "--folds", str(folds)]
    _, _, printed = bench.time([*arm, "--describe", json.dumps(describe_model(model))])
    alone = float(printed.splitlines()[-1])
    bench.run(*ours, "evaluation=cv", f"evaluation.folds={folds}")
    whole = float(bench.newest_result()["timings"]["cv"])
    print(f"{folds} fits of {model} alone {alone:.1f} s; cross-validation {whole:.1f} s: {whole / alone:.2f} times")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=os.environ.get("AGNEWS_DATA_DIR"), help="folder with train.csv, test.csv")
    parser.add_argument("--model", default="sgd_modified_huber", help="a choice of conf/model made of scikit-learn")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3, help="warm and small runs; the median counts")
    parser.add_argument("--skip", choices=("run", "cv"), help="leave one of the two comparisons out")
    parser.add_argument("--arm", choices=("plain", "fits"), help=argparse.SUPPRESS)
    parser.add_argument("--describe", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.arm == "plain":
        run_plain(arguments.data_dir, json.loads(arguments.describe))
        return
    if arguments.arm == "fits":
        print(run_fits(json.loads(arguments.describe), arguments.folds))
        return
    with tempfile.TemporaryDirectory(prefix="bench-run-") as root:
        bench = Bench(Path(root), arguments.data_dir)
        print(f"{os.cpu_count()} cores; {arguments.data_dir or 'the shipped sample'}; model={arguments.model}")
        if arguments.skip != "run":
            bench_run(bench, arguments.data_dir, arguments.model, arguments.repeats)
        if arguments.skip != "cv":
            bench_cv(bench, arguments.data_dir, arguments.model, arguments.folds)


if __name__ == "__main__":
    main()
