"""What earlier stages of a study have found: its best runs by validation, and the runs of a stage."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agnews_exp.study.settings import AskedStudy, StageSettings, Status
from agnews_exp.sweeps.state import SweepFolder
from agnews_exp.tracking import record

STUDIES, STUDY = "studies", "study.json"
FORMAT = 1
_DONE = ("finished", "failed", "left_out")


class StudyFile:
    """A study's file, in memory as it is on the disk.

    Args:
        output_dir: The project's outputs/.
        name: The study's name.
    """

    def __init__(self, output_dir: Path, name: str) -> None:
        self.output_dir = output_dir
        self.folder = output_dir / STUDIES / name
        self.reload()

    def reload(self) -> None:
        """Read the file (again)."""
        content = record.read_json(self.folder / STUDY) or {}
        self._content = content if content.get("format") == FORMAT else {}
        stages = self._content.get("stages", [])
        self._stages: dict[str, dict[str, Any]] = {stage["name"]: stage for stage in stages}

    @property
    def created(self) -> str | None:
        """When the study began; None for a new one."""
        value = self._content.get("created")
        return None if value is None else str(value)

    @property
    def conf(self) -> str | None:
        """The digest of conf/ when the study began."""
        return self._content.get("conf")

    def open(self, asked: AskedStudy, config: Mapping[str, Any], conf: str, version: str) -> None:
        """Begin a call: note what was asked, and forget what an earlier call left as running.

        Args:
            asked: The study.
            config: Its settings as they are to be stored.
            conf: Digest of conf/.
            version: Of this package.
        """
        known = {
            name: self._stages.get(name, {"name": name, "status": "pending", "reason": None, "steps": []})
            for name in asked.settings.stages
        }
        for name, stage in known.items():
            stage["title"] = asked.settings.stages[name].title
            if stage["status"] == "running":
                stage |= {"status": "pending", "reason": "interrupted"}
        self._stages = known
        self._content = {
            "format": FORMAT,
            "name": asked.name,
            "command": asked.command,
            "created": self.created or _now(),
            "finished": None,
            "version": version,
            "conf": self.conf or conf,
            "config": dict(config),
        }
        self._write()

    def close(self) -> None:
        """Note that all is done."""
        self._content["finished"] = _now()
        self._write()

    def status(self, stage: str) -> Status:
        """Return a stage's status."""
        status: Status = self._stages.get(stage, {}).get("status", "pending")
        return status

    def reason(self, stage: str) -> str | None:
        """Return why a stage is as it is."""
        return self._stages.get(stage, {}).get("reason")

    def settled(self, stage: str) -> bool:
        """Whether nothing more is to be expected of a stage in this call."""
        return self.status(stage) in _DONE

    def set_stage(
        self, stage: str, status: Status, reason: str | None = None, *, estimate: float | None = None
    ) -> None:
        """Change a stage's status."""
        entry = self._stages[stage]
        entry |= {"status": status, "reason": reason}
        if estimate is not None:
            entry["estimated_seconds"] = round(estimate, 1)
        self._write()

    def set_step(self, stage: str, step: Mapping[str, Any]) -> None:
        """Store how a command ended.

        Args:
            stage: The stage's name.
            step: ``command``, ``status``, ``reason``, ``seconds``, and what it made: ``runs``, ``sweeps``, ``folders``.
        """
        steps = self._stages[stage]["steps"]
        at = next((n for n, old in enumerate(steps) if old["command"] == step["command"]), len(steps))
        steps[at:] = [dict(step), *steps[at + 1 :]]
        self._write()

    def keep_steps(self, stage: str, commands: Sequence[str]) -> None:
        """Forget the commands that are no longer the stage's, and order the others."""
        steps = {step["command"]: step for step in self._stages[stage]["steps"]}
        self._stages[stage]["steps"] = [steps[c] for c in commands if c in steps]

    def step(self, stage: str, command: str) -> dict[str, Any] | None:
        """Return how a command of a stage ended, if it was run."""
        steps = self._stages.get(stage, {}).get("steps", [])
        return next((dict(step) for step in steps if step["command"] == command), None)

    def is_done(self, stage: str, command: str) -> bool:
        """Whether a command has finished and all that it made is still there."""
        step = self.step(stage, command)
        return step is not None and step["status"] == "finished" and self._is_there(step)

    def _is_there(self, step: Mapping[str, Any]) -> bool:
        sweeps = self.output_dir / "sweeps"
        return (
            all(record.RunFolder(self.run_path(run)).status == "finished" for run in step["runs"])
            and all(SweepFolder(sweeps / name).info().get("status") == "finished" for name in step["sweeps"])
            and all((self.output_dir / folder).is_dir() for folder in step["folders"])
        )

    def run_path(self, run: str) -> Path:
        """Return a run's folder: its name under runs/, or a path relative to outputs/ where it has a slash."""
        return self.output_dir / (run if "/" in run else f"runs/{run}")

    def runs(self, stage: str) -> list[Path]:
        """Return the folders of a stage's finished runs, those of its sweeps' jobs included, each once."""
        found: dict[Path, None] = {}
        for step in self._stages.get(stage, {}).get("steps", []):
            if step["status"] != "finished":
                continue
            for run in step["runs"]:
                found[self.run_path(run)] = None
            for name in step["sweeps"]:
                sweep = SweepFolder(self.output_dir / "sweeps" / name)
                for job in (sweep.run_of(state) for state in sweep.states()):
                    if job is not None:
                        found[job.path] = None
        return list(found)

    def seconds(self, stage: str) -> float:
        """Return the wall time of a stage's finished commands, over all calls."""
        return sum(float(step["seconds"] or 0) for step in self._stages[stage]["steps"] if step["status"] == "finished")

    def failures(self) -> list[tuple[str, str, str]]:
        """Return (stage, reason, command) of every command that failed."""
        return [
            (name, str(step["reason"]), str(step["command"]))
            for name, stage in self._stages.items()
            for step in stage["steps"]
            if step["status"] == "failed"
        ]

    def _write(self) -> None:
        stages = [self._stage(name) for name in self._stages]
        record.write_json(self.folder / STUDY, self._content | {"stages": stages})

    def _stage(self, name: str) -> dict[str, Any]:
        stage = self._stages[name]
        steps = stage["steps"]
        made = {kind: sorted({x for s in steps for x in s[kind]}) for kind in ("runs", "sweeps", "folders")}
        head = {key: stage.get(key) for key in ("name", "title", "status", "reason", "estimated_seconds")}
        commands = [step["command"] for step in steps]
        return head | {"seconds": round(self.seconds(name), 1), "commands": commands, **made, "steps": steps}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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
