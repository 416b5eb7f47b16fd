"""Time and memory, measured on the machine that runs; never typed in."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BATCH_ROWS = 1000
SINGLE_ROWS = 5


def measure_throughput(predict: Callable[[list[str]], Any], texts: Sequence[str], repeats: int) -> dict[str, float]:
    """Measure prediction speed, features included.

    Args:
        predict: Answers a list of texts.
        texts: At least one text; the first 1,000 form the batch, the first 5 are sent one by one.
        repeats: Repetitions; the median counts. One unmeasured call warms up.

    Returns:
        throughput_batch (texts/s), throughput_single (texts/s), latency_single_ms.
    """
    batch = list(texts[:BATCH_ROWS])
    singles = [[text] for text in texts[:SINGLE_ROWS]]
    predict(batch)
    batch_s, single_s = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        predict(batch)
        batch_s.append(time.perf_counter() - start)
        for one in singles:
            start = time.perf_counter()
            predict(one)
            single_s.append(time.perf_counter() - start)
    single = statistics.median(single_s)
    return {
        "throughput_batch": len(batch) / statistics.median(batch_s),
        "throughput_single": 1.0 / single,
        "latency_single_ms": single * 1e3,
    }


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


def folder_size_mb(folder: Path) -> float:
    """Return the size of all files below a folder, in MiB."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1024**2
