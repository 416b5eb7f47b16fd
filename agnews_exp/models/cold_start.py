"""A fresh process that loads a model, answers, and tells how long it took and how much memory it needed.

``python -m agnews_exp.models.cold_start MODEL_FOLDER DEVICE`` reads ``{"first": text, "batch": [texts]}`` from
stdin and writes one JSON line after the first answer and one after the batch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnews_exp.config.errors import AgnewsError


@dataclass(frozen=True)
class ColdStart:
    """One start of a model in a process of its own; the files may lie in the system's cache.

    Attributes:
        seconds: From starting the process until the first answer has come back.
        import_s: Of these, importing the code that loads models.
        load_s: Loading the model.
        first_answer_s: Answering the first text.
        peak_rss_one_mb: Peak resident memory after one text, MiB.
        peak_rss_batch_mb: The same after a batch.
        peak_gpu_mb: Peak memory that the GPU's allocator gave out, MiB; None without a GPU.
    """

    seconds: float
    import_s: float
    load_s: float
    first_answer_s: float
    peak_rss_one_mb: float
    peak_rss_batch_mb: float
    peak_gpu_mb: float | None


def measure_cold_start(folder: Path, first: str, batch: Sequence[str], device: str = "auto") -> ColdStart:
    """Start a process that loads a model folder and answers a text, then a batch.

    Args:
        folder: The model folder.
        first: The first text.
        batch: Texts answered in one call afterwards, for the peak memory.
        device: See :func:`agnews_exp.models.loading.load_model`.

    Raises:
        AgnewsError: The process failed; the message has its last line.
    """
    command = [sys.executable, "-P", "-m", "agnews_exp.models.cold_start", str(folder), device]
    request = json.dumps({"first": first, "batch": list(batch)})
    # A file takes what the process complains of: a pipe that nobody reads would fill and stop it.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        start = time.perf_counter()
        with subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8"
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(request)
            told = _next_report(process.stdout)
            seconds = time.perf_counter() - start
            told |= _next_report(process.stdout)
        complaints.seek(0)
        last = (complaints.read().strip().splitlines() or ["no output"])[-1]
    if process.returncode or "peak_rss_batch_mb" not in told:
        from agnews_exp.config.entry import explain_exit

        raise AgnewsError(f"The process that loads {folder}: {explain_exit(process.returncode)}: {last}")
    return ColdStart(seconds=seconds, **told)


def _next_report(lines: Iterable[str]) -> dict[str, Any]:
    """Return the next line of JSON, past whatever a library may have printed; empty at the end."""
    for line in lines:
        if line.startswith("{"):
            return dict(json.loads(line))
    return {}


def main() -> None:
    """Load, answer, report."""
    start = time.perf_counter()
    from agnews_exp.evaluation.efficiency import peak_memory_mb
    from agnews_exp.models.loading import load_model

    imported = time.perf_counter()
    model = load_model(Path(sys.argv[1]), sys.argv[2])
    loaded = time.perf_counter()
    request: dict[str, Any] = json.load(sys.stdin)
    asked = time.perf_counter()
    model.predict([request["first"]])
    answered = time.perf_counter()
    _tell(
        import_s=imported - start,
        load_s=loaded - imported,
        first_answer_s=answered - asked,
        peak_rss_one_mb=peak_memory_mb(),
    )
    if request["batch"]:
        model.predict(request["batch"])
    _tell(peak_rss_batch_mb=peak_memory_mb(), peak_gpu_mb=_peak_gpu_mb())


def _peak_gpu_mb() -> float | None:
    if "torch" not in sys.modules:
        return None
    import torch

    gpu: Any = torch.cuda
    if not gpu.is_available() or not gpu.is_initialized():
        return None
    return float(gpu.max_memory_allocated()) / 1024**2


def _tell(**values: float | None) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    try:
        main()
    except AgnewsError as error:
        sys.exit(error.message.replace("\n", " "))
