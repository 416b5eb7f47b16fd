"""What earlier stages of a study have found: its best runs by validation, and the runs of a stage."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnews_exp.sweeps.study.settings import StageSettings
from agnews_exp.sweeps.study.state import StudyFile
from agnews_exp.tracking import record

CHOICE = "val/macro_f1"
"""What runs are chosen by: a metric that every run has, and never one of the test set."""


_RUN_FOLDER = re.compile(r"\bruns/[\w.-]+")


class NotYet(Exception):
    """Something that a command needs does not exist (yet).

    Args:
        reason: Why.
        final: Whether it will not exist in this study at all.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


@dataclass(frozen=True)
class FoundRun:
    """A finished run.

    Attributes:
        path: Its folder.
        word: The same relative to outputs/, as commands take it.
        result: Its result.json.
    """

    path: Path
    word: str
    result: Mapping[str, Any]


class Evidence:
    """Looks at what a study's stages have made.

    Args:
        state: The study's file.
        stages: The study's stages.
        fraction: The study's data_fraction.
    """

    def __init__(self, state: StudyFile, stages: Mapping[str, StageSettings], fraction: float) -> None:
        self._state, self._stages, self._fraction = state, stages, fraction

    @property
    def output_dir(self) -> Path:
        """The project's outputs/."""
        return self._state.output_dir

    def runs(self, stage: str) -> list[FoundRun]:
        """Return a stage's finished runs.

        Raises:
            NotYet: There are none.
        """
        self._wait_for([stage])
        found = self._runs_of([stage])
        if not found:
            raise NotYet(f"needs a run of the stage '{stage}', which has none", final=self._is_out([stage]))
        return found

    def timeless(self, word: str) -> str:
        """Return a word with the fingerprints of runs instead of their folders, whose names tell when they began."""
        return _RUN_FOLDER.sub(self._fingerprint, word)

    def _fingerprint(self, found: re.Match[str]) -> str:
        result = record.RunFolder(self.output_dir / found[0]).result()
        return found[0] if result is None else str(result["fingerprint"])

    def best_classical(self) -> FoundRun:
        """Return the classical run with the best validation score on all of the study's rows.

        Raises:
            NotYet: The stages that compete have not ended, or have no such run.
        """
        return self.top_classical(1)[0]

    def top_classical(self, number: int) -> list[FoundRun]:
        """Return the best classical runs by validation, the best first; ties go by fingerprint.

        Raises:
            NotYet: As for :meth:`best_classical`.
        """
        return self._best(self._competing(), CHOICE, number)

    def top_cross_validated(self, number: int) -> list[FoundRun]:
        """Return the best classical runs in cross-validation, among those with the commonest number of folds.

        Raises:
            NotYet: As for :meth:`best_classical`, or fewer than two have the same folds.
        """
        groups: dict[int, list[FoundRun]] = {}
        for run in self._competing():
            if run.result.get("folds"):
                groups.setdefault(len(next(iter(run.result["folds"].values()))), []).append(run)
        largest = max(groups.values(), key=len, default=[])
        if len(largest) < 2:
            raise NotYet("needs two classical runs with the same folds", final=True)
        return self._best(largest, "cv/macro_f1", number)

    def _competing(self) -> list[FoundRun]:
        names = [name for name, stage in self._stages.items() if stage.competes]
        self._wait_for(names)
        found = [run for run in self._runs_of(names) if self._competes(run)]
        if not found:
            raise NotYet("needs a classical run", final=self._is_out(names))
        return found

    def _competes(self, run: FoundRun) -> bool:
        result = run.result
        on_all_rows = abs(float(result["data_fraction"]) - self._fraction) < 1e-9
        scored = CHOICE in result["metrics"] and "test/macro_f1" in result["metrics"]
        return result["family"] == "classical" and on_all_rows and scored and (run.path / record.MODEL).is_dir()

    @staticmethod
    def _best(runs: Sequence[FoundRun], metric: str, number: int) -> list[FoundRun]:
        def key(run: FoundRun) -> tuple[float, str]:
            return -float(run.result["metrics"][metric]), str(run.result["fingerprint"])

        distinct = {str(run.result["fingerprint"]): run for run in runs}
        return sorted(distinct.values(), key=key)[:number]

    def _wait_for(self, stages: Sequence[str]) -> None:
        for name in stages:
            if not self._state.settled(name):
                raise NotYet(f"waits for the stage '{name}'")

    def _is_out(self, stages: Sequence[str]) -> bool:
        return all(self._state.status(name) == "left_out" for name in stages)

    def _runs_of(self, stages: Sequence[str]) -> list[FoundRun]:
        found = {}
        for path in (path for stage in stages for path in self._state.runs(stage)):
            result = record.RunFolder(path).result()
            if result is not None:
                found[path] = FoundRun(path, os.path.relpath(path, self._state.output_dir), result)
        return list(found.values())
