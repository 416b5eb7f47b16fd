"""Time and memory, measured on the machine that runs; never typed in."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BATCH_ROWS = 1000
SINGLE_ROWS = 5
WARM_UP_ROWS = 64
ENOUGH_SECONDS = 20.0
"""A slow model is not measured for longer, once it was measured."""
_P99_CALLS = 100

Predict = Callable[[list[str]], Any]
"""Answers a list of texts."""


def measure_throughput(predict: Predict, texts: Sequence[str], repeats: int) -> dict[str, float]:
    """Measure prediction speed, features included, of the first 1,000 texts in a batch and of the first 5 one by one.

    The median of ``repeats`` counts, of fewer when they take more than ``ENOUGH_SECONDS``; one unmeasured call warms
    up.

    ``throughput_batch`` and ``throughput_single`` are in texts a second.
    """
    batch = list(texts[:BATCH_ROWS])
    singles = [[text] for text in texts[:SINGLE_ROWS]]
    predict(batch[:WARM_UP_ROWS])
    batch_s: list[float] = []
    single_s: list[float] = []
    while len(batch_s) < repeats and sum(batch_s) + sum(single_s) < ENOUGH_SECONDS:
        batch_s.append(_seconds(predict, batch))
        single_s += [_seconds(predict, one) for one in singles]
    single = statistics.median(single_s)
    return {
        "throughput_batch": len(batch) / statistics.median(batch_s),
        "throughput_single": 1.0 / single,
        "latency_single_ms": single * 1e3,
    }


@dataclass(frozen=True)
class Latency:
    """How long answers to batches of one size take."""

    batch_size: int  # texts in a call
    calls: int  # measured calls
    p50_ms: float  # median time of a call
    p95_ms: float  # 95th percentile
    p99_ms: float | None  # 99th percentile; None below 100 calls, which do not show it
    throughput: float  # texts per second over all calls together


def measure_latency(
    predict: Predict,
    texts: Sequence[str],
    batch_size: int,
    *,
    seconds: float,
    min_calls: int = 20,
    max_calls: int = 2000,
    warm_up: int = 2,
) -> Latency:
    """Measure calls of one batch size, each with other texts, one after the other (no concurrency).

    Texts are taken in order, from the start again when they run out, so that calls differ in length as texts do. Calls
    are measured for so many ``seconds`` and ``min_calls`` at least, but no more than ``max_calls``.
    """
    n = len(texts)

    def batch(call: int) -> list[str]:
        return [texts[(call * batch_size + i) % n] for i in range(batch_size)]

    for call in range(warm_up):
        predict(batch(call))
    times: list[float] = []
    while len(times) < max_calls and (len(times) < min_calls or sum(times) < seconds):
        times.append(_seconds(predict, batch(warm_up + len(times))))
    p50, p95, p99 = np.percentile(times, [50, 95, 99]) * 1e3
    shown_p99 = float(p99) if len(times) >= _P99_CALLS else None
    return Latency(batch_size, len(times), float(p50), float(p95), shown_p99, batch_size * len(times) / sum(times))


def cost_per_million(price_per_hour: float, throughput: float, utilisation: float) -> float:
    """Return the price of a million answers: price per hour * 1,000,000 / (throughput * 3,600 * utilisation).

    ``utilisation`` is the share of the paid hours in which the machine answers, in (0, 1].
    """
    return price_per_hour * 1e6 / (throughput * 3600 * utilisation)


def cost_per_thousand(metrics: Mapping[str, float]) -> float | None:
    """Return what 1,000 answers of a run cost, by prices of its endpoint or machine; None where they are unknown."""
    million = metrics.get("cost_per_million")
    return metrics.get("cost_per_1000", None if million is None else million / 1000)


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process so far, in MiB.

    On Linux from VmHWM: ``ru_maxrss`` of a child also counts the parent's memory at the moment of the fork.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


def folder_size_mb(folder: Path) -> float:
    """Return the size of all files below a folder, in MiB."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1024**2


def _seconds(predict: Predict, texts: list[str]) -> float:
    start = time.perf_counter()
    predict(texts)
    return time.perf_counter() - start
