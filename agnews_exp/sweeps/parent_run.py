"""The sweep's own MLflow run: what its folder says of it, and the worker that mirrors it and the jobs' folders."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp.sweeps.state import SweepFolder
from agnews_exp.tracking import record
from agnews_exp.tracking.mlflow_mirror import SWEEP_RESULTS
from agnews_exp.tracking.worker import Mirroring


class ParentRun:
    """The parent run in MLflow, below which all jobs' runs are; a tracker that fails costs a warning.

    Args:
        plain: The resolved config of the sweep's command: ``tracking`` and ``paths`` count.
        folder: The sweep's folder.
    """

    def __init__(self, plain: Mapping[str, Any], folder: SweepFolder) -> None:
        self._folder, self._experiment = folder, plain["tracking"]["experiment"]
        self._mirroring = Mirroring(folder.path, plain)

    def open(self, tags: Mapping[str, str]) -> None:
        """Let MLflow hear of the sweep from now on; call it when sweep.json says that it runs.

        Args:
            tags: Tags of the run, such as the command.
        """
        facts = {"experiment": self._experiment, "host": platform.node(), "pid": os.getpid(), "tags": dict(tags)}
        self._folder.update(tracking=facts)
        self._mirroring.start()

    def log(self, *, note: str, metrics: Mapping[str, float], artifacts: Sequence[Path]) -> None:
        """Keep in the folder what MLflow shows of the results: the table on top of the run, numbers, and files."""
        root = self._folder.path
        names = [os.path.relpath(path, root) for path in artifacts]
        record.write_json(root / SWEEP_RESULTS, {"note": note, "metrics": dict(metrics), "artifacts": names})

    def close(self, *, stopped: bool = False) -> None:
        """Let MLflow hear how the sweep ended; call it when sweep.json says that.

        Args:
            stopped: Whether somebody asked the process to end, and waits for that.
        """
        self._mirroring.finish(stopped=stopped)
