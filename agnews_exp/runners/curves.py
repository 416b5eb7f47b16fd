"""Training curves: a Lightning logger that writes them into the run folder and to whoever tracks the run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from agnews_exp.config.locations import HISTORY

CurveSink = Callable[[Mapping[str, float], int, int], None]
"""``sink(values, step, timestamp_ms)``: takes one point of several curves; must not raise."""


class CurveLogger(Logger):
    """Appends points to history.jsonl and hands them on.

    It opens and closes no tracking run and logs no hyperparameters: both belong to the experiment flow, which goes on
    after the training.

    Args:
        folder: The run's folder.
        sink: Whoever else wants the points.
        start_step: Points after this step are dropped from an existing history (a resumed run makes them again).
    """

    def __init__(self, folder: Path, sink: CurveSink | None, start_step: int | None = None) -> None:
        super().__init__()
        self._path = folder / HISTORY
        self._sink = sink
        self._trim(start_step)

    def _trim(self, start_step: int | None) -> None:
        kept: list[str] = []
        if start_step is not None and self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines(keepends=True):
                try:
                    if json.loads(line)["step"] <= start_step:
                        kept.append(line)
                except (ValueError, KeyError, TypeError):
                    continue  # the last line of a killed run may be cut
        self._path.write_text("".join(kept), encoding="utf-8")

    @property
    def name(self) -> str:
        """Lightning's name of the logger."""
        return "curves"

    @property
    def version(self) -> str:
        """One version: the run's folder."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write one point of every metric; Lightning's names ``val/macro_f1`` become ``curve/val_macro_f1``."""
        values = {f"curve/{k.replace('/', '_')}": float(v) for k, v in metrics.items() if math.isfinite(float(v))}
        now = int(time.time() * 1000)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": int(step or 0), "time": now, **values}) + "\n")
        if self._sink is not None:
            self._sink(values, int(step or 0), now)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the experiment flow logs the whole configuration, once."""

    def finalize(self, status: str) -> None:
        """Do nothing: the run goes on after the training."""
