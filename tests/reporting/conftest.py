"""Stored runs for reports, without training any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import confusion_matrix, metric_class_name
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.tracking.record import RunFolder
from agnews_exp.tracking.record_files import write_predictions

NAMES = ("World", "Sports", "Business", "Sci/Tech")
N = 240


def _store_run(output: Path, number: int, model: str, val: float, test: float, **more: Any) -> RunFolder:
    """Store a run whose answers have the given accuracies, as a real run stores them."""
    names: tuple[str, ...] = more.get("class_names", NAMES)
    rng = np.random.default_rng(number)
    labels = np.arange(N) % len(names)
    parts, answers, metrics, confusion = {}, {}, {}, {}
    for split, accuracy in (("val", val), ("test", test)):
        given = labels.copy()
        wrong = rng.permutation(N)[: round(N * (1 - accuracy))]
        given[wrong] = (given[wrong] + 1 + rng.integers(0, len(names) - 1, len(wrong))) % len(names)
        probabilities = np.full((N, len(names)), 0.1)
        probabilities[np.arange(N), given] = 1 - 0.1 * (len(names) - 1)
        parts[split] = TextRows(tuple(f"text {i}" for i in range(N)), labels, np.arange(N))
        answers[split] = Predictions(given, None, probabilities)
        matrix = confusion_matrix(labels, given, len(names))
        confusion[split] = matrix.tolist()
        f1 = 2 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))
        metrics |= {f"{split}/macro_f1": float(f1.mean()), f"{split}/accuracy": float((given == labels).mean())}
        metrics |= {f"{split}/f1/{metric_class_name(c)}": float(v) for c, v in zip(names, f1, strict=True)}
    folder = RunFolder(output / "runs" / f"20260101-000000-{number:06d}-{number:06x}")
    folder.path.mkdir(parents=True)
    seed = more.get("seed", 42)
    folder.start(
        {"model": {"name": model} | more.get("parameters", {}), "seed": seed},
        {"cpu": "test", "command": ["run.py", f"model={model}"]},
    )
    write_predictions(folder.path / "predictions.parquet", parts, answers, names)
    folder.finish(
        {
            "name": more.get("name", f"{model}-hybrid_tfidf"), "model": model, "features": "hybrid_tfidf",
            "family": more.get("family", "classical"), "data_fraction": more.get("fraction", 1.0), "metrics": metrics,
            "timings": {"fit": 1.5}, "class_names": list(names), "folds": {}, "confusion": confusion, "seed": seed,
            "split_seed": 42, "objective": metrics["val/macro_f1"], "fingerprint": f"{number:016x}",
            "group_fingerprint": more.get("group", f"group{number}"),
            "data": {
                "name": "ag_news", "source": more.get("source", "ag_news:csv"), "location": "here", "checksum": "c",
                "evaluation_checksum": more.get("checksum", "rows"),
                "rows": {"train": more.get("n_train", 1000), "val": N, "test": N},
            },
        }
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def store_run() -> Callable[..., RunFolder]:
    """Store a run with the given answers: `store_run(outputs, number, model, val, test, ...)`."""
    return _store_run
